"""One policy on one scenario under one seed: run it, and keep what happened on every link."""

import json
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from distila.training.benchmark.policies import REFERENCE, PolicySpec, parse_policy
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Cell, Decision, Policy, Report
from distila.training.sim.scenario import Scenario
from distila.training.sim.sealed_npz import read_sealed, write_sealed
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.kpi.link_metrics import LinkCounts
from distila.xapp.nr.arrays import Float64Array

_FORMAT: Final = "distila-episode/3"


@dataclass(frozen=True)
class Episode:
    """What happened on each link after the warm-up; float64 [link] unless said."""

    bits: Float64Array
    """delivered"""
    goodput: Float64Array
    """bit/s/Hz of what was allocated, see `distila.training.sim.simulator.Counters`"""
    resource: Float64Array
    """resource elements that carried transmissions; 0: there was nothing to send"""
    first_ack: Float64Array
    first_nack: Float64Array
    first_dtx: Float64Array
    retransmissions: Float64Array
    residual: Float64Array
    mean_mcs: Float64Array
    speed_kmh: Float64Array
    snr_db: Float64Array
    fading_row: Float64Array
    """links with the same number share their fading"""
    file_delay_ms: Float64Array
    """[file], of all links"""
    block_delay_ms: Float64Array
    """[value], delays that occurred, see `distila.xapp.kpi.block_delay`; infinite: never delivered"""
    delayed_blocks: Float64Array
    """[value], blocks of all links with that delay"""
    slots: int
    """after the warm-up"""
    stalled_slots: int
    """of them, those without a free HARQ process"""
    mcs_table: int
    slot_us: float
    period_slots: int
    delay_slots: int
    bursty_share: float
    decided_share: float
    """share of decisions that do not leave the MCS to the DU; 1 in the DU"""
    elapsed_s: float

    def save(self, path: Path, fingerprint: str) -> None:
        """Write to a file, whole or not at all; ``fingerprint`` says what it is the result of.

        Raises:
            InputError: it cannot be written.
        """
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        write_sealed(path, {"format": _FORMAT, "fingerprint": fingerprint, **data})

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> "Episode | None":
        """Read it back; None if there is no such file, or it is the result of something else.

        Raises:
            InputError: the file is damaged.
        """
        if not path.is_file():
            return None
        found = read_sealed(path, "delete it, and it will be run again")
        if str(found.get("format")) != _FORMAT or str(found.get("fingerprint")) != fingerprint:
            return None
        values: dict[str, Any] = {field.name: found[field.name] for field in fields(cls)}
        return cls(**{name: value if value.ndim else value.item() for name, value in values.items()})


@dataclass(frozen=True)
class EpisodePlan:
    """What to run; picklable."""

    scenario: Scenario
    policy: PolicySpec
    split: Split
    seed: int
    sizes: Sizes
    cache: Path | None = None
    device: str = "cpu"

    def describe(self, code: str) -> str:
        """Everything that the result depends on, as JSON; ``code`` stands for the code."""
        policy = {**asdict(self.policy), "settings": self.policy.settings(self.scenario.name)}
        # In the DU nothing is overridden, so there is no OLLA beneath.
        native = self.native().settings(self.scenario.name) if self.policy.seat == "xapp" else None
        parts = {
            "scenario": self.scenario.model_dump(mode="json"),
            "policy": policy,
            "native": native,
            "split": int(self.split),
            "seed": self.seed,
            "sizes": self.sizes.model_dump(mode="json"),
            "device": self.device,
            "code": code,
        }
        return json.dumps(parts, sort_keys=True)

    def native(self) -> PolicySpec:
        """The DU's own OLLA beneath a policy in the xApp: it holds the target that the policy was given."""
        own = parse_policy(REFERENCE)
        return own if self.policy.target_bler is None else own.at_target(self.policy.target_bler)

    def banks(self) -> Banks:
        """The fading that it runs on: each seed has its own."""
        return Banks(self.sizes.bank_rows, self.sizes.bank_slots, self.seed, self.cache)


class _NoOverride:
    """Stands in for a policy that does not know the cell's MCS table: the xApp leaves every MCS to the DU."""

    name = "no override"

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Start with new links."""
        self._decision = Decision.native(cell.num_links, cell.device)

    def decide(self, report: Report) -> Decision:
        """No override on any link."""
        return self._decision


def run_episode(plan: EpisodePlan) -> Episode:
    """Run one policy on one scenario.

    Raises:
        InputError: a bundle or network in the DU that does not know the scenario's MCS table; in the xApp it leaves
            every MCS to the DU.
    """
    longest = plan.scenario.longest_report_period_slots
    # A shorter period may divide the warm-up and the rest less well.
    most_slots = 2 * longest + max(plan.sizes.in_slots(c.slot_us, longest)[1] for c in plan.scenario.channels)
    conditions = Conditions(
        plan.scenario, plan.sizes.links, plan.split, plan.seed, most_slots, plan.device, plan.banks()
    )
    warmup, slots = plan.sizes.in_slots(conditions.slot_us, conditions.report_period_slots)
    policy: Policy = plan.policy.make(plan.scenario.name)
    started = time.perf_counter()
    if plan.policy.seat == "du":
        simulator = Simulator(conditions, native=policy)
        simulator.run(warmup)
        simulator.restart_counters()
        simulator.run(slots - warmup)
        decided_share = 1.0
    else:
        simulator = Simulator(conditions, native=plan.native().make(plan.scenario.name))
        if not plan.policy.knows_table(conditions.mcs_table):
            policy = _NoOverride()
        policy.start(conditions.cell(), conditions.generator("policy"))
        decided: list[float] = []
        while simulator.slot < slots:
            if simulator.slot == warmup:
                simulator.restart_counters()
            decision = policy.decide(simulator.report)
            if simulator.slot >= warmup:
                decided.append(decision.override_share)
            simulator.step(decision)
        decided_share = math.fsum(decided) / len(decided)
    return _episode(simulator, decided_share, time.perf_counter() - started)


def _episode(simulator: Simulator, decided_share: float, elapsed_s: float) -> Episode:
    conditions, counters = simulator.conditions, simulator.counters
    delays, block_delays = simulator.file_delays_slots(), counters.block_delays_ms()
    bursty = 0.0 if simulator.traffic is None else float(simulator.traffic.bursty.to(torch.float32).mean())
    return Episode(
        **{
            name: getattr(counters, name).cpu().numpy()
            for name in ("goodput", "mean_mcs", *(field.name for field in fields(LinkCounts)))
        },
        speed_kmh=conditions.speed_kmh.cpu().numpy().astype(np.float64),
        snr_db=conditions.snr_db.cpu().numpy().astype(np.float64),
        fading_row=conditions.fading_row.astype(np.float64),
        file_delay_ms=np.concatenate(delays) * conditions.slot_us / 1e3 if delays else np.empty(0),
        block_delay_ms=block_delays.delay,
        delayed_blocks=block_delays.blocks,
        slots=counters.slots,
        stalled_slots=counters.stalled_slots,
        mcs_table=conditions.mcs_table,
        slot_us=conditions.slot_us,
        period_slots=conditions.report_period_slots,
        delay_slots=conditions.decision_delay_slots,
        bursty_share=bursty,
        decided_share=decided_share,
        elapsed_s=elapsed_s,
    )

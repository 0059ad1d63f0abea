"""How fast the simulator is, beside Sionna's own link-level loop on the same machine in the same minutes.

*Simulator*: full buffer, one allocation, OLLA inside the DU in every slot, HARQ with four transmissions and incremental
redundancy, a CQI every 40 slots, an E2 report every 20.

*Sionna*: ``OuterLoopLinkAdaptation`` then ``PHYAbstraction`` in every slot, not compiled, as many links, MCS table 1.
The effective SINR is given: its channel costs nothing. It has no HARQ combining, feedback delay, CQI, or reports.

All take turns, round by round: what else the machine does hits them alike.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import torch
from sionna.sys import OuterLoopLinkAdaptation, PHYAbstraction
from torch import Tensor

from distila.replay.bench_results import GpuRate, SimBench
from distila.training.baselines import baseline
from distila.training.sim.conditions import BLOCK_SLOTS, Banks, Conditions
from distila.training.sim.distribution import Distribution
from distila.training.sim.report import Decision
from distila.training.sim.scenario import ChannelConfig, E2Config, Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.xapp.errors import InputError
from distila.xapp.nr.tbs import num_re
from distila.xapp.progress import Progress, no_progress

REPORT_PERIOD_SLOTS: Final = 20
LEAST_ROUNDS: Final = 3
_BANKS: Final = Banks(rows=64, slots=2048)
_PRBS: Final = 52
_MCS_TABLE, _PDSCH = 1, 1
_TARGET_BLER: Final = 0.1
_STEP_ON_NACK_DB: Final = 0.5
_MIDDLE_MCS: Final = 14
_SLOTS_PER_SIONNA_SLOT: Final = 50
"""Sionna's loop gets fewer slots in a round by this factor, for rounds of like length."""
_FOREVER: Final = 1 << 40

Stage = Callable[[str, str], AbstractContextManager[Progress]]
"""Opens a progress bar with a description and a unit, such as `distila.xapp.commands.terminal.progress_bar`."""
Work = Callable[[int], int]
"""Does at least so many slots; returns how many it did."""


def bench_sim(links: int, slots: int, seconds: float, device: str, stage: Stage) -> SimBench:
    """UE-slots per second of the simulator and of Sionna's loop, and their ratio.

    Args:
        links: size of the batch.
        slots: slots of the simulator in a round.
        seconds: shortest duration of all rounds [s]; there are at least `LEAST_ROUNDS`.
        device: ``cpu`` or ``cuda``.
        stage: opens a progress bar.

    Raises:
        InputError: there is no such device.
    """
    if device not in ("cpu", "cuda"):
        raise InputError(f"device {device!r} must be cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': torch finds no usable GPU")
    with stage("fading by Sionna", "UEs") as progress:
        _conditions(1, 1, "cpu", progress)  # into the cache
    with stage("tables of Sionna's PHYAbstraction, up to 25 s", "done"):
        sionna = _sionna(links, device)
    works: dict[str, tuple[Work, int]] = {
        "": (_simulator(links, device), slots),
        "sionna_": (sionna, max(5, slots // _SLOTS_PER_SIONNA_SLOT)),
        "every_slot_": (_every_slot(links, device), slots),
        "bare_link_": (_bare_link(links, device), slots),
    }
    rounds: list[dict[str, tuple[int, float]]] = []
    with stage("measuring", "s") as progress:
        for work, _ in works.values():
            work(BLOCK_SLOTS)
        start = time.perf_counter()
        while len(rounds) < LEAST_ROUNDS or time.perf_counter() - start < seconds:
            rounds.append({name: _timed(work, count, device) for name, (work, count) in works.items()})
            progress(min(round(time.perf_counter() - start), round(seconds)), round(seconds))
    rates = {name: links * sum(r[name][0] for r in rounds) / sum(r[name][1] for r in rounds) for name in works}
    ratios = [(r[""][0] / r[""][1]) / (r["sionna_"][0] / r["sionna_"][1]) for r in rounds]
    return SimBench(
        links=links,
        device="cuda" if device == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        report_period_slots=REPORT_PERIOD_SLOTS,
        rounds=len(rounds),
        ue_slots_per_s=round(rates[""]),
        sionna_ue_slots_per_s=round(rates["sionna_"]),
        ratio=round(rates[""] / rates["sionna_"], 1),
        ratio_min=round(min(ratios), 1),
        ratio_max=round(max(ratios), 1),
        every_slot_ue_slots_per_s=round(rates["every_slot_"]),
        bare_link_ue_slots_per_s=round(rates["bare_link_"]),
        cuda=_on_gpu(links, slots, stage),
    )


def _on_gpu(links: int, slots: int, stage: Stage) -> GpuRate | None:
    if not torch.cuda.is_available():
        return None
    with stage("on the GPU", "rounds") as progress:
        work = _simulator(links, "cuda")
        work(BLOCK_SLOTS)
        done, elapsed_s = 0, 0.0
        for index in range(LEAST_ROUNDS):
            count, took_s = _timed(work, slots, "cuda")
            done, elapsed_s = done + count, elapsed_s + took_s
            progress(index + 1, LEAST_ROUNDS)
    return GpuRate(name=torch.cuda.get_device_name(), ue_slots_per_s=round(links * done / elapsed_s))


def _timed(work: Work, slots: int, device: str) -> tuple[int, float]:
    """Slots done and seconds taken."""
    _wait(device)
    start = time.perf_counter()
    done = work(slots)
    _wait(device)
    return done, time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _conditions(links: int, period_slots: int, device: str, progress: Progress = no_progress) -> Conditions:
    scenario = Scenario(
        name="bench",
        channels=(ChannelConfig(model="TDL-A", prbs=_PRBS, speed_kmh=_constant(30)),),
        e2=E2Config(period_slots=_constant(period_slots)),
    )
    return Conditions(scenario, links, Split.TEST, 0, _FOREVER, device, _BANKS, progress=progress)


def _constant(value: float) -> Distribution:
    return Distribution(kind="constant", values=(value,))


def _simulator(links: int, device: str) -> Work:
    simulator = Simulator(_conditions(links, REPORT_PERIOD_SLOTS, device), native=baseline("olla"))

    def work(slots: int) -> int:
        begin = simulator.slot
        while simulator.slot < begin + slots:
            simulator.step()
        return simulator.slot - begin

    return work


def _every_slot(links: int, device: str) -> Work:
    simulator = Simulator(_conditions(links, 1, device), native=baseline("olla"))

    def work(slots: int) -> int:
        for _ in range(slots):
            mcs = simulator.native_mcs
            assert mcs is not None
            simulator.step(Decision.absolute(mcs))
        return slots

    return work


def _bare_link(links: int, device: str) -> Work:
    conditions = _conditions(links, REPORT_PERIOD_SLOTS, device)
    simulator = Simulator(conditions)
    tbler, _ = conditions.true_tbler(0)
    decision = Decision.absolute((tbler <= _TARGET_BLER).sum(dim=1).sub_(1).clamp_(min=0))

    def work(slots: int) -> int:
        begin = simulator.slot
        while simulator.slot < begin + slots:
            simulator.step(decision)
        return simulator.slot - begin

    return work


def _sionna(links: int, device: str) -> Work:
    conditions = _conditions(links, 1, device)
    beta_db = conditions.tables.beta_db[_MIDDLE_MCS].expand(BLOCK_SLOTS, links)
    sinr = 10 ** (conditions.effective_sinr_db(0, beta_db) / 10)
    phy = PHYAbstraction(device=device)
    olla = OuterLoopLinkAdaptation(
        phy, num_ut=links, bler_target=_TARGET_BLER, delta_up=_STEP_ON_NACK_DB, device=device
    )
    resource = torch.full((links,), num_re(_PRBS), dtype=torch.int32, device=device)
    tables = {"mcs_table_index": _MCS_TABLE, "mcs_category": _PDSCH}
    feedback: Tensor | None = None
    reported: Tensor | None = None
    slot = 0

    def work(slots: int) -> int:
        nonlocal feedback, reported, slot
        for _ in range(slots):
            mcs = olla(resource, feedback, reported, **tables)
            now = sinr[slot % BLOCK_SLOTS]
            _, feedback, reported, _, _ = phy(mcs, sinr_eff=now, num_allocated_re=resource, **tables)
            slot += 1
        return slots

    return work

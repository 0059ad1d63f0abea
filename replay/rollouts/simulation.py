"""A whole rollout on a replayed trace, with the loop, controller, store and verdicts of a running xApp, sped up.

The trace is repeated, with new random draws each time, until the rollout is over. An evaluation interval is a number of
slots, so a rollout of hours takes seconds; durations in seconds of the plan are not used.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from distila.replay import closed_loop
from distila.replay.bench_load import widen
from distila.replay.du_config import DuConfig
from distila.replay.link import load_bler
from distila.replay.rollouts.kpi_library import Paced
from distila.replay.trace import ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import Decisions, KpiReport
from distila.xapp.loop import DecisionLoop, LoopConfig
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.progress import Progress, no_progress
from distila.xapp.rollout.audit import Entry
from distila.xapp.rollout.controller import RolloutController, RolloutStatus, Transition
from distila.xapp.rollout.machine import Command
from distila.xapp.rollout.plan import NATIVE_POLICY, Plan
from distila.xapp.rollout.store import SqliteStore
from distila.xapp.shipped import Shipped, package_folder

_FOLDER: Final = package_folder("distila.replay.rollouts", "plans")
SIMULATION_PLANS: Final = Shipped("rollout plan", (_FOLDER, package_folder("distila.xapp.rollout", "plans")))
"""Plans made for simulation, then those of the xApp."""
_MOST_INTERVALS: Final = 300

GREEDY: Final = _FOLDER / "olla-greedy"
"""A harmful bundle: OLLA with a BLER target of 40 %."""


@dataclass
class SimulatedRollout:
    """Result of a simulated rollout.

    Attributes:
        entries: the audit log.
        status: as the controller reports it at the end.
        transitions: in order, with the interval in which they were taken.
        after_rollback: decisions of an arm that was rolled back, sent after that.
        slots: number of slots replayed.
    """

    entries: list[Entry]
    status: RolloutStatus
    transitions: list[tuple[int, Transition]] = field(default_factory=list)
    after_rollback: int = 0
    slots: int = 0


class _Over(Exception):  # noqa: N818  # no error: the rollout is over
    pass


class _Watched(Paced):
    """Counts the decisions of arms that were rolled back."""

    def __init__(self, loop: DecisionLoop, interval_slots: int, at_end: Callable[[int], None]) -> None:
        super().__init__(loop, interval_slots, at_end)
        self.withdrawn: set[str] = set()
        self.after_rollback = 0

    def exchange(self, report: KpiReport | None) -> tuple[Decisions, ...]:
        """See `Controller`."""
        sent = tuple(super().exchange(report))
        if self.withdrawn:
            for decisions in sent:
                names = [name for name, _ in decisions.arms]
                arm = np.zeros(len(decisions.rnti), np.int64) if decisions.arm is None else decisions.arm
                bad = [index for index, name in enumerate(names) if name in self.withdrawn]
                # A withdrawn arm keeps its place in the list, but has no UE.
                self.after_rollback += int(np.isin(arm, bad).sum())
        return sent


def simulate_rollout(
    plan: Plan,
    trace: ChannelTrace,
    du: DuConfig,
    *,
    ues: int,
    interval_slots: int,
    seed: int,
    store: Path | None = None,
    progress: Progress = no_progress,
) -> SimulatedRollout:
    """Run a rollout until it is promoted, rolled back or held.

    Args:
        plan: the rollout.
        trace: the channel; its UEs are multiplied to ``ues``.
        du: the DU stand-in.
        ues: UEs in the cell.
        interval_slots: slots of an evaluation interval.
        seed: of the random draws.
        store: file to keep the rollout's store in; None: a temporary one.
        progress: called with intervals done and intervals at most.

    Raises:
        InputError: a policy fails its check, or the trace is too short.
    """
    wide = widen(trace, ues)
    slots = int(wide.num_slots.max())
    if slots < interval_slots:
        raise InputError(f"trace {trace.meta.name}: {slots} slots, fewer than an interval of {interval_slots}")
    if plan.champion.policy == NATIVE_POLICY:
        raise InputError("simulate: the champion is a bundle; native may be a challenger")
    limit = min(
        _MOST_INTERVALS,
        sum(stage.min_intervals for stage in plan.stages[:-1]) + (plan.stages[-1].max_intervals or _MOST_INTERVALS),
    )
    with tempfile.TemporaryDirectory() as folder:
        kept = SqliteStore(store or Path(folder) / "rollout.sqlite")
        loop = DecisionLoop(
            load_bundle(plan.champion.policy),
            LoopConfig(arm=plan.champion.name, ue_capacity=max(8192, 2 * ues)),
            GuardConfig(deadline_us=None),
            # The clock does not advance while the loop decides, so that a run repeats exactly: no decision is late.
            clock_ns=lambda: 0,
        )
        now_s = [0.0]
        result = SimulatedRollout([], RolloutStatus(status="none", version=0))
        transitions: list[Transition] = []
        controller = RolloutController(
            loop, kept, "simulated", on_transition=transitions.append, clock_s=lambda: now_s[0]
        )
        controller.command(Command(action="start", plan=plan, who="simulation", why="rollout on a replayed trace"))
        interval = 0

        def at_end(_: int) -> None:
            nonlocal interval
            interval += 1
            now_s[0] += plan.interval_s
            controller.tick()
            result.transitions += [(interval, one) for one in transitions]
            transitions.clear()
            state = controller.state
            if state is not None:
                watched.withdrawn = set(state.withdrawn)
                progress(min(interval, limit), limit)
                if state.status != "running":
                    # One interval more shows which decisions are sent after the end.
                    over_since.append(interval)
                    if len(over_since) > 1:
                        raise _Over

        over_since: list[int] = []
        watched = _Watched(loop, interval_slots, at_end)
        with suppress(_Over):
            closed_loop.run(
                wide,
                load_bler("smooth"),
                du,
                seed=seed,
                controller=watched,
                max_slots=(_MOST_INTERVALS + 2) * interval_slots,
                repeat=True,
            )
        result.after_rollback = watched.after_rollback
        result.status = controller.status()
        result.entries = controller.audit()
        result.slots = interval * interval_slots
        kept.close()
    return result

"""The rollout inside one xApp: sets the decision loop's arms to the state in the store, and evaluates every interval.

Each replica runs one. The replica that evaluates an interval first commits it; the others find a new version and
follow. Time is the monotonic clock of each process, counted from when it saw the latest version, so a jump of the wall
clock has no effect. While the store cannot be reached assignments stay, no transition is made, and the status says why.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.policy.arm import Arm, Engine, Lineup
from distila.xapp.policy.bundle import Bundle, load_bundle
from distila.xapp.rollout.assignment import Assignment
from distila.xapp.rollout.audit import Entry, Start
from distila.xapp.rollout.exposure import Exposed, Exposure
from distila.xapp.rollout.kpi import KpiMeter
from distila.xapp.rollout.machine import (
    Command,
    ConflictError,
    Event,
    State,
    Summary,
    after_command,
    after_evaluation,
    after_rejected_stage,
    summary,
)
from distila.xapp.rollout.plan import CONTROL, NATIVE_POLICY, Metric, Plan
from distila.xapp.rollout.store import Store, StoreLostError
from distila.xapp.rollout.verdict import Evaluation, Record, Verdict, verdict_on

log = logging.getLogger(__name__)

_TRIES: Final = 20
_POLL_S: Final = 1.0


@dataclass(frozen=True)
class Transition:
    """A transition of the rollout; for alarms and metrics."""

    what: Event
    who: str
    why: str
    run: str
    status: str
    stage: str
    version: int


class RolloutStatus(Summary):
    """The rollout as one replica sees it."""

    replica: str = ""
    ready: bool = Field(default=True, description="whether nothing keeps the rollout from working")
    trouble: dict[str, str] = Field(
        default_factory=dict, description="what keeps it from working, by part: store, bundle, internal"
    )
    exposure: dict[str, int] = Field(default_factory=dict, description="unit intervals counted by all replicas, by arm")
    units_in_stage: dict[str, int] = Field(
        default_factory=dict, description="units seen by all replicas in this stage, by arm"
    )
    verdict: Verdict | None = Field(default=None, description="the latest verdict")
    metrics: list[Metric] = Field(default_factory=list, description="the plan's metrics, which the verdict is about")
    notes: list[str] = Field(default_factory=list, description="what a reader of the result should know")
    noticed: dict[str, int] = Field(default_factory=dict, description="reports that could not be counted, by reason")
    shadow: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="decisions of each shadow arm, compared with those that were sent"
    )


def check_policies(plan: Plan, load: Callable[[str], Bundle] = load_bundle) -> dict[str, str]:
    """sha256 of each policy of a plan, all of them loaded and checked.

    Raises:
        InputError: one of them fails its check.
    """
    policies = {plan.champion.policy, *(arm.policy for arm in plan.challengers)}
    return {policy: "" if policy == NATIVE_POLICY else load(policy).digest for policy in sorted(policies)}


def carry_out(store: Store, command: Command, digests: dict[str, str] | None = None) -> tuple[State, Event]:
    """Carry out an operator's command in the store; the replicas follow.

    Raises:
        InputError: a policy fails its check, or the command does not fit (`ConflictError`, `RejectedError`).
        StoreLostError: the store cannot be reached.
    """
    if command.action == "start" and command.plan is not None and digests is None:
        digests = check_policies(command.plan)
    for _ in range(_TRIES):
        before = store.load()
        after, what = after_command(before, command, digests or {})
        detail = Start(plan=after.plan, digests=after.digests) if what == "start" else None
        written = store.commit(before, after, who=command.who, what=what, detail=detail)
        if written is not None:
            return written, what
    raise ConflictError(f"{command.action}: other operators kept changing the rollout; check its status and try again")


class RolloutController:
    """One replica's part in the rollout.

    Args:
        loop: the decision loop whose arms are set.
        store: holds the rollout.
        replica: name of this replica.
        load: finds and checks a bundle.
        on_transition: called with every transition that this replica sees; may be set later.
        clock_s: monotonic clock, replaced in tests.
    """

    def __init__(
        self,
        loop: DecisionLoop,
        store: Store,
        replica: str = "distila-0",
        load: Callable[[str], Bundle] = load_bundle,
        on_transition: Callable[[Transition], None] = lambda _: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._store = store
        # Counts that this replica published before a restart stay, so it needs another name now.
        self._replica = f"{replica}:{secrets.token_hex(4)}"
        self._load = load
        self.on_transition = on_transition
        self._clock_s = clock_s
        self._idle = loop.lineup
        self._engines: dict[str, Engine | None] = {}
        self._state: State | None = None
        self._lineup_of: tuple[Any, ...] | None = None
        self._meter: KpiMeter | None = None
        self._exposure: Exposure | None = None
        self._exposed: Exposed | None = None
        self._verdict: Verdict | None = None
        self._due_s = 0.0
        self._killed_run: str | None = None
        # Version up to which `on_transition` was called; earlier transitions than this process are history.
        self._reported_version: int | None = None
        self._trouble: dict[str, str] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.transitions: dict[str, int] = {}
        self.store_losses = 0

    # --- the thread ---

    def start(self) -> None:
        """Follow the store, on a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name="rollout", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; the rollout goes on with the other replicas, or when this one is back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_POLL_S + 2)
        self._store.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.tick()
            except Exception:
                self._trouble["internal"] = "see the log"
                log.exception("rollout: internal error")
            interval_s = self._state.plan.interval_s if self._state is not None else _POLL_S
            self._stop.wait(min(_POLL_S, interval_s / 5))

    def tick(self) -> None:
        """Follow the store, and evaluate if an interval is over. Called often."""
        with self._lock:
            if self._meter is not None and self._exposure is not None:
                self._exposure.add(*self._meter.drain())
            try:
                state = self._store.load()
                self._trouble.pop("store", None)
                if self._reported_version is None:
                    self._reported_version = 0 if state is None else state.version
                if state is not None and (self._state is None or state.version != self._state.version):
                    self._adopt(state)
                if self._state is not None and self._state.active and self._clock_s() >= self._due_s:
                    self._evaluate(self._state)
            except StoreLostError as error:
                if "store" not in self._trouble:
                    log.warning("rollout: %s; assignments stay, no transition is made", error)
                    self.store_losses += 1
                self._trouble["store"] = str(error)
            except InputError as error:
                self._trouble["store"] = str(error)

    # --- what others ask ---

    @property
    def trouble(self) -> dict[str, str]:
        """What keeps the rollout from working, by part: ``store``, ``bundle``, ``internal``."""
        return dict(self._trouble)

    @property
    def state(self) -> State | None:
        """The rollout as this replica knows it."""
        return self._state

    def command(self, command: Command) -> State:
        """Carry out an operator's command and follow it at once.

        A kill takes the challengers out of service here before the store is asked, and even if it cannot be reached.

        Raises:
            InputError, StoreLostError: see `carry_out`.
        """
        with self._lock:
            if command.action == "kill" and self._state is not None and self._state.active:
                self._killed_run = self._state.run
                self._deploy(self._state)
            digests = None
            if command.action == "start" and command.plan is not None:
                digests = check_policies(command.plan, self._load)
            if self._reported_version is None:
                known = self._store.load()
                self._reported_version = 0 if known is None else known.version
            state, _ = carry_out(self._store, command, digests)
            self._adopt(state)
            return state

    def status(self) -> RolloutStatus:
        """The rollout as this replica sees it."""
        with self._lock:
            state, exposed, meter = self._state, self._exposed, self._meter
            return RolloutStatus(
                **summary(state).model_dump(exclude_unset=True),
                replica=self._replica,
                ready=not self._trouble,
                trouble=self.trouble,
                exposure={} if exposed is None else dict(exposed.exposure),
                units_in_stage={} if exposed is None else dict(exposed.units_in_stage),
                verdict=self._verdict,
                metrics=[] if state is None else list(state.plan.metrics),
                notes=[] if state is None else state.plan.notes(),
                noticed={} if meter is None else meter.noticed_counts(),
                shadow={} if meter is None else meter.shadow_counts(),
            )

    def audit(self) -> list[Entry]:
        """The audit log."""
        return self._store.audit()

    # --- following and judging ---

    def _adopt(self, state: State) -> None:
        before, self._state = self._state, state
        if before is None or before.run != state.run:
            self._verdict, self._exposed = None, None
            plan = state.plan
            self._meter = KpiMeter(frozenset(plan.scope.cells), plan.unit == "cell", plan.latency_budget_us)
            self._exposure = Exposure(plan.arm_names(), plan.settle_intervals)
        elif state.interval > before.interval and state.active:
            # Another replica evaluated: this one's interval ends with it.
            self._close_interval(before)
        if self._exposure is not None:
            self._exposure.begin_stage(state.stage)
        self._due_s = self._clock_s() + state.plan.interval_s
        self._deploy(state)
        self._report_transitions(state)

    def _report_transitions(self, state: State) -> None:
        reported, self._reported_version = self._reported_version or 0, state.version
        if reported >= state.version:
            return
        for entry in self._store.audit(reported)[: state.version - reported]:
            self.transitions[entry.what] = self.transitions.get(entry.what, 0) + 1
            if entry.what == "evaluate":
                continue
            log.info("rollout %s: %s by %s: %s", entry.run, entry.what, entry.who, entry.why)
            stage = state.plan.stages[min(entry.stage, len(state.plan.stages) - 1)].name
            self.on_transition(Transition(entry.what, entry.who, entry.why, entry.run, entry.status, stage, entry.seq))

    def _deploy(self, state: State) -> None:
        """Set the loop's arms to the state; if a policy cannot be loaded, the UEs stay with the champion."""
        killed = state.run == self._killed_run
        key = (state.run, state.status, state.stage, state.withdrawn, state.period, killed)
        if key == self._lineup_of:
            return
        self._trouble.pop("bundle", None)
        active = state.active and not killed
        try:
            lineup = self._active_lineup(state) if active else self._final_lineup(state)
        except InputError as error:
            self._trouble["bundle"] = str(error)
            log.error("rollout %s: %s; the champion decides for all UEs", state.run, error)
            lineup = self._idle
        self._loop.meter = self._meter if active else None
        self._loop.deploy(lineup)
        self._lineup_of = key

    def _active_lineup(self, state: State) -> Lineup:
        plan, stage = state.plan, state.plan.stages[state.stage]
        champion = Arm(plan.champion.name, self._engine(plan.champion.policy, state))
        challengers = [
            Arm(arm.name, champion.engine if arm.name in state.withdrawn else self._engine(arm.policy, state))
            for arm in plan.challengers
        ]
        if stage.shadow:
            return Lineup((champion,), None, tuple(arm for arm in challengers if arm.name not in state.withdrawn))
        assign = Assignment(plan, state.stage, state.withdrawn, state.period)
        return Lineup((champion, Arm(CONTROL, champion.engine), *challengers), assign)

    def _final_lineup(self, state: State) -> Lineup:
        if state.status == "promoted" and state.promoted is not None:
            return Lineup((Arm(state.promoted, self._engine(state.plan.policy_of(state.promoted), state)),))
        return Lineup((Arm(state.plan.champion.name, self._engine(state.plan.champion.policy, state)),))

    def _engine(self, policy: str, state: State) -> Engine | None:
        """The engine of a policy; a bundle that changed since the start of the rollout is rejected."""
        expected = state.digests.get(policy)
        if policy == NATIVE_POLICY:
            return None
        known = self._engines.get(policy)
        if known is not None and known.bundle.digest == expected:
            return known
        for engine in self._loop.lineup.engines:
            if engine.bundle.digest == expected:
                self._engines[policy] = engine
                return engine
        bundle = self._load(policy)
        if expected is not None and bundle.digest != expected:
            raise InputError(
                f"{policy}: sha256 is {bundle.digest[:12]}..., the rollout began with {expected[:12]}...: changed since"
            )
        engine = self._engines[policy] = self._loop.engine(bundle)
        return engine

    def _close_interval(self, state: State) -> None:
        if self._exposure is None or self._meter is None:
            return
        self._exposure.add(*self._meter.drain())
        self._exposure.close_interval(state.tail_below)
        self._store.publish(state.run, self._replica, self._exposure.exposed())

    def _evaluate(self, state: State) -> None:
        self._close_interval(state)
        self._exposed = Exposed.together(list(self._store.published(state.run).values()), state.stage)
        record = Record(
            stage=state.stage,
            stage_intervals=state.stage_intervals + 1,
            withdrawn=state.withdrawn,
            tail_below=state.tail_below,
            exposed=self._exposed,
        )
        verdict = verdict_on(state.plan, record)
        tail = self._exposed.tail_below
        after, what = after_evaluation(state, verdict, tail)
        if what in ("advance", "promote"):
            try:
                self._check_bundles(after)
            except InputError as error:
                after, what = after_rejected_stage(state, verdict, tail, f"{what} rejected: {error}")
        detail = Evaluation(record=record, verdict=verdict)
        written = self._store.commit(state, after, who=self._replica, what=what, detail=detail)
        self._due_s = self._clock_s() + state.plan.interval_s
        if written is not None:
            self._verdict = verdict
            # The interval is closed: following one's own commit must not close it again.
            self._state = state.model_copy(update={"interval": after.interval})
            self._adopt(written)

    def _check_bundles(self, state: State) -> None:
        """Load the bundles of the next stage again: they must be intact and unchanged since the start."""
        for name in state.challengers:
            policy = state.plan.policy_of(name)
            if policy == NATIVE_POLICY:
                continue
            digest, expected = self._load(policy).digest, state.digests.get(policy)
            if expected is not None and digest != expected:
                raise InputError(f"{policy}: this is not the policy that the rollout began with")

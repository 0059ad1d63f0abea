"""The state of a rollout and its transitions: pure functions from state and command, or state and verdict.

    (nothing) --start--> running <--resume-- paused, held
    running   --advance (verdict or operator)--> running, next stage
    running   --hold--> held         running --pause--> paused
    running, paused, held --roll back the last challenger--> rolled_back
    running, paused, held --promote--> promoted
    running, paused, held --abort, kill--> aborted

Paused and held rollouts keep their arms and stay under the guardrails, but get no further by themselves.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.rollout.plan import Plan
from distila.xapp.rollout.verdict import Verdict

Status = Literal["running", "paused", "held", "promoted", "rolled_back", "aborted"]
Event = Literal[
    "start", "evaluate", "advance", "roll_back", "promote", "hold", "pause", "resume", "abort", "kill", "stage_refused"
]
"""What an audit entry records. ``stage_refused``: the next stage could not begin, because a bundle failed its check."""


def event_words(event: str) -> str:
    """An event in words, for people: ``roll back``, ``stage rejected``. In files and on the wire its name stays."""
    return event.replace("_", " ").replace("refused", "rejected")


Action = Literal["start", "pause", "resume", "promote", "abort", "kill"]
"""What an operator can ask for."""

ACTIVE: Final = ("running", "paused", "held")
"""Statuses in which the arms are in service."""


class State(BaseModel):
    """The state of a rollout, without what its arms did. Each commit is one version and one audit entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1, description="commits so far, and entries of the audit log")
    run: str = Field(description="unique name of this run of the plan")
    plan: Plan
    status: Status
    stage: int = 0
    interval: int = Field(default=0, description="evaluations since the start")
    stage_intervals: int = Field(default=0, description="evaluations since the stage began")
    withdrawn: tuple[str, ...] = Field(default=(), description="challengers that were rolled back")
    promoted: str | None = None
    tail_below: float | None = Field(default=None, description="threshold of the worst 5 % [bit/slot]")
    digests: dict[str, str] = Field(default_factory=dict, description="sha256 of each policy as it was at the start")
    reason: str = ""
    audit_head: str = Field(default="", description="hash of the latest audit entry")

    @property
    def active(self) -> bool:
        """Whether challengers are in service."""
        return self.status in ACTIVE

    @property
    def challengers(self) -> list[str]:
        """Challengers still in service."""
        return [arm.name for arm in self.plan.challengers if arm.name not in self.withdrawn]

    @property
    def period(self) -> int:
        """Number of the switchback period."""
        return self.interval // self.plan.switchback_intervals if self.plan.switchback_intervals else 0


class Command(BaseModel):
    """A command of an operator, given by command line, HTTP or A1 policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    plan: Plan | None = Field(default=None, description="start: the plan")
    to_end: bool = Field(default=False, description="promote: the challenger becomes the policy of all UEs now")
    challenger: str | None = Field(default=None, description="promote to the end: which, if there are several")
    who: str = Field(min_length=1, max_length=100)
    why: str = Field(default="", max_length=500)
    expected_version: int | None = Field(
        default=None, description="the command is rejected if the rollout is at another version"
    )


class ConflictError(InputError):
    """Another operator was faster: the rollout is not at the version that the command was meant for."""


class RejectedError(InputError):
    """The command is not possible in this state."""


class Summary(BaseModel):
    """A rollout's state as it is shown; without a rollout only ``status`` and ``version`` are set."""

    model_config = ConfigDict(frozen=True)

    status: Status | Literal["none"] = Field(description="none: there never was a rollout")
    version: int = Field(description="commits so far, and entries of the audit log")
    run: str = Field(default="", description="unique name of this run of the plan")
    plan: str = Field(default="", description="name of the plan")
    stage: int = Field(default=0, description="number of the stage, from 0")
    stage_name: str = ""
    stages: int = Field(default=0, description="number of stages")
    share_pct: dict[str, float] = Field(default_factory=dict, description="share of the units of each challenger [%]")
    interval: int = Field(default=0, description="evaluations since the start")
    stage_intervals: int = Field(default=0, description="evaluations since the stage began")
    withdrawn: list[str] = Field(default_factory=list, description="challengers that were rolled back")
    promoted: str | None = Field(default=None, description="the challenger that was promoted")
    reason: str = Field(default="", description="why the latest transition was made")


def after_command(state: State | None, command: Command, digests: dict[str, str]) -> tuple[State, Event]:
    """The state after a command.

    Args:
        state: the present one; None: there never was a rollout.
        command: of an operator.
        digests: start: sha256 of each policy of the plan.

    Raises:
        ConflictError: the rollout is not at the version that the operator expected.
        RejectedError: the command is not possible in this state.
    """
    version = 0 if state is None else state.version
    if command.expected_version is not None and command.expected_version != version:
        raise ConflictError(f"{command.action}: the rollout is at version {version}, not {command.expected_version}")
    if command.action == "start":
        return _started(state, command, digests), "start"
    if state is None or not state.active:
        raise RejectedError(f"{command.action}: no rollout is active")
    given = {"version": version + 1, "reason": command.why}
    if command.action == "pause":
        if state.status == "paused":
            raise RejectedError("pause: the rollout is paused already")
        return state.model_copy(update={**given, "status": "paused"}), "pause"
    if command.action == "resume":
        if state.status == "running":
            raise RejectedError("resume: the rollout is running")
        return state.model_copy(update={**given, "status": "running", "stage_intervals": 0}), "resume"
    if command.action in ("abort", "kill"):
        what: Event = "kill" if command.action == "kill" else "abort"
        return state.model_copy(update={**given, "status": "aborted"}), what
    if not command.to_end and state.stage < len(state.plan.stages) - 1:
        return _next_stage(state).model_copy(update=given), "advance"
    name = command.challenger or (state.challengers[0] if len(state.challengers) == 1 else None)
    if name not in state.challengers:
        raise RejectedError(f"promote: challenger {name!r}: expected one of {', '.join(state.challengers)}")
    return state.model_copy(update={**given, "status": "promoted", "promoted": name}), "promote"


def _started(state: State | None, command: Command, digests: dict[str, str]) -> State:
    if command.plan is None:
        raise RejectedError("start: the plan is missing")
    if state is not None and state.active:
        raise RejectedError(f"start: rollout {state.run} is {state.status}; abort or promote it first")
    version = 1 if state is None else state.version + 1
    return State(
        version=version,
        run=f"{command.plan.name}#{version}",
        plan=command.plan,
        status="running",
        digests=digests,
        reason=command.why,
        audit_head="" if state is None else state.audit_head,
    )


def _next_stage(state: State) -> State:
    return state.model_copy(update={"stage": state.stage + 1, "stage_intervals": 0, "status": "running"})


def after_evaluation(state: State, verdict: Verdict, tail_below: float | None) -> tuple[State, Event]:
    """The state after an evaluation; the verdict's stage count is this state's plus one.

    Args:
        state: an active one.
        verdict: on this interval.
        tail_below: threshold of the worst 5 % from the data of this interval; the first one stays.
    """
    after = state.model_copy(
        update={
            "version": state.version + 1,
            "interval": state.interval + 1,
            "stage_intervals": state.stage_intervals + 1,
            "tail_below": state.tail_below if state.tail_below is not None else tail_below,
        }
    )
    if verdict.action == "roll_back" and verdict.challenger is not None:
        withdrawn = (*state.withdrawn, verdict.challenger)
        left = [name for name in state.challengers if name != verdict.challenger]
        status = state.status if left else "rolled_back"
        return after.model_copy(update={"withdrawn": withdrawn, "status": status, "reason": verdict.why}), "roll_back"
    if state.status != "running":
        return after, "evaluate"
    if verdict.action == "promote":
        return (
            after.model_copy(update={"status": "promoted", "promoted": verdict.challenger, "reason": verdict.why}),
            "promote",
        )
    if verdict.action == "advance":
        return _next_stage(after).model_copy(update={"reason": verdict.why}), "advance"
    if verdict.action == "hold":
        return after.model_copy(update={"status": "held", "reason": verdict.why}), "hold"
    return after, "evaluate"


def after_rejected_stage(state: State, verdict: Verdict, tail_below: float | None, why: str) -> tuple[State, Event]:
    """The state after an evaluation whose next stage cannot begin: the stage stays, and the rollout is held."""
    held, _ = after_evaluation(state, verdict.model_copy(update={"action": "hold", "why": why}), tail_below)
    return held, "stage_refused"


def summary(state: State | None) -> Summary:
    """What is shown of a state; None: there never was a rollout."""
    if state is None:
        return Summary(status="none", version=0)
    stage = state.plan.stages[state.stage]
    return Summary(
        status=state.status,
        version=state.version,
        run=state.run,
        plan=state.plan.name,
        stage=state.stage,
        stage_name=stage.name,
        stages=len(state.plan.stages),
        share_pct={name: stage.share_pct.get(name, 0.0) for name in state.challengers} if state.active else {},
        interval=state.interval,
        stage_intervals=state.stage_intervals,
        withdrawn=list(state.withdrawn),
        promoted=state.promoted,
        reason=state.reason,
    )

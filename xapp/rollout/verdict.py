"""The verdict on a record of what the arms did: a pure function, so that the audit log can be replayed.

Each interval ends in one of these:

=========  =======================================================================================================
roll_back  a challenger is worse by more than a margin: its whole sequence lies on the bad side
promote    last stage: the sequence of the primary metric is wholly better, no guardrail can be worse by its margin
advance    the stage has had its minimum of intervals and unit intervals, and no harm is shown
hold       no conclusion in the time given, or the data cannot be trusted (sample ratio)
continue   none of these yet
=========  =======================================================================================================

The chance of a false alarm, ``alpha``, is split: half for harm, shared by all metrics of all challengers (Bonferroni);
half for promotion, shared by the challengers. Promotion asks that *every* guardrail passes, which needs no further
share (intersection-union test: Berger, Technometrics 1982).
"""

import math
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distila.xapp.rollout.exposure import Exposed, no_moments
from distila.xapp.rollout.metric_text import METRIC_NAMES, interval_text, margin_text
from distila.xapp.rollout.plan import CONTROL, Metric, MetricKey, Plan, Stage
from distila.xapp.rollout.sequences import Estimate, estimate, radius

Action = Literal["continue", "advance", "roll_back", "promote", "hold"]

_SAMPLE_RATIO_ALPHA: Final = 0.001


class Record(BaseModel):
    """All that a verdict depends on, apart from the plan."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: int = Field(description="number of the stage")
    stage_intervals: int = Field(description="evaluations in this stage, this one included")
    withdrawn: tuple[str, ...] = Field(description="challengers that were rolled back before")
    tail_below: float | None = Field(description="throughput [bit/slot] below which the worst 5 % lie; null: not fixed")
    exposed: Exposed = Field(description="what the arms did so far, all replicas together")


def _rounded(value: float | None) -> float | None:
    """Eight digits, which the audit log keeps; None where the value is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.8g}")


Rounded = Annotated[float | None, AfterValidator(_rounded)]


class Finding(BaseModel):
    """What is known about one metric of one challenger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    challenger: str
    metric: MetricKey
    state: Literal["harm", "gain", "safe", "open", "waiting", "missing"] = Field(
        description="where the whole confidence sequence lies: harm: worse by more than the margin; gain: better; safe:"
        " not worse by the margin. open: none of these; waiting: too few units; missing: not measured, or not defined"
    )
    difference: Rounded = Field(default=None, description="challenger minus control, adjusted, on the metric's scale")
    low: Rounded = Field(default=None, description="lower end of the confidence sequence; null: unbounded")
    high: Rounded = Field(default=None, description="upper end of the confidence sequence; null: unbounded")
    value: Rounded = Field(default=None, description="the challenger's value")
    control: Rounded = Field(default=None, description="the control's value")


class Verdict(BaseModel):
    """What to do, with which challenger, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    challenger: str | None = Field(default=None, description="the challenger that the action is about")
    why: str = Field(default="", description="the reason, for people")
    findings: list[Finding] = Field(default_factory=list, description="one for each metric of each active challenger")

    def same_as(self, other: "Verdict") -> bool:
        """Whether both come to the same result; the wording of the reason may differ between versions."""
        return self.model_copy(update={"why": other.why}) == other


class Evaluation(BaseModel):
    """One evaluation of a rollout, as the audit log keeps it: what was counted, and the verdict on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: Record
    verdict: Verdict


def verdict_on(plan: Plan, record: Record) -> Verdict:
    """The verdict on an interval: whether the rollout continues, advances, holds, rolls back or promotes, and why."""
    stage = plan.stages[record.stage]
    active = [arm.name for arm in plan.challengers if arm.name not in record.withdrawn]
    findings = [] if stage.shadow else [_finding(plan, m, c, record) for c in active for m in plan.metrics]
    harm = next((one for one in findings if one.state == "harm"), None)
    if harm is not None and plan.auto_rollback:
        metric = plan.metric(harm.metric)
        why = f"{_difference(metric, harm)}, beyond the margin of {margin_text(metric)}"
        return Verdict(action="roll_back", challenger=harm.challenger, why=why, findings=findings)
    for challenger in active:
        odds = None if stage.shadow else _sample_ratio(plan, stage, record.exposed.units_in_stage, challenger)
        if odds is not None:
            return Verdict(
                action="hold",
                challenger=challenger,
                why=f"sample ratio of {challenger} to {CONTROL}: {odds}",
                findings=findings,
            )
    last = record.stage == len(plan.stages) - 1
    waits = _waits(stage, record, active)
    if waits is not None:
        return Verdict(action="continue", challenger=None, why=waits, findings=findings)
    if harm is not None:
        return Verdict(
            action="hold",
            challenger=harm.challenger,
            why=_difference(plan.metric(harm.metric), harm),
            findings=findings,
        )
    if not last:
        return Verdict(
            action="advance",
            challenger=None,
            why=_completed(plan, stage, active, record),
            findings=findings,
        )
    winners = [name for name in active if _wins(plan, [one for one in findings if one.challenger == name])]
    if winners:
        gains = {one.challenger: one for one in findings if one.metric == plan.primary.name}
        best = max(winners, key=lambda name: _better(plan.primary, gains[name].difference or 0.0))
        why = f"{_difference(plan.primary, gains[best])}; every guardrail is within its margin"
        return Verdict(action="promote" if plan.auto_promote else "hold", challenger=best, why=why, findings=findings)
    if stage.max_intervals is not None and record.stage_intervals >= stage.max_intervals:
        return Verdict(
            action="hold",
            challenger=None,
            why=f"no conclusion after {record.stage_intervals} intervals",
            findings=findings,
        )
    return Verdict(action="continue", challenger=None, why="not conclusive yet", findings=findings)


def _finding(plan: Plan, metric: Metric, challenger: str, record: Record) -> Finding:
    arms = [
        record.exposed.moments.get(name, {}).get(metric.name, no_moments(metric.name)) for name in (challenger, CONTROL)
    ]
    if min(arm.units for arm in arms) < plan.min_units:
        measured = max(arm.units for arm in arms) >= plan.min_units
        state: Literal["waiting", "missing"] = "waiting" if measured or record.stage_intervals < 3 else "missing"
        return Finding(challenger=challenger, metric=metric.name, state=state)
    base = record.tail_below if metric.name == "worst5_throughput" else None
    found = estimate(arms[0], arms[1], metric.scale, base)
    if found is None or not (math.isfinite(found.difference) and math.isfinite(found.error)):
        return Finding(challenger=challenger, metric=metric.name, state="missing")
    return _against_margin(plan, metric, challenger, found)


def _against_margin(plan: Plan, metric: Metric, challenger: str, found: Estimate) -> Finding:
    challengers = len(plan.challengers)
    harm_radius = radius(found, plan.alpha / 2 / (challengers * len(plan.metrics)), metric.effect)
    gain_radius = radius(found, plan.alpha / 2 / challengers, metric.effect)
    gain = _better(metric, found.difference)
    state: Literal["harm", "gain", "safe", "open"] = "open"
    if gain + harm_radius < -metric.margin:
        state = "harm"
    elif gain - gain_radius > 0:
        state = "gain"
    elif gain - gain_radius > -metric.margin:
        state = "safe"
    below, above = (gain_radius, harm_radius) if metric.better == "higher" else (harm_radius, gain_radius)
    # The difference of two shares is one of -1 to 1, however little is known.
    widest = 1.0 if metric.scale == "absolute" else math.inf
    return Finding(
        challenger=challenger,
        metric=metric.name,
        state=state,
        difference=found.difference,
        low=max(found.difference - below, -widest),
        high=min(found.difference + above, widest),
        value=found.challenger,
        control=found.control,
    )


def _better(metric: Metric, difference: float) -> float:
    """The difference, positive where the challenger is better."""
    return difference if metric.better == "higher" else -difference


def _wins(plan: Plan, findings: list[Finding]) -> bool:
    states = ("gain",) if plan.goal == "superior" else ("gain", "safe")
    return all(one.state in (states if one.metric == plan.primary.name else ("gain", "safe")) for one in findings)


def _difference(metric: Metric, one: Finding) -> str:
    """How a challenger differs from the control, for people."""
    how = interval_text(metric, one.difference, one.low, one.high)
    return f"{METRIC_NAMES[metric.name]} of {one.challenger} differs from the control's by {how}"


def _completed(plan: Plan, stage: Stage, active: list[str], record: Record) -> str:
    """Why the next stage begins, for people."""
    intervals = f"{record.stage_intervals} evaluation interval{'s' if record.stage_intervals != 1 else ''}"
    if stage.shadow:
        return f"stage {stage.name} is complete after {intervals}; no decision of a challenger was sent"
    unit = "UE" if plan.unit == "ue" else plan.unit
    exposures = ", ".join(f"{name} {record.exposed.exposure.get(name, 0):,} {unit} intervals" for name in active)
    return (
        f"stage {stage.name} is complete after {intervals} ({exposures});"
        " no metric is shown to be worse by more than its margin"
    )


def _waits(stage: Stage, record: Record, active: list[str]) -> str | None:
    """Why the stage cannot end yet; None: it can."""
    if record.stage_intervals < stage.min_intervals:
        return f"interval {record.stage_intervals} of at least {stage.min_intervals}"
    if stage.shadow:
        return None
    for name in [*active, CONTROL]:
        if stage.share_pct.get(name, 1) and not record.exposed.exposure.get(name, 0):
            return f"arm {name} has no traffic"
    for name in active:
        seen = record.exposed.exposure.get(name, 0)
        if seen < stage.min_exposure and stage.share_pct.get(name, 0):
            return f"exposure of {name} is {seen} of at least {stage.min_exposure} unit intervals"
    return None


def _sample_ratio(plan: Plan, stage: Stage, units: dict[str, int], challenger: str) -> str | None:
    """A sample ratio mismatch, as text; None: the numbers of units fit the shares. Valid at every evaluation.

    A unit of either arm is the challenger's with the probability that their shares say, so the surplus is a sum of
    independent bounded steps, and a quarter of their number bounds its variance (Hoeffding); the boundary is the
    two-sided normal mixture.
    """
    share = stage.share_pct.get(challenger, 0.0)
    if plan.switchback_intervals is not None or not share:
        return None
    mine, control = units.get(challenger, 0), units.get(CONTROL, 0)
    total, expected_share = mine + control, share / (share + stage.control_share_pct)
    if total < 4:
        return None
    surplus, variance, rho = mine - expected_share * total, total / 4, 25.0
    limit = math.sqrt((variance + rho) * math.log((variance + rho) / (rho * _SAMPLE_RATIO_ALPHA**2)))
    if abs(surplus) <= limit:
        return None
    return f"{mine} to {control} units where {expected_share:.1%} were to be expected"

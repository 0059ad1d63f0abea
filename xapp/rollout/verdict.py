"""From a record of what the arms did to a verdict: a pure function, so that the audit log can be replayed.

Each interval ends in one of these:

=========  ====================================================================================================
roll_back  a challenger is surely worse by more than a margin: its sequence lies wholly on the bad side
promote    last stage: the primary metric is surely better, and no guardrail can be worse by its margin any more
advance    the stage has had its intervals and its exposure, and nothing speaks against the next one
hold       no conclusion in the time given, or the data cannot be trusted (sample ratio)
continue   none of these yet
=========  ====================================================================================================

The chance of a false alarm, ``alpha``, is split: half for harm, shared by all metrics of all challengers (Bonferroni);
half for promotion, shared by the challengers. Promotion asks that *every* guardrail passes, which needs no further
share (intersection-union test: Berger, Technometrics 1982).
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from distila.xapp.rollout.exposure import Exposed, no_moments
from distila.xapp.rollout.plan import CONTROL, Metric, Plan, Stage
from distila.xapp.rollout.sequences import Estimate, estimate, radius

Action = Literal["continue", "advance", "roll_back", "promote", "hold"]

_SAMPLE_RATIO_ALPHA: Final = 0.001


@dataclass(frozen=True)
class Record:
    """All that a verdict depends on, apart from the plan.

    Attributes:
        stage: number of the stage.
        stage_intervals: evaluations in this stage, this one included.
        withdrawn: challengers rolled back before.
        tail_below: threshold of the worst 5 %, as fixed.
        exposed: what the arms did.
    """

    stage: int
    stage_intervals: int
    withdrawn: tuple[str, ...]
    tail_below: float | None
    exposed: Exposed

    def to_json(self) -> dict[str, Any]:
        """For the audit log."""
        return {
            "stage": self.stage,
            "stage_intervals": self.stage_intervals,
            "withdrawn": list(self.withdrawn),
            "tail_below": self.tail_below,
            "exposed": self.exposed.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Record":
        """What `to_json` gave."""
        return cls(
            data["stage"],
            data["stage_intervals"],
            tuple(data["withdrawn"]),
            data["tail_below"],
            Exposed.from_json(data["exposed"]),
        )


@dataclass(frozen=True)
class Finding:
    """One metric of one challenger; ``low`` and ``high`` bound the difference, ``harm_*`` and ``gain_*`` say which way.

    Attributes:
        state: ``harm``: surely worse by more than the margin; ``gain``: surely better; ``safe``: surely not worse by
            the margin; ``open``: neither; ``waiting``: too few units; ``missing``: not measured, or not defined.
    """

    challenger: str
    metric: str
    state: Literal["harm", "gain", "safe", "open", "waiting", "missing"]
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    value: float | None = None
    control: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For the audit log and for people."""
        return {name: _rounded(value) for name, value in vars(self).items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Verdict:
    """What to do, to whom, and why."""

    action: Action
    challenger: str | None = None
    why: str = ""
    findings: list[Finding] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the audit log and for people."""
        return {
            "action": self.action,
            "challenger": self.challenger,
            "why": self.why,
            "findings": [finding.to_json() for finding in self.findings],
        }


def judge(plan: Plan, record: Record) -> Verdict:
    """The verdict on an interval."""
    stage = plan.stages[record.stage]
    active = [arm.name for arm in plan.challengers if arm.name not in record.withdrawn]
    findings = [] if stage.shadow else [_finding(plan, m, c, record) for c in active for m in plan.metrics]
    harm = next((one for one in findings if one.state == "harm"), None)
    if harm is not None and plan.auto_rollback:
        margin = next(metric.margin for metric in plan.metrics if metric.name == harm.metric)
        why = f"{harm.metric} of {harm.challenger}: {_interval(harm)}, beyond the margin of {margin:g}"
        return Verdict("roll_back", harm.challenger, why, findings)
    for challenger in active:
        odds = None if stage.shadow else _sample_ratio(plan, stage, record.exposed.units_in_stage, challenger)
        if odds is not None:
            return Verdict("hold", challenger, f"sample ratio of {challenger} to {CONTROL}: {odds}", findings)
    last = record.stage == len(plan.stages) - 1
    waits = _waits(stage, record, active)
    if waits is not None:
        return Verdict("continue", None, waits, findings)
    if harm is not None:
        return Verdict("hold", harm.challenger, f"{harm.metric} of {harm.challenger}: {_interval(harm)}", findings)
    if not last:
        return Verdict("advance", None, "the stage has had its intervals and exposure, and no harm is shown", findings)
    winners = [name for name in active if _wins(plan, [one for one in findings if one.challenger == name])]
    if winners:
        gains = {one.challenger: one for one in findings if one.metric == plan.primary.name}
        best = max(winners, key=lambda name: _better(plan.primary, gains[name].difference or 0.0))
        why = f"{plan.primary.name} of {best}: {_interval(gains[best])}, and every guardrail within its margin"
        return Verdict("promote" if plan.auto_promote else "hold", best, why, findings)
    if stage.max_intervals is not None and record.stage_intervals >= stage.max_intervals:
        return Verdict("hold", None, f"no conclusion after {record.stage_intervals} intervals", findings)
    return Verdict("continue", None, "not conclusive yet", findings)


def _finding(plan: Plan, metric: Metric, challenger: str, record: Record) -> Finding:
    arms = [
        record.exposed.moments.get(name, {}).get(metric.name, no_moments(metric.name)) for name in (challenger, CONTROL)
    ]
    if min(arm.units for arm in arms) < plan.min_units:
        heard = max(arm.units for arm in arms) >= plan.min_units
        return Finding(challenger, metric.name, "waiting" if heard or record.stage_intervals < 3 else "missing")
    base = record.tail_below if metric.name == "worst5_throughput" else None
    found = estimate(arms[0], arms[1], metric.scale, base)
    if found is None or not (math.isfinite(found.difference) and math.isfinite(found.error)):
        return Finding(challenger, metric.name, "missing")
    return _judged(plan, metric, challenger, found)


def _judged(plan: Plan, metric: Metric, challenger: str, found: Estimate) -> Finding:
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
        challenger,
        metric.name,
        state,
        found.difference,
        max(found.difference - below, -widest),
        min(found.difference + above, widest),
        found.challenger,
        found.control,
    )


def _better(metric: Metric, difference: float) -> float:
    """The difference, positive where the challenger is better."""
    return difference if metric.better == "higher" else -difference


def _wins(plan: Plan, findings: list[Finding]) -> bool:
    wanted = ("gain",) if plan.goal == "superior" else ("gain", "safe")
    return all(one.state in (wanted if one.metric == plan.primary.name else ("gain", "safe")) for one in findings)


def _interval(one: Finding) -> str:
    if one.difference is None or one.low is None or one.high is None:
        return "not measured"
    return f"difference {one.difference:+.4g} (sequence {one.low:+.4g} to {one.high:+.4g})"


def _waits(stage: Stage, record: Record, active: list[str]) -> str | None:
    """Why the stage is not done yet."""
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
    """What is wrong with the numbers of units, None where nothing is; valid at every look.

    A unit of either arm is the challenger's with the probability that their shares say, so the surplus is a sum of
    independent bounded steps, and a quarter of their number bounds its variance (Hoeffding); the boundary is the
    two-sided normal mixture.
    """
    share = stage.share_pct.get(challenger, 0.0)
    if plan.switchback_intervals is not None or not share:
        return None
    mine, control = units.get(challenger, 0), units.get(CONTROL, 0)
    total, wanted = mine + control, share / (share + stage.control_share_pct)
    if total < 4:
        return None
    surplus, variance, rho = mine - wanted * total, total / 4, 25.0
    limit = math.sqrt((variance + rho) * math.log((variance + rho) / (rho * _SAMPLE_RATIO_ALPHA**2)))
    if abs(surplus) <= limit:
        return None
    return f"{mine} to {control} units where {wanted:.1%} were to be expected"

"""Simulated rollouts, thousands of them: units are drawn from a KPI library, and the xApp's own code evaluates them.

Assignment, exposure, estimates, verdict and state machine are those of `distila.xapp.rollout`. Indications and
decisions are left out: an `Effect` says how an arm changes the KPIs of its units.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from distila.replay.rollouts.kpi_library import KpiLibrary
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.rollout.assignment import arm_of_bucket
from distila.xapp.rollout.exposure import Exposure
from distila.xapp.rollout.kpi import SUMS
from distila.xapp.rollout.machine import State, after_evaluation
from distila.xapp.rollout.plan import BUCKETS, Plan
from distila.xapp.rollout.verdict import Record, Verdict, verdict_on

_AT: Final = {name: index for index, name in enumerate(SUMS)}
_MOST_INTERVALS: Final = 400


@dataclass(frozen=True)
class Effect:
    """How a challenger changes the KPIs of its units.

    Attributes:
        goodput: factor on the bits delivered.
        bler: factor on first transmissions that fail; more of them are drawn at random.
    """

    goodput: float = 1.0
    bler: float = 1.0

    def apply(self, values: Float64Array, rng: np.random.Generator) -> None:
        """Change KPIs [n, SUMS] in place."""
        values[:, _AT["bits"]] *= self.goodput
        if self.bler > 1:
            sent = np.maximum(values[:, _AT["first_tx"]].round(), 0)
            failed = np.clip(values[:, _AT["first_failed"]].round(), 0, sent)
            arrived = sent - failed
            chance = np.clip((self.bler - 1) * failed / np.maximum(arrived, 1), 0, 1)
            values[:, _AT["first_failed"]] = failed + rng.binomial(arrived.astype(np.int64), chance)


@dataclass
class Outcome:
    """Course of one rollout.

    Attributes:
        state: at its end.
        verdicts: of every interval.
        exposure: unit intervals on challengers.
        stages: stage of every interval.
    """

    state: State
    verdicts: list[Verdict] = field(default_factory=list)
    stages: list[int] = field(default_factory=list)
    exposure: int = 0


@dataclass(frozen=True)
class Population:
    """The units of a simulated rollout.

    Attributes:
        library: KPIs to draw from.
        units: UEs at any time.
        mean_stay_intervals: intervals that a UE stays, on average; another UE takes its place.
    """

    library: KpiLibrary
    units: int = 1000
    mean_stay_intervals: float = 60.0


def planned_exposure(plan: Plan, units: int) -> float:
    """Unit intervals on challengers of a rollout of full length: the last stage runs to its limit."""
    total = 0.0
    for number, stage in enumerate(plan.stages):
        last = number == len(plan.stages) - 1
        length = stage.max_intervals if last and stage.max_intervals is not None else stage.min_intervals
        total += units * sum(stage.share_pct.values()) / 100 * length
    return total


def simulate(plan: Plan, population: Population, effect: Effect, rng: np.random.Generator) -> Outcome:
    """One rollout from its start until it is promoted, rolled back or held."""
    library, count = population.library, population.units
    ue = rng.integers(0, library.num_ues, count)
    interval = rng.integers(0, 1 << 20, count)
    bucket = rng.integers(0, BUCKETS, count)
    unit = np.arange(count)
    next_unit = count
    exposure = Exposure(plan.arm_names(), plan.settle_intervals)
    state = State(version=1, run="simulated", plan=plan, status="running")
    outcome = Outcome(state)
    table, stage = arm_of_bucket(plan, 0), 0
    while state.status == "running" and state.interval < _MOST_INTERVALS:
        if state.stage != stage:
            stage = state.stage
            table = arm_of_bucket(plan, stage)
        exposure.begin_stage(stage)
        values = library.rows(ue, interval)
        arms = table[bucket]
        treated = np.flatnonzero(arms > 1)
        if len(treated):
            changed = values[treated]
            effect.apply(changed, rng)
            values[treated] = changed
        exposure.add(unit, arms, values)
        exposure.close_interval(state.tail_below)
        exposed = exposure.exposed()
        verdict = verdict_on(
            plan,
            Record(
                stage=stage,
                stage_intervals=state.stage_intervals + 1,
                withdrawn=state.withdrawn,
                tail_below=state.tail_below,
                exposed=exposed,
            ),
        )
        outcome.verdicts.append(verdict)
        outcome.stages.append(stage)
        outcome.exposure += len(treated)
        state, _ = after_evaluation(state, verdict, exposed.tail_below)
        interval = interval + 1
        leaves = np.flatnonzero(rng.random(count) < 1 / population.mean_stay_intervals)
        if len(leaves):
            ue[leaves] = rng.integers(0, library.num_ues, len(leaves))
            interval[leaves] = rng.integers(0, 1 << 20, len(leaves))
            bucket[leaves] = rng.integers(0, BUCKETS, len(leaves))
            unit[leaves] = next_unit + np.arange(len(leaves))
            next_unit += len(leaves)
    outcome.state = state
    return outcome

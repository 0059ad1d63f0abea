"""Studies of simulated rollouts: how often they raise a false alarm (A/A), and how soon they find an effect (power).

Each run is a whole rollout with units and random draws of its own; its generator comes from the seed and its number, so
runs do not depend on how many there are or on how many processes share them.
"""

import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, Literal

import numpy as np

from distila.replay.rollouts.population import Effect, Outcome, Population, planned_exposure, simulate
from distila.replay.rollouts.results import AaFigures, EffectFigures, PowerFigures
from distila.xapp.progress import Progress
from distila.xapp.rollout.plan import Plan

EFFECTS: Final = {
    "goodput_down_5_pct": Effect(goodput=0.95),
    "bler_doubled": Effect(bler=2.0),
    "goodput_up_5_pct": Effect(goodput=1.05),
}
HARMFUL: Final = ("goodput_down_5_pct", "bler_doubled")
GOOD: Final = "goodput_up_5_pct"


def clopper_pearson(successes: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a binomial share (Clopper and Pearson, Biometrika 1934), by bisection on its tails."""

    def tail(share: float, at_least: int) -> float:
        """Chance of ``at_least`` or more."""
        if at_least <= 0:
            return 1.0
        if share in (0.0, 1.0):
            return share
        terms = [
            math.lgamma(runs + 1)
            - math.lgamma(k + 1)
            - math.lgamma(runs - k + 1)
            + k * math.log(share)
            + (runs - k) * math.log1p(-share)
            for k in range(at_least, runs + 1)
        ]
        return min(1.0, math.fsum(math.exp(term) for term in terms))

    def where(at_least: int, chance: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, at_least) < chance else (low, middle)
        return (low + high) / 2

    half = (1 - level) / 2
    low = 0.0 if successes == 0 else where(successes, half)
    high = 1.0 if successes == runs else where(successes + 1, 1 - half)
    return low, high


def aa_study(plan: Plan, population: Population, runs: int, seed: int, processes: int, progress: Progress) -> AaFigures:
    """Rollouts of the champion against itself, evaluated at every interval.

    ``false_alarms`` are rollouts that were rolled back or promoted. ``sequences_missed`` are those in which the
    sequence of any metric ever lay wholly beyond zero, whatever the margins: the error rate of a sequence bounds these.
    """
    rolled_back = promoted = missed = intervals = 0
    for outcome in _runs(plan, population, Effect(), runs, seed, processes, progress):
        rolled_back += outcome.state.status == "rolled_back"
        promoted += outcome.state.status == "promoted"
        missed += any(
            finding.low is not None and finding.high is not None and not finding.low <= 0 <= finding.high
            for verdict in outcome.verdicts
            for finding in verdict.findings
        )
        intervals += len(outcome.verdicts)
    alarms = rolled_back + promoted
    return AaFigures(
        runs=runs,
        false_alarms=alarms,
        false_alarm_share=alarms / runs,
        ci95=_interval(alarms, runs),
        allowed_share=plan.alpha,
        rolled_back=rolled_back,
        promoted=promoted,
        sequences_missed=missed,
        sequences_missed_ci95=_interval(missed, runs),
        evaluations=intervals,
    )


def power_study(
    plan: Plan, population: Population, runs: int, seed: int, processes: int, progress: Progress
) -> PowerFigures:
    """Rollouts of harmful challengers, ``runs`` of each effect, and as many of good ones."""
    whole = planned_exposure(plan, population.units)
    by_effect: dict[str, EffectFigures] = {}
    exposure: list[float] = []
    for number, (name, effect) in enumerate(EFFECTS.items()):

        def advance(done: int, total: int, number: int = number) -> None:
            progress(number * total + done, len(EFFECTS) * total)

        outcomes = list(_runs(plan, population, effect, runs, seed + 1 + number, processes, advance))
        shares = [100 * outcome.exposure / whole for outcome in outcomes]
        ended = Counter(outcome.state.status for outcome in outcomes)
        expected_end: Literal["rolled_back", "promoted"] = "rolled_back" if name in HARMFUL else "promoted"
        by_effect[name] = EffectFigures(
            runs=runs,
            expected_end=expected_end,
            rolled_back=ended["rolled_back"],
            promoted=ended["promoted"],
            ci95=_interval(ended[expected_end], runs),
            median_exposure_pct=round(float(np.median(shares)), 2),
            p95_exposure_pct=round(float(np.quantile(shares, 0.95)), 2),
        )
        if name in HARMFUL:
            exposure += shares
    rolled_back = sum(by_effect[name].rolled_back for name in HARMFUL)
    promoted = by_effect[GOOD].promoted
    return PowerFigures(
        harmful_runs=runs * len(HARMFUL),
        rolled_back=rolled_back,
        rolled_back_ci95=_interval(rolled_back, runs * len(HARMFUL)),
        median_exposure_pct=round(float(np.median(exposure)), 2),
        good_runs=runs,
        promoted=promoted,
        promoted_ci95=_interval(promoted, runs),
        by_effect=by_effect,
    )


def _interval(successes: int, runs: int) -> tuple[float, float]:
    low, high = clopper_pearson(successes, runs)
    return round(low, 5), round(high, 5)


def _runs(
    plan: Plan, population: Population, effect: Effect, runs: int, seed: int, processes: int, progress: Progress
) -> Iterator[Outcome]:
    one = partial(_one, plan, population, effect, seed)
    if processes <= 1:
        for number in range(runs):
            yield one(number)
            progress(number + 1, runs)
        return
    with ProcessPoolExecutor(processes) as pool:
        for number, outcome in enumerate(pool.map(one, range(runs), chunksize=5)):
            yield outcome
            progress(number + 1, runs)


def _one(plan: Plan, population: Population, effect: Effect, seed: int, number: int) -> Outcome:
    return simulate(plan, population, effect, np.random.default_rng([seed, number]))

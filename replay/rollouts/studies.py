"""How often rollouts go wrong, and how soon they go right: the A/A study and the power study.

Each run is a whole rollout with units, draws and luck of its own; its generator comes from the seed and its number, so
runs do not depend on how many there are or on how many processes share them.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np

from distila.replay.rollouts.population import Effect, Outcome, Population, planned_exposure, simulate
from distila.xapp.rollout.plan import Plan

Progress = Callable[[int, int], None]

EFFECTS: Final = {
    "goodput -5 %": Effect(goodput=0.95),
    "twice the BLER": Effect(bler=2.0),
    "goodput +5 %": Effect(goodput=1.05),
}
HARMFUL: Final = ("goodput -5 %", "twice the BLER")


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


def aa_study(
    plan: Plan, population: Population, runs: int, seed: int, processes: int, progress: Progress
) -> dict[str, Any]:
    """The same policy on both sides, judged at every interval.

    ``false_alarms`` are rollouts that were rolled back or promoted; ``sequences_missed`` those in which any metric's
    sequence ever lay wholly beyond zero, margins or not, which is what its error rate speaks about.
    """
    kinds = {"rolled_back": 0, "promoted": 0}
    missed = intervals = 0
    for outcome in _runs(plan, population, Effect(), runs, seed, processes, progress):
        if outcome.state.status in kinds:
            kinds[outcome.state.status] += 1
        missed += any(
            finding.low is not None and finding.high is not None and not finding.low <= 0 <= finding.high
            for verdict in outcome.verdicts
            for finding in verdict.findings
        )
        intervals += len(outcome.verdicts)
    alarms = sum(kinds.values())
    return {
        "runs": runs,
        "false_alarms": alarms,
        "false_alarm_share": alarms / runs,
        "ci95": _interval(alarms, runs),
        "allowed_share": plan.alpha,
        "rolled_back": kinds["rolled_back"],
        "promoted": kinds["promoted"],
        "sequences_missed": missed,
        "sequences_missed_ci95": _interval(missed, runs),
        "evaluations": intervals,
    }


def power_study(
    plan: Plan, population: Population, runs: int, seed: int, processes: int, progress: Progress
) -> dict[str, Any]:
    """Harmful challengers, ``runs`` of each kind, and as many good ones."""
    whole = planned_exposure(plan, population.units)
    kinds: dict[str, Any] = {}
    exposure: list[float] = []
    for number, (name, effect) in enumerate(EFFECTS.items()):
        stopped, ended, shares = 0, 0, []

        def share(done: int, total: int, number: int = number) -> None:
            progress(number * total + done, len(EFFECTS) * total)

        wanted = "rolled_back" if name in HARMFUL else "promoted"
        for outcome in _runs(plan, population, effect, runs, seed + 1 + number, processes, share):
            ended += outcome.state.status == wanted
            stopped += outcome.state.status == "rolled_back"
            shares.append(100 * outcome.exposure / whole)
        kinds[name] = {
            "runs": runs,
            wanted: ended,
            "ci95": _interval(ended, runs),
            "median_exposure_pct": round(float(np.median(shares)), 2),
            "p95_exposure_pct": round(float(np.quantile(shares, 0.95)), 2),
        }
        if name in HARMFUL:
            exposure += shares
        else:
            kinds[name]["rolled_back"] = stopped
    rolled_back = sum(kinds[name]["rolled_back"] for name in HARMFUL)
    promoted = kinds["goodput +5 %"]["promoted"]
    return {
        "harmful_runs": runs * len(HARMFUL),
        "rolled_back": rolled_back,
        "rolled_back_ci95": _interval(rolled_back, runs * len(HARMFUL)),
        "median_exposure_pct": round(float(np.median(exposure)), 2),
        "good_runs": runs,
        "promoted": promoted,
        "promoted_ci95": _interval(promoted, runs),
        "by_effect": kinds,
    }


def _interval(successes: int, runs: int) -> list[float]:
    return [round(x, 5) for x in clopper_pearson(successes, runs)]


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

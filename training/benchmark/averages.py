"""Mean gains over groups of families: by E2 period and whether they are in training, and the five of the literature.

Groups are named ``five``, and ``seen`` or ``unseen`` with the pace of E2 (`BenchmarkView.pace`): ``seen_real_time``...;
`distila.xapp.policy.benchmark_figures.group_title` says them in words. Means of a policy leave out the families in
which it decided nothing: the figures there are those of the DU's OLLA.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from distila.replay.page.verdict import Difference
from distila.training.benchmark.results import GroupAverages, MeanFigures
from distila.training.benchmark.view import BenchmarkView, Figure, figure_of
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.result_file import Estimate, rounded

FIVE: Final = ("full_buffer_mimo", "full_buffer_massive_mimo", "high_mobility", "embb", "mixed_traffic")
"""The families after arXiv 2507.06602."""
FIVE_GROUP: Final = "five"

Resamples = Mapping[str, Float64Array]
"""Gain of each policy [%], by name, in resamples of one family, float64 [resample]."""


def family_groups(bench: BenchmarkView) -> dict[str, tuple[str, ...]]:
    """Families by group, of groups of two and more.

    A mean over several paces of E2 would mix answers to different questions, so there is none.
    """
    families = bench.families
    groups: dict[str, tuple[str, ...]] = {FIVE_GROUP: FIVE if set(FIVE) <= set(families) else ()}
    for unseen in (False, True):
        for pace, names in bench.by_pace.items():
            of_kind = tuple(name for name in names if families[name].unseen is unseen)
            groups[f"{'unseen' if unseen else 'seen'}_{pace}"] = of_kind
    return {group: names for group, names in groups.items() if len(names) > 1}


def average_gains(
    bench: BenchmarkView, resamples: Mapping[str, Resamples], equal_bler: Mapping[str, Resamples] | None = None
) -> dict[str, GroupAverages]:
    """Plain means over the families of each group, of every policy's gains with 95 % intervals, and of other figures.

    Args:
        bench: the families and their figures.
        resamples: gains over the reference in resamples of every family, drawn for each of them on its own: the
            interval takes families as independent. It is about other links of the same families, not about other
            families.
        equal_bler: the same of gains at equal BLER; None or empty: there are none.
    """
    found = {}
    for group, names in family_groups(bench).items():
        has_targets = equal_bler is not None and bool(equal_bler[names[0]])
        decided = {policy: bench.decided(policy, names) for policy in bench.policies}
        found[group] = GroupAverages(
            families=names,
            policies={
                policy: _average(
                    [bench.same_target_gain(f, policy) for f in over], [resamples[f] for f in over], policy
                )
                for policy, over in decided.items()
            },
            equal_bler={
                policy: _average(
                    [bench.equal_bler_gain(f, policy) for f in over], [equal_bler[f] for f in over], policy
                )
                for policy, over in decided.items()
            }
            if equal_bler is not None and has_targets
            else {},
            figures={policy: _mean_figures(bench, over, policy) for policy, over in decided.items()},
        )
    return found


def distinct(averages: Mapping[str, GroupAverages]) -> dict[str, GroupAverages]:
    """The averages without those over the same families as an earlier group."""
    groups: dict[str, GroupAverages] = {}
    for name, group in averages.items():
        if all(set(group.families) != set(other.families) for other in groups.values()):
            groups[name] = group
    return groups


def _average(gains: Sequence[Difference], resamples: Sequence[Resamples], policy: str) -> Estimate:
    mean = float(np.mean([gain.mean for gain in gains])) if gains else math.nan
    if math.isnan(mean):
        return Estimate(mean=None, ci95=(None, None))
    low, high = np.nanpercentile(np.mean([found[policy] for found in resamples], axis=0), [2.5, 97.5])
    return Estimate.of(mean, low, high, 3)


def _mean_figures(bench: BenchmarkView, families: Sequence[str], policy: str) -> MeanFigures:
    def mean(figure: Figure, digits: int) -> float | None:
        return rounded(float(np.mean([bench.value(family, policy, figure) for family in families])), digits)

    if not families:
        return MeanFigures(
            decided_in=0, first_tx_bler=None, residual_bler=None, block_delay_p95_ms=None, bought_with_bler=0
        )
    outcomes = [bench.outcome(family, policy) for family in families]
    delays = [None if outcome is None else outcome.block_delay_ms for outcome in outcomes]
    p95 = [figure_of(None if delay is None else delay.p95) for delay in delays]
    gains = [None if outcome is None else outcome.equal_bler_gain for outcome in outcomes]
    return MeanFigures(
        decided_in=len(families),
        first_tx_bler=mean("first_tx_bler", 5),
        residual_bler=mean("residual_bler", 6),
        block_delay_p95_ms=rounded(float(np.mean(p95)), 3),
        bought_with_bler=sum(gain is not None and gain.kind == "bought_with_bler" for gain in gains),
    )

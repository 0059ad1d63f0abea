"""Mean gains over groups of families: by E2 period and whether they are in training, and the five of the literature.

Groups are named ``five``, and ``seen`` or ``unseen`` with the pace of E2 (`BenchmarkView.pace`): ``seen_real_time``...;
`distila.xapp.policy.benchmark_figures.group_title` says them in words.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from distila.training.benchmark.results import GroupAverages
from distila.training.benchmark.view import BenchmarkView
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.result_file import Estimate

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


def average_gains(bench: BenchmarkView, resamples: Mapping[str, Resamples]) -> dict[str, GroupAverages]:
    """Plain mean over the families of each group of every policy's gain over the reference, with a 95 % interval.

    Args:
        bench: the families and their figures.
        resamples: gains in resamples of every family, drawn for each of them on its own: the interval takes families
            as independent. It is about other links of the same families, not about other families.
    """
    return {
        group: GroupAverages(
            families=names,
            policies={policy: _average(bench, names, policy, resamples) for policy in bench.policies},
        )
        for group, names in family_groups(bench).items()
    }


def distinct(averages: Mapping[str, GroupAverages]) -> dict[str, GroupAverages]:
    """The averages without those over the same families as an earlier group."""
    groups: dict[str, GroupAverages] = {}
    for name, group in averages.items():
        if all(set(group.families) != set(other.families) for other in groups.values()):
            groups[name] = group
    return groups


def _average(
    bench: BenchmarkView, families: Sequence[str], policy: str, resamples: Mapping[str, Resamples]
) -> Estimate:
    mean = float(np.mean([bench.gain(family, policy).mean for family in families]))
    gains = np.mean([resamples[family][policy] for family in families], axis=0)
    if math.isnan(mean):
        return Estimate(mean=None, ci95=(None, None))
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return Estimate(mean=round(mean, 3), ci95=(round(float(low), 3), round(float(high), 3)))

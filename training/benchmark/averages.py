"""Mean gains over groups of families: those of one pace of E2, in training or not, and the five of the literature."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from distila.training.benchmark.view import BenchmarkView
from distila.xapp.nr.arrays import Float64Array

FIVE: Final = ("full_buffer_mimo", "full_buffer_massive_mimo", "high_mobility", "embb", "mixed_traffic")
"""The families after arXiv 2507.06602."""
FIVE_GROUP: Final = "five"

Resamples = Mapping[str, Float64Array]
"""Gain of each policy [%], by name, in resamples of one family, float64 [resample]."""


def family_groups(bench: BenchmarkView) -> dict[str, list[str]]:
    """Families by group, of groups of two and more: ``five``, and ``seen`` or ``unseen`` and the pace of E2.

    A mean over several paces would be one over different questions, so there is none.
    """
    families = bench.families
    groups = {FIVE_GROUP: list(FIVE) if set(FIVE) <= set(families) else []}
    for unseen in (False, True):
        for pace, names in bench.by_pace.items():
            of_kind = [name for name in names if bool(families[name].get("unseen")) is unseen]
            groups[f"{'unseen' if unseen else 'seen'} {pace}"] = of_kind
    return {group: names for group, names in groups.items() if len(names) > 1}


def average_gains(bench: BenchmarkView, resamples: Mapping[str, Resamples]) -> dict[str, Any]:
    """Plain mean over the families of each group of every policy's gain over the reference, with a 95 % interval.

    Args:
        bench: the families and their figures.
        resamples: of every family, drawn for each of them on its own: the interval takes families as independent. It
            is about other links of the same families, not about other families.

    Returns:
        See `distila.training.benchmark.results.benchmark_results`.
    """
    found: dict[str, Any] = {}
    for group, names in family_groups(bench).items():
        policies = {policy: _average(bench, names, policy, resamples) for policy in bench.policies}
        found[group] = {"families": names, "policies": policies}
    return found


def distinct(averages: Mapping[str, Any]) -> dict[str, Any]:
    """The averages, those of the very families of an earlier group left out."""
    groups: dict[str, Any] = {}
    for name, group in averages.items():
        if all(set(group["families"]) != set(other["families"]) for other in groups.values()):
            groups[name] = group
    return groups


def _average(
    bench: BenchmarkView, families: Sequence[str], policy: str, resamples: Mapping[str, Resamples]
) -> dict[str, Any]:
    mean = float(np.mean([bench.gain(family, policy).mean for family in families]))
    gains = np.mean([resamples[family][policy] for family in families], axis=0)
    if math.isnan(mean):
        return {"mean": None, "ci95": [None, None]}
    low, high = np.nanpercentile(gains, [2.5, 97.5])
    return {"mean": round(mean, 3), "ci95": [round(float(low), 3), round(float(high), 3)]}

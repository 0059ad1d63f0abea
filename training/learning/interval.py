"""Figures over seeds: mean and confidence interval."""

import math
from collections.abc import Sequence

from pydantic import Field
from scipy import stats

from distila.xapp.result_file import ResultModel


class SeedInterval(ResultModel):
    """Mean of a figure over seeds with its 95 % interval (Student's t)."""

    mean: float = Field(description="mean over the seeds")
    ci95: tuple[float, float] | None = Field(description="95 % interval, low and high; null for a single seed")
    values: tuple[float, ...] = Field(min_length=1, description="figure of each seed")


def interval(values: Sequence[float]) -> SeedInterval:
    """Mean and interval of a figure over seeds, rounded to three decimals."""
    count = len(values)
    mean = sum(values) / count
    ci95 = None
    if count > 1:
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        half = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
        ci95 = (round(mean - half, 3), round(mean + half, 3))
    return SeedInterval(mean=round(mean, 3), ci95=ci95, values=tuple(round(value, 3) for value in values))

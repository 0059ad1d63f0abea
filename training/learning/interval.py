"""Figures over seeds: their mean, and how sure it is."""

import math
from typing import Any

from scipy import stats


def interval(values: list[float]) -> dict[str, Any]:
    """Mean over seeds with its 95 % interval (Student's t), and the values; no interval of one value."""
    count = len(values)
    mean = sum(values) / count
    ci95 = None
    if count > 1:
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        half = float(stats.t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
        ci95 = [round(mean - half, 3), round(mean + half, 3)]
    return {"mean": round(mean, 3), "ci95": ci95, "values": [round(value, 3) for value in values]}

"""Names, units and findings of a rollout's metrics, as reports, terminal and audit log show them.

METRIC_NAMES["decision_latency"]                      # "late decisions"
interval_text(metric, 0.0748, 0.031, 0.122)           # "+7.48 % (confidence sequence +3.10 to +12.20 %)"
"""

import math
from typing import Final

from distila.xapp.rollout.plan import Metric

METRIC_NAMES: Final = {
    "goodput_per_prb": "goodput per PRB",
    "first_tx_failure_rate": "first-transmission failure rate",
    "residual_bler": "residual BLER",
    "control_failures": "control failures",
    "decision_latency": "late decisions",
    "worst5_throughput": "throughput of the worst 5 %",
}
VALUE_UNITS: Final = {"goodput_per_prb": "bit/PRB", "worst5_throughput": "bit/slot"}
"""Units of the arms' values; all other metrics are shares."""
FINDING_TEXTS: Final = {
    "harm": "beyond margin",
    "gain": "better",
    "safe": "within margin",
    "open": "not decided",
    "waiting": "too few units",
    "missing": "not measured",
}


def difference_unit(metric: Metric) -> str:
    """Unit of a metric's differences and of its margin."""
    return "%" if metric.scale == "relative" else "percentage points"


def margin_text(metric: Metric) -> str:
    """A metric's margin with its unit."""
    size, unit = f"{100 * metric.margin:g}", difference_unit(metric)
    return f"{size} {'percentage point' if size == '1' and unit == 'percentage points' else unit}"


def difference_digits(metric: Metric) -> int:
    """Decimals of a difference in its unit: three digits where it is as large as the margin."""
    return max(0, 2 - math.floor(math.log10(100 * metric.margin))) if metric.margin > 0 else 2


def difference_text(metric: Metric, difference: float | None) -> str:
    """A difference with its sign, without its unit; empty where there is none."""
    if difference is None:
        return ""
    text = f"{100 * difference:+.{difference_digits(metric)}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval_text(metric: Metric, difference: float | None, low: float | None, high: float | None) -> str:
    """A difference with its unit and its confidence sequence."""
    if difference is None or low is None or high is None:
        return "not measured"
    unit = difference_unit(metric)
    ends = f"{difference_text(metric, low)} to {difference_text(metric, high)} {unit}"
    return f"{difference_text(metric, difference)} {unit} (confidence sequence {ends})"

"""The findings of a rollout's verdict as a table on the terminal."""

from collections.abc import Sequence

from distila.xapp.rollout.metric_text import FINDING_TEXTS, METRIC_NAMES, difference_text, difference_unit
from distila.xapp.rollout.plan import DEFAULT_METRICS, Metric
from distila.xapp.rollout.verdict import Finding


def finding_table(findings: Sequence[Finding], metrics: Sequence[Metric]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of findings.

    Args:
        findings: of one verdict.
        metrics: of the rollout's plan; an xApp of an older version does not send them, which leaves the defaults.
    """
    by_name: dict[str, Metric] = {metric.name: metric for metric in (*DEFAULT_METRICS, *metrics)}
    columns = ["metric", "arm", "difference", "low", "high", "finding"]
    rows = []
    for finding in findings:
        metric = by_name[finding.metric]
        numbers = (difference_text(metric, value) for value in (finding.difference, finding.low, finding.high))
        name = f"{METRIC_NAMES[metric.name]} [{difference_unit(metric)}]"
        rows.append([name, finding.challenger, *numbers, FINDING_TEXTS[finding.state]])
    return columns, rows

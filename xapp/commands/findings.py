"""The findings of a rollout's verdict as a table on the terminal."""

from collections.abc import Sequence

from distila.xapp.rollout.verdict import Finding


def finding_table(findings: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of findings."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:+.4g}"

    columns = ["metric", "arm", "difference", "low", "high", "state"]
    rows = [[f.metric, f.challenger, number(f.difference), number(f.low), number(f.high), f.state] for f in findings]
    return columns, rows

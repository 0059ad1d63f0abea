"""The findings of a rollout's verdict as a table on the terminal."""

from typing import Any


def finding_table(findings: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of findings."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:+.4g}"

    columns = ["metric", "arm", "difference", "low", "high", "state"]
    rows = [
        [f["metric"], f["challenger"], number(f["difference"]), number(f["low"]), number(f["high"]), f["state"]]
        for f in findings
    ]
    return columns, rows

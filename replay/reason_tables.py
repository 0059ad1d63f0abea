"""Tables of what was dropped, changed, noticed or lost, by reason, with one line on each reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from distila.replay.page.number_text import number, percent
from distila.replay.page.table import Cell, Column, Group, Row, Table
from distila.replay.reasons import Group as ReasonGroup
from distila.replay.reasons import explain
from distila.replay.summary import ClosedLoopSummary, OpenLoopSummary
from distila.xapp.stats import Reasons


@dataclass(frozen=True)
class ReasonTable:
    """Counts of one group; ``table`` is None where ``when_empty`` says all there is to say."""

    heading: str
    when_empty: str
    table: Table | None

    @property
    def rows(self) -> list[Sequence[Cell | str]]:
        """Reason, count, share and meaning, most frequent first; empty without a table."""
        return [] if self.table is None else [row for row in self.table.rows if not isinstance(row, Group)]


_HEADINGS: Final[dict[ReasonGroup, tuple[str, str]]] = {
    "dropped": ("Indications dropped", "Nothing was dropped: every indication was decided on."),
    "guarded": ("UE decisions changed by the guard", "The guard changed no decision."),
    "noticed": ("Noticed, without dropping anything", "Nothing odd was noticed."),
    "outcomes": ("What the E2 node did with the UE decisions", "The E2 node reported no outcome."),
    "lost": ("Messages lost between xApp and E2 node", "No message was lost."),
}
_NOT_KNOWN: Final = "Not known here: the xApp was started by hand and printed its own counters."
# The guard counts by this how often its breaker trips, not how many decisions it changes.
_NO_SHARE: Final = "breaker_tripped"


def reason_tables(summary: ClosedLoopSummary | OpenLoopSummary) -> list[ReasonTable]:
    """One table for each group that the summary has."""
    groups: dict[ReasonGroup, tuple[Reasons | None, int | None]] = {
        "dropped": (summary.dropped, summary.indications + sum(summary.dropped.values())),
        "guarded": (summary.guarded, summary.decisions),
        "noticed": (summary.noticed, None),
    }
    if isinstance(summary, ClosedLoopSummary):
        groups["outcomes"] = summary.outcomes, sum((summary.outcomes or {}).values())
        groups["lost"] = summary.lost, None
    return [_table(group, counts, total) for group, (counts, total) in groups.items()]


def _table(group: ReasonGroup, counts: Reasons | None, total: int | None) -> ReasonTable:
    """``total``: what the counts are a share of; None for none."""
    heading, when_empty = _HEADINGS[group]
    if not counts:
        return ReasonTable(heading, when_empty if counts is not None else _NOT_KNOWN, None)
    columns = [
        Column("reason", text=True, width_pct=24),
        Column("count", width_pct=11),
        Column("share", width_pct=11),
        Column("what it means", text=True),
    ]
    rows: list[Row] = []
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        share = percent(count / total, 2) if total and reason != _NO_SHARE else ""
        rows.append([Cell(reason, code=True), number(count), share, explain(group, reason)])
    return ReasonTable(heading, when_empty, Table(columns, rows, style="list", label=heading))

"""Tables: the rows of a report, written as HTML by the page and as Markdown for the documentation.

Table(["policy", Column("goodput", "Mbit/s")], [["student", number(46.39, 2)], ["olla", number(43.94, 2)]])
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distila.replay.page.verdict import SIGNS, Difference, Kind


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        heading: what it holds.
        unit: in square brackets behind the heading.
        text: True for words, which are aligned left and wrap; figures are aligned right and do not.
        colour: of a small square before the heading; empty for none.
        note: a second, smaller line.
        width_pct: share of the table's width; None leaves it to the browser.
    """

    heading: str
    unit: str = ""
    text: bool = False
    colour: str = ""
    note: str = ""
    width_pct: float | None = None


@dataclass(frozen=True)
class Cell:
    """A cell that holds more than plain text.

    Attributes:
        text: what it says.
        unit: smaller, behind the text.
        note: a second, smaller line: an interval, for instance.
        kind: marks the cell as better, worse and so on, by sign and colour; None leaves it plain.
        colour: of a small square before the text; empty for none.
        badge: a short framed word behind the text.
        code: set in a fixed-width font.
        title: shown when the pointer rests on it.
    """

    text: str
    unit: str = ""
    note: str = ""
    kind: Kind | None = None
    colour: str = ""
    badge: str = ""
    code: bool = False
    title: str = ""

    @property
    def signed_text(self) -> str:
        """The text behind the sign of its kind."""
        return f"{SIGNS[self.kind]} {self.text}".strip() if self.kind else self.text


@dataclass(frozen=True)
class Group:
    """A row across all columns that heads the rows below it."""

    heading: str
    badge: str = ""


Row = Sequence[Cell | str] | Group
Style = Literal["figures", "settings", "list", "grid"]


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading.

    Attributes:
        columns: names or `Column`; empty headings everywhere leave out the head.
        rows: as many cells as there are columns, or a `Group`.
        footer: rows below a line, of averages for instance.
        style: ``figures``: few rows of numbers; ``settings``: two columns, name and value; ``list``: records with
            text; ``grid``: many columns, scrolls sideways with its first column in place.
        label: what it is, for readers who do not see it.
        key: id of the element in the page; empty for none.
    """

    columns: Sequence[Column | str]
    rows: Sequence[Row]
    footer: Sequence[Row] = field(default_factory=tuple)
    style: Style = "figures"
    label: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        for row in (*self.rows, *self.footer):
            if not isinstance(row, Group) and len(row) != len(self.columns):
                raise ValueError(f"{self.label or 'table'}: {len(row)} cells for {len(self.columns)} columns")

    @property
    def head(self) -> list[Column]:
        """The columns, all as `Column`."""
        return [Column(one) if isinstance(one, str) else one for one in self.columns]

    @property
    def has_head(self) -> bool:
        """Whether any column has a heading."""
        return any(column.heading for column in self.head)

    def markdown(self) -> str:
        """The table as Markdown, columns of figures aligned right; ends in a line feed."""
        head = self.head
        rules = ["---" if column.text or number == 0 else "---:" for number, column in enumerate(head)]
        lines = [_line(f"{c.heading} [{c.unit}]" if c.unit else c.heading for c in head), _line(rules)]
        for row in (*self.rows, *self.footer):
            if isinstance(row, Group):
                lines.append(_line([f"**{row.heading}**", *[""] * (len(head) - 1)]))
            else:
                lines.append(_line(_as_markdown(cell) for cell in row))
        return "\n".join(lines) + "\n"


def settings_table(values: Iterable[tuple[str, Cell | str]]) -> Table:
    """Names and values without a head."""
    return Table([Column(""), Column("", text=True)], [[name, value] for name, value in values], style="settings")


def difference_cell(difference: Difference, digits: int = 1, unit: str = "%", kind: Kind | None = None) -> Cell:
    """A difference with its interval below it, marked as better or worse; ``kind``: what it shows, if not just that."""
    note = difference.interval_text(digits, unit="")
    return Cell(difference.mean_text(digits, unit), note=note, kind=kind or difference.kind)


def _as_markdown(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return cell
    text = f"`{cell.text}`" if cell.code else cell.signed_text
    return " ".join(part for part in (text, cell.unit, f"({cell.note})" if cell.note else "") if part)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

"""How commands speak to a person and to a program: progress on stderr, one table or one JSON object on stdout."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

stdout = Console(highlight=False, markup=False)
stderr = Console(stderr=True, highlight=False, markup=False)


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, drawn only on a terminal; yields ``update(done, total)``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def print_json(data: Mapping[str, object]) -> None:
    """One JSON object on stdout, nothing around it."""
    print(json.dumps(data, indent=2, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; the first column is text, the others are figures.

    Where the terminal is too narrow for the names in the first column, each row becomes a paragraph: nothing is cut.
    """
    figures_wrap = len(columns) <= 3
    if not figures_wrap and _narrowest(columns, rows) > stdout.width:
        _print_paragraphs(title, columns, rows)
        return
    # Without lines and with little space between columns nine of them fit a terminal of 80 characters.
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index == 0 else "right"
        table.add_column(column, justify=justify, no_wrap=index > 0 and not figures_wrap, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _print_title(title)
    stdout.print(table)


def print_records(rows: list[list[str]]) -> None:
    """Rows of text on stdout without heads or lines; the last column wraps within itself, the others do not wrap."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for index in range(len(rows[0]) if rows else 0):
        grid.add_column(no_wrap=index < len(rows[0]) - 1, overflow="fold")
    for row in rows:
        grid.add_row(*map(Text, row))
    stdout.print(grid)


def _narrowest(columns: list[str], rows: list[list[str]]) -> int:
    """Width in characters of a table whose first column is as narrow as its longest word."""
    names, *figures = zip(columns, *rows, strict=True)
    words = [word for name in names for word in name.split()]
    return max(map(len, words), default=0) + sum(
        2 + max(len(line) for cell in column for line in cell.splitlines() or [""]) for column in figures
    )


def _print_title(title: str) -> None:
    """As wide as the terminal, not as the table below; a path in it stays whole, however long."""
    if title:
        longest = max(map(len, title.split()), default=0)
        stdout.print(title, style="bold", soft_wrap=longest > stdout.width)


def _print_paragraphs(title: str, columns: list[str], rows: list[list[str]]) -> None:
    _print_title(title)
    for name, *cells in rows:
        stdout.print(f"  {name}", soft_wrap=True)
        # A cell without a figure says nothing, so its heading is left out too.
        figures = [
            " ".join(f"{column} {cell}".split()) for column, cell in zip(columns[1:], cells, strict=True) if cell
        ]
        stdout.print(Padding("; ".join(figures), (0, 0, 0, 4)))
    stdout.print()

"""How commands speak to a person and to a program: progress on stderr, one table or one JSON object on stdout."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

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


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on stdout, nothing around it."""
    print(json.dumps(data, indent=2, allow_nan=False))


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table on stdout; the first column is text, the others are figures."""
    # Without lines and with little space between columns nine of them fit a terminal of 80 characters.
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index > 0 and len(columns) > 3)
    for row in rows:
        table.add_row(*row)
    stdout.print(table)

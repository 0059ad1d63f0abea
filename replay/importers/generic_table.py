"""Reads the columns of a CSV or Parquet file as numbers, with the place of each row: `read_table_file`."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from distila.replay.importers.counts import ImportReport
from distila.replay.importers.source_file import read_bytes
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray

WRONG_CELLS = "row has more or fewer cells than the header"
_EMPTY = frozenset(("", "nan", "null", "none", "na", "n/a"))


@dataclass(frozen=True)
class Table:
    """Rows of one file: ``values`` our field -> float64 [row] (NaN = empty), ``row`` their numbers from 1."""

    file: str
    row: IntArray
    ue: npt.NDArray[np.object_] | None
    values: dict[str, Float64Array]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.row)

    def where(self, index: int) -> str:
        """Place of a row, for the report."""
        return f"{self.file}: data row {self.row[index]}"

    def take(self, index: IntArray) -> "Table":
        """The rows at ``index``."""
        ue = None if self.ue is None else self.ue[index]
        values = {key: column[index] for key, column in self.values.items()}
        return Table(self.file, self.row[index], ue, values)

    def drop(self, bad: BoolArray, reason: str, report: ImportReport, field: str | None = None) -> "Table":
        """The table without the rows where ``bad`` is true, which are counted.

        ``field`` is the one whose value is bad: the first such value is shown.
        """
        found = np.flatnonzero(bad)
        if not len(found):
            return self
        first = int(found[0])
        value = "" if field is None else f": {field} = {self.values[field][first]:g}"
        report.skip(reason, len(found), f"{self.where(first)}{value}")
        return self.take(np.flatnonzero(~bad))

    def by_ue(self, default_ue: str) -> Iterator[tuple[str, "Table"]]:
        """One table per UE, in the order in which they appear."""
        if self.ue is None:
            yield default_ue, self
            return
        names, first, index = np.unique(
            np.where(self.ue == "", default_ue, self.ue).astype(str), return_index=True, return_inverse=True
        )
        order = np.argsort(index, kind="stable")
        starts = np.searchsorted(index[order], np.arange(len(names) + 1))
        for ue in np.argsort(first):
            yield str(names[ue]), self.take(order[starts[ue] : starts[ue + 1]])


def read_table_file(path: Path, columns: dict[str, str], report: ImportReport) -> Table:
    """The mapped columns of a file.

    Args:
        columns: our field -> the source's column. ``ue`` is kept as text, all others become numbers; rows
            with a cell that is no number are counted.

    Raises:
        InputError: not a readable file, or a column is missing (names it and those that exist).
    """
    is_parquet = path.name.endswith(".parquet")
    table = _parquet(path) if is_parquet else _csv(path, report)
    for field, column in columns.items():
        if table.column_names.count(column) != 1:
            problem = "is there more than once" if column in table.column_names else "is missing"
            there = ", ".join(repr(name) for name in table.column_names)[:300]
            raise InputError(f"{path}: column {column!r} (for {field}) {problem}, has {there}")
    report.rows_found += table.num_rows
    ue = None
    values: dict[str, Float64Array] = {}
    bad: dict[str, BoolArray] = {}
    for field, column in columns.items():
        if field == "ue":
            ue = np.array(["" if name is None else str(name) for name in table[column].to_pylist()], object)
        else:
            values[field], bad[column] = _numbers(table[column])
    result = Table(path.name, np.arange(1, table.num_rows + 1), ue, values)
    removed = np.zeros(table.num_rows, bool)
    for column, mask in bad.items():
        found = np.flatnonzero(mask & ~removed)  # a row with two bad cells is counted once
        if len(found):
            cell = table[column][int(found[0])].as_py()
            reason = f"not a number in column {column!r}"
            report.skip(reason, len(found), f"{result.where(int(found[0]))}: {str(cell)[:40]!r}")
        removed |= mask
    return result.take(np.flatnonzero(~removed))


def _csv(path: Path, report: ImportReport) -> pa.Table:
    content = read_bytes(path, report)
    if not content.strip():
        raise InputError(f"{path}: empty, needs a header line and rows")
    wrong = 0

    def skip_row(row: object) -> str:
        nonlocal wrong
        wrong += 1
        return "skip"

    # All cells stay text here, so that a bad one loses its row and not the whole file.
    parse = pa.csv.ParseOptions(invalid_row_handler=skip_row)
    read = pa.csv.ReadOptions(use_threads=False)
    try:
        text = content.decode("utf-8", errors="replace").removeprefix("\ufeff").encode()
        with pa.csv.open_csv(io.BytesIO(text), read_options=read, parse_options=parse) as reader:
            names = reader.schema.names
        wrong = 0
        convert = pa.csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
        table = pa.csv.read_csv(io.BytesIO(text), read_options=read, parse_options=parse, convert_options=convert)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a CSV table: {str(error).splitlines()[0][:200]}") from None
    report.rows_found += wrong
    report.skip(WRONG_CELLS, wrong, path.name)
    return table


def _parquet(path: Path) -> pa.Table:
    try:
        return pa.parquet.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0][:200]}") from None


def _numbers(column: pa.ChunkedArray) -> tuple[Float64Array, BoolArray]:
    """Cells as float64 with NaN where empty, and where a cell is neither empty nor a finite number."""
    if pa.types.is_timestamp(column.type):
        # Whole units of the column since 1970: time_unit of the mapping has to be the same unit.
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)
        return numbers.copy(), np.isinf(numbers)
    cells = ["" if cell is None else str(cell).strip() for cell in column.to_pylist()]
    numbers = np.full(len(cells), np.nan)
    bad = np.zeros(len(cells), bool)
    for i, cell in enumerate(cells):
        if cell.lower() in _EMPTY:
            continue
        try:
            numbers[i] = float(cell)
        except ValueError:
            bad[i] = True
        else:
            bad[i] = not np.isfinite(numbers[i])
    return numbers, bad

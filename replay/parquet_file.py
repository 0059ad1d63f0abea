"""Reads and writes this project's Parquet files: a table, and a JSON model in the file's metadata.

Every file names its format and version under the key ``distila.format``, so that a file of another kind, or of a newer
version, is rejected by name instead of being misread. Writing is atomic: a killed run leaves no half-written file.
"""

from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from distila.xapp.errors import InputError, first_error, no_such_file, one_line
from distila.xapp.files import replacing

FORMAT_KEY = b"distila.format"
META_KEY = b"distila.meta"
_MAGIC: Final = b"PAR1"
_IMPORT: Final = "logs and tables are imported first: distila trace import --help"

Meta = TypeVar("Meta", bound=BaseModel)


def write_table(path: Path, table: pa.Table, file_format: str, meta: BaseModel) -> None:
    """Write ``table`` with ``meta`` to ``path``, replacing what is there only once the new file is whole."""
    table = table.replace_schema_metadata(
        {FORMAT_KEY: file_format.encode(), META_KEY: meta.model_dump_json(exclude_none=True).encode()}
    )
    with replacing(path) as partial:
        pq.write_table(table, partial, compression="zstd", compression_level=19)


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet files do.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as start:
            return start.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def file_format(path: Path) -> str:
    """The ``distila.format`` of the file.

    Raises:
        InputError: the file is missing, cut short, not Parquet, or not one of ours.
    """
    return _open(path)[1]


def read_table(path: Path, expected_format: str, meta_model: type[Meta], columns: list[str]) -> tuple[pa.Table, Meta]:
    """Read a file written by `write_table`.

    Raises:
        InputError: the file cannot be read, has another format, lacks one of ``columns``, or its metadata is wrong.
    """
    file, found = _open(path)
    if found != expected_format:
        raise InputError(f"{path}: format is {found!r}, expected {expected_format!r}")
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing, has {', '.join(file.schema_arrow.names)}")
    try:
        meta = meta_model.model_validate_json(file.schema_arrow.metadata.get(META_KEY, b""))
    except ValidationError as error:
        raise InputError(f"{path}: metadata: {first_error(error)}") from None
    try:
        return file.read(), meta
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: damaged, cannot be read: {one_line(error)}") from None


def column(table: pa.Table, name: str, dtype: type, fill: float | None) -> npt.NDArray[Any]:
    """A column as numpy array, nulls replaced by ``fill``; ``fill`` None: there must be no null.

    Raises:
        InputError: the column cannot be read as ``dtype``, or has a null that it must not have.
    """
    values = table[name].combine_chunks()
    if fill is None and values.null_count:
        raise InputError(f"column {name!r}: row {values.is_null().index(True).as_py()} is empty")
    values = _cast(values, name, pa.from_numpy_dtype(dtype))
    return np.asarray(values.fill_null(fill if fill is not None else 0).to_numpy(zero_copy_only=False), dtype)


def index_column(table: pa.Table, name: str, dtype: type, high: int, fill: int) -> npt.NDArray[Any]:
    """A column of indices 0 to ``high`` as numpy array, nulls replaced by ``fill``, which may stand in their place too.

    Raises:
        InputError: the column holds no integers, or one out of range; names column, row and value.
    """
    values = table[name].combine_chunks()
    found = np.asarray(_cast(values, name, pa.int64()).fill_null(fill).to_numpy(zero_copy_only=False), np.int64)
    bad = np.flatnonzero((found != fill) & ((found < 0) | (found > high)))
    if len(bad):
        raise InputError(f"column {name!r}: row {bad[0]} = {found[bad[0]]} is outside 0..{high}")
    return found.astype(dtype)


def text_column(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    """A column of strings as numpy array; None where it is empty.

    Raises:
        InputError: the column holds no strings.
    """
    return np.asarray(_cast(table[name].combine_chunks(), name, pa.string()).to_numpy(zero_copy_only=False), object)


def _cast(values: pa.Array, name: str, target: pa.DataType) -> pa.Array:
    try:
        return values if values.type == target else values.cast(target)
    except pa.ArrowException:
        raise InputError(f"column {name!r} has the wrong type: {values.type}, expected {target}") from None


def _open(path: Path) -> tuple[pq.ParquetFile, str]:
    if not path.is_file():
        hint = "; `distila trace import` makes a trace of a directory of logs" if path.is_dir() else ""
        raise InputError(f"{no_such_file(path)}{hint}")
    if not is_parquet(path):
        raise InputError(f"{path}: not a Parquet file, so no distila trace; {_IMPORT}")
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a whole Parquet file (cut short?): {one_line(error)}") from None
    metadata = file.schema_arrow.metadata or {}
    if FORMAT_KEY not in metadata:
        raise InputError(f"{path}: a Parquet file, but not a distila trace or log; {_IMPORT}")
    return file, metadata[FORMAT_KEY].decode(errors="replace")

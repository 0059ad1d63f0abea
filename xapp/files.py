"""Files: written whole or not at all, and read into a validated model, with one line of error for bad input.

Whoever writes a file uses `replacing`, `write_text`, `write_json` or `write_yaml`; whoever reads a configuration or a
result uses `read_model`. Files that ship with distila are found with `distila.xapp.shipped`.
"""

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from distila.xapp.errors import InputError, first_error, no_such_file

Model = TypeVar("Model", bound=BaseModel)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file as a whole: yields a temporary path beside ``path``, which takes its place when the block ends.

    If the block raises, the temporary file is removed and what was at ``path`` stays. The directory is created if
    needed. Several processes may replace the same file at once: each writes a file of its own, and the last one stays.

    Raises:
        InputError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        # In a directory that cannot be written to there is nothing to remove either.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Replace a directory as a whole: yields an empty one beside ``path``, which takes its place when the block ends.

    If the block raises, the new directory is removed and what was at ``path`` stays.

    Raises:
        InputError: ``path`` is a file, or the directory cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, not a directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as place:
            new = Path(place) / "new"
            new.mkdir()
            yield new
            if path.exists():
                # A directory cannot be renamed onto one that holds files.
                os.replace(path, Path(place) / "old")
            os.replace(new, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def check_writable(out: Path) -> None:
    """Create the directory ``out`` and test that it can be written to: called before a long run, not after it.

    Raises:
        InputError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")


def write_json(path: Path, data: BaseModel | Mapping[str, Any] | Sequence[Any], indent: int | None = 2) -> None:
    """Write a model, or data that JSON can hold, whole or not at all.

    Args:
        path: of the file.
        data: what to write; a model is written with the names of its fields.
        indent: spaces per level; None for the shortest form.

    Raises:
        InputError: the file cannot be written.
        ValueError: a number is NaN or infinite, which JSON has no way to write.
    """
    plain = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
    separators = (",", ":") if indent is None else None
    write_text(path, json.dumps(plain, indent=indent, separators=separators, allow_nan=False) + "\n")


def write_yaml(path: Path, data: Mapping[str, Any]) -> None:
    """Write YAML, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(path, yaml.safe_dump(dict(data)))


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8.

    Raises:
        InputError: there is no such file, or it is not text.
    """
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(no_such_file(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; JSON is YAML too. None for an empty file.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: the file cannot be read, or is not JSON (an interrupted download, for instance).
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def read_model(path: Path, model: type[Model]) -> Model:
    """Read a file into a validated model: JSON if its name ends in ``.json``, else YAML. An empty file is all defaults.

    Raises:
        InputError: one line that names file, field and value.
    """
    data = read_json(path) if path.suffix == ".json" else read_yaml(path)
    return parse_model({} if data is None else data, model, str(path))


def parse_model(data: Any, model: type[Model], where: str) -> Model:
    """Validate data that was read from a file or a message; see `read_model`.

    Args:
        data: what was read.
        model: what it must be.
        where: the file or message that it comes from, for the error.

    Raises:
        InputError: one line that names ``where``, field and value.
    """
    try:
        read = model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {first_error(error, model)}") from None
    wrong = boolean_for_a_number(data, read)
    if wrong is not None:
        raise InputError(f"{where}: {wrong}")
    return read


def boolean_for_a_number(given: Any, read: Any, place: str = "") -> str | None:
    """The first boolean (``yes`` in YAML) that was read as the number 1 or 0, in words; None if there is none.

    Pydantic takes booleans for numbers, unless it is so strict that ``8.0`` is no integer either.

    Args:
        given: what a file or a message holds.
        read: the model or value that it became.
        place: the field that holds it.
    """
    if isinstance(given, bool):
        as_number = isinstance(read, int | float) and not isinstance(read, bool)
        return f"{place} = {given}: must be a number" if as_number else None
    parts: Iterable[tuple[object, Any, Any]] = ()
    if isinstance(given, Mapping) and isinstance(read, BaseModel | Mapping):
        parts = ((key, value, _part(read, key)) for key, value in given.items())
    elif isinstance(given, list | tuple) and isinstance(read, list | tuple):
        parts = ((index, *pair) for index, pair in enumerate(zip(given, read, strict=False)))
    found = (
        boolean_for_a_number(value, became, f"{place}.{key}" if place else str(key)) for key, value, became in parts
    )
    return next((wrong for wrong in found if wrong is not None), None)


def _part(read: BaseModel | Mapping[Any, Any], key: Any) -> Any:
    """What became of the value under a key; None if nothing did."""
    if isinstance(read, Mapping):
        return read.get(key)
    for name, field in type(read).model_fields.items():
        if key in (name, field.alias, field.validation_alias, *getattr(field.validation_alias, "choices", ())):
            return getattr(read, name)
    return None

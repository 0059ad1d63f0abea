"""The one exception for bad input: a single line that a person can act on.

The command line prints it without a traceback and exits with status 2.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    # Only for their types: `distila --help` needs no pydantic.
    from pydantic import BaseModel, ValidationError


_OUT_OF_RANGE: Final = frozenset(
    ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number", "multiple_of")
)
"""Types of pydantic's errors about a number."""


class InputError(ValueError):
    """Bad input from outside: names the file or message, the field, the value, and what would be right."""


def no_such_file(path: Path) -> str:
    """That a file cannot be read because there is none at ``path``, in the words of all errors."""
    return f"{path}: is a directory, not a file" if path.is_dir() else f"{path}: no such file"


def first_error(error: "ValidationError", model: "type[BaseModel] | None" = None) -> str:
    """The first thing pydantic found wrong, as ``field = value: what``; only ``what`` if it concerns several fields.

    Args:
        error: what pydantic raised.
        model: what was validated, so that a field that is given under its old and its new name is named as such.
    """
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and first["type"] == "value_error":
        return what
    *place, name = first["loc"] or ("the file",)
    field = ".".join(str(part) for part in (*place, name))
    if first["type"] == "extra_forbidden":
        current = None if model is None else _current_name(model, place, str(name))
        if current is not None:
            return f"{field}: the old name of {current}, which is given too; give only {current}"
        return f"{field}: no such field"
    value = first["input"]
    given = f" = {value!r}" if isinstance(value, str | int | float) else ""
    if first["type"] in _OUT_OF_RANGE and isinstance(value, bool):
        what = "must be a number"
    elif first["type"] in _OUT_OF_RANGE and isinstance(value, str | int | float):
        # Text that was taken for a number, such as 1e9 in YAML, is shown as one.
        given = f" = {str(value).strip()}"
        what = "is not a number" if not isinstance(value, int) and math.isnan(float(value)) else what
    return f"{field}{given}: {what}"


def _current_name(model: "type[BaseModel]", place: Sequence[int | str], old_name: str) -> str | None:
    """The name of the field at ``place`` in the model that ``old_name`` is another name of; None if there is none."""
    models = [model]
    for part in place:
        # A position in a list, or the tag of a union, leads to no other field.
        fields = [each.model_fields[str(part)] for each in models if str(part) in each.model_fields]
        models = [found for field in fields for found in _models_in(field.annotation)] or models
    for each in models:
        for current, field in each.model_fields.items():
            if old_name in getattr(field.validation_alias, "choices", ()):
                return current
    return None


def _models_in(annotation: Any) -> "Iterator[type[BaseModel]]":
    if hasattr(annotation, "model_fields"):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def one_line(error: Exception) -> str:
    """The text of a library's exception, for the end of a line of ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__

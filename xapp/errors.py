"""The one exception for bad input: a single line that a person can act on.

The command line prints it without a traceback and exits with status 2.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Only for its type: `distila --help` needs no pydantic.
    from pydantic import ValidationError


class InputError(ValueError):
    """Bad input from outside: names the file or message, the field, the value, and what would be right."""


def first_error(error: "ValidationError") -> str:
    """The first thing pydantic found wrong, as ``field = value: what``; only ``what`` if it concerns several fields."""
    first = error.errors()[0]
    what = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and first["type"] == "value_error":
        return what
    field = ".".join(str(part) for part in first["loc"]) or "the file"
    if first["type"] == "extra_forbidden":
        return f"{field}: no such field"
    value = first["input"]
    given = f" = {value!r}" if isinstance(value, str | int | float) else ""
    return f"{field}{given}: {what}"


def one_line(error: Exception) -> str:
    """The text of a library's exception, for the end of a line of ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__

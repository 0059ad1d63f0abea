"""Files of results: JSON that a pydantic model writes and reads, with a kind and a version.

A model of a file derives from `ResultFile` and says its kind and version as literals::

    class SearchResults(ResultFile):
        kind: Literal["search"] = "search"
        version: Literal[1] = 1

The version goes up when a reader of the old shape would misread the new one.
"""

import json
import math
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.errors import InputError
from distila.xapp.files import parse_model, read_json


class ResultModel(BaseModel):
    """Part of a result file: no unknown fields, no NaN or infinity; what is not defined is null."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(ResultModel):
    """A mean with its 95 % interval; null where it is not defined."""

    mean: float | None = Field(description="best estimate")
    ci95: tuple[float | None, float | None] = Field(description="ends of the 95 % interval, low and high")

    @classmethod
    def of(cls, mean: float, low: float, high: float, digits: int) -> "Estimate":
        """Rounded to ``digits`` decimals; what is not finite becomes null."""
        return cls(mean=rounded(mean, digits), ci95=(rounded(low, digits), rounded(high, digits)))


def rounded(value: float, digits: int = 4) -> float | None:
    """The value with ``digits`` decimals; None where it is not finite."""
    return round(float(value), digits) if math.isfinite(value) else None


class ResultFile(ResultModel):
    """A whole result file."""

    kind: str = Field(description="what the file holds")
    version: int = Field(description="version of its shape")

    def json_text(self) -> str:
        """The content of the file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


Result = TypeVar("Result", bound=ResultFile)


def read_result(model: type[Result], path: Path) -> Result:
    """Read a result file.

    Args:
        model: what it must hold.
        path: the file.

    Raises:
        InputError: there is no such file, or it is not JSON, of another kind or version, or damaged; one line.
    """
    found = read_json(path)
    kind, version = (model.model_fields[name].default for name in ("kind", "version"))
    if not isinstance(found, dict) or not {"kind", "version"} <= found.keys():
        raise InputError(f"{path}: not a result file of distila, it has no kind and version; expected kind {kind!r}")
    if found["kind"] != kind:
        raise InputError(f"{path}: a result file of kind {found['kind']!r}; expected kind {kind!r}")
    if found["version"] != version:
        raise InputError(
            f"{path}: version {found['version']!r} of the result file {kind!r}; this distila reads version {version}:"
            " read it with the distila that wrote it, or make the file again"
        )
    return parse_model(found, model, str(path))

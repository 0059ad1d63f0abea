"""Files of results: JSON that a pydantic model writes and reads, with a kind and a version.

A model of a file derives from `ResultFile` and says its kind and version as literals::

    class SearchResults(ResultFile):
        kind: Literal["search"] = "search"
        version: Literal[1] = 1

The version goes up when a reader of the old shape would misread the new one.
"""

import json
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
    given = found if isinstance(found, dict) else {}
    if (given.get("kind"), given.get("version")) != (kind, version):
        what = f"kind {given.get('kind')!r}, version {given.get('version')!r}"
        raise InputError(f"{path}: a result file of {what}; expected kind {kind!r}, version {version}")
    return parse_model(found, model, str(path))

"""Weights in a file of PyTorch: a dictionary that names its format, loaded without executing anything in it."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distila.xapp.errors import InputError, one_line
from distila.xapp.files import replacing


@dataclass(frozen=True)
class TorchFormat:
    """One kind of file of weights.

    Attributes:
        name: format and version, such as ``distila-network/1``; a file of another one is rejected.
        kind: what the file holds, for error messages: "network".
        written_by: the command that writes one, for the error message where there is none.
    """

    name: str
    kind: str
    written_by: str

    def save(self, path: Path, content: Mapping[str, object]) -> None:
        """Write a file, whole or not at all. The same content gives the same bytes.

        Args:
            path: of the file.
            content: tensors, numbers, strings, and dictionaries and lists of them.

        Raises:
            InputError: it cannot be written.
        """
        # An open file, not its path: PyTorch writes the path's name into the file, and equal content has equal bytes.
        with replacing(path) as partial, partial.open("wb") as file:
            torch.save({"format": self.name, **content}, file)

    def load(self, path: Path, json_entries: Sequence[str] = ()) -> dict[str, Any]:
        """Read a file, with its tensors on the CPU.

        Args:
            path: of the file.
            json_entries: entries of its content that are JSON, which is decoded.

        Raises:
            InputError: there is none, it is damaged, or of another format.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such {self.kind}; `{self.written_by}` writes one")
        try:
            content = dict(torch.load(path, map_location="cpu", weights_only=True))
            found = content["format"]
            if found == self.name:
                content |= {name: _decoded(name, content[name]) for name in json_entries}
        except Exception as error:  # of many kinds, from zipfile to pickle
            raise InputError(f"{path}: not a {self.kind}: {one_line(error)}") from None
        if found != self.name:
            raise InputError(f"{path}: not a {self.kind}: its format is {found!r}, this version reads {self.name!r}")
        return content

    @contextlib.contextmanager
    def restoring(self, path: Path) -> Iterator[None]:
        """Around the code that makes objects from a file's content: weights that do not fit become one line.

        Raises:
            InputError: the content lacks an entry, or weights have other shapes.
        """
        try:
            yield
        except InputError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: of another architecture: {one_line(error)}") from None


def _decoded(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None

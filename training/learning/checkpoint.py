"""Checkpoints of a training: weights, optimiser and place, in a file that says what they are of."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from distila.replay.atomic_file import replacing
from distila.xapp.errors import InputError, one_line

CHECKPOINT_FILE: Final = "checkpoint.pt"
_FORMAT: Final = "distila-checkpoint/1"


class Checkpoint:
    """A file of weights.

    Args:
        path: of the file.
        identity: everything that the weights depend on, as JSON would hold it.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, identity

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, episodes: int) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        data = {
            "format": _FORMAT,
            "identity": json.dumps(self._identity),
            "episodes": episodes,
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        try:
            with replacing(self._path) as path:
                torch.save(data, path)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror or error}") from None

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Read the file into both; returns the episodes that it comes after, 0 if there is none.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self._path.exists():
            return 0
        try:
            data: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
            if data["format"] != _FORMAT:
                raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
            identity, episodes = json.loads(data["identity"]), int(data["episodes"])
        except Exception as error:  # of many kinds, from zipfile to pickle
            raise InputError(f"{self._path}: no checkpoint of this kind: {one_line(error)}") from None
        differs = _difference(identity, self._identity)
        if differs is not None:
            raise InputError(f"{self._path}: of another training: {differs}")
        try:
            network.load_state_dict(data["model"])
            optimizer.load_state_dict(data["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{self._path}: of another architecture: {one_line(error)}") from None
        return episodes

    def must_not_exist(self) -> int:
        """0, the first episode of a new training.

        Raises:
            InputError: there is one, which would be lost.
        """
        if self._path.exists():
            raise InputError(f"{self._path}: there is a training already; --resume it, or take another --out")
        return 0


def _difference(theirs: Any, ours: Any, name: str = "") -> str | None:
    """The first entry, depth first, in which two trees of dicts differ, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys([*theirs, *ours]):
            found = _difference(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if theirs == ours else f"{name} was {_short(theirs)}, now it is {_short(ours)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

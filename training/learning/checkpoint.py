"""Checkpoints of a training: weights, optimiser and episodes done, in a file that says which training it belongs to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import JsonValue
from torch import nn

from distila.training.torch_file import TorchFormat
from distila.xapp.errors import InputError

CHECKPOINT_FILE: Final = "checkpoint.pt"
_FORMAT: Final = TorchFormat("distila-checkpoint/1", kind="checkpoint", written_by="distila train")


class Checkpoint:
    """A file of weights.

    Args:
        path: of the file.
        identity: everything that the weights depend on; JSON.
    """

    def __init__(self, path: Path, identity: Mapping[str, JsonValue]) -> None:
        self._path, self._identity = path, identity

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, episodes: int) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        content = {
            "identity": json.dumps(dict(self._identity)),
            "episodes": episodes,
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        _FORMAT.save(self._path, content)

    def load(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore both from the file; returns the number of episodes done before it was written, 0 without a file.

        Raises:
            InputError: it is damaged, or belongs to another training.
        """
        if not self._path.exists():
            return 0
        content = _FORMAT.load(self._path, json_entries=("identity",))
        differs = _difference(content["identity"], self._identity)
        if differs is not None:
            raise InputError(f"{self._path}: of another training: {differs}")
        with _FORMAT.restoring(self._path):
            network.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            return int(content["episodes"])

    def must_not_exist(self) -> int:
        """Check that a new training would not overwrite one; returns 0, its first episode.

        Raises:
            InputError: there is a checkpoint already.
        """
        if self._path.exists():
            raise InputError(
                f"{self._path}: there is a training already; continue it with --resume, or choose another --out"
            )
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

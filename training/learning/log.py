"""Figures of a training, episode by episode: JSON lines, and TensorBoard where it is installed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from distila.xapp.errors import InputError
from distila.xapp.files import write_text

LOG_FILE: Final = "train.jsonl"


class TrainingLog:
    """Figures of every episode: JSON lines, and TensorBoard where it is installed.

    Args:
        out: directory.
        first: episode to go on from; lines of later ones, which will be run again, are dropped.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, out: Path, first: int) -> None:
        self._path = out / LOG_FILE
        self._board = _tensorboard(out, first)
        try:
            kept = [line for line in _lines(self._path) if line["episode"] < first]
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror or error}") from None

    def write(self, episode: int, scenario: str, figures: Mapping[str, float | None]) -> None:
        """Add an episode."""
        with self._path.open("a") as file:
            file.write(json.dumps({"episode": episode, "scenario": scenario, **figures}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                if value is not None:
                    # Families differ by more than an episode improves them, hence a curve each.
                    self._board.add_scalar(f"{name}/{scenario}", value, episode)
            self._board.flush()

    def close(self) -> None:
        """No more episodes."""
        if self._board is not None:
            self._board.close()


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a training's log, in its order."""
    return _lines(out / LOG_FILE)


def _lines(path: Path) -> list[dict[str, Any]]:
    """What can be read of a log; a killed run may have left half a line at its end."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        found.append(entry)
    return found


def _tensorboard(out: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What an interrupted run wrote about episodes that are run again is not shown.
    return SummaryWriter(str(out), purge_step=first)

"""Figures of a training, a line for each episode or step: JSON lines, and TensorBoard where it is installed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from distila.xapp.errors import InputError
from distila.xapp.files import write_text

LOG_FILE: Final = "train.jsonl"


class TrainingLog:
    """Writes the lines.

    Args:
        out: directory.
        first: episode or step to go on from; lines from there on are dropped, since these will be run again.
        unit: what a line is about, ``episode`` or ``step``.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, out: Path, first: int, unit: str = "episode") -> None:
        self._path, self._unit = out / LOG_FILE, unit
        self._board = _tensorboard(out, first)
        try:
            kept = [line for line in _lines(self._path) if isinstance(number := line.get(unit), int) and number < first]
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror or error}") from None

    def write(self, number: int, figures: Mapping[str, float | None], scenario: str | None = None) -> None:
        """Add the line of an episode or step."""
        about = {self._unit: number} if scenario is None else {self._unit: number, "scenario": scenario}
        with self._path.open("a") as file:
            file.write(json.dumps({**about, **figures}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                if value is not None:
                    # A curve for each scenario: they differ by more than an episode improves them.
                    self._board.add_scalar(name if scenario is None else f"{name}/{scenario}", value, number)
            self._board.flush()

    def close(self) -> None:
        """No more lines."""
        if self._board is not None:
            self._board.close()


def read_log(out: Path) -> list[dict[str, JsonValue]]:
    """The lines of a training's log, in its order."""
    return _lines(out / LOG_FILE)


def _lines(path: Path) -> list[dict[str, JsonValue]]:
    """The whole lines of a log; a killed run may have left half a line at its end."""
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
    # Hides what an interrupted run wrote about episodes that are run again.
    return SummaryWriter(str(out), purge_step=first)

"""Students in files: what they are, their weights, one set for each seed, and how they were trained."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError

from distila.replay.atomic_file import replacing
from distila.training.resource.students import Student, make_student
from distila.training.resource.train_config import TrainConfig
from distila.xapp.errors import InputError, first_error, one_line

STUDENT_FILE: Final = "student.pt"
_FORMAT: Final = "distila-resource-student/1"


def shipped() -> dict[str, Path]:
    """Files of the students that ship, by name."""
    folder = Path(str(files("distila.training.resource"))) / "shipped"
    return {path.stem: path for path in sorted(folder.glob("*.pt"))}


def find_students(name: str) -> Path:
    """The file of students that is given as this file, as a training's directory, or by the name of one that ships.

    Raises:
        InputError: it is none of these.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / STUDENT_FILE).is_file():
        return path / STUDENT_FILE
    if name not in shipped():
        raise InputError(
            f"{name}: neither a student's file, nor a directory with {STUDENT_FILE}, nor a student that ships"
            f" ({', '.join(shipped()) or 'none does'})"
        )
    return shipped()[name]


def save_students(students: Mapping[int, Student], config: TrainConfig, path: Path) -> None:
    """Write the students of one configuration, by seed, to a file, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    data = {
        "format": _FORMAT,
        "config": config.model_dump_json(),
        "weights": {seed: student.state_dict() for seed, student in students.items()},
    }
    try:
        with replacing(path) as partial:
            torch.save(data, partial)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_students(path: Path) -> tuple[dict[int, Student], TrainConfig]:
    """Read the students of a file, by seed, ready to be used, and their configuration.

    Raises:
        InputError: there is no such file, it is damaged, or of another architecture.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such student; `distila resource train` writes one")
    try:
        data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if data["format"] != _FORMAT:
            raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
        config_json, weights = json.loads(data["config"]), data["weights"]
    except Exception as error:  # of many kinds, from zipfile to pickle
        raise InputError(f"{path}: not a student: {one_line(error)}") from None
    try:
        config = TrainConfig.model_validate(config_json)
        students: dict[int, Student] = {}
        for seed, state in weights.items():
            students[int(seed)] = make_student(config.student)
            students[int(seed)].load_state_dict(state)
            students[int(seed)].eval()
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: of another architecture: {one_line(error)}") from None
    return students, config

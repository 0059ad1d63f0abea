"""Students in files: what they are, their weights, one set for each seed, and how they were trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from distila.training.resource.students import Student, make_student
from distila.training.resource.train_config import TrainConfig
from distila.training.torch_file import TorchFormat
from distila.xapp.files import parse_model
from distila.xapp.shipped import Shipped, package_folder

STUDENT_FILE: Final = "student.pt"
STUDENTS: Final = Shipped(
    "student", package_folder("distila.training.resource", "shipped"), pattern="*.pt", inside=STUDENT_FILE
)
"""Students by file, by directory of a training, or by the name of one that ships: ``STUDENTS.find("d2d-1000m")``."""
_FORMAT: Final = TorchFormat("distila-resource-student/1", kind="student", written_by="distila resource train")


def save_students(students: Mapping[int, Student], config: TrainConfig, path: Path) -> None:
    """Write the students of one configuration, by seed, to a file, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    weights = {seed: student.state_dict() for seed, student in students.items()}
    _FORMAT.save(path, {"config": config.model_dump_json(), "weights": weights})


def load_students(path: Path) -> tuple[dict[int, Student], TrainConfig]:
    """Read the students of a file, by seed, ready to be used, and their configuration.

    Raises:
        InputError: there is no such file, it is damaged, or of another architecture.
    """
    content = _FORMAT.load(path, json_entries=("config",))
    config = parse_model(content["config"], TrainConfig, str(path))
    students: dict[int, Student] = {}
    with _FORMAT.restoring(path):
        for seed, weights in content["weights"].items():
            students[int(seed)] = make_student(config.student)
            students[int(seed)].load_state_dict(weights)
            students[int(seed)].eval()
    return students, config

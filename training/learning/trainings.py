"""Many trainings, each with a file that shows that it is done, so that an interrupted study continues."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar

from distila.training.learning.fan_out import fan_out

Bar = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Opens a progress bar from its title and its unit; yields ``update(done, total)``."""


class Training(Protocol):
    """A training; picklable."""

    @property
    def path(self) -> Path:
        """File that the training writes when it is done."""


Task = TypeVar("Task", bound=Training)


def run_missing(title: str, train: Callable[[Task], None], trainings: Sequence[Task], bar: Bar, workers: int) -> None:
    """Run the trainings whose file does not exist.

    Args:
        title: of the progress bar.
        train: runs one training and writes its file.
        trainings: all trainings.
        bar: opens the progress bar.
        workers: number of trainings at once, see `distila.training.learning.fan_out`.
    """
    missing = [training for training in trainings if not training.path.is_file()]
    done = len(trainings) - len(missing)
    with bar(title, "trainings") as progress:
        progress(done, len(trainings))
        for number, _ in enumerate(fan_out(train, missing, workers), start=done + 1):
            progress(number, len(trainings))

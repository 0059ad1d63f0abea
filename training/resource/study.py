"""The study of arXiv 2308.07511: its figures trained again, under several seeds, beside stronger baselines.

Figures share trainings: a training that another figure has done is not repeated.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from distila.training.learning.interval import SeedInterval, interval
from distila.training.learning.loop import current_names
from distila.training.learning.trainings import Bar, run_missing
from distila.training.resource.algorithms import apply
from distila.training.resource.algorithms.wmmse import all_ones
from distila.training.resource.problems import SETTINGS, Channels, sum_rate
from distila.training.resource.seed_paper import FIGURES, METHODS, SeedFigure
from distila.training.resource.students import Student, allocate
from distila.training.resource.train_config import TrainConfig
from distila.training.resource.training import train
from distila.xapp.errors import InputError, first_error
from distila.xapp.files import check_writable, read_model, write_json
from distila.xapp.result_file import ResultFile, ResultModel
from distila.xapp.shipped import Shipped, package_folder

SETTING: Final = "seed"
STRONG: Final = ("plain-bn", "ad-decreasing-bn")
"""The same students with batch norm and Adam, without and with the algorithm."""
TEACHER: Final = "fplinq"
RULES: Final = ("all-on", "greedy")
_TEST_SEED: Final = 2_308_075_119
_CURVE_POINTS: Final = 20


class Side(BaseModel):
    """How one kind of student is trained in the study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    student: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the student")
    plain: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the trainings as in the paper")
    strong: dict[str, JsonValue] = Field(default_factory=dict, description="settings of the trainings with batch norm")
    reinforcement: dict[str, JsonValue] = Field(
        default_factory=dict, description="more settings of the trainings by reinforcement learning"
    )
    beta: float = Field(default=2.0, gt=0, description="highest weight of the algorithm in the loss")
    steps: int = Field(default=4000, ge=1, description="steps of a training from samples")
    reinforcement_steps: int = Field(default=3000, ge=1, description="steps of a training by reinforcement learning")
    batch_size: int = Field(
        default=64,
        ge=2,
        validation_alias=AliasChoices("batch_size", "batch"),
        description="instances in a step; fewer where there are fewer samples",
    )

    @field_validator("plain", "strong", "reinforcement")
    @classmethod
    def _current_names(cls, settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return current_names(TrainConfig, settings)


class StudyConfig(BaseModel):
    """Size of the study, and settings of its trainings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seeds: int = Field(default=5, ge=1, description="trainings of each point")
    instances: int = Field(default=1000, ge=10, description="test instances of each K")
    mlp: Side = Side()
    gnn: Side = Side()


STUDIES: Final = Shipped("study", package_folder("distila.training.resource", "studies"))


def load_study(name: str) -> StudyConfig:
    """A study from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(STUDIES.find(name), StudyConfig)


def find_figure(name: str) -> SeedFigure:
    """A figure of the paper.

    Raises:
        InputError: it has no such figure.
    """
    if name not in FIGURES:
        raise InputError(f"figure {name!r}: there are {', '.join(FIGURES)}")
    return FIGURES[name]


class RunResult(ResultModel):
    """The result of one training, which figures share."""

    config: TrainConfig
    instances: int = Field(description="test instances")
    sum_rate: float = Field(description="mean sum rate on the test instances [bit/s/Hz]")
    sum_rate_scheduled: float = Field(description="the same with powers rounded to on or off [bit/s/Hz]")
    curve: tuple[tuple[float, float], ...] = Field(
        description="epochs (instances where there are no samples) and mean sum rate [bit/s/Hz] during training"
    )


class FigureRow(ResultModel):
    """One method at one value of the swept quantity."""

    at: int = Field(description="value of the swept quantity")
    k: int = Field(description="number of links")
    samples: int | None = Field(description="training samples; null: new ones every step")
    method: str = Field(description="way of training")
    seed_paper: float | None = Field(description="the paper's sum rate [bit/s/Hz]; null where it has none")
    sum_rate: SeedInterval = Field(description="mean sum rate over seeds [bit/s/Hz]")
    sum_rate_scheduled: SeedInterval = Field(description="the same with powers rounded to on or off [bit/s/Hz]")
    curves: tuple[tuple[tuple[float, float], ...], ...] | None = Field(
        description="learning curve of each seed; null unless the figure shows epochs"
    )


class FigureResults(ResultFile):
    """The content of ``figure-NAME.json``: a figure of the paper, trained again."""

    kind: Literal["resource-figure"] = "resource-figure"
    version: Literal[1] = 1
    figure: str = Field(description="name of the figure in the paper")
    title: str = Field(description="what it shows")
    swept: Literal["links", "samples", "epochs"] = Field(description="quantity on its horizontal axis")
    reinforcement: bool = Field(description="whether the students learn by reinforcement")
    study: StudyConfig = Field(description="size of the study, and settings of its trainings")
    classical: dict[int, dict[str, float]] = Field(
        description="mean sum rate of algorithms [bit/s/Hz], by number of links and name"
    )
    rows: tuple[FigureRow, ...] = Field(description="one row for each value and method")


@dataclass(frozen=True)
class _Run:
    """A training; picklable."""

    config: TrainConfig
    method: str
    seed: int
    instances: int
    out: Path

    @property
    def path(self) -> Path:
        """File of its result."""
        config = self.config
        of = config.objective if self.method != "supervised" else "supervised"
        samples = "new" if config.samples is None else str(config.samples)
        name = f"{config.student.kind}-{of}-k{config.links[0]}-n{samples}-{self.method}"
        return self.out / "runs" / name / f"{self.seed}.json"


def _run_of(
    study: StudyConfig, figure: SeedFigure, links: int, samples: int, method: str, seed: int, out: Path
) -> _Run:
    side = study.mlp if figure.student == "mlp" else study.gnn
    strong = method in STRONG
    student: dict[str, object] = {**side.student, "batch_norm": strong}
    student |= {"kind": "mlp", "links": links} if figure.student == "mlp" else {"kind": "message-gnn"}
    settings: dict[str, object] = {
        "setting": SETTING,
        "links": [links],
        "student": student,
        "steps": side.reinforcement_steps if figure.reinforcement else side.steps,
        "batch_size": min(side.batch_size, samples) if samples else side.batch_size,
        "samples": samples or None,
        "teacher": TEACHER,
        **(side.strong if strong else side.plain),
        **(side.reinforcement if figure.reinforcement else {}),
    }
    settings["objective"] = "reinforcement" if figure.reinforcement else "unsupervised"
    if method == "supervised":
        settings["objective"] = "supervised"
    elif method.startswith("ad-"):
        schedule = method.split("-")[1]
        settings["algorithm"] = {"schedule": schedule, "beta": side.beta, "teacher": TEACHER}
    return _Run(TrainConfig.model_validate(settings), method, seed, study.instances, out)


def _test(links: int, instances: int) -> Channels:
    return SETTINGS[SETTING](instances, links, torch.Generator().manual_seed(_TEST_SEED + links))


def _rate(student: Student, given: Channels, scheduled: bool = False) -> float:
    was_training = student.training
    student.eval()
    with torch.no_grad():
        power = allocate(student, given, all_ones(given))
    student.train(was_training)
    return float(sum_rate(given, (power > 0.5).float() if scheduled else power).mean())


def _train(run: _Run) -> None:
    """Train, test at regular steps, and write the result."""
    torch.set_num_threads(1)
    given = _test(run.config.links[0], run.instances)
    curve: list[tuple[float, float]] = []
    every = max(1, run.config.steps // _CURVE_POINTS)
    per_epoch = run.config.samples or 1

    def test(step: int, student: Student) -> None:
        if step % every == 0 or step == run.config.steps:
            curve.append((round(step * run.config.batch_size / per_epoch, 2), round(_rate(student, given), 4)))

    student = train(run.config, run.seed, on_step=test)
    result = RunResult(
        config=run.config,
        instances=run.instances,
        sum_rate=curve[-1][1],
        sum_rate_scheduled=round(_rate(student, given, scheduled=True), 4),
        curve=tuple(curve),
    )
    write_json(run.path, result)


def _result(run: _Run) -> RunResult:
    """A result that exists.

    Raises:
        InputError: it is damaged, or of another study.
    """
    try:
        found = RunResult.model_validate_json(run.path.read_bytes())
    except OSError as error:
        raise InputError(f"{run.path}: {error.strerror or error}") from None
    except ValidationError as error:
        raise InputError(f"{run.path}: not a result: {first_error(error)}; remove it, and it is done again") from None
    if (found.config, found.instances) != (run.config, run.instances):
        raise InputError(f"{run.path}: of another study; take another --out")
    return found


def reproduce(study: StudyConfig, name: str, out: Path, bar: Bar, workers: int = 1) -> FigureResults:
    """Train what a figure of the paper needs and ``out`` does not have yet, and compare it with the paper's values.

    Args:
        study: size of the study, and settings of its trainings.
        name: of the figure, such as ``4b``.
        out: directory of results; an interrupted study continues.
        bar: for the progress of trainings.
        workers: number of trainings at once (`distila.training.learning.fan_out`).

    Raises:
        InputError: there is no such figure, or ``out`` holds another study.
    """
    figure = find_figure(name)
    check_writable(out)
    points = [_point(figure, at) for at in figure.values]
    methods = (*METHODS, *STRONG)
    runs = {
        (at, method): [_run_of(study, figure, *_point(figure, at), method, seed, out) for seed in range(study.seeds)]
        for at in figure.values
        for method in methods
    }
    run_missing(f"figure {name}", _train, [run for group in runs.values() for run in group], bar, workers)
    classical = {links: _classical(links, study.instances) for links in sorted({links for links, _ in points})}
    rows = []
    for at in figure.values:
        links, samples = _point(figure, at)
        for method in methods:
            results = [_result(run) for run in runs[at, method]]
            row = FigureRow(
                at=at,
                k=links,
                samples=samples or None,
                method=method,
                seed_paper=dict(zip(METHODS, figure.values[at], strict=True)).get(method),
                sum_rate=interval([result.sum_rate for result in results]),
                sum_rate_scheduled=interval([result.sum_rate_scheduled for result in results]),
                curves=tuple(result.curve for result in results) if figure.swept == "epochs" else None,
            )
            rows.append(row)
    return FigureResults(
        figure=name,
        title=figure.title,
        swept=figure.swept,
        reinforcement=figure.reinforcement,
        study=study,
        classical=classical,
        rows=tuple(rows),
    )


def _point(figure: SeedFigure, at: int) -> tuple[int, int]:
    """Links, and samples (0: new ones every step), of a value of what is swept."""
    links, samples = figure.at
    if figure.swept == "links":
        return at, samples
    return (links, at) if figure.swept == "samples" else (links, samples)


def _classical(links: int, instances: int) -> dict[str, float]:
    """Sum rates [bit/s/Hz] of the teacher and of simple rules on the same instances."""
    given = _test(links, instances)
    generator = torch.Generator().manual_seed(_TEST_SEED)
    return {name: round(float(sum_rate(given, apply(name, given, generator)).mean()), 4) for name in (TEACHER, *RULES)}

"""Contests of students and algorithms on the same instances: sum rate against WMMSE's, and time per instance.

Times are CPU times of one thread. A method runs on many instances at once, in batches of the size that suits it best,
because the fastest batches fit the cache. Methods are timed alternately.
"""

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, Self

import onnxruntime
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from distila.training.learning.interval import interval
from distila.training.resource.algorithms import METHODS, Method, find_method
from distila.training.resource.algorithms.search import flip
from distila.training.resource.algorithms.wmmse import all_ones, random_starts
from distila.training.resource.export import export_onnx
from distila.training.resource.problems import SETTINGS, Channels, sum_rate
from distila.training.resource.store import STUDENTS, load_students
from distila.training.resource.students import MlpConfig, Student, allocate, as_used, make_student
from distila.xapp.errors import InputError
from distila.xapp.files import read_model
from distila.xapp.progress import Progress
from distila.xapp.result_file import ResultFile, ResultModel
from distila.xapp.shipped import Shipped, package_folder

REFERENCE: Final = "wmmse"
_TEST_SEED: Final = 2_308_075_110
"""Far from the seeds of training."""
_BATCHES: Final = (16, 32, 64, 128, 256)
"""Batch sizes that are tried for the best time."""
MLP_HIDDEN: Final = (64, 32)
"""Widths of the perceptron that ships."""
_FLIPPED: Final = 4
"""Best candidates that flips improve."""


class Point(BaseModel):
    """How a student is used: number of candidates, continuous or on/off powers, flips, in PyTorch or exported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    starts: int = Field(default=1, ge=1, description="candidates of a student; the best one is taken")
    scheduled: bool = Field(default=False, description="whether powers are rounded to on or off")
    flips: int = Field(default=0, ge=0, description="links that may be switched to improve a schedule")
    onnx: bool = Field(default=False, description="whether the student runs as a graph in ONNX Runtime, on one thread")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.onnx and (self.scheduled or self.flips):
            raise ValueError(
                "onnx: the graph returns the powers of the best candidate; it has no scheduled and no flips"
            )
        if self.flips and not self.scheduled:
            raise ValueError("flips: needs scheduled: true")
        return self

    def power(self, student: Student, given: Channels, generator: torch.Generator) -> Tensor:
        """The best candidate's power; float32 [instance, 1, link]."""
        start = random_starts(given, self.starts, generator) if self.starts > 1 else all_ones(given)
        with torch.no_grad():
            power = allocate(student, given, start)
        if not self.scheduled and power.shape[1] == 1:
            return power
        rows = torch.arange(len(power))
        if self.scheduled:
            power = (power > 0.5).float()
        rate = sum_rate(given, power)
        if self.flips:
            best = rate.topk(min(_FLIPPED, power.shape[1]), 1).indices
            power = flip(given, power[rows.unsqueeze(1), best], self.flips)
            rate = sum_rate(given, power)
        return power[rows, rate.argmax(1)].unsqueeze(1)

    @property
    def name(self) -> str:
        """Such as ``x16 on-off +4``."""
        return (
            f"x{self.starts}" + " on-off" * self.scheduled + f" +{self.flips}" * bool(self.flips) + " onnx" * self.onnx
        )


class Contest(BaseModel):
    """One setting, numbers of links, and the methods and students that compete there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: str = Field(description="distribution of the channels, see `distila.training.resource.problems.SETTINGS`")
    links: tuple[int, ...] = Field(min_length=1, description="numbers of links K")
    methods: tuple[str, ...] = Field(default=(), description="algorithms besides WMMSE")
    students: dict[str, tuple[Point, ...]] = Field(
        default_factory=dict, description="students that ship, or files, and how they are used"
    )


class BenchConfig(BaseModel):
    """All contests, and their size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    links_tested: int = Field(
        default=100_000, ge=100, description="instances times K, which gives the number of instances for each K"
    )
    fewest_instances: int = Field(default=1000, ge=10, description="smallest number of instances")
    timed_s: float = Field(default=0.5, gt=0, description="shortest time that each method is timed for [s]")
    mlp_times: tuple[int, ...] = Field(default=(), description="K at which an untrained perceptron is timed")
    contests: tuple[Contest, ...] = Field(min_length=1, description="the contests, in order")


class WmmseShare(ResultModel):
    """Sum rate over that of WMMSE [%], over the seeds of a student."""

    mean: float = Field(description="mean over the seeds [%]")
    min: float = Field(description="worst seed [%]")
    ci95: tuple[float, float] | None = Field(description="95 % interval over the seeds [%]; null for a single one")
    values: tuple[float, ...] = Field(description="each seed [%]")


class ContestRow(ResultModel):
    """One method in one setting at one K."""

    setting: str = Field(description="distribution of the channels")
    k: int = Field(description="number of links")
    method: str = Field(description="algorithm, or student and how it is used")
    sum_rate: float = Field(description="mean sum rate over instances and seeds [bit/s/Hz]")
    pct_of_wmmse: WmmseShare = Field(description="sum rate over that of WMMSE [%]")
    us_per_instance: float = Field(description="CPU time per instance on one thread [us]")
    times_wmmse: float = Field(description="the same over that of WMMSE")
    instances: int = Field(description="number of instances")
    seeds: int = Field(description="number of trainings of a student; 1 for an algorithm")


class MlpTime(ResultModel):
    """Times per instance of WMMSE and of an untrained perceptron at one K."""

    k: int = Field(description="number of links")
    wmmse_us: float = Field(description="WMMSE [us]")
    mlp_us: float = Field(description="the perceptron [us]")
    wmmse_over_mlp: float = Field(description="their ratio")


class ContestResults(ResultFile):
    """The content of ``bench.json``."""

    kind: Literal["resource-bench"] = "resource-bench"
    version: Literal[1] = 1
    config: BenchConfig = Field(description="the contests, and their size")
    rows: tuple[ContestRow, ...] = Field(description="one row for each setting, K and method")
    mlp_times: tuple[MlpTime, ...] = Field(description="perceptrons of the shipped shape at other K, untrained")


BENCHMARKS: Final = Shipped("benchmark", package_folder("distila.training.resource", "benchmarks"))


def load_bench(name: str) -> BenchConfig:
    """A benchmark from a YAML file, or one that ships by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    config = read_model(BENCHMARKS.find(name), BenchConfig)
    for contest in config.contests:
        if contest.setting not in SETTINGS:
            raise InputError(f"{name}: setting {contest.setting!r}: there are {', '.join(SETTINGS)}")
        for method in contest.methods:
            find_method(method, max(contest.links))
    return config


def run_bench(config: BenchConfig, progress: Progress) -> ContestResults:
    """Run all contests.

    Raises:
        InputError: a student is missing or damaged.
    """
    rows: dict[tuple[str, int, str], ContestRow] = {}
    total = sum(len(contest.links) for contest in config.contests)
    done = 0
    for contest in config.contests:
        for links in contest.links:
            progress(done, total)
            for row in _contest(config, contest, links):
                rows.setdefault((row.setting, row.k, row.method), row)
            done += 1
    progress(total, total)
    return ContestResults(config=config, rows=tuple(rows.values()), mlp_times=_mlp_times(config))


def _contest(config: BenchConfig, contest: Contest, links: int) -> list[ContestRow]:
    count = max(config.fewest_instances, config.links_tested // links)
    given = SETTINGS[contest.setting](count, links, torch.Generator().manual_seed(_TEST_SEED + links))
    runs: dict[str, list[Method]] = {}
    for name in dict.fromkeys((REFERENCE, *contest.methods)):
        runs[name] = [find_method(name, links)]
    for name, points in contest.students.items():
        students, trained = load_students(STUDENTS.find(name))
        if isinstance(trained.student, MlpConfig) and trained.student.links != links:
            raise InputError(f"{name}: a perceptron for K = {trained.student.links}, not {links}")
        for point in points:
            runs[f"{name} {point.name}"] = [_bound(point, as_used(student)) for student in students.values()]
    times = _times({name: seeds[0] for name, seeds in runs.items()}, given, config.timed_s)
    rates = {name: [_mean_rate(run, given, times[name][1]) for run in seeds] for name, seeds in runs.items()}
    reference = rates[REFERENCE][0]
    return [
        ContestRow(
            setting=contest.setting,
            k=links,
            method=name,
            sum_rate=round(sum(found) / len(found), 4),
            pct_of_wmmse=WmmseShare(
                mean=round(100 * sum(found) / len(found) / reference, 2),
                min=round(100 * min(found) / reference, 2),
                ci95=interval([100 * rate / reference for rate in found]).ci95,
                values=tuple(round(100 * rate / reference, 2) for rate in found),
            ),
            us_per_instance=round(times[name][0], 2),
            times_wmmse=round(times[name][0] / times[REFERENCE][0], 4),
            instances=count,
            seeds=len(found),
        )
        for name, found in rates.items()
    ]


def _bound(point: Point, student: Student) -> Method:
    return _exported(point, student) if point.onnx else partial(point.power, student)


def _exported(point: Point, student: Student) -> Method:
    with TemporaryDirectory() as folder:
        export_onnx(student, Path(folder) / "student.onnx")
        graph = (Path(folder) / "student.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]

    def run(given: Channels, generator: torch.Generator) -> Tensor:
        inputs = {"snr": given.snr.numpy()}
        if "start" in names:
            start = random_starts(given, point.starts, generator) if point.starts > 1 else all_ones(given)
            inputs["start"] = start.numpy()
        return torch.from_numpy(session.run(None, inputs)[0]).unsqueeze(1)

    return run


def _mean_rate(run: Method, given: Channels, part: int) -> float:
    generator = torch.Generator().manual_seed(_TEST_SEED - 1)
    total = 0.0
    for at in range(0, len(given), part):
        some = given[at : at + part]
        total += float(sum_rate(some, run(some, generator)).sum())
    return total / len(given)


def _times(runs: dict[str, Method], given: Channels, timed_s: float) -> dict[str, tuple[float, int]]:
    """Shortest CPU time per instance of this thread [us], and the batch size that gave it."""
    best: dict[str, tuple[float, int]] = {}
    for part in _BATCHES:
        if part > len(given):
            break
        some = given[:part]
        spent = dict.fromkeys(runs, 0.0)
        for _ in range(1000):
            waiting = [name for name in runs if spent[name] < timed_s / len(_BATCHES)]
            if not waiting:
                break
            for name in waiting:
                generator = torch.Generator().manual_seed(1)
                # New objects: values that were computed for these instances before would make the timing too short.
                fresh = Channels(some.snr, some.weight)
                begin = time.thread_time()
                runs[name](fresh, generator)
                taken = time.thread_time() - begin
                spent[name] += taken
                found = (taken / part * 1e6, part)
                best[name] = min(best.get(name, found), found)
    return best


def _mlp_times(config: BenchConfig) -> tuple[MlpTime, ...]:
    """Perceptrons against WMMSE at growing K; their weights do not matter for time."""
    found = []
    for links in config.mlp_times:
        given = SETTINGS["rayleigh-10db"](max(_BATCHES), links, torch.Generator().manual_seed(_TEST_SEED))
        student = as_used(make_student(MlpConfig(links=links, hidden=MLP_HIDDEN, batch_norm=True)).eval())
        times = _times({REFERENCE: METHODS[REFERENCE], "mlp": _bound(Point(), student)}, given, config.timed_s)
        reference, ours = times[REFERENCE][0], times["mlp"][0]
        time_of = MlpTime(
            k=links,
            wmmse_us=round(reference, 2),
            mlp_us=round(ours, 3),
            wmmse_over_mlp=round(reference / ours, 1),
        )
        found.append(time_of)
    return tuple(found)

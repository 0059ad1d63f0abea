"""`distila resource`: powers of interfering links, set by algorithms and by students trained on them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer

from distila.training.commands.trained import one_thread
from distila.training.learning.trainings import run_missing
from distila.training.resource.algorithms import METHODS, apply
from distila.training.resource.charts import figure_table, markdown, write_figure, write_quality_time, write_times
from distila.training.resource.contest import Point, load_bench, run_bench
from distila.training.resource.export import export_onnx
from distila.training.resource.problems import SETTINGS, Channels, channels, sum_rate
from distila.training.resource.store import STUDENT_FILE, STUDENTS, load_students, save_students
from distila.training.resource.students import Student, UnrolledGnn
from distila.training.resource.study import load_study, reproduce
from distila.training.resource.train_config import CONFIGS, TrainConfig, load_train_config
from distila.training.resource.training import train
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stdout
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, write_json, write_text
from distila.xapp.shipped import package_folder

app = application(SUMMARIES["resource"].text, no_args_is_help=True)

BENCH_FILE: Final = "bench.json"

_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
_Seed = Annotated[int, typer.Option(min=0, help="Seed of the first weights and of all random draws.")]


@app.command()
def solve(
    channel: Annotated[
        Path,
        typer.Option(
            help=".npy, or .csv of one instance: SNR [receiver, transmitter] or [instance, receiver, transmitter]"
        ),
    ],
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}, or a student that ships, or its file.")] = "wmmse",
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the links' rates, .npy or .csv; default: all 1.")
    ] = None,
    starts: Annotated[int, typer.Option(min=1, help="Candidate powers of a student; the best counts.")] = 16,
    seed: _Seed = 0,
    json: _Json = False,
) -> None:
    """Choose the transmit powers of interfering links, to maximise their sum rate.

    The input is a matrix of linear (not dB) SNR at full power: the links are on its diagonal, interference beside it.
    """
    one_thread()
    given = channels(_read(channel), None if weights is None else _read(weights), name=str(channel))
    generator = torch.Generator().manual_seed(seed)
    if _is_student(method):
        students, _ = load_students(STUDENTS.find(method))
        student = students[min(students)]
        _check_fits(method, student, given)
        power = Point(starts=starts if isinstance(student, UnrolledGnn) else 1).power(student, given, generator)
    else:
        power = apply(method, given, generator)
    rates = sum_rate(given, power).squeeze(1)
    if json:
        print_json({"method": method, "power": power.squeeze(1).tolist(), "sum_rate": rates.tolist()})
        return
    shown = [
        [str(index), f"{float(rate):.3f}", " ".join(f"{share:.2f}" for share in row)]
        for index, (rate, row) in enumerate(zip(rates, power.squeeze(1).tolist(), strict=True))
    ]
    print_table(f"{method}: powers, as shares of full", ["instance", "bit/s/Hz", "power of each link"], shown[:20])
    if len(shown) > 20:
        print(f"the first 20 of {len(shown)} instances; --json has all")


@app.command("train")
def train_student(
    config: Annotated[
        str, typer.Option(help=f"YAML file, or one that ships: {', '.join(CONFIGS.names())}.")
    ] = "rayleigh-10db",
    seed: _Seed = 0,
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl and student.pt.")] = Path(
        "out/resource/student"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Number of steps; default: the configuration's.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of Ray workers that draw and label instances (extra scale).")
    ] = 1,
    json: _Json = False,
) -> None:
    """Train a student, and compare it with WMMSE on instances that it was not trained on."""
    settings = load_train_config(config)
    if steps is not None:
        settings = TrainConfig.model_validate({**settings.model_dump(), "steps": steps})
    one_thread()
    with progress_bar("training", "steps") as progress:
        student = train(settings, seed, out, resume, progress, workers=workers)
    save_students({seed: student}, settings, out / STUDENT_FILE)
    tests = _test(settings, student)
    summary = {"student": str(out / STUDENT_FILE), "steps": settings.steps, "tests": tests}
    if json:
        print_json(summary)
        return
    rows = [[f"{links}", f"{figures['student']:.3f}", f"{figures['wmmse']:.3f}"] for links, figures in tests.items()]
    print_table(
        f"{settings.setting}, sum rate [bit/s/Hz], best of {settings.starts} candidates",
        ["K", "student", "WMMSE"],
        rows,
    )
    stdout.print(f"student: {out / STUDENT_FILE}", soft_wrap=True)


@app.command()
def build(
    students: Annotated[str, typer.Option(help="Comma-separated configurations.")] = ",".join(CONFIGS.names()),
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings of each, under seeds 0, 1...")] = 5,
    out: Annotated[Path, typer.Option(help="Directory of results; an interrupted run is continued.")] = (
        Path("out/resource/students")
    ),
    install: Annotated[bool, typer.Option(help="Write the students to where distila ships them.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of Ray workers, one training on each (extra scale).")] = 1,
) -> None:
    """Train the students that ship, each under several seeds."""
    names = [name.strip() for name in students.split(",") if name.strip()]
    settings = {name: load_train_config(name) for name in names}
    trainings = [
        _Training(settings[name], seed, out / Path(name).stem / str(seed)) for seed in range(seeds) for name in names
    ]
    one_thread()
    run_missing("students", _train_one, trainings, progress_bar, workers)
    for name in names:
        target = out / f"{Path(name).stem}.pt"
        trained = {
            seed: load_students(out / Path(name).stem / str(seed) / STUDENT_FILE)[0][seed] for seed in range(seeds)
        }
        if install:
            target = package_folder("distila.training.resource", "shipped") / target.name
        save_students(trained, settings[name], target)
        stdout.print(f"written: {target}", soft_wrap=True)


@dataclass(frozen=True)
class _Training:
    """The training of a student under one seed; picklable."""

    config: TrainConfig
    seed: int
    out: Path

    @property
    def path(self) -> Path:
        """File of the student."""
        return self.out / STUDENT_FILE


def _train_one(task: _Training) -> None:
    student = train(task.config, task.seed, task.out, resume=True)
    save_students({task.seed: student}, task.config, task.path)


@app.command()
def export(
    student: Annotated[str, typer.Option(help="A student that ships, its file, or a training's directory.")],
    out: Annotated[Path, typer.Option(help="The ONNX file.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the student; default: the first.")] = None,
) -> None:
    """Write a student as an ONNX graph.

    The graph takes any number of instances. It takes any number of links, too, unless the student is a perceptron.
    """
    students, _ = load_students(STUDENTS.find(student))
    if seed is not None and seed not in students:
        raise InputError(f"--seed {seed}: {student} has {', '.join(map(str, students))}")
    export_onnx(students[min(students) if seed is None else seed], out)
    stdout.print(f"written: {out}", soft_wrap=True)


@app.command()
def bench(
    config: Annotated[
        str | None, typer.Option(help="YAML file, or one that ships: full, quick; default: full.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer instances, in minutes; the same as --config quick.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Directory for bench.json and charts.")] = Path("out/resource/bench"),
    json: _Json = False,
) -> None:
    """Compare students with algorithms: sum rate against WMMSE's, time per instance on one thread."""
    if quick and config is not None:
        raise InputError(f"--quick is --config quick; --config {config} is given too")
    settings = load_bench(config or ("quick" if quick else "full"))
    one_thread()
    check_writable(out)
    with progress_bar("contests", "settings and K") as progress:
        found = run_bench(settings, progress)
    write_json(out / BENCH_FILE, found)
    for setting in dict.fromkeys(row.setting for row in found.rows):
        write_quality_time(out / f"{setting}.png", found.rows, setting)
    if found.mlp_times:
        write_times(out / "times.png", found.mlp_times)
    if json:
        print_json(found.model_dump(mode="json"))
        return
    for setting, links in dict.fromkeys((row.setting, row.k) for row in found.rows):
        rows = [
            [
                row.method,
                f"{row.sum_rate:.3f}",
                f"{row.pct_of_wmmse.mean:.2f}",
                f"{row.pct_of_wmmse.min:.2f}",
                f"{row.us_per_instance:.2f}",
                f"{row.times_wmmse:.2f}",
            ]
            for row in found.rows
            if (row.setting, row.k) == (setting, links)
        ]
        columns = ["method", "bit/s/Hz", "% WMMSE", "worst", "µs", "of WMMSE"]
        print_table(f"{setting}, K = {links}", columns, rows)
    if found.mlp_times:
        rows = [
            [str(entry.k), f"{entry.wmmse_us:.1f}", f"{entry.mlp_us:.2f}", f"{entry.wmmse_over_mlp:.0f}"]
            for entry in found.mlp_times
        ]
        print_table("perceptron against WMMSE [µs per instance]", ["K", "WMMSE", "MLP", "ratio"], rows)
    stdout.print(f"charts: {out}", soft_wrap=True)


@app.command("reproduce")
def reproduce_figure(
    figure: Annotated[str, typer.Option(help="3a, 3b, 3c, 4a, 4b, 4c, 5, 6, 7 or 8.")],
    config: Annotated[
        str | None, typer.Option(help="YAML file, or one that ships: full, quick; default: full.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short trainings, two seeds; the same as --config quick.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Directory of results; an interrupted run is continued.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of Ray workers, one training on each (extra scale).")] = 1,
    json: _Json = False,
) -> None:
    """Reproduce a figure of arXiv 2308.07511: train all its points, and show them beside the paper's values."""
    if quick and config is not None:
        raise InputError(f"--quick is --config quick; --config {config} is given too")
    name = config or ("quick" if quick else "full")
    study = load_study(name)
    folder = out or Path("out/resource") / f"study-{Path(name).stem}"
    one_thread()
    found = reproduce(study, figure, folder, progress_bar, workers)
    columns, rows = figure_table(found)
    write_figure(folder / f"figure-{figure}.png", found)
    write_text(folder / f"figure-{figure}.md", markdown(columns, rows))
    write_json(folder / f"figure-{figure}.json", found)
    if json:
        print_json(found.model_dump(mode="json"))
        return
    print_table(f"figure {figure}: {found.title}; sum rate [bit/s/Hz], {study.seeds} seeds", columns, rows)
    for links, rates in found.classical.items():
        print(f"K = {links}: " + ", ".join(f"{method} {rate:.3f}" for method, rate in rates.items()))
    stdout.print(f"chart: {folder / f'figure-{figure}.png'}", soft_wrap=True)


def _read(path: Path) -> torch.Tensor:
    """An array from a file of the user's.

    Raises:
        InputError: there is none, or it is no array.
    """
    try:
        if path.suffix == ".csv":
            values = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            values = np.load(path, allow_pickle=False)
        return torch.from_numpy(np.asarray(values, dtype=np.float64))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, TypeError, AttributeError, EOFError) as error:
        raise InputError(f"{path}: neither .npy nor .csv with numbers: {error}") from None


def _is_student(name: str) -> bool:
    return name not in METHODS and not name.startswith("wmmse-") and (name in CONFIGS.names() or Path(name).exists())


def _check_fits(name: str, student: Student, given: Channels) -> None:
    able = getattr(student.config, "links", given.links)
    if able != given.links:
        raise InputError(f"{name}: a perceptron for K = {able}; the channel has {given.links} links")
    if given.weights is not None and not getattr(student.config, "weighted", False):
        raise InputError(f"--weights: {name} was trained without weights and would ignore them")


def _test(settings: TrainConfig, student: Student) -> dict[str, dict[str, float]]:
    """Sum rates of student and WMMSE for each K that it was trained on."""
    found = {}
    for links in dict.fromkeys(settings.links):
        generator = torch.Generator().manual_seed(links)
        given = SETTINGS[settings.setting](500, links, generator)
        power = Point(starts=settings.starts).power(student, given, generator)
        reference = apply("wmmse", given, generator)
        found[str(links)] = {
            "student": round(float(sum_rate(given, power).mean()), 4),
            "wmmse": round(float(sum_rate(given, reference).mean()), 4),
        }
    return found

"""`distila student`: make the student that ships, from nothing."""

import os
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from training.commands.trained import one_thread
from training.student.build import Built, build
from training.student.recipe import load_recipe
from xapp.commands.terminal import print_json, print_table, progress_bar, stdout

app = typer.Typer(help="Make the student that ships: teacher, distillation, benchmark, judgement.")

CARD: Final = "card.md"


@app.callback()
def student() -> None:
    """Make the student that ships: teacher, distillation, benchmark, judgement."""


@app.command("build")
def build_student(
    recipe: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: student, smoke.")] = "student",
    out: Annotated[Path, typer.Option(help="Directory of everything that comes out; an interrupted run goes on.")] = (
        Path("out/student")
    ),
    install: Annotated[bool, typer.Option(help="Put the bundle and its teacher where distila ships them.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Collect on so many Ray workers (extra scale).")] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes of the benchmark; default: one per core.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of tables.")] = False,
) -> None:
    """Train a teacher, distil it, run the benchmark; exit status 1, and nothing is installed, if it does not pass."""
    steps = load_recipe(recipe)
    one_thread()
    built = build(steps, out, progress_bar, workers, jobs or os.cpu_count() or 1, cache)
    if install and not built.failures:
        _install(built, steps.name)
    if json:
        figures = {
            "bundle": str(built.bundle.path),
            "failures": built.failures,
            "installed": install and not built.failures,
        }
        print_json({**figures, "benchmark": built.bundle.manifest.benchmark})
    else:
        _print(built)
    for line in built.failures:
        print(f"did not pass: {line}", file=sys.stderr)
    if built.failures:
        raise typer.Exit(1)


def _install(built: Built, name: str) -> None:
    """Copy the bundle, card included, and the teacher into the packages that they ship with."""
    target = Path(str(files("xapp.policy"))) / "bundles" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(built.bundle.path, target)
    shipped = Path(str(files("training.teachers"))) / "shipped"
    shipped.mkdir(exist_ok=True)
    shutil.copyfile(built.teacher, shipped / "teacher.pt")


def _print(built: Built) -> None:
    for run, figures in built.bundle.manifest.benchmark.items():
        rows = []
        for name, entry in figures["families"].items():
            gain = entry["gain [%]"]
            low, high = gain["ci95"]
            rows.append([name, f"{gain['mean']:+.1f} ({low:+.1f}, {high:+.1f})", f"{entry['given up']:.0e}"])
        print_table(f"student, {run}", ["family", "gain [%]", "resid."], rows)
    stdout.print(f"bundle: {built.bundle.path}", soft_wrap=True)
    stdout.print(f"card: {built.bundle.path / CARD}", soft_wrap=True)

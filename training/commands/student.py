"""`distila student`: make the student that ships, from nothing."""

import os
import shutil
import sys
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from distila.training.commands.trained import one_thread
from distila.training.distill.distill import DistillConfig, load_distill
from distila.training.network.store import find_network
from distila.training.student.build import Built, build
from distila.training.student.recipe import BenchmarkSizes, load_recipe
from distila.training.student.search import Limits, parse_sizes, search
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stdout

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


@app.command("search")
def search_size(
    sizes: Annotated[str, typer.Option(help="Hidden layers to try.")] = "8,16x16,32x32,48x48,64x64,32x32x32",
    teacher: Annotated[str, typer.Option(help="network.pt, its directory, or the name of one that ships.")] = "teacher",
    config: Annotated[str, typer.Option(help="Of the distillation: a file, or the name of one that ships.")] = (
        "student"
    ),
    episodes: Annotated[int, typer.Option(min=1, help="Instead of the configuration's; the same for every size.")] = 64,
    most_bytes: Annotated[int, typer.Option(min=1, help="Of the graph.")] = Limits.graph_bytes,
    most_us: Annotated[float, typer.Option(help="p50 of session.run for 100 UEs.")] = Limits.hundred_ues_us,
    families: Annotated[str, typer.Option(help="To judge on, separated by commas; default: those trained on.")] = "all",
    links: Annotated[int, typer.Option(min=8, help="Of the judgement.")] = 96,
    duration_ms: Annotated[float, typer.Option(min=250, help="Of the judgement.")] = 1500,
    out: Annotated[Path, typer.Option(help="Directory; an interrupted search goes on.")] = Path("out/search"),
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes of the judgement; default: one per core.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find the size with the most goodput among those that are small and fast enough; validation seeds."""
    settings = DistillConfig.model_validate({**load_distill(config).model_dump(), "episodes": episodes})
    judged = BenchmarkSizes(
        scenarios="all" if families == "all" else tuple(families.split(",")),
        links=links,
        duration_ms=duration_ms,
        seeds=1,
        bank_rows=settings.bank_rows,
        bank_slots=settings.bank_slots,
    )
    one_thread()
    found = search(
        settings,
        find_network(teacher),
        parse_sizes(sizes),
        Limits(graph_bytes=most_bytes, hundred_ues_us=most_us),
        judged,
        out,
        progress_bar,
        jobs or os.cpu_count() or 1,
        cache,
    )
    if json:
        print_json({"candidates": [asdict(each) for each in found]})
    else:
        rows = [
            [
                "x".join(map(str, each.hidden)),
                f"{each.gain_pct:+.1f}",
                str(each.graph_bytes),
                f"{each.one_ue_us:.1f}",
                f"{each.hundred_ues_us:.1f}",
                "yes" if each.fits else "no",
            ]
            for each in found
        ]
        title = f"students of {episodes} episodes, best that fits first; validation seeds"
        print_table(title, ["hidden", "gain [%]", "bytes", "1 UE [us]", "100 UEs", "fits"], rows)
    if not found[0].fits:
        print(f"no size fits {most_bytes} bytes and {most_us:g} us for 100 UEs", file=sys.stderr)
        raise typer.Exit(1)


def _install(built: Built, name: str) -> None:
    """Copy the bundle, card included, and the teacher into the packages that they ship with."""
    target = Path(str(files("distila.xapp.policy"))) / "bundles" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(built.bundle.path, target)
    shipped = Path(str(files("distila.training.teachers"))) / "shipped"
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

"""`distila student`: build the student that ships, and search its size."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from distila.training.commands.trained import one_thread
from distila.training.distill.distill import DistillConfig, load_distill
from distila.training.network.store import NETWORKS
from distila.training.student.build import BuildSummary, Built, build
from distila.training.student.card import CARD_FILE
from distila.training.student.recipe import Evaluation, load_recipe
from distila.training.student.search import Limits, parse_sizes, search
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stdout
from distila.xapp.policy.benchmark_figures import interval_text, timing_title
from distila.xapp.shipped import package_folder

app = application(SUMMARIES["student"].text)
_LIMITS: Final = Limits()


@app.callback()
def student() -> None:
    """Build the student that ships: teacher, distillation, benchmark, gates."""


@app.command("build")
def build_student(
    recipe: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: student, smoke.")] = "student",
    out: Annotated[Path, typer.Option(help="Directory of the results; an interrupted build continues.")] = (
        Path("out/student")
    ),
    install: Annotated[bool, typer.Option(help="Copy the bundle and its teacher to where distila ships them.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of Ray workers that collect episodes (extra scale).")] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes of the benchmark; default: one per core.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of tables.")] = False,
) -> None:
    """Train a teacher, distil it, run the benchmark and check the gates.

    If the student does not pass a gate, the exit status is 1 and nothing is installed.
    """
    steps = load_recipe(recipe)
    one_thread()
    built = build(steps, out, progress_bar, workers, jobs or os.cpu_count() or 1, cache)
    if install and not built.failures:
        _install(built, steps.name)
    if json:
        summary = BuildSummary(
            bundle=str(built.bundle.path),
            failures=tuple(built.failures),
            installed=install and not built.failures,
            benchmark=built.bundle.manifest.benchmark,
        )
        print_json(summary.model_dump(mode="json"))
    else:
        _print(built)
    for line in built.failures:
        print(f"did not pass: {line}", file=sys.stderr)
    if built.failures:
        raise typer.Exit(1)


@app.command("search")
def search_size(
    sizes: Annotated[
        str, typer.Option(help="Hidden layers to try, such as 16,32x32.")
    ] = "8,16x16,32x32,48x48,64x64,32x32x32",
    teacher: Annotated[str, typer.Option(help="network.pt, its directory, or the name of one that ships.")] = "teacher",
    config: Annotated[
        str, typer.Option(help="Configuration of the distillation: a file, or the name of one that ships.")
    ] = ("student"),
    episodes: Annotated[
        int, typer.Option(min=1, help="Training episodes of every size, instead of the configuration's.")
    ] = 64,
    most_bytes: Annotated[int, typer.Option(min=1, help="Largest size of the graph [bytes].")] = _LIMITS.graph_bytes,
    most_us: Annotated[
        float, typer.Option(help="Largest p50 of session.run for 100 UEs [us].")
    ] = _LIMITS.hundred_ues_us,
    families: Annotated[
        str, typer.Option(help="Comma-separated families to evaluate on; `all`: those trained on.")
    ] = "all",
    links: Annotated[int, typer.Option(min=8, help="Number of links per family.")] = 96,
    duration_ms: Annotated[float, typer.Option(min=250, help="Simulated time per run [ms].")] = 1500,
    out: Annotated[Path, typer.Option(help="Directory of the results; an interrupted search continues.")] = Path(
        "out/search"
    ),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes of the benchmark; default: one per core.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Find the student's size with the most goodput within limits of size and latency, on validation seeds.

    If no size is within the limits, the exit status is 1.
    """
    settings = DistillConfig.model_validate({**load_distill(config).model_dump(), "episodes": episodes})
    evaluation = Evaluation(
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
        NETWORKS.find(teacher),
        parse_sizes(sizes),
        Limits(graph_bytes=most_bytes, hundred_ues_us=most_us),
        evaluation,
        out,
        progress_bar,
        jobs or os.cpu_count() or 1,
        cache,
    )
    if json:
        print_json(found.model_dump(mode="json"))
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
            for each in found.candidates
        ]
        title = f"students of {episodes} episodes, the best within the limits first; validation seeds"
        print_table(title, ["hidden", "gain [%]", "bytes", "1 UE [us]", "100 UEs", "fits"], rows)
    if not found.candidates[0].fits:
        print(f"no size is within {most_bytes} bytes and {most_us:g} us for 100 UEs", file=sys.stderr)
        raise typer.Exit(1)


def _install(built: Built, name: str) -> None:
    """Copy the bundle, card included, and the teacher into the packages that they ship with."""
    target = package_folder("distila.xapp.policy", "bundles") / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(built.bundle.path, target)
    shipped = package_folder("distila.training.network", "shipped")
    shipped.mkdir(exist_ok=True)
    shutil.copyfile(built.teacher, shipped / "teacher.pt")


def _print(built: Built) -> None:
    for run in built.bundle.manifest.benchmark.values():
        rows = []
        for name, figures in run.families.items():
            residual = "-" if figures.residual_bler is None else f"{figures.residual_bler:.0e}"
            rows.append([name, interval_text(figures.gain_vs_olla_pct), residual])
        title = timing_title(run.e2_period_ms, run.e2_delay_ms)
        print_table(f"student, {title}", ["family", "gain [%]", "residual BLER"], rows)
    stdout.print(f"bundle: {built.bundle.path}", soft_wrap=True)
    stdout.print(f"card: {built.bundle.path / CARD_FILE}", soft_wrap=True)

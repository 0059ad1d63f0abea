"""`distila ablation`: what each part of a student's training contributes."""

import os
from pathlib import Path
from typing import Annotated

import typer

from distila.training.ablation.page import by_question, text, write_chart, write_page
from distila.training.ablation.study import RESULTS_FILE, load_study, run_study
from distila.training.commands.trained import one_thread
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import print_json, print_table, progress_bar, stdout

app = application(SUMMARIES["ablation"].text)


@app.callback(invoke_without_command=True)
def ablation(
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: full, quick.")] = "full",
    out: Annotated[Path, typer.Option(help="Directory of the results; an interrupted study continues.")] = (
        Path("out/ablation")
    ),
    workers: Annotated[int, typer.Option(min=1, help="Number of trainings at once, on Ray (extra scale).")] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of processes of the benchmark; default: one per core.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print ablation.json instead of tables.")] = False,
) -> None:
    """Train every variant under several seeds, and compare all of them in one benchmark on test seeds."""
    study = load_study(config)
    one_thread()
    results = run_study(study, out, progress_bar, workers, jobs or os.cpu_count() or 1, cache)
    write_page(out / "ablation.md", results)
    write_chart(out / "ablation.png", results)
    if json:
        print_json(results.model_dump(mode="json"))
        return
    for question, variants in by_question(results.variants):
        rows = [[v.name, text(v.seen), text(v.unseen), text(v.against_student)] for v in variants]
        print_table(question, ["", "seen [%]", "unseen [%]", "against student"], rows)
    for name in (RESULTS_FILE, "ablation.md", "ablation.png"):
        stdout.print(f"written: {out / name}", soft_wrap=True)

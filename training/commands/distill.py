"""`distila distill`: one student from one teacher or several."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue

from distila.training.commands.trained import Cache, Episodes, Json, Resume, Workers, finish, one_thread
from distila.training.distill.distill import DistillConfig, Teachers, distilled, load_distill
from distila.training.network.store import NETWORKS
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import progress_bar
from distila.xapp.errors import InputError

app = application(SUMMARIES["distill"].text)


@app.callback(invoke_without_command=True)
def distill(
    context: typer.Context,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="network.pt, its directory, or one that ships; SCENARIO=PATH for a specialist; may be repeated."
        ),
    ] = None,
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: student.")] = "student",
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl, network.pt and bundle/.")] = Path(
        "out/student"
    ),
    resume: Resume = False,
    episodes: Episodes = None,
    workers: Workers = 1,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Train a student to imitate its teachers, on its own data or on theirs, and write it as a policy bundle."""
    if context.invoked_subcommand is not None:
        return
    settings = load_distill(config)
    if episodes is not None:
        settings = DistillConfig.model_validate({**settings.model_dump(), "episodes": episodes})
    one_thread()
    teachers = Teachers(_paths(teacher or []), settings)
    network = distilled("student", settings, teachers, out, progress_bar, workers, cache, resume)
    about: dict[str, JsonValue] = {"kind": "distilled student", "teachers": teachers.identity}
    finish(network, out, settings, name="student", about=about, json=json)


def _paths(given: list[str]) -> dict[str, Path]:
    """Files of teachers by scenario; "" is the one for all others."""
    if not given:
        raise InputError("--teacher is missing: a network.pt of `distila train`, or the name of a teacher that ships")
    found: dict[str, Path] = {}
    for text in given:
        scenario, equals, rest = text.partition("=")
        name, path = (scenario, rest) if equals and not Path(text).exists() else ("", text)
        if name in found:
            raise InputError(
                f"--teacher {text}: a teacher {f'for {name}' if name else 'for all scenarios'} was given already"
            )
        found[name] = NETWORKS.find(path)
    return found

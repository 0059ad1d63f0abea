"""`distila train`: teachers."""

from pathlib import Path
from typing import Annotated

import typer

from distila.training.commands.trained import Cache, Episodes, Json, Resume, Workers, finish, one_thread
from distila.training.learning import trainer
from distila.training.teachers.dqn_config import DqnConfig, load_dqn
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective, load_privileged
from distila.xapp.commands import SUMMARIES
from distila.xapp.commands.application import application
from distila.xapp.commands.terminal import progress_bar
from distila.xapp.errors import InputError

app = application(SUMMARIES["train"].text)


@app.callback()
def train() -> None:
    """Train teachers, in simulation."""


@app.command()
def privileged(
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: generalist, smoke.")] = (
        "generalist"
    ),
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl and network.pt.")] = Path(
        "out/privileged"
    ),
    resume: Resume = False,
    episodes: Episodes = None,
    cache: Cache = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Train the privileged teacher: the simulator gives it the value of every action, not only of the one chosen."""
    settings = load_privileged(config)
    if episodes is not None:
        settings = PrivilegedConfig.model_validate({**settings.model_dump(), "episodes": episodes})
    one_thread()
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("training", "slots") as on_slot:
        network = trainer.train(
            settings,
            PrivilegedObjective(settings),
            out,
            resume=resume,
            workers=workers,
            progress=on_slot,
            cache=cache,
            on_bank=on_bank,
        )
    finish(network, out, settings, name="privileged", about={"kind": "privileged teacher"}, json=json)


@app.command()
def dqn(
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: dqn.")] = "dqn",
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="A family, for a specialist, or `domain_table1`; may be repeated; default: the configuration's."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl and network.pt.")] = Path(
        "out/dqn"
    ),
    resume: Resume = False,
    episodes: Episodes = None,
    cache: Cache = None,
    workers: Workers = 1,
    json: Json = False,
) -> None:
    """Train the DQN teacher: reinforcement learning from the outcomes of its own decisions."""
    try:
        # TorchRL takes seconds to import.
        from distila.training.teachers.dqn import train_dqn
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'distila[training]'") from None
    settings = load_dqn(config)
    asked = {"scenarios": scenario or None, "episodes": episodes}
    settings = DqnConfig.model_validate(
        {**settings.model_dump(), **{name: value for name, value in asked.items() if value is not None}}
    )
    one_thread()
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("training", "slots") as on_slot:
        network = train_dqn(settings, out, resume, workers, progress=on_slot, cache=cache, on_bank=on_bank)
    finish(network, out, settings, name="dqn", about={"kind": "DQN teacher"}, json=json)

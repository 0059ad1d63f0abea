"""`distila train`: teachers."""

from pathlib import Path
from typing import Annotated

import typer

from distila.training.commands.trained import finish, one_thread
from distila.training.learning import trainer
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective, load_privileged
from distila.xapp.commands.terminal import progress_bar
from distila.xapp.errors import InputError

app = typer.Typer(help="Train teachers, in simulation.")


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
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if any.")] = False,
    episodes: Annotated[int | None, typer.Option(min=1, help="Instead of the configuration's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Collect on so many Ray workers (extra scale).")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")] = False,
) -> None:
    """Train a network that is told what every action turned out to be worth."""
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
        typer.Option(help="Instead of the configuration's: a family for a specialist, or `domain`; repeat it."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl and network.pt.")] = Path(
        "out/dqn"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if any.")] = False,
    episodes: Annotated[int | None, typer.Option(min=1, help="Instead of the configuration's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")] = False,
) -> None:
    """Train a network by reinforcement learning, from what its own decisions bring."""
    try:
        # Seconds that the other teachers need not wait.
        from distila.training.teachers.dqn import DqnConfig, load_dqn, train_dqn
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'distila[training]'") from None
    settings = load_dqn(config)
    asked = {"scenarios": scenario or None, "episodes": episodes}
    settings = DqnConfig.model_validate(
        {**settings.model_dump(), **{name: value for name, value in asked.items() if value is not None}}
    )
    one_thread()
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("training", "slots") as on_slot:
        network = train_dqn(settings, out, resume=resume, progress=on_slot, cache=cache, on_bank=on_bank)
    finish(network, out, settings, name="dqn", about={"kind": "DQN teacher"}, json=json)

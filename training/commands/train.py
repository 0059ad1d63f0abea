"""`distila train`: teachers."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer

from training.commands.trained import finish, one_thread
from training.learning import trainer
from training.learning.checkpoint import CHECKPOINT_FILE
from training.learning.log import LOG_FILE, read_log
from training.network.export import export_bundle, onnx_graph
from training.network.network import PolicyNetwork
from training.teachers.privileged import PrivilegedConfig, PrivilegedLesson, load_privileged
from xapp.commands.terminal import print_json, print_table, progress_bar, stdout
from xapp.errors import InputError
from xapp.policy.bundle import MAX_GRAPH_BYTES

BUNDLE: Final = "bundle"

app = typer.Typer(help="Train teachers, in simulation.")


@app.callback()
def train() -> None:
    """Train teachers, in simulation."""


@app.command()
def privileged(
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: real_time.")] = "real_time",
    out: Annotated[Path, typer.Option(help="Directory for checkpoint.pt, train.jsonl and bundle/.")] = Path(
        "out/privileged"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if any.")] = False,
    episodes: Annotated[int | None, typer.Option(min=1, help="Instead of the configuration's.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Collect on so many Ray workers (extra scale).")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")] = False,
) -> None:
    """Train a network that is told what every MCS would have been worth; write it as a policy bundle."""
    settings = load_privileged(config)
    if episodes is not None:
        settings = PrivilegedConfig.model_validate({**settings.model_dump(), "episodes": episodes})
    # Small tensors gain little from threads, and the sums of several come out in another order on another machine.
    torch.set_num_threads(1)
    _check_size(settings)
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("training", "slots") as on_slot:
        network = trainer.train(
            settings,
            PrivilegedLesson(settings),
            out,
            resume=resume,
            workers=workers,
            progress=on_slot,
            cache=cache,
            on_bank=on_bank,
        )
    latest = _latest(out, len(settings.scenarios))
    export_bundle(
        network,
        out / BUNDLE,
        name="privileged",
        version="1",
        training={
            "kind": "privileged full-information teacher",
            "distila": version("distila"),
            "torch": torch.__version__,
            "config": settings.model_dump(mode="json"),
            # On the training split: how it went, not how good it is.
            "latest_episodes": latest,
        },
        benchmark={},
    )
    if json:
        paths = {"checkpoint": CHECKPOINT_FILE, "log": LOG_FILE, "bundle": BUNDLE}
        summary: dict[str, Any] = {name: str(out / path) for name, path in paths.items()}
        print_json({**summary, "episodes": settings.episodes, "scenarios": latest})
        return
    _print(settings, latest)
    stdout.print(f"bundle: {out / BUNDLE}", soft_wrap=True)


@app.command()
def dqn(
    config: Annotated[str, typer.Option(help="YAML file, or the name of one that ships: dqn.")] = "dqn",
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
        from training.teachers.dqn import DqnConfig, load_dqn, train_dqn
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install 'distila[training]'") from None
    settings = load_dqn(config)
    if episodes is not None:
        settings = DqnConfig.model_validate({**settings.model_dump(), "episodes": episodes})
    one_thread()
    with progress_bar("fading banks", "banks") as on_bank, progress_bar("training", "slots") as on_slot:
        network = train_dqn(settings, out, resume=resume, progress=on_slot, cache=cache, on_bank=on_bank)
    finish(network, out, settings, name="dqn", about={"kind": "DQN teacher"}, json=json)


def _check_size(settings: PrivilegedConfig) -> None:
    """See before the training whether its result may be a bundle; raises InputError."""
    size = len(onnx_graph(PolicyNetwork(settings.network)))
    if size > MAX_GRAPH_BYTES:
        hidden = list(settings.network.hidden)
        raise InputError(
            f"network.hidden = {hidden}: a graph of {size} bytes, a bundle's has at most {MAX_GRAPH_BYTES}"
        )


def _latest(out: Path, scenarios: int) -> dict[str, dict[str, Any]]:
    """Figures of the latest episode of each scenario, by its name."""
    found = {}
    for line in read_log(out)[-scenarios:]:
        found[str(line["scenario"])] = {name: line[name] for name in ("episode", "loss", "goodput", "bler")}
    return found


def _print(settings: PrivilegedConfig, latest: dict[str, dict[str, Any]]) -> None:
    rows = [
        [name, *("-" if line[key] is None else f"{line[key]:.3f}" for key in ("goodput", "bler", "loss"))]
        for name, line in latest.items()
    ]
    title = f"latest training episodes of {settings.episodes}, exploration included; goodput in bit/s/Hz"
    print_table(title, ["", "goodput", "BLER", "loss"], rows)

"""What the commands that train have in common: options, and the end, where weights become files and figures a table."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from pydantic import BaseModel, JsonValue

from distila.training.learning.checkpoint import CHECKPOINT_FILE
from distila.training.learning.episodes import EpisodicConfig
from distila.training.learning.log import LOG_FILE, read_log
from distila.training.network.export import export_bundle, onnx_graph
from distila.training.network.network import Network
from distila.training.network.store import NETWORK_FILE, save_network
from distila.xapp.commands.terminal import print_json, print_table, stdout
from distila.xapp.policy.bundle import MAX_GRAPH_BYTES

BUNDLE: Final = "bundle"

Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")]
Episodes = Annotated[int | None, typer.Option(min=1, help="Number of episodes; default: the configuration's.")]
Cache = Annotated[Path | None, typer.Option(help="Directory of fading banks; default: the user's cache.")]
Workers = Annotated[int, typer.Option(min=1, help="Number of Ray workers that collect episodes (extra scale).")]
Json = Annotated[bool, typer.Option("--json", help="Print a summary as JSON instead of a table.")]


class _Episode(BaseModel):
    """Figures of one training episode; null where there is none, such as a loss before the first step."""

    episode: int
    loss: float | None = None
    goodput: float | None = None
    first_tx_bler: float | None = None


def one_thread() -> None:
    """Use one torch thread: small tensors gain little from more, and several sum in an order of their own."""
    torch.set_num_threads(1)


def finish(
    network: Network, out: Path, settings: EpisodicConfig, name: str, about: Mapping[str, JsonValue], json: bool
) -> None:
    """Write the network to ``out``, as a bundle too if a bundle has room for it, and print how the training went."""
    latest = _latest(out, len(settings.scenarios))
    figures: dict[str, JsonValue] = {scenario: line.model_dump() for scenario, line in latest.items()}
    training: dict[str, JsonValue] = {
        **about,
        "distila": version("distila"),
        "torch": torch.__version__,
        "config": settings.model_dump(mode="json"),
        # On the training split: how it went, not how good it is.
        "latest_episodes": figures,
    }
    save_network(network, out / NETWORK_FILE, training)
    graph = onnx_graph(network)
    size = len(graph)
    paths = {"checkpoint": CHECKPOINT_FILE, "log": LOG_FILE, "network": NETWORK_FILE}
    if size <= MAX_GRAPH_BYTES:
        export_bundle(network, out / BUNDLE, name=name, version="1", training=training, graph=graph)
        paths["bundle"] = BUNDLE
    summary: dict[str, object] = {what: str(out / path) for what, path in paths.items()}
    summary |= {"graph_bytes": size, "episodes": settings.episodes, "scenarios": figures}
    if json:
        print_json(summary)
        return
    rows = [
        [scenario, *("-" if x is None else f"{x:.3f}" for x in (line.goodput, line.first_tx_bler, line.loss))]
        for scenario, line in latest.items()
    ]
    title = f"latest training episodes of {settings.episodes}, exploration included"
    columns = ["scenario", "goodput [bit/s/Hz]", "first-transmission BLER", "training loss"]
    print_table(title, columns, rows)
    for what in ("network", "bundle"):
        if what in summary:
            stdout.print(f"{what}: {summary[what]}", soft_wrap=True)
    if "bundle" not in summary:
        stdout.print(f"no bundle: its graph would have {size} bytes, a bundle's has at most {MAX_GRAPH_BYTES}")


def _latest(out: Path, scenarios: int) -> dict[str, _Episode]:
    """Figures of the latest episode of each scenario, by its name."""
    return {str(line["scenario"]): _Episode.model_validate(line) for line in read_log(out)[-scenarios:]}

"""Stores networks in files: configuration, weights, and how they were trained. Teachers are stored this way.

A bundle (`distila.xapp.policy.bundle`) is what the xApp runs, and is limited to a megabit. A teacher may be larger, and
distillation needs its weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from distila.training.network.config import NetworkConfig
from distila.training.network.make import make_network
from distila.training.network.network import Network
from distila.training.torch_file import TorchFormat
from distila.xapp.files import parse_model
from distila.xapp.shipped import Shipped, package_folder

NETWORK_FILE: Final = "network.pt"
NETWORKS: Final = Shipped(
    "network", package_folder("distila.training.network", "shipped"), pattern="*.pt", inside=NETWORK_FILE
)
"""Networks by file, by directory of a training, or by the name of one that ships: ``NETWORKS.find("teacher")``."""
_FORMAT: Final = TorchFormat("distila-network/1", kind="network", written_by="distila train")


def save_network(network: Network, path: Path, training: Mapping[str, JsonValue]) -> None:
    """Write a network to a file, whole or not at all.

    Args:
        network: the network to store.
        path: file to write.
        training: how it was trained; JSON.

    Raises:
        InputError: the file cannot be written.
    """
    content = {
        "config": network.config.model_dump_json(),
        "training": json.dumps(dict(training)),
        "weights": {name: value.detach().cpu() for name, value in network.state_dict().items()},
    }
    _FORMAT.save(path, content)


def load_network(path: Path) -> tuple[Network, dict[str, JsonValue]]:
    """Read a network, and how it was trained.

    Raises:
        InputError: the file is missing or damaged, or holds another architecture.
    """
    content = _FORMAT.load(path, json_entries=("config", "training"))
    config = parse_model(content["config"], NetworkConfig, str(path))
    with _FORMAT.restoring(path):
        network = make_network(config)
        network.load_state_dict(content["weights"])
    return network, content["training"]

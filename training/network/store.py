"""Networks in files: configuration and weights, and what they were trained on. What teachers are kept as.

A bundle (`distila.xapp.policy.bundle`) is what is served, and has room for a megabit; a teacher may be larger, and is
needed with its weights.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import ValidationError

from distila.replay.atomic_file import replacing
from distila.training.network.config import NetworkConfig
from distila.training.network.make import make_network
from distila.training.network.network import Network
from distila.xapp.errors import InputError, first_error, one_line

NETWORK_FILE: Final = "network.pt"
_FORMAT: Final = "distila-network/1"


def find_network(name: str) -> Path:
    """The file of a network that is given as this file, as a training's directory, or by the name of one that ships.

    Raises:
        InputError: it is none of these.
    """
    path = Path(name)
    if path.is_file():
        return path
    if (path / NETWORK_FILE).is_file():
        return path / NETWORK_FILE
    folder = Path(str(files("distila.training.teachers"))) / "shipped"
    shipped = {file.stem: file for file in sorted(folder.glob("*.pt"))}
    if name not in shipped:
        raise InputError(
            f"{name}: neither a network's file, nor a directory with {NETWORK_FILE}, nor a network that ships"
            f" ({', '.join(shipped) or 'none does'})"
        )
    return shipped[name]


def save_network(network: Network, path: Path, training: dict[str, Any]) -> None:
    """Write a network to a file, whole or not at all.

    Args:
        network: what to keep.
        path: of the file.
        training: how it was made; JSON.

    Raises:
        InputError: it cannot be written.
    """
    data = {
        "format": _FORMAT,
        "config": network.config.model_dump_json(),
        "training": json.dumps(training),
        "weights": {name: value.detach().cpu() for name, value in network.state_dict().items()},
    }
    try:
        with replacing(path) as partial:
            torch.save(data, partial)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """Read a network, and how it was made.

    Raises:
        InputError: there is none, it is damaged, or of another architecture.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such network; `distila train` writes one")
    try:
        data: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if data["format"] != _FORMAT:
            raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
        config, training = data["config"], json.loads(data["training"])
    except Exception as error:  # of many kinds, from zipfile to pickle
        raise InputError(f"{path}: not a network: {one_line(error)}") from None
    try:
        network = make_network(NetworkConfig.model_validate_json(config))
        network.load_state_dict(data["weights"])
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: of another architecture: {one_line(error)}") from None
    return network, training

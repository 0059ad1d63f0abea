"""Configuration of the xApp: one model for the command line's ``--config`` file, with every field checked by name."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xapp.e2.tls import TlsConfig
from xapp.errors import InputError, first_error
from xapp.loop import LoopConfig
from xapp.policy.guard import GuardConfig


class E2Config(BaseModel):
    """Where the E2 node is, and how to talk to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["grpc"] = "grpc"
    endpoint: str = Field(default="127.0.0.1:36421", pattern=r"^\S+:\d{1,5}$", description="host:port")
    tls: TlsConfig | None = None
    cells: list[str] = Field(default_factory=list, description="subscribe to these only; empty: all")


class RunConfig(BaseModel):
    """Everything `distila run` can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = Field(default="olla", description="directory of a bundle, or the name of one that ships with distila")
    instance_id: str = Field(default="distila-0", description="tells replicas apart on E2")
    e2: E2Config = E2Config()
    loop: LoopConfig = LoopConfig()
    guard: GuardConfig = GuardConfig()
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def read_yaml(path: Path) -> Any:
    """The content of a YAML (or JSON) file.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def load_config(path: Path) -> RunConfig:
    """Read a configuration file.

    Raises:
        InputError: one line naming file, field and what is wrong.
    """
    data = read_yaml(path)
    try:
        return RunConfig.model_validate({} if data is None else data)
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None

"""Configuration of the xApp: one model for the command line's ``--config`` file, with every field checked by name."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from distila.xapp.descriptor import is_descriptor, parse_descriptor
from distila.xapp.e2.edgeric_config import EdgeRicConfig
from distila.xapp.e2.rmr_config import RmrConfig
from distila.xapp.e2.tls import TlsConfig
from distila.xapp.e2.transport import split_endpoint
from distila.xapp.errors import InputError
from distila.xapp.files import parse_model, read_yaml
from distila.xapp.loop import LoopConfig
from distila.xapp.platform_config import HttpConfig, RicConfig
from distila.xapp.policy.bundle import DEFAULT_POLICY
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.rollout_config import RolloutConfig


class E2Config(BaseModel):
    """The connection to the E2 node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transport: Literal["grpc", "rmr", "edgeric"] = "grpc"
    endpoint: str = Field(default="127.0.0.1:36421", description="host:port of the E2 node, for gRPC")
    tls: TlsConfig | None = None
    cells: list[str] = Field(default_factory=list, description="ids of the cells to subscribe to; empty: all cells")
    rmr: RmrConfig = RmrConfig()
    edgeric: EdgeRicConfig = EdgeRicConfig()

    @field_validator("endpoint")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if split_endpoint(value)[1] == 0:
            raise ValueError("port 0: expected the port of the E2 node, 1 to 65535")
        return value


class RunConfig(BaseModel):
    """All settings of `distila run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = Field(
        default=DEFAULT_POLICY, description="directory of a bundle, or the name of one that ships with distila"
    )
    instance_id: str = Field(
        default="distila-0", description="name of this replica on E2, in logs and in the audit log"
    )
    e2: E2Config = E2Config()
    loop: LoopConfig = LoopConfig()
    guard: GuardConfig = GuardConfig()
    http: HttpConfig | None = Field(default=None, description="probes, metrics and configuration over HTTP; null: none")
    ric: RicConfig | None = Field(
        default=None, description="the near-RT RIC platform; null: an E2 node without a platform"
    )
    watch_every_s: float | None = Field(
        default=1.0,
        gt=0,
        description="seconds between checks of the configuration file and the bundle for changes; null: never checked",
    )
    rollout: RolloutConfig | None = Field(default=None, description="A/B rollouts; null: none")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = Field(
        default="text", description="json: one JSON object a line, in the format of the platform's mdclog"
    )

    @model_validator(mode="after")
    def _reachable(self) -> "RunConfig":
        if self.ric is not None and self.http is None:
            raise ValueError("ric needs http: the platform probes the xApp and notifies it there")
        return self

    @property
    def a1_policy_types(self) -> list[int]:
        """Ids of the A1 policy types that the xApp takes."""
        sections = (self.ric, self.rollout) if self.ric is not None else ()
        return [each.a1_policy_type for each in sections if each is not None and each.a1_policy_type is not None]

    def replaced(self, *path: str, value: Any) -> "RunConfig":
        """A copy with one field, named by its path, set to ``value`` and everything checked again.

        Raises:
            InputError: the value is not allowed there.
        """
        data = self.model_dump()
        *sections, field = path
        place = data
        for section in sections:
            place = place[section]
        place[field] = value
        return parse_model(data, RunConfig, f"--{field}" if len(path) == 1 else f"--{path[0]}")


def read_descriptor(path: Path) -> dict[str, JsonValue] | None:
    """The xApp descriptor in a configuration file; None if it holds the settings alone.

    Raises:
        InputError: the file cannot be read, or is not YAML.
    """
    data = read_yaml(path)
    return data if is_descriptor(data) else None


def load_config(path: Path) -> RunConfig:
    """Read a configuration file: the settings alone, or an xApp descriptor, whose ``controls`` they are.

    Raises:
        InputError: one line naming file, field and what is wrong.
    """
    return parse_config(read_yaml(path), str(path))


def parse_config(data: Any, where: str) -> RunConfig:
    """As `load_config`, of a file's content; ``where`` is its name.

    Raises:
        InputError: one line naming file, field and what is wrong.
    """
    if is_descriptor(data):
        return parse_model(parse_descriptor(data, where).controls, RunConfig, f"{where}: controls")
    if isinstance(data, dict) and {"image", "config"} <= data.keys():
        raise InputError(f"{where}: these are values of the helm chart; give its descriptor/config-file.json")
    return parse_model({} if data is None else data, RunConfig, where)

"""Settings of the HTTP server and of the clients of the near-RT RIC platform."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_URL: Final = re.compile(r"https?://[^/\s]+(/\S*)?")


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("expected http://host:port")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class HttpConfig(BaseModel):
    """The HTTP server for probes, metrics, configuration and notifications."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="0.0.0.0", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0: any free port")
    alive_after_s: float = Field(
        default=10, gt=0, description="seconds without a run of the decision loop after which the liveness probe fails"
    )


class SubscriptionConfig(BaseModel):
    """The subscriptions at E2 nodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: list[str] = Field(
        default_factory=list,
        description="RAN names of the E2 nodes; empty: every connected node that offers the service model",
    )
    ran_function_id: int | None = Field(
        default=None, ge=0, le=4095, description="RAN function id; null: as the node announces it to the E2 manager"
    )
    report_period_ms: int = Field(
        default=10, ge=1, le=10_000, description="time [ms] between two indications of a cell"
    )
    silent_after_s: float = Field(
        default=10, gt=0, description="seconds without an indication after which the xApp subscribes again"
    )
    discover_every_s: float = Field(
        default=10, gt=0, description="seconds between two queries of the E2 manager's list of nodes"
    )


class RicConfig(BaseModel):
    """Addresses of the platform's components, and the xApp's own name and address. A null component is not used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_name: str = Field(default="distila", min_length=1, description="name of the xApp at the application manager")
    host: str = Field(
        default="service-ricxapp-distila-http.ricxapp",
        min_length=1,
        description="host name for the HTTP port; with `rmr` instead of `http` in it, for the RMR port",
    )
    appmgr: Url | None = Field(
        default="http://service-ricplt-appmgr-http.ricplt:8080",
        description="address of the application manager, for registration",
    )
    submgr: Url | None = Field(
        default="http://service-ricplt-submgr-http.ricplt:8088", description="address of the subscription manager"
    )
    e2mgr: Url | None = Field(
        default="http://service-ricplt-e2mgr-http.ricplt:3800",
        description="address of the E2 manager, for node discovery",
    )
    alarm_manager: Url | None = Field(
        default="http://service-ricplt-alarmmanager-http.ricplt:8080", description="address of the alarm manager"
    )
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="time limit [s] of one request to any of them")
    subscription: SubscriptionConfig = SubscriptionConfig()
    a1_policy_type: int | None = Field(
        default=20130,
        ge=0,
        le=2**31 - 1,
        description="id of the A1 policy type for link adaptation; null: no A1 policies are accepted",
    )
    policies: Path | None = Field(
        default=None,
        description="directory of the policy bundles that an A1 policy may name, in addition to those that ship",
    )
    sdl: Literal["redis", "fake"] = Field(
        default="redis",
        description="shared data layer; redis: at DBAAS_SERVICE_HOST and DBAAS_SERVICE_PORT; fake: in memory",
    )
    sdl_namespace: str = Field(
        default="distila",
        pattern=r"^[^,{}*?\[\]]+$",
        description="namespace of the xApp's keys in the shared data layer",
    )

    @property
    def rmr_host(self) -> str:
        """Host name for the RMR port; the subscription manager derives it from ``host`` likewise."""
        return self.host.replace("http", "rmr")

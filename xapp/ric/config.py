"""Settings of the HTTP server and of everything that talks to the near-RT RIC platform."""

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
    """The server for probes, metrics, configuration and notifications."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="0.0.0.0", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="0: a free one")
    alive_after_s: float = Field(
        default=10, gt=0, description="a decision loop that has not moved for longer is not alive"
    )


class SubscriptionConfig(BaseModel):
    """What is subscribed to, at which E2 nodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nodes: list[str] = Field(
        default_factory=list, description="RAN names; empty: every connected node that offers the service model"
    )
    ran_function_id: int | None = Field(
        default=None, ge=0, le=4095, description="None: as the node announces it at the E2 manager"
    )
    report_period_ms: int = Field(default=10, ge=1, le=10_000, description="between two indications of a cell")
    silent_after_s: float = Field(default=10, gt=0, description="without an indication for so long, subscribe anew")
    discover_every_s: float = Field(default=10, gt=0, description="between two looks at the E2 manager's nodes")


class RicConfig(BaseModel):
    """Where the platform's parts are, and who we are to them. A part that is null is not used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app_name: str = Field(default="distila", min_length=1, description="as the application manager knows the xApp")
    host: str = Field(
        default="service-ricxapp-distila-http.ricxapp",
        min_length=1,
        description="where the platform reaches the HTTP port; with `rmr` in place of `http`, the RMR port",
    )
    appmgr: Url | None = Field(default="http://service-ricplt-appmgr-http.ricplt:8080", description="registration")
    submgr: Url | None = Field(default="http://service-ricplt-submgr-http.ricplt:8088", description="subscriptions")
    e2mgr: Url | None = Field(default="http://service-ricplt-e2mgr-http.ricplt:3800", description="node discovery")
    alarm_manager: Url | None = Field(
        default="http://service-ricplt-alarmmanager-http.ricplt:8080", description="alarms"
    )
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="of one request to any of them")
    subscription: SubscriptionConfig = SubscriptionConfig()
    a1_policy_type: int | None = Field(
        default=20130, ge=0, le=2**31 - 1, description="id of the A1 policy type; null: no A1 policies"
    )
    policies: Path | None = Field(
        default=None, description="directory of the policy bundles that an A1 policy may name, beside those that ship"
    )
    sdl: Literal["redis", "fake"] = Field(
        default="redis", description="redis: as DBAAS_SERVICE_HOST and _PORT say; fake: kept in memory, for one machine"
    )
    sdl_namespace: str = Field(default="distila", pattern=r"^[^,{}*?\[\]]+$")

    @property
    def rmr_host(self) -> str:
        """Where the platform reaches the RMR port; the subscription manager derives it from ``host`` likewise."""
        return self.host.replace("http", "rmr")

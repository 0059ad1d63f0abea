"""Registration at the application manager; without it the platform routes no messages to the xApp."""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from distila.xapp.config import RunConfig
from distila.xapp.descriptor import RMR_DATA, RMR_ROUTE, Messaging, MessagingPort
from distila.xapp.errors import one_line
from distila.xapp.platform_config import RicConfig
from distila.xapp.ric.worker import Backoff, Worker

log = logging.getLogger(__name__)

RX_MESSAGES: Final = (
    "RIC_HEALTH_CHECK_REQ",
    "RIC_INDICATION",
    "RIC_CONTROL_ACK",
    "RIC_CONTROL_FAILURE",
    "A1_POLICY_REQ",
)
TX_MESSAGES: Final = ("RIC_HEALTH_CHECK_RESP", "RIC_CONTROL_REQ", "A1_POLICY_RESP", "A1_POLICY_QUERY")
"""Message types that the xApp receives and sends over RMR, by the platform's names."""

_CREATED: Final = (200, 201)


class _Instance(BaseModel):
    """Name of the xApp and of its instance: the body of a deregistration."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    app_name: str
    app_instance_name: str


class _RegistrationBody(_Instance):
    """The body of a registration."""

    app_version: str
    http_endpoint: str
    rmr_endpoint: str
    config_path: str = "/ric/v1/config"
    # Without it the application manager queries the xApp's own HTTP port, five times.
    config: str = Field(description="the descriptor as JSON")


def descriptor(config: RunConfig) -> dict[str, object]:
    """A descriptor of an xApp that was started without one: its ports and messages, which the platform needs."""
    name = "distila" if config.ric is None else config.ric.app_name
    port = config.e2.rmr.port
    data = MessagingPort(
        name=RMR_DATA,
        container=name,
        port=port,
        rxMessages=list(RX_MESSAGES),
        txMessages=list(TX_MESSAGES),
        policies=config.a1_policy_types,
        description="rmr data port",
    )
    route = MessagingPort(name=RMR_ROUTE, container=name, port=port + 1, description="rmr route port")
    messaging = Messaging(ports=[data, route])
    return {
        "name": name,
        "version": version("distila"),
        "messaging": messaging.model_dump(by_alias=True, exclude_none=True),
        "controls": config.model_dump(mode="json"),
    }


class Registration:
    """Registers until it succeeds, and deregisters at the end.

    Args:
        config: of the platform.
        instance: name of this instance of the xApp.
        http_port, rmr_port: ports of the xApp.
        describe: the descriptor, for JSON.

    Attributes:
        registered: whether the application manager has accepted the registration.
        counts: attempts by result.
    """

    def __init__(
        self, config: RicConfig, instance: str, http_port: int, rmr_port: int, describe: Mapping[str, object]
    ) -> None:
        self._base = f"{config.appmgr}/ric/v1"
        self._client = httpx.Client(timeout=config.timeout_s)
        self._instance = _Instance(app_name=config.app_name, app_instance_name=instance)
        self._body = _RegistrationBody(
            app_name=config.app_name,
            app_instance_name=instance,
            app_version=version("distila"),
            http_endpoint=f"{config.host}:{http_port}",
            rmr_endpoint=f"{config.rmr_host}:{rmr_port}",
            config=json.dumps(describe),
        )
        self._backoff = Backoff()
        self._worker = Worker("ric-registration", self._register)
        self.registered = False
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Start to register."""
        self._worker.start()

    def missing(self) -> str:
        """For `Health.check`."""
        return "" if self.registered else "not registered at the application manager"

    def stop(self, timeout_s: float) -> None:
        """Deregister, if it is registered."""
        self._worker.stop(timeout_s)
        if self.registered:
            # Not retried: whatever the answer, the xApp stops.
            self._post("deregister", self._instance, timeout_s)
            self.registered = False
        self._client.close()

    def _register(self) -> float | None:
        if self.registered:
            return None
        if self._post("register", self._body):
            self.registered = True
            log.info("registered at the application manager as %s", self._instance.app_instance_name)
            return None
        return self._backoff.pause_s()

    def _post(self, what: str, body: _Instance, timeout_s: float | None = None) -> bool:
        limit = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        try:
            status = self._client.post(
                f"{self._base}/{what}", json=body.model_dump(by_alias=True), timeout=limit
            ).status_code
        except httpx.HTTPError as error:
            self.counts[f"{what}_unreachable"] += 1
            log.warning("application manager: %s: %s", what, one_line(error))
            return False
        accepted = status in _CREATED or (what == "deregister" and status == httpx.codes.NO_CONTENT)
        self.counts[f"{what}_accepted" if accepted else f"{what}_{status}"] += 1
        if not accepted:
            log.warning("application manager: %s answered %d", what, status)
        return accepted

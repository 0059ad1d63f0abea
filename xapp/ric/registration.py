"""Registration at the application manager, which is what makes the platform route messages to the xApp."""

import json
import logging
from collections import Counter
from importlib.metadata import version
from typing import Any, Final

import httpx

from distila.xapp.config import RunConfig
from distila.xapp.errors import one_line
from distila.xapp.ric.platform_config import RicConfig
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
"""What the xApp receives and sends over RMR, by the platform's names of message types."""

_CREATED: Final = (200, 201)


def descriptor(config: RunConfig) -> dict[str, Any]:
    """What the platform needs to know of an xApp that was started without a descriptor: its ports and messages."""
    name = "distila" if config.ric is None else config.ric.app_name
    port = config.e2.rmr.port
    data = {
        "name": "rmrdata",
        "container": name,
        "port": port,
        "rxMessages": list(RX_MESSAGES),
        "txMessages": list(TX_MESSAGES),
        "policies": config.a1_policy_types,
        "description": "rmr data port",
    }
    route = {"name": "rmrroute", "container": name, "port": port + 1, "description": "rmr route port"}
    return {
        "name": name,
        "version": version("distila"),
        "messaging": {"ports": [data, route]},
        "controls": config.model_dump(mode="json"),
    }


class Registration:
    """Registers until it succeeds, and deregisters at the end.

    Args:
        config: of the platform.
        instance: name of this instance of the xApp.
        http_port, rmr_port: where the xApp listens.
        describe: the descriptor, for JSON.

    Attributes:
        registered: whether the application manager has taken it.
        counts: attempts by what came of them.
    """

    def __init__(
        self, config: RicConfig, instance: str, http_port: int, rmr_port: int, describe: dict[str, Any]
    ) -> None:
        self._base = f"{config.appmgr}/ric/v1"
        self._client = httpx.Client(timeout=config.timeout_s)
        self._names = {"appName": config.app_name, "appInstanceName": instance}
        self._body = {
            **self._names,
            "appVersion": version("distila"),
            "httpEndpoint": f"{config.host}:{http_port}",
            "rmrEndpoint": f"{config.rmr_host}:{rmr_port}",
            "configPath": "/ric/v1/config",
            # Without it the application manager asks the xApp's own HTTP port, five times.
            "config": json.dumps(describe),
        }
        self._backoff = Backoff()
        self._worker = Worker("ric-registration", self._register)
        self.registered = False
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to try."""
        self._worker.start()

    def missing(self) -> str:
        """For `Health.check`."""
        return "" if self.registered else "not registered at the application manager"

    def stop(self, timeout_s: float) -> None:
        """Deregister, if it is registered."""
        self._worker.stop(timeout_s)
        if self.registered:
            # The status is what counts: an answer that says no is an answer too.
            self._post("deregister", self._names, timeout_s)
            self.registered = False
        self._client.close()

    def _register(self) -> float | None:
        if self.registered:
            return None
        if self._post("register", self._body):
            self.registered = True
            log.info("registered at the application manager as %s", self._names["appInstanceName"])
            return None
        return self._backoff.pause_s()

    def _post(self, what: str, body: dict[str, Any], timeout_s: float | None = None) -> bool:
        limit = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        try:
            status = self._client.post(f"{self._base}/{what}", json=body, timeout=limit).status_code
        except httpx.HTTPError as error:
            self.counts[f"{what}_unreachable"] += 1
            log.warning("application manager: %s: %s", what, one_line(error))
            return False
        accepted = status in _CREATED or (what == "deregister" and status == httpx.codes.NO_CONTENT)
        self.counts[f"{what}_accepted" if accepted else f"{what}_{status}"] += 1
        if not accepted:
            log.warning("application manager: %s answered %d", what, status)
        return accepted

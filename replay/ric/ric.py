"""A whole near-RT RIC on one machine: E2 termination with a node, the platform's managers, A1 and a real Redis.

with Ric(tmp) as ric:
    subprocess.Popen(["distila", "run", "--config", ric.write_config()], env=ric.environment())
"""

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from distila.replay.ric.a1_mediator import A1Mediator
from distila.replay.ric.e2term import E2Term
from distila.replay.ric.managers import AlarmManager, ApplicationManager, E2Manager, SubscriptionManager
from distila.replay.ric.redis_server import RedisServer
from distila.xapp.files import write_text, write_yaml

MEID: Final = "gnb_001_001_0001"
RAN_FUNCTION_ID: Final = 200
_LOOPBACK: Final = "127.0.0.1"


def rmr_environment(route_table: Path) -> dict[str, str]:
    """Environment that makes librmr read its routes from a file and stay on this machine."""
    return {
        "RMR_SEED_RT": str(route_table),
        "RMR_RTG_SVC": "-1",
        "RMR_ASYNC_CONN": "0",
        "RMR_BIND_IF": _LOOPBACK,
        "RMR_SRC_ID": _LOOPBACK,
        "RMR_LOG_VLEVEL": "1",
    }


def free_ports(count: int) -> list[int]:
    """TCP ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((_LOOPBACK, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def write_route_table(path: Path, xapp: int, e2term: int, a1: int, meid: str = MEID) -> Path:
    """Write the routes that the routing manager would send to all."""
    routes = [
        *(f"mse|{mtype}|-1|{_LOOPBACK}:{xapp}" for mtype in (100, 12041, 12042, 12050, 20010)),
        *(f"mse|{mtype}|-1|{_LOOPBACK}:{a1}" for mtype in (20011, 20012)),
        "mse|12040|-1|%meid",
    ]
    meids = ["meid_map|start", f"mme_ar|{_LOOPBACK}:{e2term}|{meid}", "meid_map|end|1"]
    write_text(path, "\n".join(["newrt|start", *routes, f"newrt|end|{len(routes)}", *meids, ""]))
    return path


class Ric:
    """See the module.

    Args:
        folder: for the route table and the xApp's configuration.
        rmr: with E2 termination and A1 over RMR, which needs librmr; False: the caller brings the E2 node.

    Raises:
        InputError: librmr or a Redis server is not installed.
    """

    def __init__(self, folder: Path, rmr: bool = True) -> None:
        self._folder = folder
        self.xapp_rmr_port, e2term_port, a1_port, redis_port, self.xapp_http_port = free_ports(5)
        self.redis = RedisServer(folder, redis_port)
        self._rmr_environment: dict[str, str] = {}
        self.e2term: E2Term | None = None
        self.a1: A1Mediator | None = None
        if rmr:
            table = write_route_table(folder / "routes.rt", self.xapp_rmr_port, e2term_port, a1_port)
            self._rmr_environment = rmr_environment(table)
            # librmr reads the environment of the process, and all stand-ins live in this one.
            os.environ.update(self._rmr_environment)
            self.e2term = E2Term(e2term_port, MEID, RAN_FUNCTION_ID)
            self.a1 = A1Mediator(a1_port)
        self.redis.start()
        self.submgr = SubscriptionManager(self._subscribe)
        self.e2mgr = E2Manager({MEID: RAN_FUNCTION_ID})
        self.appmgr = ApplicationManager()
        self.alarms = AlarmManager()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def config(self, **sections: object) -> dict[str, object]:
        """The xApp's configuration for this RIC; ``sections`` replaces or adds whole sections."""
        return {
            "instance_id": "distila-ric-0",
            "e2": {"transport": "rmr", "rmr": {"port": self.xapp_rmr_port}},
            "http": {"host": _LOOPBACK, "port": self.xapp_http_port},
            "watch_every_s": 0.1,
            "log_format": "json",
            "ric": {
                "host": _LOOPBACK,
                "appmgr": self.appmgr.url,
                "submgr": self.submgr.url,
                "e2mgr": self.e2mgr.url,
                "alarm_manager": self.alarms.url,
                "subscription": {"report_period_ms": 10, "silent_after_s": 2, "discover_every_s": 1},
            },
            **sections,
        }

    def write_config(self, **sections: object) -> Path:
        """Write `config` to a file."""
        path = self._folder / "distila.yaml"
        write_yaml(path, self.config(**sections))
        return path

    def environment(self) -> dict[str, str]:
        """The environment of an xApp in a process of its own."""
        sdl = {"DBAAS_SERVICE_HOST": _LOOPBACK, "DBAAS_SERVICE_PORT": str(self.redis.port)}
        return {**os.environ, **self._rmr_environment, **sdl}

    def stop(self) -> None:
        """Stop all parts."""
        for manager in (self.submgr, self.e2mgr, self.appmgr, self.alarms):
            manager.stop()
        if self.a1 is not None:
            self.a1.stop()
        if self.e2term is not None:
            self.e2term.end()
        self.redis.stop()

    def _subscribe(self, instance_id: int | None) -> None:
        if self.e2term is not None:
            self.e2term.subscribe(instance_id)

"""The parts beside the decision loop: HTTP server, metrics, and the clients of the RIC platform."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from distila.xapp.config import RunConfig
from distila.xapp.e2.rmr_transport import RmrTransport
from distila.xapp.e2.transport import Transport
from distila.xapp.loop import DecisionLoop
from distila.xapp.platform_config import HttpConfig, RicConfig
from distila.xapp.ric.a1 import A1, link_adaptation_policies
from distila.xapp.ric.alarms import Alarm, Alarms
from distila.xapp.ric.health import Health, health_router
from distila.xapp.ric.http import HttpServer
from distila.xapp.ric.metrics import XappCollector, metrics_router
from distila.xapp.ric.registration import Registration, descriptor
from distila.xapp.ric.reload import Reloader
from distila.xapp.ric.sdl import Sdl
from distila.xapp.ric.subscriptions import Subscriptions, subscriptions_router
from distila.xapp.ric.worker import Worker
from distila.xapp.stats import LoopSummary

_SUPERVISE_S: Final = 1.0
_UNSUBSCRIBE_S: Final = 1.5
_DEREGISTER_S: Final = 1.0
_FLUSH_S: Final = 0.5
_ALARM_OF: Final = {"configuration": Alarm.CONFIGURATION_REJECTED, "bundle": Alarm.POLICY_REJECTED}


class Platform:
    """See the module.

    Args:
        config: of the xApp.
        http: of its server.
        loop: the decision loop.
        transport: of E2; subscriptions and A1 need RMR.
        reloader: applies A1 policies, and reports rejected changes.
        stats: gives all counters by group.
        source: the xApp descriptor that the configuration came from, if it came from one.

    Attributes:
        health: the loop reports to it that it runs.
        registry: of the metrics; other parts add theirs.
        alarms: None without a platform.
        a1: None without RMR; other parts may add policy types of their own.
    """

    def __init__(
        self,
        config: RunConfig,
        http: HttpConfig,
        loop: DecisionLoop,
        transport: Transport,
        reloader: Reloader,
        stats: Callable[[], LoopSummary],
        source: Mapping[str, object] | None = None,
    ) -> None:
        self._config = config
        self._source = source
        self._reloader = reloader
        self._stopping = False
        self._started_s = time.monotonic()
        self.health = Health(http.alive_after_s)
        self.health.check(lambda: "stopping" if self._stopping else "")
        self.health.check(lambda: "" if transport.connected else "no connection to E2")
        self._states: dict[str, Callable[[], float]] = {"ready": lambda: float(not self.health.missing())}
        self._events: dict[str, Mapping[str, int]] = {"reload": reloader.counts}
        self.alarms: Alarms | None = None
        self._sdl: Sdl | None = None
        self._registration: Registration | None = None
        self._subscriptions: Subscriptions | None = None
        self.a1: A1 | None = None
        self._supervisor = Worker("ric-supervisor", self._supervise)
        rmr = transport if isinstance(transport, RmrTransport) else None
        self.registry = CollectorRegistry()
        self._http = HttpServer(http.host, http.port)
        self._http.serve(health_router(self.health, self.describe), metrics_router(self.registry))
        if config.ric is not None:
            self._join(config.ric, rmr)
        if rmr is not None:
            rmr.healthy = self.health.summary
        self.registry.register(
            XappCollector(
                loop.stats,
                stats,
                lambda: {
                    "name": loop.bundle.manifest.name,
                    "version": loop.bundle.manifest.version,
                    "digest": loop.bundle.digest,
                },
                {} if rmr is None else rmr.controls,
                self._states,
                self._events,
            )
        )

    @property
    def http_port(self) -> int:
        """Port of the HTTP server."""
        return self._http.port

    def serve(self, *routers: APIRouter) -> None:
        """Add routers of other parts; to be called before `start`."""
        self._http.serve(*routers)

    def describe(self) -> dict[str, object]:
        """The xApp descriptor, with the configuration in force as its ``controls``."""
        described = descriptor(self._config) if self._source is None else self._source
        return {**described, "controls": self._reloader.config.model_dump(mode="json")}

    def events(self) -> dict[str, dict[str, int]]:
        """Counters of the platform's clients, by part."""
        return {name: dict(sorted(dict(counts).items())) for name, counts in self._events.items() if counts}

    def start(self) -> None:
        """Start all parts; a slow or absent platform does not delay the decision loop."""
        self._started_s = time.monotonic()
        self._http.start()
        for part in (self._sdl, self._registration, self._subscriptions, self.a1, self.alarms):
            if part is not None:
                part.start()
        self._supervisor.start()

    def stop(self) -> None:
        """Unsubscribe, deregister, write pending values and stop the HTTP server, within a few seconds in any case."""
        self._stopping = True
        self._supervisor.stop(_FLUSH_S)
        if self.a1 is not None:
            self.a1.stop(_FLUSH_S)
        if self._subscriptions is not None:
            self._subscriptions.stop(_UNSUBSCRIBE_S)
        if self._registration is not None:
            self._registration.stop(_DEREGISTER_S)
        if self._sdl is not None:
            self._sdl.stop(_FLUSH_S)
        if self.alarms is not None:
            self.alarms.stop(_FLUSH_S)
        self._http.stop()

    def _join(self, ric: RicConfig, rmr: RmrTransport | None) -> None:
        instance, http_port = self._config.instance_id, self._http.port
        rmr_port = self._config.e2.rmr.port
        if ric.alarm_manager is not None:
            self.alarms = Alarms(ric.alarm_manager, ric.app_name, instance, ric.timeout_s)
            self._events["alarms"] = self.alarms.counts
            self._reloader.on_rejected = self._rejected
        if ric.appmgr is not None:
            self._registration = Registration(ric, instance, http_port, rmr_port, self.describe())
            self.health.check(self._registration.missing)
            self._events["registration"] = self._registration.counts
        if rmr is None:
            return
        if ric.submgr is not None:
            self._sdl = Sdl(ric.sdl_namespace, fake=ric.sdl == "fake")
            self._subscriptions = Subscriptions(ric, http_port, rmr_port, self._config.e2.cells, self._sdl)
            self._http.serve(subscriptions_router(self._subscriptions))
            rmr.subscribed = self._subscriptions.knows
            rmr.on_indication = self._subscriptions.indication_received
            self.health.check(self._subscriptions.missing)
            self._events |= {"sdl": self._sdl.counts, "subscription": self._subscriptions.counts}
            states = self._subscriptions.states
            self._states["subscriptions_active"] = lambda: states().get("active", 0)
        if ric.a1_policy_type is not None:
            self.a1 = A1(rmr.port, ric.app_name)
            self.a1.serve(ric.a1_policy_type, link_adaptation_policies(self._reloader))
            self._events["a1"] = self.a1.counts
            self._states["a1_policies"] = lambda: len(self._reloader.policies)

    def _rejected(self, what: str, why: str) -> None:
        if self.alarms is not None:
            if why:
                self.alarms.raise_(_ALARM_OF[what], what, why)
            else:
                self.alarms.clear(_ALARM_OF[what], what)

    def _supervise(self) -> float:
        """Raise and clear the alarm about telemetry."""
        if self.alarms is not None and self._subscriptions is not None and self._config.ric is not None:
            missing = self._subscriptions.missing()
            grace_s = self._config.ric.subscription.silent_after_s
            if not missing:
                self.alarms.clear(Alarm.NO_TELEMETRY, "e2")
            elif time.monotonic() - self._started_s > grace_s:
                self.alarms.raise_(Alarm.NO_TELEMETRY, "e2", missing)
        return _SUPERVISE_S

"""The running xApp: transport, inbox and decision loop put together, until it is told to stop."""

import gc
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distila.xapp.config import E2Config, RunConfig, read_descriptor
from distila.xapp.e2.codec import Identity
from distila.xapp.e2.edgeric import EdgeRic
from distila.xapp.e2.grpc_client import GrpcClient
from distila.xapp.e2.inbox import Inbox
from distila.xapp.e2.rmr import RmrPort
from distila.xapp.e2.rmr_transport import RmrTransport
from distila.xapp.e2.transport import Transport
from distila.xapp.errors import InputError
from distila.xapp.loop import DecisionLoop
from distila.xapp.policy.bundle import resolve_bundle
from distila.xapp.ric.config import HttpConfig
from distila.xapp.ric.steering import Steering, Watcher
from distila.xapp.rollout.controller import RolloutController
from distila.xapp.rollout.store import open_store

if TYPE_CHECKING:
    from distila.xapp.ric.platform import Platform

log = logging.getLogger(__name__)

_IDLE_S: Final = 0.2
_SWITCH_INTERVAL_S: Final = 0.0002
_LOGGED_ERRORS: Final = 10


def _grpc(e2: E2Config, identity: Identity, exit_on_end: bool) -> Transport:
    return GrpcClient(e2.endpoint, identity, e2.tls, e2.cells, exit_on_end)


def _rmr(e2: E2Config, identity: Identity, exit_on_end: bool) -> Transport:
    return RmrTransport(RmrPort(e2.rmr.port), e2.rmr, e2.cells)


def _edgeric(e2: E2Config, identity: Identity, exit_on_end: bool) -> Transport:
    return EdgeRic(e2.edgeric, exit_on_end)


TRANSPORTS: Final[dict[str, Callable[[E2Config, Identity, bool], Transport]]] = {
    "grpc": _grpc,
    "rmr": _rmr,
    "edgeric": _edgeric,
}
"""How each transport that the configuration can name is made."""


class Xapp:
    """One xApp.

    Args:
        config: settings.
        exit_on_end: end when the E2 node ends its stream in good order, as a replay does.
        config_file: where the settings were read from; None: from nowhere, and they do not change.
        load: reads them again, with what the command line put on top.

    Raises:
        InputError: the policy or the settings cannot be used.
    """

    def __init__(
        self,
        config: RunConfig,
        exit_on_end: bool = False,
        config_file: Path | None = None,
        load: Callable[[], RunConfig] | None = None,
    ) -> None:
        identity = Identity(app_instance_id=config.instance_id)
        self.loop = DecisionLoop(resolve_bundle(config.policy), config.loop, config.guard, identity)
        self._inbox = Inbox(config.loop.cell_capacity)
        make = TRANSPORTS.get(config.e2.transport)
        if make is None:
            raise InputError(f"e2.transport = {config.e2.transport!r}: this version has {', '.join(TRANSPORTS)}")
        self._transport = make(config.e2, identity, exit_on_end)
        steering = Steering(self.loop, config, None if config.ric is None else config.ric.policies)
        self._watcher = None
        if config.watch_every_s is not None:
            file = None if load is None else config_file
            self._watcher = Watcher(steering, config.watch_every_s, file, load or (lambda: config))
        self.platform = None if config.http is None else self._platform(config, config.http, steering, config_file)
        self.rollout: RolloutController | None = None
        if config.rollout is not None:
            self.rollout = RolloutController(self.loop, open_store(config.rollout.store), config.instance_id)
            if self.platform is not None:
                from distila.xapp.rollout.interfaces import attach

                attach(self.rollout, config.rollout, self.platform)

    def _platform(
        self, config: RunConfig, http: HttpConfig, steering: Steering, config_file: Path | None
    ) -> "Platform":
        try:
            from distila.xapp.ric.platform import Platform
        except ModuleNotFoundError as error:
            raise InputError(f"http and ric need the package {error.name!r}: pip install 'distila[ric]'") from None
        source = None if config_file is None else read_descriptor(config_file)
        return Platform(config, http, self.loop, self._transport, steering, self.stats, source)

    def run(self, stop: threading.Event) -> None:
        """Decide until ``stop`` is set or the E2 node is done; then unsubscribe and deregister.

        Raises:
            InputError: the E2 node refused the subscription for good, or a port cannot be had.
        """
        # The receive thread must get its turn while a decision is computed, or old indications pile up where the inbox
        # cannot replace them.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # What start-up made lives as long as the process: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        try:
            self._transport.start(self._inbox)
            if self.platform is not None:
                self.platform.start()
            if self._watcher is not None:
                self._watcher.start()
            if self.rollout is not None:
                self.rollout.start()
            while not stop.is_set() and not self._inbox.closed:
                self._turn(_IDLE_S)
            # What had come in by now is still decided on.
            self._inbox.close()
            while not self._inbox.closed:
                self._turn(0)
        finally:
            if self._watcher is not None:
                self._watcher.stop(_IDLE_S)
            if self.platform is not None:
                self.platform.stop()
            self._transport.close()
            if self.rollout is not None:
                self.rollout.close()
        if self._transport.failure is not None:
            raise InputError(self._transport.failure)

    def _turn(self, wait_s: float) -> None:
        """Decide on one indication, if one comes in time."""
        if self.platform is not None:
            self.platform.health.moved()
        received = self._inbox.take(wait_s)
        if received is None:
            return
        try:
            control = self.loop.step(received.header, received.message, received.received_ns)
            if control is not None:
                self._transport.send(*control)
        except Exception:
            # A fault in one indication must not end the service of all the others.
            self.loop.stats.dropped["internal_error"] += 1
            # The same fault in every indication must not fill the disk either.
            if self.loop.stats.dropped["internal_error"] <= _LOGGED_ERRORS:
                log.exception("indication dropped: internal error")

    def stats(self) -> dict[str, Any]:
        """Counters of loop, inbox and transport together; from any thread."""
        stats = self.loop.stats.as_dict()
        stats["dropped"] = _sum(self.loop.stats.dropped, self._inbox.dropped)
        stats["outcomes"] = _sum(self._transport.outcomes)
        stats["lost"] = _sum(self._transport.lost)
        if self.platform is not None:
            stats["platform"] = self.platform.events()
        if self.rollout is not None:
            stats["rollout"] = self.rollout.status().model_dump(mode="json", exclude_unset=True)
        return stats


def _sum(*counters: Mapping[str, int]) -> dict[str, int]:
    """Counters added up. Copied first: another thread may be counting."""
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(dict(counter))
    return dict(sorted(total.items()))

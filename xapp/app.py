"""The running xApp: transport, inbox, decision loop and platform, from start to stop."""

import gc
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import Field

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
from distila.xapp.platform_config import HttpConfig
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.ric.reload import ConfigWatcher, Reloader
from distila.xapp.rollout.controller import RolloutController, RolloutStatus
from distila.xapp.rollout.open_store import open_store
from distila.xapp.stats import LoopSummary, summed

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
"""The factory of each transport that the configuration can name."""


class XappSummary(LoopSummary):
    """Counters and latencies of an xApp at one time."""

    platform: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="events of the platform's clients and of reloads, by part and result"
    )
    rollout: RolloutStatus | None = Field(default=None, description="status of the A/B rollout; null: not configured")


class Xapp:
    """One xApp.

    Args:
        config: settings.
        exit_on_end: end when the E2 node closes its stream without an error, as a replay does.
        config_file: file that the settings were read from and that is checked for changes; None: no file.
        load: reads the settings again, with the options of the command line applied.

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
        self.loop = DecisionLoop(load_bundle(config.policy), config.loop, config.guard, identity)
        self._inbox = Inbox(config.loop.cell_capacity)
        self._transport = TRANSPORTS[config.e2.transport](config.e2, identity, exit_on_end)
        reloader = Reloader(self.loop, config, None if config.ric is None else config.ric.policies)
        self._watcher = None
        if config.watch_every_s is not None:
            file = None if load is None else config_file
            self._watcher = ConfigWatcher(reloader, config.watch_every_s, file, load or (lambda: config))
        self.platform = None if config.http is None else self._platform(config, config.http, reloader, config_file)
        self.rollout: RolloutController | None = None
        if config.rollout is not None:
            self.rollout = RolloutController(self.loop, open_store(config.rollout.store), config.instance_id)
            if self.platform is not None:
                from distila.xapp.rollout.interfaces import attach

                attach(self.rollout, config.rollout, self.platform)

    def _platform(
        self, config: RunConfig, http: HttpConfig, reloader: Reloader, config_file: Path | None
    ) -> "Platform":
        try:
            from distila.xapp.ric.platform import Platform
        except ModuleNotFoundError as error:
            raise InputError(f"http and ric need the package {error.name!r}: pip install 'distila[ric]'") from None
        source = None if config_file is None else read_descriptor(config_file)
        return Platform(config, http, self.loop, self._transport, reloader, self.stats, source)

    def run(self, stop: threading.Event) -> None:
        """Decide until ``stop`` is set or the E2 node ends its stream; then unsubscribe and deregister.

        Raises:
            InputError: the E2 node rejected the subscription for good, or a port is not available.
        """
        # The receive thread must run while a decision is computed, or old indications queue up in the transport, where
        # the inbox cannot replace them.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # Objects made at start-up live as long as the process, so the garbage collector need not visit them again.
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
                self._decide_next(_IDLE_S)
            # Indications received by now are still decided on.
            self._inbox.close()
            while not self._inbox.closed:
                self._decide_next(0)
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

    def _decide_next(self, wait_s: float) -> None:
        """Decide on one indication, if one is received within the time."""
        if self.platform is not None:
            self.platform.health.loop_ran()
        received = self._inbox.take(wait_s)
        if received is None:
            return
        try:
            control = self.loop.step_decoded(received.header, received.message, received.received_ns)
            if control is not None:
                self._transport.send(*control)
        except Exception:
            # A fault in one indication must not stop the decisions on all the others.
            self.loop.stats.dropped["internal_error"] += 1
            # A fault that repeats with every indication must not fill the disk with log lines.
            if self.loop.stats.dropped["internal_error"] <= _LOGGED_ERRORS:
                log.exception("indication dropped: internal error")

    def stats(self) -> XappSummary:
        """Counters of loop, inbox, transport, platform and rollout; may be called from any thread."""
        loop = self.loop.stats
        parts: dict[str, object] = {}
        if self.platform is not None:
            parts["platform"] = self.platform.events()
        if self.rollout is not None:
            parts["rollout"] = self.rollout.status()
        return XappSummary.model_validate(
            {
                **loop.summary().model_dump(),
                "dropped": summed(loop.dropped, self._inbox.dropped),
                "outcomes": summed(self._transport.outcomes),
                "lost": summed(self._transport.lost),
                **parts,
            }
        )

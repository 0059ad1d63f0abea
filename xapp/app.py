"""The running xApp: transport, inbox and decision loop put together, until it is told to stop."""

import gc
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from xapp.config import E2Config, RunConfig
from xapp.e2.codec import Identity
from xapp.e2.grpc_client import GrpcClient
from xapp.e2.inbox import Inbox
from xapp.e2.transport import Transport
from xapp.errors import InputError
from xapp.loop import DecisionLoop
from xapp.policy.bundle import resolve_bundle
from xapp.rollout.controller import RolloutController
from xapp.rollout.store import open_store

log = logging.getLogger(__name__)

_IDLE_S: Final = 0.2
_SWITCH_INTERVAL_S: Final = 0.0002
_LOGGED_ERRORS: Final = 10


def _grpc(e2: E2Config, identity: Identity, exit_on_end: bool) -> Transport:
    return GrpcClient(e2.endpoint, identity, e2.tls, e2.cells, exit_on_end)


TRANSPORTS: Final[dict[str, Callable[[E2Config, Identity, bool], Transport]]] = {"grpc": _grpc}
"""How each transport that the configuration can name is made. RMR will stand beside gRPC."""


class Xapp:
    """One xApp.

    Args:
        config: settings.
        exit_on_end: end when the E2 node ends its stream in good order, as a replay does.

    Raises:
        InputError: the policy or the settings cannot be used.
    """

    def __init__(self, config: RunConfig, exit_on_end: bool = False) -> None:
        identity = Identity(app_instance_id=config.instance_id)
        self.loop = DecisionLoop(resolve_bundle(config.policy), config.loop, config.guard, identity)
        self._inbox = Inbox(config.loop.cell_capacity)
        self._transport = TRANSPORTS[config.e2.transport](config.e2, identity, exit_on_end)
        self.rollout: RolloutController | None = None
        if config.rollout is not None:
            self.rollout = RolloutController(self.loop, open_store(config.rollout.store), config.instance_id)

    def run(self, stop: threading.Event) -> None:
        """Decide until ``stop`` is set or the E2 node is done.

        Raises:
            InputError: the E2 node refused the subscription for good.
        """
        # The receive thread must get its turn while a decision is computed, or old indications pile up where the inbox
        # cannot replace them.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        # What start-up made lives as long as the process: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        self._transport.start(self._inbox)
        if self.rollout is not None:
            self.rollout.start()
        try:
            while not stop.is_set() and not self._inbox.closed:
                received = self._inbox.take(_IDLE_S)
                if received is None:
                    continue
                try:
                    control = self.loop.step(received.header, received.message, received.received_ns)
                except Exception:
                    # A fault in one indication must not end the service of all the others.
                    self.loop.stats.dropped["internal_error"] += 1
                    # The same fault in every indication must not fill the disk either.
                    if self.loop.stats.dropped["internal_error"] <= _LOGGED_ERRORS:
                        log.exception("indication dropped: internal error")
                    continue
                if control is not None:
                    self._transport.send(*control)
        finally:
            self._transport.close()
            if self.rollout is not None:
                self.rollout.close()
        if self._transport.failure is not None:
            raise InputError(self._transport.failure)

    def stats(self) -> dict[str, Any]:
        """Counters of loop, inbox and transport together."""
        stats = self.loop.stats.as_dict()
        stats["dropped"] = dict(sorted((self.loop.stats.dropped + self._inbox.dropped).items()))
        stats["outcomes"] = dict(sorted(self._transport.outcomes.items()))
        stats["lost"] = dict(sorted(self._transport.lost.items()))
        if self.rollout is not None:
            stats["rollout"] = self.rollout.status()
        return stats

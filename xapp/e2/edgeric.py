"""The EdgeRIC transport: an srsRAN gNB publishes telemetry in every TTI and takes MCS overrides, over ZeroMQ.

In both directions only the newest message is kept (CONFLATE), so nothing is queued. Telemetry is converted to an
indication in distila's own service model, so inbox, loop, guard and statistics are the same as for every other
transport; docs/edgeric.md says what that costs.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from distila.xapp.e2.codec import Identity, Rejected, decode_control, encode_indication
from distila.xapp.e2.edgeric_config import EdgeRicConfig
from distila.xapp.e2.edgeric_telemetry import Telemetry
from distila.xapp.e2.inbox import Inbox
from distila.xapp.errors import InputError

if TYPE_CHECKING:
    import zmq

log = logging.getLogger(__name__)

_WAIT_MS: Final = 100
_CLOSE_S: Final = 1.0
_LOGGED_ERRORS: Final = 10


class EdgeRic:
    """See `distila.xapp.e2.transport.Transport`.

    Args:
        config: settings.
        exit_on_end: close the inbox when the telemetry stops after it had started.
    """

    def __init__(self, config: EdgeRicConfig, exit_on_end: bool = False) -> None:
        self._config = config
        self._exit_on_end = exit_on_end
        self._telemetry = Telemetry(config)
        self._identity = Identity(app_id="edgeric", e2_node_id=config.cell_id)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._publisher: zmq.Socket[bytes] | None = None
        self._last_received_s: float | None = None
        self.outcomes = self._telemetry.outcomes
        self.lost = self._telemetry.lost
        self.failure: str | None = None

    @property
    def connected(self) -> bool:
        """See `Transport`: telemetry was received recently."""
        last_received_s = self._last_received_s
        return last_received_s is not None and time.monotonic() - last_received_s < self._config.silent_after_s

    def start(self, inbox: Inbox) -> None:
        """See `Transport.start`."""
        try:
            import zmq
        except ImportError:
            raise InputError("e2.transport = 'edgeric' needs pyzmq: pip install 'distila[edgeric]'") from None
        context = self._context = zmq.Context()
        subscriber, publisher = context.socket(zmq.SUB), context.socket(zmq.PUB)
        for socket in (subscriber, publisher):
            socket.setsockopt(zmq.CONFLATE, 1)
            socket.setsockopt(zmq.LINGER, 0)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        address = ("metrics", self._config.metrics)
        try:
            subscriber.connect(self._config.metrics)
            address = ("control", self._config.control)
            publisher.bind(self._config.control)
        except zmq.ZMQError as error:
            for socket in (subscriber, publisher):
                socket.close()
            context.destroy(linger=0)
            raise InputError(f"e2.edgeric.{address[0]} = {address[1]!r}: {error.strerror}") from None
        self._publisher = publisher
        self._thread = threading.Thread(target=self._run, args=(subscriber, inbox), name="edgeric-receive", daemon=True)
        self._thread.start()

    def send(self, header: bytes, message: bytes) -> None:
        """See `Transport.send`."""
        control = self._telemetry.control(decode_control(header, message))
        if control is not None and self._publisher is not None:
            self._publisher.send(control)

    def close(self) -> None:
        """See `Transport.close`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        if self._publisher is not None and self._context is not None:
            self._publisher.close()
            self._context.destroy(linger=0)

    def _run(self, subscriber: "zmq.Socket[bytes]", inbox: Inbox) -> None:
        try:
            while not self._stop.is_set():
                if subscriber.poll(_WAIT_MS):
                    self._receive(subscriber.recv(), inbox)
                elif self._last_received_s is not None and not self.connected:
                    self._last_received_s = None
                    self.lost["telemetry_silent"] += 1
                    log.warning("no telemetry from %s for %g s", self._config.metrics, self._config.silent_after_s)
                    if self._exit_on_end:
                        return
        finally:
            subscriber.close()
            inbox.close()

    def _receive(self, data: bytes, inbox: Inbox) -> None:
        received_ns = time.perf_counter_ns()
        if self._last_received_s is None:
            log.info("telemetry from %s", self._config.metrics)
        self._last_received_s = time.monotonic()
        try:
            inbox.put(*encode_indication(self._telemetry.report(data), self._identity), received_ns)
        except Rejected as rejection:
            self.lost[rejection.reason] += 1
            log.debug("telemetry rejected: %s", rejection)
        except Exception:
            # A fault in one TTI must not stop the decisions on later ones, nor fill the disk with log lines.
            self.lost["internal_error"] += 1
            if self.lost["internal_error"] <= _LOGGED_ERRORS:
                log.exception("telemetry dropped: internal error")

"""The gRPC transport: the xApp subscribes at an E2 node's `E2Service` and streams its control messages back.

A lost connection is re-established after pauses of growing length. If ``exit_on_end`` is set, a stream that the node
closes without an error, as a replay does, ends the transport.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import grpc

from distila.schemas import e2_service_v1_pb2 as service_pb
from distila.schemas.e2_service_v1_pb2_grpc import E2ServiceStub
from distila.xapp.e2.codec import MAX_MESSAGE_BYTES, Identity, count_outcome
from distila.xapp.e2.inbox import Inbox
from distila.xapp.e2.tls import TlsConfig

log = logging.getLogger(__name__)

_QUEUED_CONTROLS: Final = 1024
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_FLUSH_S: Final = 1.0
_CHANNEL_OPTIONS: Final = [
    # Oversized messages get as far as the codec, which counts them; only absurd ones break the stream.
    ("grpc.max_receive_message_length", 64 * MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", int(1000 * _FIRST_PAUSE_S)),
    ("grpc.max_reconnect_backoff_ms", int(1000 * _LONGEST_PAUSE_S)),
    ("grpc.keepalive_time_ms", 10_000),
]
# Statuses that a retry will not change.
_FINAL: Final = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
)

Controls = queue.SimpleQueue[service_pb.ControlRequest | None]


class GrpcClient:
    """See `distila.xapp.e2.transport.Transport`.

    Args:
        endpoint: ``host:port`` of the E2 node.
        identity: who subscribes.
        tls: None for plain text.
        cells: subscribe to these only; empty: all.
        exit_on_end: close the inbox when the node ends the stream, instead of subscribing again.
    """

    def __init__(
        self,
        endpoint: str,
        identity: Identity,
        tls: TlsConfig | None = None,
        cells: list[str] | None = None,
        exit_on_end: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._identity = identity
        self._tls = tls
        self._cells = cells or []
        self._exit_on_end = exit_on_end
        self._stop = threading.Event()
        self._connected = threading.Event()
        self._restart = threading.Event()
        self._controls: Controls = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._call: grpc.Call | None = None
        self.outcomes: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.failure: str | None = None
        """Why the transport ended for good; None unless it did."""

    @property
    def connected(self) -> bool:
        """See `Transport`."""
        return self._connected.is_set()

    def start(self, inbox: Inbox) -> None:
        """See `Transport.start`."""
        if self._tls is None:
            channel = grpc.insecure_channel(self._endpoint, options=_CHANNEL_OPTIONS)
        else:
            channel = grpc.secure_channel(self._endpoint, self._tls.client_credentials(), options=_CHANNEL_OPTIONS)
        self._thread = threading.Thread(target=self._run, args=(channel, inbox), name="e2-receive", daemon=True)
        self._thread.start()

    def send(self, header: bytes, message: bytes) -> None:
        """See `Transport.send`."""
        if not self._connected.is_set():
            self.lost["control_not_sent"] += 1
            return
        if self._controls.qsize() >= _QUEUED_CONTROLS:
            self.lost["control_queue_full"] += 1
            return
        self._controls.put(service_pb.ControlRequest(header=header, message=message))

    def close(self) -> None:
        """See `Transport.close`."""
        deadline = time.monotonic() + _FLUSH_S
        while not self._controls.empty() and time.monotonic() < deadline:
            time.sleep(0.001)
        self._stop.set()
        if self._call is not None:
            self._call.cancel()
        if self._thread is not None:
            self._thread.join(_FLUSH_S)

    def _run(self, channel: grpc.Channel, inbox: Inbox) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._stop.is_set():
                before = time.monotonic()
                try:
                    self._session(E2ServiceStub(channel), inbox)
                    if self._exit_on_end:
                        return
                    self.lost["stream_ended"] += 1
                except grpc.RpcError as error:
                    if self._stop.is_set():
                        return
                    code, details = error.code(), error.details()
                    if self._restart.is_set():
                        self._restart.clear()
                    elif code in _FINAL:
                        self.failure = f"E2 node {self._endpoint} rejected the subscription: {code.name}: {details}"
                        log.error(self.failure)
                        return
                    else:
                        self.lost[f"connection_{code.name.lower()}"] += 1
                        log.warning(
                            "E2 node %s: %s: %s; retrying in %.1f s", self._endpoint, code.name, details, pause_s
                        )
                if time.monotonic() - before > _LONGEST_PAUSE_S:
                    pause_s = _FIRST_PAUSE_S
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            inbox.close()
            channel.close()

    def _session(self, stub: E2ServiceStub, inbox: Inbox) -> None:
        """One subscription with its control stream, until the node ends it or the connection is lost."""
        request = service_pb.SubscribeRequest(envelope=self._identity.envelope(), cell_ids=self._cells)
        indications = stub.Subscribe(request)
        self._call = indications
        if self._stop.is_set():
            # `close` came before there was a call that it could cancel.
            self._call.cancel()
        self._controls = queue.SimpleQueue()
        self._connected.set()
        responses = stub.Control(_until_none(self._controls))
        reader = threading.Thread(target=self._read_outcomes, args=(responses,), name="e2-outcomes", daemon=True)
        reader.start()
        try:
            for indication in indications:
                inbox.put(indication.header, indication.message, time.perf_counter_ns())
        finally:
            self._connected.clear()
            self._controls.put(None)
            reader.join(_FLUSH_S)
            responses.cancel()
            # Decisions for a lost connection are discarded.
            while not self._controls.empty():
                if self._controls.get_nowait() is not None:
                    self.lost["control_not_sent"] += 1

    def _read_outcomes(self, responses: Iterator[service_pb.ControlResponse]) -> None:
        try:
            for response in responses:
                count_outcome(response.outcome, self.outcomes, self.lost)
            self._control_ended("ended")
        except grpc.RpcError as error:
            # If the connection is lost the subscription ends too, and its handling reconnects.
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                self._control_ended(error.code().name.lower())

    def _control_ended(self, how: str) -> None:
        """Subscribe again if the node still sends indications: without the control stream decisions cannot reach it."""
        if self._connected.is_set() and not self._stop.is_set() and self._call is not None:
            self.lost[f"control_stream_{how}"] += 1
            log.warning("E2 node %s: the control stream ended (%s); subscribing again", self._endpoint, how)
            self._restart.set()
            self._call.cancel()


def _until_none(controls: Controls) -> Iterator[service_pb.ControlRequest]:
    while (control := controls.get()) is not None:
        yield control

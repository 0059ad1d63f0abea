"""The RMR endpoint of the xApp: one receive thread, handlers by message type, and `send` by the route table.

    port = RmrPort(4560)
    port.handle(HEALTH_CHECK_REQ, lambda message: (HEALTH_CHECK_RESP, b"OK\\n"))
    port.start()
    port.send(CONTROL_REQ, pdu, sub_id=7, meid="gnb_001_001_0001")

It uses `ricxappframe.rmr.rmr` without the SDK's receive loop, whose queue has no bound and whose thread ends with a
handler's first exception. Handlers here run on the receive thread and must be quick. If one raises, that is logged and
counted, and the next message is handled.
"""

import ctypes
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from distila.xapp.errors import InputError

log = logging.getLogger(__name__)

HEALTH_CHECK_REQ: Final = 100
HEALTH_CHECK_RESP: Final = 101
CONTROL_REQ: Final = 12040
CONTROL_ACK: Final = 12041
CONTROL_FAILURE: Final = 12042
INDICATION: Final = 12050
A1_POLICY_REQ: Final = 20010
A1_POLICY_RESP: Final = 20011
A1_POLICY_QUERY: Final = 20012
"""Message types (RIC_message_types.h of librmr)."""

_OK: Final = 0
_TIMEOUT: Final = 12
_RETRY: Final = 10
_STATES: Final = {
    1: "bad_argument",
    2: "no_route",
    3: "empty",
    4: "no_header",
    5: "send_failed",
    9: "overflow",
    10: "busy",
    15: "no_buffer",
}
"""States of a message that was not sent (rmr.h), as names of counters."""

_MTCALL: Final = 2
_MAX_MEID: Final = 31  # and the nul
_WAIT_MS: Final = 100
_SEND_TRIES: Final = 20
_CLOSE_S: Final = 1.0
_LOGGED_ERRORS: Final = 10
_INSTALL: Final = (
    "RMR needs librmr_si.so (package rmr of the O-RAN SC, 4.9.4) on the loader's path (LD_LIBRARY_PATH), and"
    " `pip install --no-deps ricxappframe==3.2.2`"
)


@dataclass(frozen=True, slots=True)
class RmrMessage:
    """A received message, and its time of arrival (monotonic clock [ns])."""

    mtype: int
    payload: bytes
    sub_id: int
    meid: str
    received_ns: int


Handler = Callable[[RmrMessage], tuple[int, bytes] | None]
"""A function of a message. It returns message type and payload of the answer to the sender, or None for no answer."""


class _RxCounts(ctypes.Structure):
    _fields_ = (("drop", ctypes.c_uint64), ("enqueue", ctypes.c_uint64))


class RmrPort:
    """The RMR endpoint; see the module's docstring.

    Args:
        port: port to listen on, on all addresses or the one in RMR_BIND_IF.

    Attributes:
        unhandled: messages that no handler took, or whose handler failed, by reason.
        unsent: messages that could not be sent, by reason.

    Raises:
        InputError: librmr or ricxappframe is not installed; the line says how.
    """

    def __init__(self, port: int) -> None:
        self._rmr = _load()
        self._port = port
        self._context: int | None = None
        self._handlers: dict[int, Handler] = {}
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._meid = ctypes.create_string_buffer(_MAX_MEID + 1)
        self.unhandled: Counter[str] = Counter()
        self.unsent: Counter[str] = Counter()

    def handle(self, mtype: int, handler: Handler) -> None:
        """Register the handler of a message type; it runs on the receive thread, so it must be quick."""
        self._handlers[mtype] = handler

    def start(self) -> None:
        """Open the port and start to receive.

        Raises:
            InputError: the port cannot be opened.
        """
        self._rmr.rmr_set_vlevel(1)
        try:
            # Today librmr behaves the same without RMRFL_MTCALL; with it, receive needs a buffer (below).
            self._context = self._rmr.rmr_init(str(self._port).encode(), self._rmr.RMR_MAX_RCV_BYTES, _MTCALL)
        except Exception:  # InitFailed has no message
            raise InputError(
                f"RMR cannot listen on port {self._port}: it, or the port that RMR_RTG_SVC names, is in use"
            ) from None
        self._thread = threading.Thread(target=self._receive, name="rmr-receive", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether there is a route table, without which nothing can be sent."""
        return self._context is not None and bool(self._rmr.rmr_ready(self._context))

    def send(self, mtype: int, payload: bytes, sub_id: int = -1, meid: str = "") -> bool:
        """Send a message by the route table. If that fails, it is counted in ``unsent`` and the result is False.

        It never waits: where the socket stays full the message is dropped (``busy``).
        """
        if self._context is None or self._stop.is_set():
            self.unsent["not_open"] += 1
            return False
        name = meid.encode()
        if len(name) > _MAX_MEID:
            self.unsent["meid_too_long"] += 1
            return False
        buffer = self._rmr.rmr_alloc_msg(self._context, max(1, len(payload)))
        # The SDK's own arguments skip a sub_id of 0 and look up a constant in JSON for the meid.
        content = buffer.contents
        content.mtype, content.sub_id, content.len = mtype, sub_id, len(payload)
        ctypes.memmove(content.payload, payload, len(payload))
        if name:
            self._rmr.rmr_c_lib.rmr_bytes2meid(buffer, name, len(name))
        with self._sending:
            buffer = self._rmr.rmr_send_msg(self._context, buffer)
            tries = 1
            while buffer.contents.state == _RETRY and tries < _SEND_TRIES:
                buffer = self._rmr.rmr_send_msg(self._context, buffer)
                tries += 1
        return self._sent(buffer)

    def queue_drops(self) -> int:
        """Messages that librmr dropped because its own receive queue (4096 messages) was full."""
        if self._context is None:
            return 0
        counts = _RxCounts()
        self._rmr.rmr_c_lib.rmr_get_rx_debug_info(ctypes.c_void_p(self._context), ctypes.byref(counts))
        return int(counts.drop)

    def close(self) -> None:
        """Stop receiving and sending. librmr keeps the port until the process ends."""
        self._stop.set()
        if self._thread is not None:
            # librmr waits by the wall clock, so it may take longer if that is set back; the thread is then abandoned.
            self._thread.join(_CLOSE_S)
            if not self._thread.is_alive() and self._context is not None:
                self._rmr.rmr_close(self._context)

    def _sent(self, buffer: Any) -> bool:
        state = buffer.contents.state
        self._rmr.rmr_free_msg(buffer)
        if state == _OK:
            return True
        self.unsent[_STATES.get(state, f"state_{state}")] += 1
        return False

    def _receive(self) -> None:
        rmr, context = self._rmr, self._context
        get_meid = rmr.rmr_c_lib.rmr_get_meid
        buffer = rmr.rmr_alloc_msg(context, 4096)
        while not self._stop.is_set():
            # Without a buffer it would return NULL on a timeout.
            buffer = rmr.rmr_torcv_msg(context, buffer, _WAIT_MS)
            received_ns = time.perf_counter_ns()
            content = buffer.contents
            if content.state != _OK:
                if content.state != _TIMEOUT:
                    self.unhandled[f"rmr_{_STATES.get(content.state, f'state_{content.state}')}"] += 1
                continue
            get_meid(buffer, self._meid)
            message = RmrMessage(
                content.mtype,
                ctypes.string_at(content.payload, content.len),
                content.sub_id,
                self._meid.value.decode(errors="replace"),
                received_ns,
            )
            handler = self._handlers.get(message.mtype)
            if handler is None:
                self.unhandled["unknown_message_type"] += 1
                continue
            try:
                answer = handler(message)
            except Exception:
                self.unhandled["handler_failed"] += 1
                if self.unhandled["handler_failed"] <= _LOGGED_ERRORS:
                    log.exception("RMR message of type %d dropped: internal error", message.mtype)
                continue
            if answer is not None:
                buffer = self._answer(buffer, *answer)
        rmr.rmr_free_msg(buffer)

    def _answer(self, buffer: Any, mtype: int, payload: bytes) -> Any:
        """Return the message to its sender with another type and payload; returns the buffer to use from then on."""
        # A payload larger than the buffer needs a new buffer, which must be used from here on.
        if self._rmr.rmr_payload_size(buffer) < len(payload):
            buffer = self._rmr.rmr_realloc_payload(buffer, len(payload), False, False)
        content = buffer.contents
        content.mtype, content.len = mtype, len(payload)
        ctypes.memmove(content.payload, payload, len(payload))
        with self._sending:
            buffer = self._rmr.rmr_rts_msg(self._context, buffer)
        if buffer.contents.state != _OK:
            self.unsent[_STATES.get(buffer.contents.state, f"state_{buffer.contents.state}")] += 1
        return buffer


def _load() -> Any:
    try:
        from ricxappframe.rmr import rmr
    except (ImportError, OSError):  # a missing librmr is an OSError
        raise InputError(_INSTALL) from None
    return rmr

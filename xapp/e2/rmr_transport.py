"""The RMR transport: receives E2AP indications from the E2 termination, sends control requests, matches their answers.

A control request goes to the E2 node that reported the cell (``meid``) with the instance id of the subscription, by
which the platform routes both request and answer. Answers are matched by instance and call process id; one that does
not arrive within ``ack_timeout_s`` is counted.
"""

import logging
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2 import e2ap, rmr
from distila.xapp.e2.codec import Rejected, count_outcome, decode_indication_header
from distila.xapp.e2.e2ap import ControlAnswer, ControlRequest, RicRequest
from distila.xapp.e2.inbox import Inbox
from distila.xapp.e2.rmr import RmrMessage, RmrPort
from distila.xapp.e2.rmr_config import RmrConfig

log = logging.getLogger(__name__)

_MAX_CELLS: Final = 4096
_MAX_OPEN: Final = 8192
_CALL_PROCESS_IDS: Final = 2**32


@dataclass(frozen=True, slots=True)
class _Origin:
    """The source of a cell's indications, to which its control requests are sent."""

    meid: str
    request: RicRequest


@dataclass(frozen=True, slots=True)
class _Open:
    """A control request that waits for its answer."""

    sent_s: float
    message: bytes


class RmrTransport:
    """See `distila.xapp.e2.transport.Transport`.

    Args:
        port: the RMR endpoint; other modules may register handlers of other messages.
        config: settings.
        cells: accept indications of these cells only; empty: of all.

    Attributes:
        subscribed: called with meid and instance id; returns whether an indication belongs to one of our subscriptions.
        on_indication: called with the meid for each indication of our subscriptions, on the receive thread.
        healthy: returns what is wrong, or an empty string; the answer to the platform's health check.
        controls: control requests ``sent``, and their outcomes: ``acknowledged``, ``failed``, ``timed_out``.
    """

    def __init__(self, port: RmrPort, config: RmrConfig, cells: list[str] | None = None) -> None:
        e2ap.load()
        self.port = port
        self._config = config
        self._cells = frozenset(cells or ())
        self._inbox = Inbox(0)
        self._origins: OrderedDict[str, _Origin] = OrderedDict()
        self._calls = 0
        self._open: OrderedDict[tuple[int, bytes | None], _Open] = OrderedDict()
        self._matching = threading.Lock()
        self.subscribed: Callable[[str, int], bool] = lambda meid, instance_id: True
        self.on_indication: Callable[[str], None] = lambda meid: None
        self.healthy: Callable[[], str] = lambda: ""
        self.outcomes: Counter[str] = Counter()
        self.controls: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self.failure: str | None = None
        port.handle(rmr.INDICATION, self._indication)
        port.handle(rmr.CONTROL_ACK, self._answer)
        port.handle(rmr.CONTROL_FAILURE, self._answer)
        port.handle(rmr.HEALTH_CHECK_REQ, self._health)

    @property
    def connected(self) -> bool:
        """Whether a route table was received."""
        return self.port.ready

    @property
    def lost(self) -> Counter[str]:
        """See `Transport`; includes messages that RMR itself could not send or receive."""
        self._expire()
        # Copied before the loop, because other threads go on counting.
        lost = Counter(dict(self._lost))
        lost.update(dict(self.port.unhandled))
        lost.update({f"rmr_{reason}": count for reason, count in dict(self.port.unsent).items()})
        lost.update(rmr_queue_full=self.port.queue_drops())
        return +lost

    def start(self, inbox: Inbox) -> None:
        """See `Transport.start`."""
        self._inbox = inbox
        self.port.start()

    def send(self, header: bytes, message: bytes) -> None:
        """See `Transport.send`."""
        self._expire()
        origin = self._origins.get(pb.ControlHeader.FromString(header).cell_id)
        if origin is None:
            self._lost["control_not_sent"] += 1
            return
        self._calls = (self._calls + 1) % _CALL_PROCESS_IDS
        call_process_id = self._calls.to_bytes(4, "big")
        request = ControlRequest(origin.request, call_process_id, header, message, self._config.acknowledge)
        pdu = e2ap.encode_control_request(request)
        key = (origin.request.instance_id, call_process_id)
        if self._config.acknowledge:
            # Before it is sent, because the answer may arrive before `send` returns.
            with self._matching:
                self._open[key] = _Open(time.monotonic(), message)
        if self.port.send(rmr.CONTROL_REQ, pdu, origin.request.instance_id, origin.meid):
            self.controls["sent"] += 1
        else:
            with self._matching:
                self._open.pop(key, None)

    def close(self) -> None:
        """See `Transport.close`."""
        self.port.close()
        self._inbox.close()

    def _indication(self, received: RmrMessage) -> None:
        try:
            indication = e2ap.decode_indication(received.payload)
            request = indication.request
            if not self.subscribed(received.meid, request.instance_id):
                raise Rejected("unknown_subscription", f"instance {request.instance_id} of {received.meid}")
            header = decode_indication_header(indication.header)
            cell_id = header.cell_id
            if self._cells and cell_id not in self._cells:
                raise Rejected("not_subscribed", f"cell {cell_id}")
        except Rejected as rejection:
            self._inbox.dropped[rejection.reason] += 1
            log.debug("indication from %s rejected: %s", received.meid, rejection)
            return
        origin = self._origins.get(cell_id)
        if origin is None or origin.meid != received.meid or origin.request != request:
            if origin is None and len(self._origins) >= _MAX_CELLS:
                self._origins.popitem(last=False)
            self._origins[cell_id] = _Origin(received.meid, request)
        self.on_indication(received.meid)
        self._inbox.put_decoded(header, indication.message, received.received_ns)

    def _answer(self, received: RmrMessage) -> None:
        try:
            answer = e2ap.decode_control_answer(received.payload)
        except Rejected as rejection:
            self._lost[f"answer_{rejection.reason}"] += 1
            return
        waiting = self._matched(answer)
        if waiting is None:
            self._lost["answer_unmatched"] += 1
            return
        self.controls["acknowledged" if answer.cause is None else "failed"] += 1
        if answer.outcome:
            count_outcome(answer.outcome, self.outcomes, self._lost)
            return
        # An answer without outcomes of single UEs holds for all of them.
        word = "accepted" if answer.cause is None else _word(answer.cause)
        try:
            self.outcomes[word] += len(pb.ControlMessage.FromString(waiting.message).ues)
        except DecodeError:
            self._lost["malformed_control"] += 1

    def _matched(self, answer: ControlAnswer) -> _Open | None:
        instance_id = answer.request.instance_id
        with self._matching:
            if answer.call_process_id is not None:
                return self._open.pop((instance_id, answer.call_process_id), None)
            # The node may omit the call process id; its answers are then assumed to arrive in order.
            oldest = next((key for key in self._open if key[0] == instance_id), None)
            return None if oldest is None else self._open.pop(oldest)

    def _expire(self) -> None:
        """Count answers that did not arrive in time."""
        horizon_s = time.monotonic() - self._config.ack_timeout_s
        with self._matching:
            while self._open:
                oldest = next(iter(self._open.values()))
                if oldest.sent_s > horizon_s and len(self._open) <= _MAX_OPEN:
                    return
                self._open.popitem(last=False)
                self.controls["timed_out"] += 1
                self._lost["control_not_acknowledged"] += 1

    def _health(self, received: RmrMessage) -> tuple[int, bytes]:
        wrong = self.healthy()
        return rmr.HEALTH_CHECK_RESP, f"ERROR {wrong}\n".encode() if wrong else b"OK\n"


def _word(cause: tuple[str, str]) -> str:
    """A cause of E2AP as the name of a counter: ``ric_request_control_failed_to_execute``."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", "_".join(cause)).replace("-", "_").lower()

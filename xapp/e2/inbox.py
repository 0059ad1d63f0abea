"""The queue between a transport and the decision loop: the newest indication of each cell; every drop is counted."""

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import Rejected, decode_indication_header


@dataclass(frozen=True, slots=True)
class Received:
    """One indication, its header decoded and its message not yet, and when it was received (monotonic clock [ns])."""

    header: pb.IndicationHeader
    message: bytes
    received_ns: int

    def is_older_than(self, other: "Received") -> bool:
        """Whether ``other`` of the same cell is newer; a restarted node starts its sequence again, at a later time."""
        mine, theirs = self.header, other.header
        return mine.sequence < theirs.sequence and mine.timestamp_us <= theirs.timestamp_us


class Inbox:
    """Hand-over from a transport's receive thread to the decision loop.

    A decision on an old report is worse than none, so a cell's waiting indication is replaced by a newer one
    (``superseded``). Cells are served in turn.

    Args:
        max_cells: indications of further cells are dropped (``too_many_cells``), so memory is bounded.
    """

    def __init__(self, max_cells: int = 1024) -> None:
        self._max_cells = max_cells
        self._waiting: OrderedDict[str, Received] = OrderedDict()
        self._condition = threading.Condition()
        self._closed = False
        self.dropped: Counter[str] = Counter()

    def put(self, header: bytes, message: bytes, received_ns: int) -> None:
        """Decode the header and store the indication; called by the receive thread, never blocks for long."""
        try:
            decoded = decode_indication_header(header)
        except Rejected as rejection:
            with self._condition:
                self.dropped[rejection.reason] += 1
            return
        self.put_decoded(decoded, message, received_ns)

    def put_decoded(self, header: pb.IndicationHeader, message: bytes, received_ns: int) -> None:
        """As `put`, for a transport that has decoded the header already."""
        received = Received(header, message, received_ns)
        with self._condition:
            if self._closed:
                self.dropped["stopping"] += 1
                return
            waiting = self._waiting.get(header.cell_id)
            if waiting is not None:
                self.dropped["superseded"] += 1
                if received.is_older_than(waiting):
                    return
            elif len(self._waiting) >= self._max_cells:
                self.dropped["too_many_cells"] += 1
                return
            self._waiting[header.cell_id] = received
            self._condition.notify()

    def take(self, timeout_s: float) -> Received | None:
        """The indication that has waited longest; None after the time-out, or if the inbox is closed and empty."""
        with self._condition:
            if not self._waiting and not self._closed:
                self._condition.wait(timeout_s)
            return self._waiting.popitem(last=False)[1] if self._waiting else None

    def close(self) -> None:
        """Accept no further indications (they count as ``stopping``) and wake a waiting `take`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called and every indication was taken."""
        with self._condition:
            return self._closed and not self._waiting

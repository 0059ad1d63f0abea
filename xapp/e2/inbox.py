"""Where indications wait for the decision loop: at most one per cell, the newest wins, nothing is dropped uncounted."""

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

from distila.xapp.e2.codec import Rejected, decode_indication_header


@dataclass(frozen=True, slots=True)
class Received:
    """One indication as it came, and when (monotonic clock [ns])."""

    header: bytes
    message: bytes
    received_ns: int
    sequence: int = 0
    timestamp_us: int = 0

    def is_older_than(self, other: "Received") -> bool:
        """Whether ``other`` of the same cell is newer; a restarted node counts anew, but at a later time."""
        return self.sequence < other.sequence and self.timestamp_us <= other.timestamp_us


class Inbox:
    """Hand-over from a transport's receive thread to the decision loop.

    A decision on an old report is worse than none, so a cell's waiting indication is replaced by a newer one
    (``superseded``). Cells are served in turn.

    Args:
        max_cells: more waiting cells than this are refused (``too_many_cells``), so memory is bounded.
    """

    def __init__(self, max_cells: int = 1024) -> None:
        self._max_cells = max_cells
        self._waiting: OrderedDict[str, Received] = OrderedDict()
        self._condition = threading.Condition()
        self._closed = False
        self.dropped: Counter[str] = Counter()

    def put(self, header: bytes, message: bytes, received_ns: int) -> None:
        """Store an indication; called by the receive thread, never blocks for long."""
        try:
            decoded = decode_indication_header(header)
        except Rejected as rejection:
            with self._condition:
                self.dropped[rejection.reason] += 1
            return
        received = Received(header, message, received_ns, decoded.sequence, decoded.timestamp_us)
        with self._condition:
            if self._closed:
                self.dropped["stopping"] += 1
                return
            waiting = self._waiting.get(decoded.cell_id)
            if waiting is not None:
                self.dropped["superseded"] += 1
                if received.is_older_than(waiting):
                    return
            elif len(self._waiting) >= self._max_cells:
                self.dropped["too_many_cells"] += 1
                return
            self._waiting[decoded.cell_id] = received
            self._condition.notify()

    def take(self, timeout_s: float) -> Received | None:
        """The indication that waits longest; None if there is none in time, or the inbox was closed and is empty."""
        with self._condition:
            if not self._waiting and not self._closed:
                self._condition.wait(timeout_s)
            return self._waiting.popitem(last=False)[1] if self._waiting else None

    def close(self) -> None:
        """Take no more (``stopping``); wakes a waiting `take`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called and everything was taken."""
        with self._condition:
            return self._closed and not self._waiting

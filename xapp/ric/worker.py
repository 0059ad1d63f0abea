"""A thread that repeats a step and survives its exceptions."""

import logging
import threading
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

_AFTER_FAULT_S: Final = 1.0


class Worker:
    """Calls ``step`` until it is stopped.

    Args:
        name: of the thread.
        step: does the pending work, and returns the seconds until the next call; None: until `wake`.

    Attributes:
        faults: how often ``step`` raised an exception.
    """

    def __init__(self, name: str, step: Callable[[], float | None]) -> None:
        self._step = step
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.faults = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Call ``step`` now."""
        self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """End after the present step; returns whether it ended in time."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            try:
                pause_s = self._step()
            except Exception:
                self.faults += 1
                log.exception("%s: internal error", self._thread.name)
                pause_s = _AFTER_FAULT_S
            self._wake.wait(pause_s)
            self._wake.clear()


class Backoff:
    """Growing pauses between attempts.

    Args:
        first_s: the first pause [s].
        longest_s: the longest pause [s].
    """

    def __init__(self, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._next_s = self._first_s

    def pause_s(self) -> float:
        """The next pause [s], twice the one before up to the longest."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._longest_s)
        return pause_s

"""The platform's shared data layer: a few small values that must survive a restart of the xApp.

Values are kept in memory and written by a thread of its own, so that an unreachable Redis delays no caller; a failed
write is repeated until it succeeds.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from distila.xapp.errors import InputError, one_line
from distila.xapp.ric.worker import Backoff, Worker

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 5.0
_READ_S: Final = 2.0


class Sdl:
    """Key-value store in one namespace of the SDL.

    Args:
        namespace: the SDL's; Redis keys are ``{namespace},key``.
        fake: keep everything in this process, for tests and for running without Redis.

    Attributes:
        counts: ``read``, ``written``, ``failed`` operations.

    Raises:
        InputError: ricsdl is not installed.
    """

    def __init__(self, namespace: str, fake: bool) -> None:
        try:
            from ricsdl.syncstorage import SyncStorage
        except ImportError:
            raise InputError("SDL needs the package 'ricsdl': pip install --no-deps ricsdl==3.1.3") from None
        self._make_storage = SyncStorage
        self._storage: Any = None
        self._backend = {"fake_db_backend": "dict"} if fake else {}
        self._namespace = namespace
        self._due: dict[str, bytes | None] = {}
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._backoff = Backoff(0.2, _LONGEST_PAUSE_S)
        self._worker = Worker("ric-sdl", self._flush)
        self.counts: Counter[str] = Counter()
        self.available = True
        """Whether the latest operation succeeded."""

    def start(self) -> None:
        """Start to write."""
        self._worker.start()

    def get(self, keys: list[str]) -> dict[str, bytes]:
        """The values of those keys that exist; empty if the SDL cannot be reached now (counted)."""
        if not keys:
            return {}
        found: dict[str, bytes] = {}

        def read() -> None:
            try:
                found.update(self._open().get(self._namespace, set(keys)))
            except Exception as error:
                self._failed(error)
            else:
                self._succeeded("read")

        if not _in_time(read, _READ_S):
            self._failed(TimeoutError(f"no answer within {_READ_S:.0f} s"))
            return {}
        return found

    def set(self, key: str, value: bytes) -> None:
        """Write a value, soon."""
        self._later(key, value)

    def delete(self, key: str) -> None:
        """Delete a value, soon."""
        self._later(key, None)

    def stop(self, timeout_s: float) -> int:
        """Write the pending values as far as the time allows; returns how many are left unwritten."""
        if self._worker.stop(timeout_s) and self._due:
            _in_time(self._flush, timeout_s)
        return len(self._due)

    def _later(self, key: str, value: bytes | None) -> None:
        with self._lock:
            self._due[key] = value
        self._worker.wake()

    def _flush(self) -> float | None:
        with self._lock:
            due = dict(self._due)
        if not due:
            return None
        written = {key: value for key, value in due.items() if value is not None}
        removed = {key for key, value in due.items() if value is None}
        try:
            if written:
                self._open().set(self._namespace, written)
            if removed:
                self._open().remove(self._namespace, removed)
        except Exception as error:
            self._failed(error)
            return self._backoff.pause_s()
        self._succeeded("written")
        with self._lock:
            for key, value in due.items():
                if key in self._due and self._due[key] == value:
                    del self._due[key]
        return 0 if self._due else None

    def _open(self) -> Any:
        # One for all threads: the fake keeps its values in itself.
        with self._opening:
            if self._storage is None:
                self._storage = self._make_storage(**self._backend)
            return self._storage

    def _succeeded(self, what: str) -> None:
        if not self.available:
            log.info("SDL is reachable again")
        self.available = True
        self._backoff.reset()
        self.counts[what] += 1

    def _failed(self, error: Exception) -> None:
        # Only the first failure of a series is logged, or an outage would fill the log.
        if self.available:
            log.warning("SDL: %s; going on without it, retrying", one_line(error))
        self.available = False
        self.counts["failed"] += 1


def _in_time(act: Callable[[], object], timeout_s: float) -> bool:
    """Whether ``act`` ended in time; redis-py retries an unreachable Redis for seconds and a silent one for ever."""
    thread = threading.Thread(target=act, name="ric-sdl-once", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return not thread.is_alive()

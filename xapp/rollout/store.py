"""Where the state of a rollout and its audit log are kept: a SQLite file, or Redis
(`distila.xapp.rollout.redis_store`).

State and audit entry are written together or not at all, and only over the version that the writer has read
(compare-and-set). So a crash between any two writes leaves one whole state, and of several replicas or operators one is
first and the others are told.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from distila.xapp.errors import InputError, first_error, one_line
from distila.xapp.rollout.audit import chained
from distila.xapp.rollout.machine import State

_BUSY_S: Final = 2.0


class StoreLostError(Exception):
    """The store cannot be reached, for now."""


class Store(Protocol):
    """What a store can do. Everything may raise `StoreLostError`."""

    def load(self) -> State | None:
        """The state; None: there never was a rollout."""
        ...

    def commit(
        self, before: State | None, after: State, *, who: str, what: str, detail: dict[str, Any]
    ) -> State | None:
        """Write ``after`` and its audit entry, if the state still is ``before``.

        Returns:
            The state as written; None: somebody else was faster.
        """
        ...

    def audit(self, after: int = 0) -> list[dict[str, Any]]:
        """The audit log, oldest entry first; of the entries with a higher number than ``after``."""
        ...

    def publish(self, run: str, replica: str, exposed: dict[str, Any]) -> None:
        """Put what this replica saw so far in place of what it said before."""
        ...

    def published(self, run: str) -> dict[str, dict[str, Any]]:
        """What each replica saw, those that are gone included."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_store(url: str) -> Store:
    """A store by its place: ``redis://HOST:PORT/DB`` (or ``rediss://``, ``unix://``), otherwise a SQLite file.

    Raises:
        InputError: no store can be there.
    """
    if url.split(":", 1)[0] in ("redis", "rediss", "unix"):
        try:
            from distila.xapp.rollout.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise InputError(f"{url}: needs the package {error.name!r}: pip install 'distila[ric]'") from None
        return RedisStore(url)
    return SqliteStore(Path(url.removeprefix("sqlite:")))


def parse_state(text: str | bytes, where: str) -> State:
    """A state as it was stored.

    Raises:
        InputError: it was written by another version, or damaged.
    """
    try:
        return State.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: not a rollout state of this version: {first_error(error)}") from None


def entry_of(before: State | None, after: State, who: str, what: str, detail: dict[str, Any]) -> tuple[State, str]:
    """The state with the hash of its audit entry, and the entry as JSON."""
    head = "" if before is None else before.audit_head
    entry = chained(after, head, at=time.time(), who=who, what=what, detail=detail)
    return after.model_copy(update={"audit_head": entry["hash"]}), json.dumps(entry, separators=(",", ":"))


class SqliteStore:
    """A store in a file, for one machine; several processes may share it.

    Args:
        path: the file; made if it is not there.
        fault: called before every write, by tests that end the process there.

    Raises:
        InputError: no database can be there.
    """

    def __init__(self, path: Path, fault: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._fault = fault
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            # What is committed survives the power cut, not only the process.
            for line in (
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=FULL",
                "CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER, body TEXT)",
                "CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS exposed (run TEXT, replica TEXT, body TEXT, PRIMARY KEY (run, replica))",
            ):
                self._db.execute(line)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path}: cannot be the store of rollouts: {one_line(error)}") from None

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._db
        except sqlite3.Error as error:
            raise StoreLostError(f"{self._path}: {one_line(error)}") from error

    def load(self) -> State | None:
        """See `Store`."""
        with self._held() as db:
            row = db.execute("SELECT body FROM state").fetchone()
        return None if row is None else parse_state(row[0], str(self._path))

    def commit(
        self, before: State | None, after: State, *, who: str, what: str, detail: dict[str, Any]
    ) -> State | None:
        """See `Store`."""
        after, entry = entry_of(before, after, who, what, detail)
        with self._held() as db:
            self._fault("begin")
            db.execute("BEGIN IMMEDIATE")
            try:
                row = db.execute("SELECT version FROM state").fetchone()
                if (0 if row is None else row[0]) != (0 if before is None else before.version):
                    db.execute("ROLLBACK")
                    return None
                self._fault("state")
                db.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (after.version, after.model_dump_json()))
                self._fault("audit")
                db.execute("INSERT INTO audit VALUES (?, ?)", (after.version, entry))
                self._fault("commit")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            self._fault("done")
        return after

    def audit(self, after: int = 0) -> list[dict[str, Any]]:
        """See `Store`."""
        with self._held() as db:
            rows = db.execute("SELECT body FROM audit WHERE seq > ? ORDER BY seq", (after,)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def publish(self, run: str, replica: str, exposed: dict[str, Any]) -> None:
        """See `Store`."""
        with self._held() as db:
            self._fault("publish")
            body = json.dumps(exposed, separators=(",", ":"))
            db.execute("INSERT OR REPLACE INTO exposed VALUES (?, ?, ?)", (run, replica, body))

    def published(self, run: str) -> dict[str, dict[str, Any]]:
        """See `Store`."""
        with self._held() as db:
            rows = db.execute("SELECT replica, body FROM exposed WHERE run = ?", (run,)).fetchall()
        return {replica: json.loads(body) for replica, body in rows}

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            self._db.close()

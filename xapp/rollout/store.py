"""Where the state of a rollout and its audit log are kept: a SQLite file, or Redis
(`distila.xapp.rollout.redis_store`).

State and audit entry are written together or not at all, and only over the version that the writer has read
(compare-and-set). So a crash between any two writes leaves one whole state, and of several replicas or operators that
write at the same time one succeeds and the others learn that they did not.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from distila.xapp.errors import InputError, first_error, one_line
from distila.xapp.rollout.audit import Detail, Entry, chained
from distila.xapp.rollout.exposure import Exposed
from distila.xapp.rollout.machine import Event, State

_BUSY_S: Final = 2.0


class StoreLostError(Exception):
    """The store cannot be reached, for now."""


class Store(Protocol):
    """What a store can do. Everything may raise `StoreLostError`."""

    def load(self) -> State | None:
        """The state; None: there never was a rollout."""
        ...

    def commit(self, before: State | None, after: State, *, who: str, what: Event, detail: Detail) -> State | None:
        """Write ``after`` and its audit entry, if the state still is ``before``.

        Returns:
            The state as written; None: another writer committed first.
        """
        ...

    def audit(self, after: int = 0) -> list[Entry]:
        """The audit log, oldest entry first; of the entries with a higher number than ``after``."""
        ...

    def publish(self, run: str, replica: str, exposed: Exposed) -> None:
        """Replace what this replica published before by all that it has counted so far."""
        ...

    def published(self, run: str) -> dict[str, Exposed]:
        """What each replica has counted, replicas that no longer run included."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def parse_state(text: str | bytes, where: str) -> State:
    """A state as it was stored.

    Raises:
        InputError: it was written by another version, or damaged.
    """
    try:
        return State.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: not a rollout state of this version: {first_error(error)}") from None


def parse_entry(text: str | bytes, where: str) -> Entry:
    """An audit entry as it was stored.

    Raises:
        InputError: it was written by another version, or damaged.
    """
    try:
        # Python's reader and writer of JSON, since the hash covers numbers as they write them.
        return Entry.model_validate(json.loads(text))
    except ValidationError as error:
        raise InputError(f"{where}: not an audit entry of this version: {first_error(error)}") from None
    except ValueError as error:
        raise InputError(f"{where}: audit log: not JSON: {one_line(error)}") from None


def parse_exposed(text: str | bytes, where: str) -> Exposed:
    """What a replica published.

    Raises:
        InputError: it was written by another version, or damaged.
    """
    try:
        return Exposed.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: not the counts of this version: {first_error(error)}") from None


def entry_of(before: State | None, after: State, who: str, what: Event, detail: Detail) -> tuple[State, str]:
    """The state with the hash of its audit entry, and the entry as JSON."""
    head = "" if before is None else before.audit_head
    entry = chained(after, head, at=time.time(), who=who, what=what, detail=detail)
    return after.model_copy(update={"audit_head": entry.hash}), entry.to_json()


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
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"{path}: cannot be the store of rollouts: {one_line(error)}") from None
        try:
            # What is committed survives the power cut, not only the process.
            for line in (
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=FULL",
                "CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER, body TEXT)",
                "CREATE TABLE IF NOT EXISTS audit (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)",
                "CREATE TABLE IF NOT EXISTS exposed (run TEXT, replica TEXT, body TEXT, PRIMARY KEY (run, replica))",
            ):
                self._db.execute(line)
        except sqlite3.Error as error:
            self._db.close()
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

    def commit(self, before: State | None, after: State, *, who: str, what: Event, detail: Detail) -> State | None:
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

    def audit(self, after: int = 0) -> list[Entry]:
        """See `Store`."""
        with self._held() as db:
            rows = db.execute("SELECT body FROM audit WHERE seq > ? ORDER BY seq", (after,)).fetchall()
        return [parse_entry(row[0], str(self._path)) for row in rows]

    def publish(self, run: str, replica: str, exposed: Exposed) -> None:
        """See `Store`."""
        with self._held() as db:
            self._fault("publish")
            row = (run, replica, exposed.model_dump_json())
            db.execute("INSERT OR REPLACE INTO exposed VALUES (?, ?, ?)", row)

    def published(self, run: str) -> dict[str, Exposed]:
        """See `Store`."""
        with self._held() as db:
            rows = db.execute("SELECT replica, body FROM exposed WHERE run = ?", (run,)).fetchall()
        return {replica: parse_exposed(body, f"{self._path}: replica {replica}") for replica, body in rows}

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            self._db.close()

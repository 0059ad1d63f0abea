"""The store in Redis, under the key scheme of the RIC's shared data layer, ``{namespace},key``.

The braces are part of the key: they keep all keys of a namespace on one node of a cluster, which a transaction needs.
Compare-and-set is WATCH, MULTI, EXEC, which plain Redis has and the platform's too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from distila.xapp.errors import InputError, one_line
from distila.xapp.rollout.audit import Detail, Entry
from distila.xapp.rollout.exposure import Exposed
from distila.xapp.rollout.machine import Event, State
from distila.xapp.rollout.store import StoreLostError, entry_of, parse_entry, parse_exposed, parse_state

NAMESPACE: Final = "distila-rollout"
_TIMEOUT_S: Final = 2.0


class RedisStore:
    """A store in Redis.

    Args:
        url: ``redis://[user:password@]HOST:PORT/DB``, ``rediss://...`` or ``unix://PATH``.
        namespace: of the keys.

    Raises:
        InputError: the URL is malformed. Whether a server answers there shows at the first use.
    """

    def __init__(self, url: str, namespace: str = NAMESPACE) -> None:
        self._prefix = f"{{{namespace}}},"
        self._where = url.rsplit("@", 1)[-1]
        try:
            self._redis: Any = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 1),
                decode_responses=True,
            )
        except ValueError as error:
            raise InputError(f"{self._where}: not the URL of a Redis server: {one_line(error)}") from None

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        try:
            yield self._redis
        except redis.WatchError:
            raise
        except (redis.RedisError, OSError) as error:
            raise StoreLostError(f"Redis {self._where}: {one_line(error)}") from error

    def load(self) -> State | None:
        """See `Store`."""
        with self._reached() as server:
            text = server.get(f"{self._prefix}state")
        return None if text is None else parse_state(text, f"Redis {self._where}")

    def commit(self, before: State | None, after: State, *, who: str, what: Event, detail: Detail) -> State | None:
        """See `Store`."""
        after, entry = entry_of(before, after, who, what, detail)
        state_key, audit_key = f"{self._prefix}state", f"{self._prefix}audit"
        try:
            with self._reached() as server, server.pipeline(transaction=True) as pipe:
                pipe.watch(state_key, audit_key)
                text = pipe.get(state_key)
                version = 0 if text is None else parse_state(text, f"Redis {self._where}").version
                if version != (0 if before is None else before.version):
                    return None
                pipe.multi()
                pipe.set(state_key, after.model_dump_json())
                pipe.rpush(audit_key, entry)
                pipe.execute()
        except redis.WatchError:
            return None
        return after

    def audit(self, after: int = 0) -> list[Entry]:
        """See `Store`."""
        with self._reached() as server:
            entries = server.lrange(f"{self._prefix}audit", after, -1)
        return [parse_entry(entry, f"Redis {self._where}") for entry in entries]

    def publish(self, run: str, replica: str, exposed: Exposed) -> None:
        """See `Store`."""
        with self._reached() as server:
            server.hset(f"{self._prefix}exposed:{run}", replica, exposed.model_dump_json())

    def published(self, run: str) -> dict[str, Exposed]:
        """See `Store`."""
        with self._reached() as server:
            found = server.hgetall(f"{self._prefix}exposed:{run}")
        where = f"Redis {self._where}: replica"
        return {replica: parse_exposed(body, f"{where} {replica}") for replica, body in found.items()}

    def close(self) -> None:
        """See `Store`."""
        self._redis.close()

"""Opening the store of a rollout by its address: in Redis, or in a SQLite file."""

from pathlib import Path

from distila.xapp.errors import InputError
from distila.xapp.rollout.store import SqliteStore, Store


def open_store(url: str) -> Store:
    """The store at an address: ``redis://HOST:PORT/DB`` (or ``rediss://``, ``unix://``), otherwise a SQLite file.

    Raises:
        InputError: there can be no store at that address.
    """
    if url.split(":", 1)[0] in ("redis", "rediss", "unix"):
        try:
            from distila.xapp.rollout.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise InputError(f"{url}: needs the package {error.name!r}: pip install 'distila[ric]'") from None
        return RedisStore(url)
    return SqliteStore(Path(url.removeprefix("sqlite:")))

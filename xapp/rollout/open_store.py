"""Opening the store of a rollout by its address: in Redis, or in a SQLite file."""

from pathlib import Path

from distila.xapp.errors import InputError
from distila.xapp.rollout.store import SqliteStore, Store


def open_store(url: str, create: bool = True) -> Store:
    """The store at an address: ``redis://HOST:PORT/DB`` (or ``rediss://``, ``unix://``), otherwise a SQLite file.

    Args:
        url: the address.
        create: whether to make a SQLite file that is not there. Redis is a store as soon as it answers.

    Raises:
        InputError: there can be no store at that address, or there is none and ``create`` is false.
    """
    if url.split(":", 1)[0] in ("redis", "rediss", "unix"):
        try:
            from distila.xapp.rollout.redis_store import RedisStore
        except ModuleNotFoundError as error:
            raise InputError(f"{url}: needs the package {error.name!r}: pip install 'distila[ric]'") from None
        return RedisStore(url)
    path = Path(url.removeprefix("sqlite:"))
    if not create and not path.is_file():
        raise InputError(f"{url}: no such store; `distila rollout start` makes one")
    return SqliteStore(path)

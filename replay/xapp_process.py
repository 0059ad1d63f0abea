"""An xApp in a process of its own, as it runs in production: `distila run`, connected to the replay's E2 node."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Protocol

from distila.xapp.errors import InputError

_START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 15.0


class _Connectable(Protocol):
    @property
    def address(self) -> str | None: ...

    def wait_for_subscriber(self, timeout_s: float) -> bool: ...


class XappProcess:
    """Starts `distila run` against a node and collects its counters at the end.

    Args:
        node: what it shall connect to; over gRPC at its address, else as the configuration says.
        policy: its policy, as `distila run --policy` takes it.
        config: its configuration, as `distila run --config` takes it.
        deadline: whether it drops late decisions; a replay that waits for every answer has no use for that.
        environment: added to that of this process.

    Raises:
        InputError: it did not come up; carries what it said.
    """

    def __init__(
        self,
        node: "_Connectable",
        policy: str,
        config: Path | None = None,
        deadline: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "distila.xapp.cli", "run", "--policy", policy]
        if node.address is not None:
            command += ["--e2", node.address]
        if config is not None:
            command += ["--config", str(config)]
        # Files, not pipes: nobody reads while the replay runs, and a full pipe would stop the xApp.
        self._out, self._err = TemporaryFile("w+"), TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [*command, "--exit-on-end", "--json", "--deadline" if deadline else "--no-deadline"],
            stdout=self._out,
            stderr=self._err,
            env={**os.environ, **(environment or {})},
        )
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not node.wait_for_subscriber(0.2):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self._process.kill()
                self._process.wait()
                said = self._last_words()
                self._close()
                raise InputError(f"the xApp did not start: {said}")

    def _last_words(self) -> str:
        self._err.seek(0)
        lines = self._err.read().strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def finish(self) -> dict[str, Any]:
        """Wait until it is done, after the node has ended the stream; its counters.

        Raises:
            InputError: it ended badly, or not at all.
        """
        try:
            status = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InputError(f"the xApp did not end within {_END_TIMEOUT_S:.0f} s of the stream") from None
        try:
            if status != 0:
                raise InputError(f"the xApp failed with status {status}: {self._last_words()}")
            self._out.seek(0)
            stats: dict[str, Any] = json.load(self._out)
            return stats
        finally:
            self._close()

    def terminate(self) -> None:
        """Tell it to end, as a platform does; then `finish`."""
        self._process.terminate()

    def kill(self) -> None:
        """Stop it at once, if it still runs."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._out.close()
        self._err.close()

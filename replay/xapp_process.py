"""An xApp in a process of its own, as it runs in production: `distila run`, connected to the replay's E2 node."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Protocol

from distila.xapp.errors import InputError
from distila.xapp.stats import LoopSummary

_START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 15.0


class _Connectable(Protocol):
    @property
    def address(self) -> str | None: ...

    def wait_for_subscriber(self, timeout_s: float) -> bool: ...


class XappProcess:
    """Starts `distila run` against a node and collects its counters at the end.

    Args:
        node: E2 node that the xApp connects to; over gRPC at its address, else as the configuration says.
        policy: the xApp's policy, as for `distila run --policy`.
        config: the xApp's configuration, as for `distila run --config`.
        deadline: whether the xApp drops late decisions; a replay that waits for every answer needs none.
        environment: variables added to the environment of this process.

    Raises:
        InputError: the xApp did not start; holds the last line of its standard error.
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
                reason = self._last_error_line()
                self._close()
                raise InputError(f"the xApp did not start: {reason}")

    def _last_error_line(self) -> str:
        self._err.seek(0)
        lines = self._err.read().strip().splitlines()
        return lines[-1] if lines else "it printed no error"

    def finish(self) -> LoopSummary:
        """Wait until the process ends, after the node has ended the stream; returns the xApp's counters.

        Raises:
            InputError: the xApp failed, or did not end.
        """
        try:
            status = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InputError(f"the xApp did not end within {_END_TIMEOUT_S:.0f} s of the stream") from None
        try:
            if status != 0:
                raise InputError(f"the xApp failed with status {status}: {self._last_error_line()}")
            self._out.seek(0)
            return LoopSummary.model_validate_json(self._out.read())
        finally:
            self._close()

    def terminate(self) -> None:
        """Send SIGTERM, as a platform does; call `finish` next."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, if the process still runs."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._out.close()
        self._err.close()

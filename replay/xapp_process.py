"""An xApp in a process of its own, as it runs in production: `distila run`, subscribed to the replay's E2 node."""

import json
import subprocess
import sys
from typing import Any, Final

from replay.e2_node import E2Node
from xapp.errors import InputError

_START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 15.0


class XappProcess:
    """Starts `distila run` against a node and collects its counters at the end.

    Args:
        node: where it shall subscribe.
        policy: its policy, as `distila run --policy` takes it.

    Raises:
        InputError: it did not come up; carries what it said.
    """

    def __init__(self, node: E2Node, policy: str) -> None:
        command = [sys.executable, "-m", "xapp.cli", "run", "--e2", f"127.0.0.1:{node.port}", "--policy", policy]
        self._process = subprocess.Popen(
            [*command, "--exit-on-end", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        waited_s = 0.0
        while not node.wait_for_subscriber(0.2):
            waited_s += 0.2
            if self._process.poll() is not None or waited_s > _START_TIMEOUT_S:
                self._process.kill()
                said = self._process.communicate()[1].strip().splitlines()
                raise InputError(f"the xApp did not start: {said[-1] if said else 'it said nothing'}")

    def finish(self) -> dict[str, Any]:
        """Wait until it is done, after the node has ended the stream; its counters.

        Raises:
            InputError: it ended badly, or not at all.
        """
        try:
            out, err = self._process.communicate(timeout=_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise InputError(f"the xApp did not end within {_END_TIMEOUT_S:.0f} s of the stream") from None
        if self._process.returncode != 0:
            said = err.strip().splitlines()
            raise InputError(f"the xApp failed: {said[-1] if said else f'status {self._process.returncode}'}")
        stats: dict[str, Any] = json.loads(out)
        return stats

    def kill(self) -> None:
        """Stop it at once."""
        self._process.kill()
        self._process.wait()

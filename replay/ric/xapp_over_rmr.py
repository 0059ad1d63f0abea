"""An xApp over RMR without a platform: routes from a file, and a static subscription."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distila.replay.ric.e2term import E2Term
from distila.replay.ric.ric import MEID, free_ports, rmr_environment, write_route_table
from distila.replay.xapp_process import XappProcess
from distila.xapp.files import write_yaml


@contextmanager
def xapp_over_rmr(
    policy: str, config: dict[str, Any] | None = None, deadline: bool = False
) -> Iterator[tuple[E2Term, XappProcess]]:
    """Start the E2 termination, and the xApp in a process of its own.

    Args:
        policy: as for `distila run --policy`.
        config: the xApp's configuration; its transport is replaced.
        deadline: whether the xApp drops late decisions.

    Raises:
        InputError: librmr is not installed, or the xApp did not start.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        xapp_port, node_port, a1_port = free_ports(3)
        environment = rmr_environment(write_route_table(folder / "routes.rt", xapp_port, node_port, a1_port, MEID))
        e2 = {"cells": (config or {}).get("e2", {}).get("cells", []), "transport": "rmr", "rmr": {"port": xapp_port}}
        path = folder / "distila.yaml"
        write_yaml(path, {**(config or {}), "e2": e2})
        node = E2Term(node_port, MEID, instance_id=1, environment=environment)
        process = None
        try:
            process = XappProcess(node, policy, path, deadline, environment)
            yield node, process
        except BaseException:
            if process is not None:
                process.kill()
            raise
        finally:
            node.end()

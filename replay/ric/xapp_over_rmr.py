"""An xApp over RMR without a platform: routes from a file, and a static subscription."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from distila.replay.ric.e2term import E2Term
from distila.replay.ric.ric import MEID, free_ports, rmr_environment, write_route_table
from distila.replay.xapp_process import XappProcess
from distila.xapp.config import RunConfig
from distila.xapp.files import write_yaml

_DEFAULTS: Final = RunConfig()


@contextmanager
def xapp_over_rmr(
    policy: str, config: RunConfig = _DEFAULTS, deadline: bool = False
) -> Iterator[tuple[E2Term, XappProcess]]:
    """Start the E2 termination, and the xApp in a process of its own.

    Args:
        policy: as for `distila run --policy`.
        config: the xApp's configuration; of its section ``e2`` only the cells are used.
        deadline: whether the xApp drops late decisions.

    Raises:
        InputError: librmr is not installed, or the xApp did not start.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        xapp_port, node_port, a1_port = free_ports(3)
        environment = rmr_environment(write_route_table(folder / "routes.rt", xapp_port, node_port, a1_port, MEID))
        settings = config.model_dump(mode="json", exclude_defaults=True)
        settings["e2"] = {"cells": config.e2.cells, "transport": "rmr", "rmr": {"port": xapp_port}}
        path = folder / "distila.yaml"
        write_yaml(path, settings)
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

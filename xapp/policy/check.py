"""The result of `distila policy check`, and the shape tests that another package brings.

Tests that need episodes are in the replay, which the runtime does not import: they are found by the entry point
``shape`` of group ``distila.policy_checks``, as commands are. Where the replay's libraries are not installed, the
result says so.
"""

from importlib.metadata import entry_points
from typing import Final, Literal

from pydantic import Field

from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.shape import shape_of
from distila.xapp.policy.shape_report import ShapeReport
from distila.xapp.result_file import ResultFile

CHECKS: Final = "distila.policy_checks"
"""Group of the entry point."""


class PolicyCheck(ResultFile):
    """What ``distila policy check --json`` prints."""

    kind: Literal["policy-check"] = "policy-check"
    version: Literal[1] = 1
    path: str = Field(description="directory of the bundle")
    contract: str = Field(description="contract that the bundle keeps")
    graph_bytes: int = Field(description="size of the graph [byte]")
    sha256: str = Field(description="sha256 of the graph, in hexadecimal")
    columns: int = Field(description="number of report columns that the policy reads")
    state_size: int = Field(description="numbers of memory for a UE")
    actions: int = Field(description="number of actions")
    mcs_tables: tuple[int, ...] = Field(description="MCS tables (TS 38.214) that the policy was made for")
    checks_passed: tuple[str, ...] = Field(description="checks of the contract, all of which were passed")
    latency_us: dict[str, dict[str, float]] = Field(
        description="p50 and p99 of one call of the graph on this machine [us], by batch"
    )
    shape: ShapeReport = Field(description="how the choice moves with what the policy reads")
    shape_passed: bool = Field(description="whether every shape test that was run is passed")
    shape_not_run: str | None = Field(
        description="why unknown columns and the policy's own episodes were left out; null: they were not"
    )


def tested_shape(bundle: Bundle) -> tuple[ShapeReport, str | None]:
    """All shape tests that can be run here.

    Returns:
        Their results; and why some were not run, or None.

    Raises:
        InputError: see `distila.xapp.policy.shape.shape_of`.
    """
    found = [entry for entry in entry_points(group=CHECKS) if entry.name == "shape"]
    if not found:
        return shape_of(bundle), f"the installation lacks the entry point of {CHECKS}: install distila again"
    try:
        whole_shape = found[0].load()
    except ModuleNotFoundError as error:
        return shape_of(bundle), f"needs the package {error.name!r}: pip install 'distila[replay]'"
    shape: ShapeReport = whole_shape(bundle)
    return shape, None

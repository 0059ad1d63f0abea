"""Records report sequences of closed-loop episodes, for the shape tests of `distila policy check`.

    python -m distila.replay.record_reports --out xapp/policy/recordings.npz

For each kind of node (`distila.replay.node_kinds`) one episode of the DU stand-in. In those that ship, a UE is served
by the node's own OLLA, or, half of the UEs where CQI is reported, by OLLA with a constant MCS offset, so that the
feedback covers high and low first-transmission BLER. In a policy's own episodes (`own_episodes`), the policy decides.
The same seed gives the same reports.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from distila.replay.closed_loop import Controller, InProcess, run
from distila.replay.node_kinds import KINDS, UNBROKEN, NodeKind, channels, ues_on
from distila.xapp.kpi.report import MCS_OFFSET, NATIVE, Decisions, KpiReport
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.arrays import IntArray
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.recordings import Recording, write_recordings

UES_OF_A_TABLE: Final = 6
REPORTS: Final = 260
OWN_UES: Final = 12
OWN_REPORTS: Final = 160
_OFFSETS: Final = np.array([0, 2, 0, -2, 0, 4])


def record(
    kind: NodeKind, who: str, controller: Controller, mcs_tables: IntArray, reports: int = REPORTS, seed: int = 0
) -> Recording:
    """The reports of one episode.

    Args:
        kind: of node.
        who: decides, for the recording's name.
        controller: the one who decides.
        mcs_tables: [ue], the MCS table of each UE, 1..3.
        reports: number of reports.
        seed: of the random draws and of the errors of CQI.
    """
    recorder = _Recorder(controller)
    trace = channels(kind, mcs_tables, reports * kind.du.period_slots, seed)
    run(trace, SmoothBler.load(), kind.du, seed=seed, controller=recorder)
    return Recording.of(f"{kind.name}, {who} decides", recorder.reports)


def shipped_episodes(seed: int = 0) -> list[Recording]:
    """The recordings that ship: OLLA decides, for UEs on all MCS tables."""
    mcs_tables = np.repeat([1, 2, 3], UES_OF_A_TABLE)
    return [record(kind, "OLLA", _OllaWithOffsets(_OFFSETS * kind.cqi), mcs_tables, seed=seed) for kind in KINDS]


def own_episodes(
    bundle: Bundle,
    kinds: Iterable[NodeKind] = KINDS,
    ues: int = OWN_UES,
    reports: int = OWN_REPORTS,
    seed: int = 1,
) -> list[Recording]:
    """Episodes in which this policy decides, for UEs on the MCS tables that it was made for."""
    mcs_tables = ues_on(bundle.manifest.mcs_tables, ues)
    return [
        record(kind, "policy", InProcess(DecisionLoop(bundle, guard_config=UNBROKEN)), mcs_tables, reports, seed)
        for kind in kinds
    ]


class _Recorder:
    """A controller that keeps every report, and lets another one answer."""

    def __init__(self, controller: Controller) -> None:
        self.reports: list[KpiReport] = []
        self._controller = controller

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `distila.replay.closed_loop.Controller`."""
        if report is not None:
            self.reports.append(report)
        return self._controller.exchange(report)

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `distila.replay.closed_loop.Controller`."""
        self._controller.outcome(decisions, outcome)


class _OllaWithOffsets:
    """A controller that leaves UEs to the DU, or adds a constant to its choice; offsets are given to UEs in turn."""

    def __init__(self, offsets: IntArray) -> None:
        self._offsets = offsets

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `distila.replay.closed_loop.Controller`."""
        if report is None:
            return ()
        value = self._offsets[np.arange(report.num_ues) % len(self._offsets)]
        decisions = Decisions(
            cell_id=report.cell_id,
            answers_sequence=report.sequence,
            sfn=report.sfn,
            slot=report.slot,
            timestamp_us=report.timestamp_us,
            valid_for_slots=4 * report.period_slots + 64,
            rnti=report.rnti,
            ue_id=report.ue_id,
            kind=np.where(value == 0, NATIVE, MCS_OFFSET),
            value=value,
        )
        return (decisions,)

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `distila.replay.closed_loop.Controller`."""


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random draws and of the errors of CQI")
    arguments = parser.parse_args()
    write_recordings(arguments.out, shipped_episodes(arguments.seed))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Closed-loop replay: a channel trace, the DU stand-in, and a policy whose every decision has its consequence.

    record = run(trace, SmoothBler.load(), DuConfig(), seed=1, controller=InProcess(loop))

Two runs with one seed meet the same channel and the same random draws (see `distila.replay.link`), so their records
compare in pairs.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

from distila.replay.du import Du
from distila.replay.du_config import DuConfig
from distila.replay.harq import SlotResult
from distila.replay.record import RunRecord
from distila.replay.trace import ChannelTrace
from distila.xapp.kpi.report import Decisions, KpiReport
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import BlerModel
from distila.xapp.stats import LatencyRecorder

_BLOCK_SLOTS = 256
_MAX_BINS = 200


class Controller(Protocol):
    """Whoever answers the DU's reports: the xApp, by whatever transport."""

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """Hand over the slot's report, if there is one, and collect the decisions that have arrived by now."""
        ...

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """Tell the xApp what became of its decisions."""
        ...


class InProcess:
    """The xApp's decision loop in this process, arrays handed over without a wire. Counts how long it took."""

    def __init__(self, loop: DecisionLoop) -> None:
        self._loop = loop
        self.latency = LatencyRecorder()

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `Controller`."""
        if report is None:
            return ()
        start_ns = time.perf_counter_ns()
        decisions = self._loop.decide(report)
        self.latency.add((time.perf_counter_ns() - start_ns) / 1000)
        return () if decisions is None else (decisions,)

    def outcome(self, decisions: Decisions, outcome: Counter[str]) -> None:
        """See `Controller`."""
        self._loop.stats.outcomes += outcome


def run(
    trace: ChannelTrace,
    bler: BlerModel,
    config: DuConfig,
    *,
    seed: int,
    controller: Controller | None,
    max_slots: int | None = None,
    repeat: bool = False,
    speed: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    copies: int = 1,
) -> tuple[RunRecord, Du]:
    """Replay the trace once.

    Args:
        trace: the channel.
        bler: the error rates by which, with the random draws, blocks are decoded or not.
        config: the DU.
        seed: of the random draws.
        controller: the xApp; None leaves every UE to the DU's own link adaptation.
        max_slots: stop there; None: the whole trace.
        repeat: a trace that is shorter than ``max_slots`` begins again, with new random draws; the DU continues.
        speed: 1 is real time, N is N times as fast, None as fast as possible.
        progress: called now and then with slots done and slots in all.
        copies: the trace's UEs are this many copies of some UEs, one after another; the copies get the same random
            draws, so that they compare in pairs.

    Returns:
        The record of the run, and the DU with its counters.
    """
    length = int(trace.num_slots.max())
    total = length if max_slots is None else max_slots if repeat else min(length, max_slots)
    du = Du(trace, bler, config, seed, copies=copies)
    record = RunRecord(trace, total, min(_MAX_BINS, total))
    start = time.monotonic()
    last_slot = 0
    while last_slot < total:
        first_slot, offset = last_slot, last_slot % length
        last_slot = min(first_slot + _BLOCK_SLOTS, first_slot + length - offset, total)
        sinr_db, cqi, _ = trace.window(offset, offset + last_slot - first_slot)
        results: list[SlotResult] = []
        for slot in range(first_slot, last_slot):
            row = slot - first_slot
            du.receive_feedback(slot, sinr_db[row], cqi[row])
            if controller is not None:
                report = du.report(slot) if du.report_due(slot) else None
                for decisions in controller.exchange(report):
                    controller.outcome(decisions, du.receive(decisions, slot))
                du.apply_decisions(slot)
            results.append(du.transmit(slot, sinr_db[row]))
            if speed is not None:
                ahead_s = (slot + 1) * du.slot_us / 1e6 / speed - (time.monotonic() - start)
                if ahead_s > 0:
                    time.sleep(ahead_s)
        record.add(first_slot, results, sinr_db, du.link.tbs_bits)
        if progress is not None:
            progress(last_slot, total)
    return record, du

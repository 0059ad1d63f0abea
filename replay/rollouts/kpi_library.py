"""A library of KPIs of real replays, by interval, from which simulated rollouts draw their units.

A trace is replayed in closed loop with the champion, through the xApp's decision loop, and the library keeps what the
rollout's own `KpiMeter` counts of each UE in each interval. A simulated unit follows one UE of the library from a
random interval on, round and round, so its KPIs have the tails, the autocorrelation and the lasting differences between
UEs of the replay (a circular block bootstrap with whole stretches as blocks: Politis and Romano 1992).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distila.replay import closed_loop
from distila.replay.du_config import DuConfig
from distila.replay.link import load_bler
from distila.replay.trace import ChannelTrace
from distila.xapp.kpi.report import Decisions, KpiReport
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.progress import Progress, no_progress
from distila.xapp.rollout.kpi import SUMS, KpiMeter


class Paced(closed_loop.InProcess):
    """The decision loop in process, with a call at the end of every evaluation interval.

    Args:
        loop: decides.
        interval_slots: length of an interval.
        at_end: called with the number of slots so far.
    """

    def __init__(self, loop: DecisionLoop, interval_slots: int, at_end: Callable[[int], None]) -> None:
        super().__init__(loop)
        self._interval_slots = interval_slots
        self._at_end = at_end
        self._slots = 0

    def exchange(self, report: KpiReport | None) -> Iterable[Decisions]:
        """See `Controller`."""
        if self._slots and self._slots % self._interval_slots == 0:
            self._at_end(self._slots)
        self._slots += 1
        return super().exchange(report)


@dataclass(frozen=True)
class KpiLibrary:
    """KPIs of UEs.

    Attributes:
        values: [row, SUMS], one row for each UE and interval with a report of it.
        start, length: [ue], first row of each UE, and number of its rows.
    """

    values: Float64Array
    start: IntArray
    length: IntArray

    @property
    def num_ues(self) -> int:
        """Number of UEs."""
        return len(self.start)

    @classmethod
    def join(cls, libraries: Sequence["KpiLibrary"]) -> "KpiLibrary":
        """Several libraries as one."""
        offsets = np.cumsum([0, *(len(library.values) for library in libraries)])
        return cls(
            np.concatenate([library.values for library in libraries]),
            np.concatenate([library.start + offset for library, offset in zip(libraries, offsets, strict=False)]),
            np.concatenate([library.length for library in libraries]),
        )

    def rows(self, ue: IntArray, interval: IntArray) -> Float64Array:
        """KPIs of these UEs in these intervals, counted from anywhere; [n, SUMS]."""
        return np.asarray(self.values[self.start[ue] + interval % self.length[ue]])


def record_library(
    trace: ChannelTrace,
    champion: Bundle,
    du: DuConfig,
    *,
    interval_slots: int,
    passes: int,
    seed: int,
    progress: Progress = no_progress,
) -> KpiLibrary:
    """Replay a trace ``passes`` times, each with its own random draws, and keep the counts of the meter.

    The first interval of each pass is left out, and so is a UE with fewer than two other intervals.
    """
    of_ue: dict[int, list[Float64Array]] = {}
    total = passes * int(trace.num_slots.max())
    for number in range(passes):
        loop = DecisionLoop(champion, guard_config=GuardConfig(deadline_us=None))
        meter = KpiMeter(frozenset(), False, 1e9)
        loop.meter = meter

        def keep(slots: int, meter: KpiMeter = meter) -> None:
            units, _, sums = meter.drain()
            if slots == interval_slots:
                return  # OLLA has not settled yet
            for unit, row in zip(units.tolist(), sums, strict=True):
                if row[SUMS.index("prbs")] > 0:
                    of_ue.setdefault(unit, []).append(row)

        closed_loop.run(
            trace,
            load_bler("smooth"),
            du,
            seed=seed + number,
            controller=Paced(loop, interval_slots, keep),
            progress=lambda done, _, number=number: progress(number * (total // passes) + done, total),  # type: ignore[misc]
        )
    series = [np.array(rows) for rows in of_ue.values() if len(rows) >= 2]
    lengths = np.array([len(rows) for rows in series])
    return KpiLibrary(np.concatenate(series), np.cumsum([0, *lengths[:-1]]), lengths)


def gaussian_library(champion_like: KpiLibrary, rng: np.random.Generator) -> KpiLibrary:
    """The same UEs with independent Gaussian noise around their own means: no tails, no autocorrelation."""
    values = np.empty_like(champion_like.values)
    for first, count in zip(champion_like.start.tolist(), champion_like.length.tolist(), strict=True):
        own = champion_like.values[first : first + count]
        drawn = own.mean(axis=0) + own.std(axis=0) * rng.standard_normal(own.shape)
        values[first : first + count] = np.maximum(drawn, 0)
    return KpiLibrary(values, champion_like.start, champion_like.length)

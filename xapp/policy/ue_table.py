"""Per-UE memory as struct-of-arrays: one row per UE, bounded; the UE that was not reported for longest is evicted.

`UeTable` hands out the rows, by (cell, UE key); a UE that returns after it was evicted starts as a new one. What a
policy and its guard remember of a UE from one report to the next is in a `UeMemory`, one for each policy that runs.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from distila.xapp.kpi.report import NO_UE_ID, KpiReport
from distila.xapp.nr.arrays import Float32Array, IntArray

_NEVER: Final = 2**40  # slots; longer than any limit


@dataclass
class UeMemory:
    """What one policy and its guard remember, a row for each UE; allocated at once.

    Attributes:
        state: [capacity, state_size], the policy's memory.
        recent: [capacity, 4], the breaker's fading counts of first transmissions, those of them that failed,
            retransmissions that were decoded, and those that were not.
        held_slots: [capacity], number of slots for which the breaker still holds the UE on native.
        idle_slots: [capacity], slots since the latest HARQ feedback.
    """

    capacity: int
    state_size: int
    state: Float32Array = field(init=False)
    recent: Float32Array = field(init=False)
    held_slots: IntArray = field(init=False)
    idle_slots: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all UEs."""
        self.state = np.zeros((self.capacity, self.state_size), np.float32)
        self.recent = np.zeros((self.capacity, 4), np.float32)
        self.held_slots = np.zeros(self.capacity, np.int64)
        self.idle_slots = np.full(self.capacity, _NEVER, np.int64)

    def reset(self, rows: IntArray) -> None:
        """Forget the UEs of these rows."""
        self.state[rows] = 0
        self.recent[rows] = 0
        self.held_slots[rows] = 0
        self.idle_slots[rows] = _NEVER


@dataclass
class UeTable:
    """The table of ``capacity`` rows, so memory is bounded by construction.

    Attributes:
        memories: what is cleared when a UE is evicted.
        total_first_tx: [capacity], the UE's counter at its latest report, NaN = never measured.
        episode: [capacity], number of the UE's episode: from when it was first seen, until its counter started anew or
            it was evicted. No two episodes have the same.
    """

    capacity: int
    memories: list[UeMemory] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.total_first_tx = np.full(self.capacity, np.nan)
        self.episode = np.zeros(self.capacity, np.int64)
        self._episodes = 0
        self._last_seen = np.full(self.capacity, -1, np.int64)
        self._row: dict[tuple[str, int], int] = {}
        self._owner: list[tuple[str, int] | None] = [None] * self.capacity
        self._free = list(range(self.capacity - 1, -1, -1))
        self._clock = 0
        # The UEs of a cell are mostly those of its previous report: then their rows are known without a look-up.
        self._latest: dict[str, tuple[bytes, IntArray]] = {}

    def __len__(self) -> int:
        """Number of UEs known."""
        return len(self._row)

    def rows(self, report: KpiReport, noticed: Counter[str]) -> IntArray:
        """The rows of the report's UEs, [ue]; UEs seen for the first time get a fresh one.

        Counts in ``noticed``: ``ue_new``, ``ue_evicted``.

        Raises:
            ValueError: the report holds more UEs than the table; the caller bounds it.
        """
        if report.num_ues > self.capacity:
            raise ValueError(f"{report.num_ues} UEs in one report, the table holds {self.capacity}")
        self._clock += 1
        fingerprint = report.rnti.tobytes() + report.ue_id.tobytes()
        latest = self._latest.get(report.cell_id)
        if latest is not None and latest[0] == fingerprint:
            rows = latest[1]
            self._last_seen[rows] = self._clock
            return rows
        owners = [(report.cell_id, key) for key in report.ue_key().tolist()]
        found = [self._row.get(owner, -1) for owner in owners]
        rows = np.array(found, np.int64)
        self._last_seen[rows[rows >= 0]] = self._clock
        new = np.flatnonzero(rows < 0)
        if len(new):
            self._make_room(len(new), noticed)
            for index in new.tolist():
                row = self._free.pop()
                self._row[owners[index]] = row
                self._owner[row] = owners[index]
                rows[index] = row
            fresh = rows[new]
            self._last_seen[fresh] = self._clock
            self.reset(fresh)
            noticed["ue_new"] += len(new)
        self._latest[report.cell_id] = (fingerprint, rows)
        return rows

    def reset(self, rows: IntArray) -> None:
        """Make the UEs of these rows new ones again."""
        for memory in self.memories:
            memory.reset(rows)
        self.total_first_tx[rows] = np.nan
        self.episode[rows] = self._episodes + np.arange(1, len(rows) + 1)
        self._episodes += len(rows)

    def units(self, report: KpiReport, rows: IntArray) -> IntArray:
        """What tells the UEs apart over all cells, [ue]: their stable id, or minus the number of the episode."""
        return np.where(report.ue_id == NO_UE_ID, -self.episode[rows], report.ue_id)

    def _make_room(self, count: int, noticed: Counter[str]) -> None:
        missing = count - len(self._free)
        if missing <= 0:
            return
        # UEs of the report at hand carry the current clock and so are the last to go.
        used = np.flatnonzero(self._last_seen >= 0)
        oldest = used[np.argpartition(self._last_seen[used], missing - 1)[:missing]]
        for row in oldest.tolist():
            owner = self._owner[row]
            if owner is not None:
                del self._row[owner]
            self._owner[row] = None
            self._free.append(row)
        self._last_seen[oldest] = -1
        # Rows changed hands, so what was remembered per cell may point at somebody else's.
        self._latest.clear()
        noticed["ue_evicted"] += missing

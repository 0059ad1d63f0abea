"""Per-UE memory as struct-of-arrays: one row per UE, bounded, the UE unseen for longest makes room.

A row holds what must survive from one report to the next: the policy's state and the guard's breaker. Rows are handed
out by (cell, UE key); a UE that returns after it was evicted starts as a new one.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from xapp.e2.report import FloatArray, IntArray, KpiReport

_NEVER: Final = 2**40  # slots; longer than any limit


@dataclass
class UeTable:
    """The table. ``capacity`` rows are allocated at once, so memory is bounded by construction.

    Attributes:
        state: [capacity, state_size], the policy's memory.
        recent_tx, recent_failed: [capacity], the breaker's fading counts of first transmissions and failures.
        held_slots: [capacity], for how many more slots the breaker holds the UE on native.
        idle_slots: [capacity], for how long there was no HARQ feedback.
        total_first_tx: [capacity], the UE's counter at its latest report, NaN = never measured.
    """

    capacity: int
    state_size: int
    state: FloatArray = field(init=False)
    recent_tx: FloatArray = field(init=False)
    recent_failed: FloatArray = field(init=False)
    held_slots: IntArray = field(init=False)
    idle_slots: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.state = np.zeros((self.capacity, self.state_size), np.float32)
        self.recent_tx = np.zeros(self.capacity, np.float32)
        self.recent_failed = np.zeros(self.capacity, np.float32)
        self.held_slots = np.zeros(self.capacity, np.int64)
        self.idle_slots = np.full(self.capacity, _NEVER, np.int64)
        self.total_first_tx = np.full(self.capacity, np.nan)
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
        self.state[rows] = 0
        self.recent_tx[rows] = 0
        self.recent_failed[rows] = 0
        self.held_slots[rows] = 0
        self.idle_slots[rows] = _NEVER
        self.total_first_tx[rows] = np.nan

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

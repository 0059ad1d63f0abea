"""KPIs of each unit, from the UEs' reports alone, as an xApp sees them.

`KpiMeter` stores reports on the decision loop's thread, which costs an append, and sums them up on the controller's
thread, many at once. For each unit and arm it returns the `SUMS`:

* **bits**: delivered blocks times their size. Delivered blocks are first transmissions less residual losses; their
  size follows from MCS, PRBs, layers and MCS table (TS 38.214 clause 5.1.3.2), with the PRBs of the latest
  allocation.
* **prbs**: PRBs of first transmissions and retransmissions. If a report does not count retransmissions, a failed first
  transmission is assumed to cost one more, a residual loss three.
* **expected_bits**: the bits that the PRBs would have carried at the MCS of the CQI; no arm can influence it.
* **withheld**: decisions that the guard replaced by native, or that missed their deadline.
* **late**: decisions whose arm took longer than the plan's budget for inference and guard.
"""

from collections import Counter, deque
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import ACK, DTX, NACK, NATIVE, RESIDUAL, RETX_ACK, RETX_NACK, KpiReport
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.nr.tbs import num_re, transport_block_size_bits
from distila.xapp.policy.arm import Arm, Decided
from distila.xapp.policy.olla import MAX_CQI, cqi_to_mcs_table
from distila.xapp.rollout.assignment import hash64

SUMS: Final = (
    "slots",
    "decisions",
    "withheld",
    "late",
    "first_tx",
    "first_failed",
    "residual",
    "prbs",
    "bits",
    "expected_bits",
)
"""Columns of the sums that `KpiMeter.drain` returns."""

_MOST_PRBS: Final = 275
_MOST_LAYERS: Final = 4
_MOST_PENDING: Final = 100_000
_CQI, _RI, _PRBS = (MEASURED.index(name) for name in ("cqi", "ri", "prbs"))


@lru_cache(maxsize=1)
def tbs_table() -> IntArray:
    """Transport block sizes [MCS table 1..3, layers 1..4, PRBs 0..275, MCS 0..28]; 0 beyond an MCS table."""
    table = np.zeros((3, _MOST_LAYERS, _MOST_PRBS + 1, NUM_MCS), np.int64)
    re = np.asarray(num_re(np.arange(_MOST_PRBS + 1)))
    for number, mcs in MCS_TABLES.items():
        for layers in range(1, _MOST_LAYERS + 1):
            table[number - 1, layers - 1, :, : mcs.num_mcs] = transport_block_size_bits(
                re[:, None], mcs.code_rate[None, :], mcs.modulation_order[None, :], layers
            )
    return table


@lru_cache(maxsize=1)
def _cqi_mcs() -> IntArray:
    return cqi_to_mcs_table().astype(np.int64)


class KpiMeter:
    """Counts the KPIs of the arms of one rollout; a `distila.xapp.policy.arm.Meter`.

    Args:
        cells: ids of the cells in scope; empty: all.
        by_cell: the unit is the cell.
        latency_budget_us: time [us] beyond which a decision is late.
    """

    def __init__(self, cells: frozenset[str], by_cell: bool, latency_budget_us: float) -> None:
        self._cells = cells
        self._by_cell = by_cell
        self._budget_us = latency_budget_us
        self._pending: deque[Decided] = deque()
        self.noticed: Counter[str] = Counter()
        self.shadow: dict[str, Counter[str]] = {}
        """By shadow arm: ``decisions``, ``native``, ``same`` as the decision sent, and summed MCS ``difference``."""

    def record(self, decided: Decided) -> None:
        """See `Meter`."""
        if self._cells and decided.report.cell_id not in self._cells:
            return
        if len(self._pending) >= _MOST_PENDING:
            self.noticed["reports_not_counted"] += 1
            return
        self._pending.append(decided)

    def shadowed(
        self, arm: Arm, report: KpiReport, kind: IntArray, value: IntArray, live_kind: IntArray, live_value: IntArray
    ) -> None:
        """See `Meter`."""
        if self._cells and report.cell_id not in self._cells:
            return
        counts = self.shadow.setdefault(arm.name, Counter())
        both = (kind == live_kind) & (kind != NATIVE)
        counts["decisions"] += len(kind)
        counts["native"] += int(np.count_nonzero(kind == NATIVE))
        counts["same"] += int(np.count_nonzero((kind == live_kind) & (value == live_value)))
        counts["compared"] += int(np.count_nonzero(both))
        counts["difference"] += int((value - live_value)[both].sum())

    def drain(self) -> tuple[IntArray, IntArray, Float64Array]:
        """Units [n], arm indices [n] and their `SUMS` [n, sum] since the last call; a unit and arm has one row."""
        # The loop appends at the same time, which a deque allows; later reports are for the next call.
        batch = [self._pending.popleft() for _ in range(len(self._pending))]
        if not batch:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, len(SUMS)))
        # Reports of one assignment are about the same UEs in the same order, so they add up as they stand.
        by_assignment: dict[int, list[Decided]] = {}
        for one in batch:
            by_assignment.setdefault(id(one.assignment), []).append(one)
        parts = [
            (self._units(group[0]), group[0].assignment.arm, self._sums(group)) for group in by_assignment.values()
        ]
        units = np.concatenate([units for units, _, _ in parts])
        arms = np.concatenate([np.zeros(len(units), np.int64) if arm is None else arm for units, arm, _ in parts])
        return grouped(units, arms, np.concatenate([sums for _, _, sums in parts]))

    def _units(self, one: Decided) -> IntArray:
        if not self._by_cell:
            return one.assignment.units
        return np.full(one.report.num_ues, np.int64(hash64(one.report.cell_id) >> np.uint64(1)))

    def _sums(self, batch: list[Decided]) -> Float64Array:
        """The sums of reports of one assignment, [ue, SUMS]."""
        reports = [one.report for one in batch]
        count, ues = len(reports), reports[0].num_ues
        starts = range(0, count * ues, ues)
        # All of them one after another, [report * ue].
        measured = np.concatenate([report.measured for report in reports])
        mcs_table = np.concatenate([report.mcs_table for report in reports])
        cqi_table = np.concatenate([report.cqi_table for report in reports])
        first_tx = np.concatenate([report.first_tx for report in reports])
        failed = np.concatenate([report.first_failed for report in reports])
        residual = np.concatenate([report.harq_sums[:, RESIDUAL] for report in reports])
        entry_ue = np.concatenate([report.harq_ue + start for report, start in zip(reports, starts, strict=True)])
        entry_mcs = np.concatenate([report.harq_mcs for report in reports])
        counts = np.concatenate([report.harq_counts for report in reports])
        prbs, layers, cqi = measured[:, _PRBS], measured[:, _RI], measured[:, _CQI]
        usable = (prbs > 0) & (mcs_table > 0)
        if not usable.all():
            self.noticed["kpi_missing_prbs"] += int(np.count_nonzero(~usable))
            prbs = np.where(usable, prbs, 0)
        # A rank that is not reported counts as one layer: arms do not differ in it.
        layer = np.fmax(np.fmin(layers, _MOST_LAYERS), 1).astype(np.int64) - 1
        table = np.maximum(mcs_table, 1) - 1
        sizes = tbs_table().reshape(-1)
        base = ((table * _MOST_LAYERS + layer) * (_MOST_PRBS + 1) + prbs.astype(np.int64)) * NUM_MCS
        cqi_index = (table * 3 + cqi_table - 1) * (MAX_CQI + 1) + np.fmax(cqi, 0).astype(np.int64)
        again = measured[:, RETX_ACK] + measured[:, RETX_NACK]
        transmissions = first_tx + np.where(np.isnan(again), failed + 2 * residual, again)
        arrived = np.maximum(0, counts[:, ACK] + counts[:, NACK] + counts[:, DTX] - counts[:, RESIDUAL])
        withheld = np.zeros((count, ues))
        late = np.zeros((count, ues))
        for row, one in enumerate(batch):
            if one.withheld is not None:
                withheld[row] = one.withheld
            for (_, index), spent_us in zip(one.assignment.groups, one.engine_us, strict=False):
                if spent_us > self._budget_us:
                    late[row, slice(None) if index is None else index] = 1

        def added(values: npt.NDArray[Any]) -> Float64Array:
            return np.asarray(values.reshape(count, ues).sum(axis=0), np.float64)

        bits = np.bincount(entry_ue % ues, arrived * sizes.take(base.take(entry_ue) + entry_mcs), minlength=ues)
        columns = [
            np.full(ues, float(sum(report.period_slots for report in reports))),
            np.full(ues, float(count)),
            withheld.sum(axis=0),
            late.sum(axis=0),
            added(first_tx),
            added(failed),
            added(residual),
            added(transmissions * prbs),
            bits,
            added(transmissions * sizes.take(base + _cqi_mcs().take(cqi_index))),
        ]
        return np.stack(columns, axis=1)

    def noticed_counts(self) -> dict[str, int]:
        """Reports that could not be counted as they should, by reason."""
        return {reason: count for reason, count in sorted(self.noticed.items()) if count}

    def shadow_counts(self) -> dict[str, dict[str, int]]:
        """What the shadow arms decided, by arm."""
        return {arm: dict(counts) for arm, counts in sorted(self.shadow.items())}


def grouped(units: IntArray, arms: IntArray, sums: Float64Array) -> tuple[IntArray, IntArray, Float64Array]:
    """Rows of one unit and arm added up."""
    if not len(units):
        return units, arms, sums
    order = np.lexsort((arms, units))
    units, arms, sums = units[order], arms[order], sums[order]
    first = np.flatnonzero(np.r_[True, (np.diff(units) != 0) | (np.diff(arms) != 0)])
    return units[first], arms[first], np.add.reduceat(sums, first, axis=0)

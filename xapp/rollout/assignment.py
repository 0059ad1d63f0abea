"""Assignment of units to arms: a salted hash of a stable unit id gives one of 10 000 buckets, a table the bucket's arm.

The hash depends on the plan's salt and the unit alone, so every replica assigns alike, before and after a restart. The
table of a stage follows from the plan: each stage keeps the buckets of the stages before it and adds free ones, so a
ramp only adds units. A unit is

* a cell, by its id;
* a UE with a stable E2 UE id, by that id, whatever its cell;
* another UE, by cell and RNTI. The next UE with that RNTI is assigned alike, but counts as another unit.
"""

import hashlib
from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt

from distila.xapp.kpi.report import NO_UE_ID, KpiReport
from distila.xapp.nr.arrays import IntArray
from distila.xapp.rollout.plan import BUCKETS, CONTROL, Plan

_OUT_OF_TEST: Final = 0  # index of the champion: not in the test, not counted
_MAX_CELLS: Final = 4096


def hash64(text: str) -> np.uint64:
    """64 bits of a text."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def mix64(seed: np.uint64, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """64 well-mixed bits of each key under a seed: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014), twice."""
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):
            mixed = (mixed ^ seed) + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed


def arm_of_bucket(plan: Plan, stage: int) -> IntArray:
    """Arm index of each bucket in a stage, [BUCKETS]; 0 where the bucket is not in the test."""
    table = np.zeros(BUCKETS, np.int64)
    names = plan.arm_names()
    for step in plan.stages[: stage + 1]:
        if step.shadow:
            continue
        shares = {CONTROL: step.control_share_pct, **step.share_pct}
        for name, share_pct in shares.items():
            index = names.index(name)
            missing = round(share_pct * BUCKETS / 100) - int(np.count_nonzero(table == index))
            table[np.flatnonzero(table == _OUT_OF_TEST)[: max(0, missing)]] = index
    return table


class Assignment:
    """The assignment of one stage, as the decision loop uses it.

    Args:
        plan: the rollout.
        stage: number of the stage.
        withdrawn: challengers that were rolled back; their units are the champion's, and not in the test.
        period: number of the switchback period, for plans that have one.
    """

    def __init__(self, plan: Plan, stage: int, withdrawn: Collection[str] = (), period: int = 0) -> None:
        self._by_cell = plan.unit == "cell"
        self._switches = plan.switchback_intervals is not None
        self._period = period
        self._cells = frozenset(plan.scope.cells)
        self._seed = hash64(f"{plan.seed}|ue")
        self._salt = plan.seed
        names = plan.arm_names()
        self._table = arm_of_bucket(plan, stage)
        for name in withdrawn:
            self._table[self._table == names.index(name)] = _OUT_OF_TEST
        self._seed_of_cell: dict[str, np.uint64] = {}

    def __call__(self, report: KpiReport) -> IntArray:
        """Arm index of each UE of a report, [ue]."""
        if not self.in_scope(report.cell_id):
            return np.zeros(report.num_ues, np.int64)
        if self._by_cell:
            return np.full(report.num_ues, self.arm_of_cell(report.cell_id))
        return np.asarray(self._table[self.buckets(report)])

    def in_scope(self, cell_id: str) -> bool:
        """Whether the UEs of a cell take part in the rollout."""
        return not self._cells or cell_id in self._cells

    def arm_of_cell(self, cell_id: str) -> int:
        """Arm index of a cell, for plans whose unit is the cell."""
        arm = int(self._table[int(self._cell_seed(cell_id) % np.uint64(BUCKETS))])
        if self._switches and arm != _OUT_OF_TEST:
            # Periods come in pairs; which half of a pair has which arm is drawn for each cell and pair.
            coin = int(hash64(f"{self._salt}|{cell_id}|{self._period // 2}") & np.uint64(1))
            return 1 + (coin ^ (self._period & 1))
        return arm

    def buckets(self, report: KpiReport) -> IntArray:
        """Bucket of each UE, [ue]."""
        known = report.ue_id != NO_UE_ID
        key = np.where(known, report.ue_id, report.rnti).astype(np.uint64)
        mixed = mix64(self._seed, key)
        if not known.all():
            mixed = np.where(known, mixed, mix64(self._cell_seed(report.cell_id), key))
        return (mixed % np.uint64(BUCKETS)).astype(np.int64)

    def _cell_seed(self, cell_id: str) -> np.uint64:
        seed = self._seed_of_cell.get(cell_id)
        if seed is None:
            if len(self._seed_of_cell) >= _MAX_CELLS:
                self._seed_of_cell.clear()
            seed = self._seed_of_cell[cell_id] = hash64(f"{self._salt}|cell|{cell_id}")
        return seed

"""Exposure of units to arms: running sums of each unit, interval by interval, and their moments by arm and metric.

The sums of a unit before it joins an arm are its *past*, a covariate that separates the effect of the arm from what the
unit was like before. The interval in which a unit joins, and as many more as the plan says, are not counted: their
feedback belongs to the policy before, and a policy that is new to a UE needs time to settle.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distila.xapp.kpi.link_metrics import RATIOS
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.rollout.kpi import SUMS, grouped
from distila.xapp.rollout.plan import MetricKey
from distila.xapp.rollout.sequences import Moments

TAIL: Final = 0.05
"""Share of the unit intervals that `worst5_throughput` is about."""
COVARIATES: Final = {
    "goodput_per_prb": 3,
    "first_tx_failure_rate": 2,
    "residual_bler": 0,
    "control_failures": 0,
    "decision_latency": 0,
    "worst5_throughput": 2,
}
"""Metrics, and the number of covariates in a unit's vector for each."""

_FIELDS: Final = (*SUMS, "intervals", "tail")
_AT: Final = {name: index for index, name in enumerate(_FIELDS)}
_FORGET_INTERVALS: Final = 30
_RATIOS: Final = {
    "goodput_per_prb": ("bits", "prbs"),
    **{name: RATIOS[name] for name in ("first_tx_failure_rate", "residual_bler")},
    "control_failures": ("withheld", "decisions"),
    "decision_latency": ("late", "decisions"),
    "worst5_throughput": ("tail", "intervals"),
}


def no_moments(metric: str) -> Moments:
    """The moments of an empty set of units."""
    size = COVARIATES[metric] + 3
    return Moments(np.zeros((size, size)))


class Exposed(BaseModel):
    """What a replica has counted so far, as it is written to the store; the counts of several replicas add up."""

    model_config = ConfigDict(extra="forbid")

    moments: dict[str, dict[MetricKey, Moments]] = Field(
        default_factory=dict, description="second moments of the units' sums, by arm and metric"
    )
    exposure: dict[str, int] = Field(default_factory=dict, description="unit intervals counted, by arm")
    units_in_stage: dict[str, int] = Field(default_factory=dict, description="units seen since the stage began, by arm")
    stage: int = Field(default=0, description="number of the stage in which this was counted")
    tail_below: float | None = Field(
        default=None,
        description="throughput [bit/slot] below which 5 % of the unit intervals lay; null: no unit to measure it on",
    )

    @classmethod
    def together(cls, parts: Sequence["Exposed"], stage: int) -> "Exposed":
        """Several replicas as one. Units in the stage are those of replicas that are in it already."""
        total = cls(stage=stage)
        for part in parts:
            for arm, metrics in part.moments.items():
                own = total.moments.setdefault(arm, {})
                for metric, moments in metrics.items():
                    own[metric] = own[metric] + moments if metric in own else moments
            _add(total.exposure, part.exposure)
            if part.stage == stage:
                _add(total.units_in_stage, part.units_in_stage)
        tails = [part.tail_below for part in parts if part.tail_below is not None]
        total.tail_below = float(np.median(tails)) if tails else None
        return total


def _add(to: dict[str, int], more: dict[str, int]) -> None:
    for arm, count in more.items():
        to[arm] = to.get(arm, 0) + count


class Exposure:
    """The units of one replica.

    Args:
        arms: names by arm index; index 0 is not in the test.
        settle_intervals: intervals of a unit not counted after it joined.
    """

    def __init__(self, arms: Sequence[str], settle_intervals: int) -> None:
        self._arms = list(arms)
        self._settle = settle_intervals
        self._chunks: list[tuple[IntArray, IntArray, Float64Array]] = []
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._interval = 0
        self._stage = 0
        self._closed = {name: {metric: no_moments(metric) for metric in COVARIATES} for name in self._arms[1:]}
        self._exposure = dict.fromkeys(self._arms[1:], 0)
        self._in_stage = dict.fromkeys(self._arms[1:], 0)
        self._tail_below: float | None = None
        # One row for each present unit.
        self._sums = np.zeros((0, len(_FIELDS)))
        self._past = np.zeros((0, len(_FIELDS)))
        self._unit, self._arm, self._joined, self._seen = (np.zeros(0, np.int64) for _ in range(4))
        self._met_in_stage = np.zeros(0, bool)
        self._grow(256)

    def _grow(self, rows: int) -> None:
        before = len(self._arm)
        for name in ("_sums", "_past", "_unit", "_arm", "_joined", "_seen", "_met_in_stage"):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)]))
        self._free.extend(range(before + rows - 1, before - 1, -1))

    def add(self, units: IntArray, arms: IntArray, sums: Float64Array) -> None:
        """Add what `KpiMeter.drain` returned: units [n], arm indices [n], `SUMS` [n, sum]."""
        if len(units):
            self._chunks.append((units, arms, sums))

    def begin_stage(self, stage: int) -> None:
        """Restart the count of units in the stage, if the stage changed."""
        if stage != self._stage:
            self._stage = stage
            self._in_stage = dict.fromkeys(self._arms[1:], 0)
            self._met_in_stage[:] = False

    def close_interval(self, tail_below: float | None) -> None:
        """End an evaluation interval.

        Args:
            tail_below: throughput [bit/slot] below which the worst 5 % lie, as the rollout has fixed it; None: not yet.
        """
        self._interval += 1
        chunks, self._chunks = self._chunks, []
        if chunks:
            units, arms, sums = grouped(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
            self._take_in(units, arms, sums, tail_below)
        self._forget()

    def _take_in(self, units: IntArray, arms: IntArray, sums: Float64Array, tail_below: float | None) -> None:
        throughput = sums[:, _AT["bits"]] / np.maximum(sums[:, _AT["slots"]], 1)
        measured = (sums[:, _AT["prbs"]] > 0) & np.isfinite(sums).all(axis=1)
        calm = measured & (arms <= 1)
        self._tail_below = float(np.quantile(throughput[calm], TAIL)) if calm.any() else None
        tail, counted = np.zeros(len(units)), np.zeros(len(units))
        if tail_below is not None:
            # The mean of the worst 5 % is a plain mean of this (Rockafellar and Uryasev, J. Risk 2000).
            tail = np.where(measured, tail_below - np.maximum(tail_below - throughput, 0) / TAIL, 0)
            counted = measured.astype(np.float64)
        values = np.concatenate([np.where(np.isfinite(sums), sums, 0), counted[:, None], tail[:, None]], axis=1)
        # A unit that joined an arm within the interval has two rows, the one before it joined first.
        for which, take in ((np.flatnonzero(arms == 0), self._before), (np.flatnonzero(arms > 0), self._within)):
            if len(which):
                take(self._rows(units[which]), arms[which], values[which])

    def _rows(self, units: IntArray) -> IntArray:
        missing = sum(unit not in self._row for unit in units.tolist()) - len(self._free)
        if missing > 0:
            self._grow(max(missing, len(self._arm)))
        rows = np.empty(len(units), np.int64)
        for index, unit in enumerate(units.tolist()):
            row = self._row.get(unit)
            if row is None:
                row = self._row[unit] = self._free.pop()
                self._unit[row] = unit
            rows[index] = row
        self._seen[rows] = self._interval
        return rows

    def _before(self, rows: IntArray, arms: IntArray, values: Float64Array) -> None:
        # A unit that is no longer in an arm has left the test for good.
        self._close(rows[self._arm[rows] > 0])
        self._past[rows] += values

    def _within(self, rows: IntArray, arms: IntArray, values: Float64Array) -> None:
        joined = self._arm[rows] != arms
        self._close(rows[joined & (self._arm[rows] > 0)])
        self._arm[rows] = arms
        self._joined[rows[joined]] = self._interval
        met = ~self._met_in_stage[rows] | joined
        self._met_in_stage[rows] = True
        settled = self._interval - self._joined[rows] >= self._settle
        self._sums[rows[settled]] += values[settled]
        for index, name in enumerate(self._arms[1:], start=1):
            mine = arms == index
            self._exposure[name] += int(np.count_nonzero(mine & settled))
            self._in_stage[name] += int(np.count_nonzero(mine & met))

    def _close(self, rows: IntArray) -> None:
        """Add the sums of units that have left their arm to its closed moments."""
        if not len(rows):
            return
        for index, name in enumerate(self._arms[1:], start=1):
            mine = rows[self._arm[rows] == index]
            if len(mine):
                for metric in COVARIATES:
                    self._closed[name][metric] += self._moments(metric, mine)
        self._arm[rows] = 0
        self._sums[rows] = 0
        self._past[rows] = 0

    def _forget(self) -> None:
        last = self._interval - _FORGET_INTERVALS
        unseen = np.array([row for row in self._row.values() if self._seen[row] <= last], np.int64)
        if len(unseen):
            self._close(unseen[self._arm[unseen] > 0])
            self._past[unseen] = 0
            self._met_in_stage[unseen] = False
            for row in unseen.tolist():
                del self._row[int(self._unit[row])]
                self._free.append(row)

    def _moments(self, metric: str, rows: IntArray) -> Moments:
        over, under = (_AT[name] for name in _RATIOS[metric])
        rows = rows[self._sums[rows, under] > 0]
        sums, past = self._sums[rows], self._past[rows]
        columns = [sums[:, over], sums[:, under]]
        if metric == "goodput_per_prb":
            columns.append(sums[:, _AT["expected_bits"]])
        if COVARIATES[metric]:
            # In the past only the throughput is known, not the tail, whose threshold was fixed later.
            names = ("bits", "slots") if metric == "worst5_throughput" else _RATIOS[metric]
            numerator, denominator = (past[:, _AT[name]] for name in names)
            has_past = denominator > 0
            before = np.where(has_past, numerator / np.where(has_past, denominator, 1), 0)
            columns += [sums[:, under] * before, sums[:, under] * ~has_past]
        return Moments.of(np.stack(columns, axis=1))

    def exposed(self) -> Exposed:
        """All counts up to the latest closed interval."""
        moments = {}
        for index, name in enumerate(self._arms[1:], start=1):
            rows = np.flatnonzero(self._arm == index)
            moments[name] = {metric: self._closed[name][metric] + self._moments(metric, rows) for metric in COVARIATES}
        return Exposed(
            moments=moments,
            exposure=dict(self._exposure),
            units_in_stage=dict(self._in_stage),
            stage=self._stage,
            tail_below=self._tail_below,
        )

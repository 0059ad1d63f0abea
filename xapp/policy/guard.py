"""The guard between policy and wire: the DU gets decisions within limits, or decides by itself.

Every intervention is counted by reason; `native` means that the DU's own link adaptation decides.

=================== ==========================================================================================
reason              what happens
=================== ==========================================================================================
not_finite          a score is NaN or infinite: native
no_measurement      the report holds neither HARQ nor a channel quality that the policy reads: native
stale_cqi           the CQI is older than ``max_cqi_age_slots``, and so is the latest HARQ feedback: native
mcs_table           the UE uses an MCS table that is unknown, or that the policy was not made for: native
breaker             too many first transmissions failed lately, and too many retransmissions where the node counts
                    them, and the DU would use a lower MCS: native for ``breaker_hold_slots``
switched_off        ``enabled`` is false: native, for all UEs of the cell
clamped             the MCS lies outside ``min_mcs..max_mcs`` or its table: clamped
deadline            the decision took longer than ``deadline_us``: native, for all UEs of the indication
breaker_tripped     no intervention of its own: how often a breaker tripped
=================== ==========================================================================================
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy import count_nonzero
from pydantic import BaseModel, ConfigDict, Field, model_validator

from distila.xapp.kpi.observations import MEASURED
from distila.xapp.kpi.report import MCS, NATIVE, RETX_ACK, RETX_NACK, KpiReport
from distila.xapp.nr.arrays import BoolArray, Float32Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.policy.ue_table import UeMemory

_CQI_AGE = MEASURED.index("cqi_age_slots")
_SINR = MEASURED.index("sinr_db")
_NATIVE_MCS = MEASURED.index("native_mcs")
_LAST_MCS = np.array([0, *(MCS_TABLES[table].num_mcs - 1 for table in (1, 2, 3))])  # of each MCS table


class GuardConfig(BaseModel):
    """Limits that the guard enforces on decisions: an MCS outside them is clamped, or the DU decides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="false: the DU decides for every UE")
    min_mcs: int = Field(default=0, ge=0, le=NUM_MCS - 1, description="lowest absolute MCS that is sent")
    max_mcs: int = Field(default=NUM_MCS - 1, ge=0, le=NUM_MCS - 1, description="highest absolute MCS that is sent")
    max_offset: int = Field(
        default=6, ge=0, le=NUM_MCS - 1, description="largest absolute value of an MCS offset that is sent"
    )
    deadline_us: float | None = Field(
        default=10_000,
        gt=0,
        description="time [us] from receipt to decision after which the decision is withheld; null: no deadline",
    )
    max_cqi_age_slots: int = Field(
        default=1000, ge=1, description="age [slots] of the CQI beyond which it alone is not enough for a decision"
    )
    breaker_failure_rate: float = Field(
        default=0.6, gt=0, le=1, description="first-transmission failure rate above which the breaker may trip"
    )
    # With incremental redundancy it may pay to let most first transmissions fail, if nearly all second ones succeed.
    breaker_retx_failure_rate: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="share of failed retransmissions below which the breaker does not trip",
    )
    breaker_min_tx: float = Field(
        default=20, gt=0, description="recent first transmissions that are needed to trip the breaker"
    )
    breaker_window_tx: float = Field(default=50, gt=0, description="first transmissions that count as recent")
    breaker_hold_slots: int = Field(
        default=400, ge=1, description="slots for which a UE stays on native after its breaker tripped"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "GuardConfig":
        if self.min_mcs > self.max_mcs:
            raise ValueError(f"min_mcs = {self.min_mcs} exceeds max_mcs = {self.max_mcs}")
        if self.breaker_min_tx >= self.breaker_window_tx:
            raise ValueError(
                f"breaker_min_tx = {self.breaker_min_tx} must be below breaker_window_tx = {self.breaker_window_tx},"
                " because the decaying count approaches it but never reaches it"
            )
        return self


class Limits:
    """The guard's present configuration, which may be replaced while decisions are made.

    It is replaced as a whole, from any thread, and looked up once for each indication.

    Args:
        default: configuration of all cells without one of their own.
    """

    def __init__(self, default: GuardConfig) -> None:
        self._now: tuple[GuardConfig, Mapping[str, GuardConfig]] = (default, {})

    @property
    def default(self) -> GuardConfig:
        """The configuration of all cells without one of their own."""
        return self._now[0]

    def of(self, cell_id: str) -> GuardConfig:
        """The configuration of one cell."""
        default, cells = self._now
        return cells.get(cell_id, default)

    def replace(self, default: GuardConfig, cells: Mapping[str, GuardConfig]) -> None:
        """Use these from the next indication on."""
        self._now = (default, dict(cells))


class Guard:
    """The guard of one decision loop.

    Args:
        limits: the configuration of each cell.
        mcs_tables: MCS tables that the policy was made for.
        columns: report columns that the policy reads.
    """

    def __init__(self, limits: Limits, mcs_tables: Sequence[int], columns: Sequence[str]) -> None:
        self._limits = limits
        self._quality = [MEASURED.index(name) for name in ("cqi", "sinr_db") if name in columns]
        self._fits = np.array([table in mcs_tables for table in range(4)])
        self._fits_all = bool(self._fits[1:].all())

    def check(
        self,
        report: KpiReport,
        score: Float32Array,
        kind: IntArray,
        value: IntArray,
        memory: UeMemory,
        rows: IntArray,
        guarded: Counter[str],
    ) -> tuple[IntArray, IntArray]:
        """Pass the decisions that may be sent; replace the others by native, or clamp them.

        Args:
            report: the report that was decided on, [ue].
            score: [ue, action], the policy's scores.
            kind, value: [ue], the policy's decisions.
            memory, rows: the UEs' memory and their rows in it, for the breaker.
            guarded: counts interventions by reason; a UE counts once, under the first reason that applies.

        Returns:
            kind and value, [ue], as they may be sent.
        """
        config = self._limits.of(report.cell_id)
        if not config.enabled:
            guarded["switched_off"] += report.num_ues
            return np.full_like(kind, NATIVE), np.zeros_like(value)
        bad: BoolArray = np.zeros(len(kind), bool)
        finite = np.isfinite(score)
        if count_nonzero(finite) < finite.size:
            bad = self._veto("not_finite", np.asarray(~finite.all(axis=1)), bad, guarded)
        if count_nonzero(report.harq_measured) < report.num_ues:
            blind = ~report.harq_measured & np.isnan(report.measured[:, self._quality]).all(axis=1)
            bad = self._veto("no_measurement", blind, bad, guarded)
        # HARQ feedback replaces an old CQI for as long as it is recent itself.
        idle_slots = np.where(report.first_tx > 0, 0, memory.idle_slots[rows] + report.period_slots)
        memory.idle_slots[rows] = idle_slots
        stale = (report.measured[:, _CQI_AGE] > config.max_cqi_age_slots) & (idle_slots > config.max_cqi_age_slots)
        if count_nonzero(stale):
            if _SINR in self._quality:
                stale &= np.isnan(report.measured[:, _SINR])
            bad = self._veto("stale_cqi", stale, bad, guarded)
        if not self._fits_all or count_nonzero(report.mcs_table) < report.num_ues:
            bad = self._veto("mcs_table", ~self._fits[report.mcs_table], bad, guarded)
        allowed = self._clamp(config, report, kind, value)
        held = self._breaker(config, report, kind, allowed, bad, memory, rows, guarded)
        if count_nonzero(held):
            bad = self._veto("breaker", held, bad, guarded)
        if count_nonzero(bad):
            kind = np.where(bad, NATIVE, kind)
            value, allowed = np.where(bad, 0, value), np.where(bad, 0, allowed)
        clamped = int(count_nonzero(allowed != value))
        if clamped:
            guarded["clamped"] += clamped
        return kind, allowed

    @staticmethod
    def _clamp(config: GuardConfig, report: KpiReport, kind: IntArray, value: IntArray) -> IntArray:
        absolute = kind == MCS
        max_mcs = np.minimum(_LAST_MCS, config.max_mcs)[report.mcs_table]
        if not count_nonzero(~absolute | (value > max_mcs) | (value < config.min_mcs)):
            return value
        low = np.where(absolute, config.min_mcs, -config.max_offset)
        high = np.where(absolute, max_mcs, config.max_offset)
        return np.where(kind == NATIVE, value, np.minimum(np.maximum(value, low), high))

    @staticmethod
    def _veto(reason: str, new: BoolArray, bad: BoolArray, guarded: Counter[str]) -> BoolArray:
        count = int((new & ~bad).sum())
        if count:
            guarded[reason] += count
        return bad | new

    @staticmethod
    def _breaker(
        config: GuardConfig,
        report: KpiReport,
        kind: IntArray,
        value: IntArray,
        bad: BoolArray,
        memory: UeMemory,
        rows: IntArray,
        guarded: Counter[str],
    ) -> BoolArray:
        """Which UEs are held on native, [ue]; updates the decaying counts and trips the breaker where too many fail."""
        sent = report.first_tx
        counts = np.empty((len(rows), 4), np.float32)
        counts[:, 0], counts[:, 1] = sent, report.first_failed
        # If the node does not count retransmissions, first transmissions decide alone.
        np.fmax(report.measured[:, RETX_ACK : RETX_NACK + 1], 0, out=counts[:, 2:], casting="same_kind")
        keep = np.maximum(0, 1 - sent / config.breaker_window_tx)
        recent = memory.recent[rows] * keep[:, None] + counts
        held_slots = np.maximum(memory.held_slots[rows] - report.period_slots, 0)
        recent_tx, recent_failed, decoded, undecoded = recent.T
        failing = (recent_tx >= config.breaker_min_tx) & (recent_failed > config.breaker_failure_rate * recent_tx)
        if count_nonzero(failing):
            # Without any retransmission both sides are 0.
            failing &= undecoded >= config.breaker_retx_failure_rate * (decoded + undecoded)
            # Falling back helps only if the DU would use a lower MCS; if its choice is not reported, it is assumed to.
            native = report.measured[:, _NATIVE_MCS]
            higher = np.where(kind == MCS, ~(native >= value), value > 0)
            tripped = failing & higher & ~bad & (held_slots == 0)
            if count_nonzero(tripped):
                guarded["breaker_tripped"] += int(count_nonzero(tripped))
            held_slots[tripped] = config.breaker_hold_slots
            # Earlier failures must not trip the breaker again as soon as the UE is released.
            recent[tripped] = 0
        memory.recent[rows] = recent
        memory.held_slots[rows] = held_slots
        return held_slots > 0


def deadline_missed(config: GuardConfig, elapsed_us: float, kind: IntArray, guarded: Counter[str]) -> bool:
    """Whether the decisions are too late to be sent; if so, counts those that would have overridden the DU."""
    if config.deadline_us is None or elapsed_us <= config.deadline_us:
        return False
    guarded["deadline"] += int(count_nonzero(kind != NATIVE))
    return True

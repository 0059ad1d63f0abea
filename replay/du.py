"""The DU stand-in: one cell's link adaptation, HARQ and E2 reporting, for all UEs at once, with full buffers.

Each slot has these steps: HARQ feedback of an earlier slot arrives and moves the native OLLA; a report is sent if it is
due; then every UE that is in the trace gets one transport block, new or retransmitted, at the xApp's MCS where a valid
decision is in force and at the DU's own otherwise.

* **Native link adaptation**: `distila.xapp.policy.olla.CqiOlla`, which, as in srsRAN Project, learns only from feedback
  for an MCS of its own choice: an override freezes it.
* **HARQ**: stop-and-wait processes, one per slot of the round trip, redundancy versions 0, 2, 3, 1; see
  `distila.replay.harq`.
* **Decisions**: absolute MCS, offset to the native choice, or native. A decision on an older indication than that of
  the latest accepted one is rejected as stale, one past its validity as expired; the UE then keeps the native choice.
"""

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distila.replay.du_config import DuConfig
from distila.replay.harq import Feedback, HarqProcesses, SlotResult
from distila.replay.link import Link, RandomDraws
from distila.replay.trace import NO_CQI, ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import (
    ACK,
    MCS,
    MCS_OFFSET,
    NACK,
    NATIVE,
    NO_UE_ID,
    RESIDUAL,
    Decisions,
    KpiReport,
    measured_columns,
)
from distila.xapp.nr.arrays import Float32Array, Float64Array, IntArray
from distila.xapp.nr.bler import BlerModel
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.policy.olla import CqiOlla

FIRST_RNTI = 0x4601  # the first C-RNTI that srsRAN Project assigns
_FRAME_US = 10_000
_SFN_MODULUS = 1024
_LAST_RNTI = 0xFFEF  # TS 38.321 table 7.1-1


@dataclass(frozen=True, slots=True)
class _Override:
    """Accepted decisions that wait for their slot; arrays over the UEs that they are for."""

    effective_slot: int
    rows: IntArray
    kind: IntArray
    value: IntArray
    expires_slot: int  # first slot in which they are expired


class Du:
    """One cell with the UEs of a channel trace.

    Args:
        trace: the UEs and their channels.
        bler: the BLER model.
        config: settings.
        seed: seed of the random draws (see `distila.replay.link`).
        cell_id: name of the cell on E2.
        copies: the UEs are this many copies of some UEs, with the same random draws and
            times of CQI.
    """

    def __init__(
        self,
        trace: ChannelTrace,
        bler: BlerModel,
        config: DuConfig,
        seed: int,
        cell_id: str = "replay",
        copies: int = 1,
    ) -> None:
        ues = trace.meta.ues
        count = len(ues)
        if FIRST_RNTI + count > _LAST_RNTI:
            raise InputError(f"trace {trace.meta.name}: {count} UEs, a cell has RNTIs for {_LAST_RNTI - FIRST_RNTI}")
        self.config = config
        self.cell_id = cell_id
        self.link = Link(ues, bler)
        self._draws = RandomDraws(seed, count, copies)
        self._harq = HarqProcesses(trace, self.link, config, self._draws)
        self.slot_us = trace.meta.slot_us
        self._combining = 1 if config.combining == "chase" else 2  # as E2 reports it
        self._slots_per_frame = max(1, round(_FRAME_US / self.slot_us))
        self.rejected: Counter[str] = Counter()
        self.accepted = 0  # UE decisions, those that leave the UE to the DU included
        self.decided = 0  # accepted UE decisions that set an MCS or an offset
        self.left = 0  # UE decisions received that leave the UE to the DU
        self.rejected_decided: Counter[str] = Counter()  # UE decisions that set an MCS or an offset, by cause
        self.reported = 0  # UE reports
        self._mcs_table = np.array([ue.mcs_table for ue in ues])
        self._cqi_table = np.array([ue.cqi_table for ue in ues])
        self._prbs = np.array([ue.prbs for ue in ues], np.float32)
        self._layers = np.array([ue.layers for ue in ues], np.float32)
        self._rnti = FIRST_RNTI + np.arange(count)
        self._olla = CqiOlla(config.olla(), self._mcs_table, self._cqi_table)
        self._native = self._olla.mcs()
        # CQI of the latest slots, because CQI arrives with a delay; the latest one holds until a newer one arrives.
        self._cqi_pipe: deque[tuple[int, IntArray, npt.NDArray[np.int8]]] = deque()
        self._cqi: Float32Array = np.full(count, np.nan, np.float32)
        self._cqi_slot = np.zeros(count, np.int64)
        # UEs measure their CQI at different times, as configured by RRC.
        self._cqi_phase = np.arange(count) % (count // copies) % config.cqi_period_slots
        # Feedback counted since the latest report, and since the start.
        self._pending: list[tuple[IntArray, IntArray, Float64Array]] = []
        self._total_first_tx = np.zeros(count, np.float64)
        self._retx = np.zeros((3, count))  # retransmissions decoded, not decoded, sum of the MCS of both
        # The decisions in force, [ue], and those on their way.
        self._kind = np.zeros(count, np.int64)
        self._value = np.zeros(count, np.int64)
        self._expires = np.zeros(count, np.int64)  # first slot in which the decision is expired
        self._latest_answer = 0
        self._sequence = 0
        self._report_slots: dict[int, int] = {}
        self._on_the_way: deque[_Override] = deque()
        self._present = np.ones(count, bool)

    def receive_feedback(self, slot: int, sinr_db: Float32Array, cqi: npt.NDArray[np.int8]) -> None:
        """Start a slot: receive the HARQ feedback and CQI that arrive in it.

        Args:
            slot: counted from the start of the replay.
            sinr_db: [ue], effective SINR of this slot; NaN: the UE is not scheduled.
            cqi: [ue], the CQI that the UE would report for this slot; `NO_CQI`: none.
        """
        feedback = self._harq.feedback(slot)
        if feedback is not None:
            self._receive_harq(feedback)
        self._receive_cqi(slot, cqi)
        self._native = self._olla.mcs()
        self._present = ~np.isnan(sinr_db)

    def _receive_harq(self, feedback: Feedback) -> None:
        ack, nack, lost = feedback.first_ack, feedback.first_nack, feedback.lost
        if feedback.any_again:
            again = feedback.again_ack, feedback.again_nack, (feedback.again_ack | feedback.again_nack) * feedback.mcs
            self._retx += again
        if feedback.any_own:
            own = feedback.own
            self._olla.update(feedback.mcs, (ack & own).astype(np.float32), (nack & own).astype(np.float32))
        if feedback.any_first:
            self._total_first_tx += ack | nack
        counted = ack | nack | lost if feedback.any_lost else ack | nack
        rows = counted.nonzero()[0]
        if len(rows):
            counts = np.zeros((len(rows), 4))
            counts[:, ACK], counts[:, NACK] = ack[rows], nack[rows]
            if feedback.any_lost:
                counts[:, RESIDUAL] = lost[rows]
            self._pending.append((rows, feedback.mcs[rows], counts))

    def _receive_cqi(self, slot: int, cqi: npt.NDArray[np.int8]) -> None:
        asked = np.flatnonzero(self._cqi_phase == slot % self.config.cqi_period_slots)
        asked = asked[cqi[asked] != NO_CQI]
        if len(asked):
            self._cqi_pipe.append((slot, asked, cqi[asked]))
        while self._cqi_pipe and self._cqi_pipe[0][0] <= slot - self.config.cqi_delay_slots:
            measured_slot, ues, values = self._cqi_pipe.popleft()
            self._cqi[ues] = values
            self._cqi_slot[ues] = measured_slot
            fresh = np.full(len(self._cqi), np.nan, np.float32)
            fresh[ues] = values
            self._olla.observe_cqi(fresh)

    def report_due(self, slot: int) -> bool:
        """Whether an E2 report is due in this slot; a cell without UEs sends none."""
        return slot % self.config.period_slots == 0 and bool(self._present.any())

    def report(self, slot: int) -> KpiReport:
        """The E2 report of this slot: what the DU knows, and the HARQ feedback since the previous report."""
        rows = np.flatnonzero(self._present)
        ue, mcs, counts = self._feedback_since_report()
        if len(rows) < len(self._present):
            here = self._present[ue]
            if not here.all():
                # Feedback of a UE that is not scheduled now is kept for its next report.
                self._pending.append((ue[~here], mcs[~here], counts[~here]))
            ue, mcs, counts = (np.cumsum(self._present) - 1)[ue[here]], mcs[here], counts[here]
        self._sequence += 1
        self.reported += len(rows)
        self._report_slots[self._sequence] = slot
        self._report_slots.pop(self._sequence - 4096, None)
        cqi = self._cqi[rows]
        retx_ack, retx_nack, retx_mcs_sum = self._retx[:, rows]
        columns = {
            "cqi": cqi,
            "cqi_age_slots": np.where(np.isnan(cqi), np.nan, slot - self._cqi_slot[rows]),
            "ri": self._layers[rows],
            "prbs": self._prbs[rows],
            "native_mcs": self._native[rows],
            "retx_ack": retx_ack,
            "retx_nack": retx_nack,
            "retx_mcs_sum": retx_mcs_sum,
            "combining": self._combining,
            "max_transmissions": self.config.max_transmissions,
        }
        self._retx[:, rows] = 0
        return KpiReport(
            cell_id=self.cell_id,
            sequence=self._sequence,
            sfn=slot // self._slots_per_frame % _SFN_MODULUS,
            slot=slot % self._slots_per_frame,
            timestamp_us=int(slot * self.slot_us),
            period_slots=self.config.period_slots,
            rnti=self._rnti[rows],
            ue_id=np.full(len(rows), NO_UE_ID),
            cqi_table=self._cqi_table[rows],
            mcs_table=self._mcs_table[rows],
            measured=measured_columns(len(rows), columns),
            total_first_tx=self._total_first_tx[rows],
            harq_ue=ue,
            harq_mcs=mcs,
            harq_counts=counts,
        )

    def _feedback_since_report(self) -> tuple[IntArray, IntArray, Float64Array]:
        """UE, MCS and counts of the HARQ feedback since the previous report, one entry per UE and MCS; resets them."""
        pending, self._pending = self._pending, []
        if not pending:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4))
        if len(pending) == 1:
            return pending[0]
        ue, mcs, counts = (np.concatenate(parts) for parts in zip(*pending, strict=True))
        keys, inverse = np.unique(ue * NUM_MCS + mcs, return_inverse=True)
        merged = np.zeros((len(keys), 4))
        np.add.at(merged, inverse, counts)
        return keys // NUM_MCS, keys % NUM_MCS, merged

    def receive(self, decisions: Decisions, slot: int) -> Counter[str]:
        """Receive a control message in this slot; it takes effect after the configured delay.

        Returns:
            Number of UE decisions by outcome: ``accepted``, or the cause of rejection in the words of the service
            model's ``Cause`` (also counted in `rejected`).
        """
        count = len(decisions.rnti)
        issued = self._report_slots.get(decisions.answers_sequence)
        effective = max(slot, (issued or 0) + self.config.decision_delay_slots)
        set_by_policy = decisions.kind != NATIVE
        self.left += count - int(np.count_nonzero(set_by_policy))
        cause = None
        if decisions.cell_id != self.cell_id:
            cause = "unknown_cell"
        elif issued is None or decisions.answers_sequence < self._latest_answer:
            cause = "stale"
        elif effective >= issued + decisions.valid_for_slots:
            cause = "expired"
        if cause is not None or issued is None:
            outcome = Counter({cause or "stale": count})
            self.rejected += outcome
            self.rejected_decided[cause or "stale"] += int(np.count_nonzero(set_by_policy))
            return outcome
        self._latest_answer = decisions.answers_sequence
        rows, kind, value = decisions.rnti - FIRST_RNTI, decisions.kind, decisions.value
        known = (rows >= 0) & (rows < len(self._rnti))
        outside = (kind == MCS) & known & ((value < 0) | (value > self.link.max_mcs[np.where(known, rows, 0)]))
        outcome = Counter()
        if np.count_nonzero(outside | ~known):
            outcome = +Counter(unknown_ue=int((~known).sum()), mcs_out_of_range=int(outside.sum()))
            self.rejected += outcome
            self.rejected_decided["mcs_out_of_range"] += int(np.count_nonzero(outside))
            self.rejected_decided["unknown_ue"] += int(np.count_nonzero(~known & set_by_policy))
            good = known & ~outside
            rows, kind, value = rows[good], kind[good], value[good]
        self._on_the_way.append(_Override(effective, rows, kind, value, issued + decisions.valid_for_slots))
        outcome["accepted"] = len(rows)
        self.accepted += len(rows)
        self.decided += int(np.count_nonzero(kind != NATIVE))
        return outcome

    def apply_decisions(self, slot: int) -> None:
        """Put those decisions into force whose slot has been reached."""
        while self._on_the_way and self._on_the_way[0].effective_slot <= slot:
            override = self._on_the_way.popleft()
            self._kind[override.rows] = override.kind
            self._value[override.rows] = override.value
            self._expires[override.rows] = override.expires_slot

    def transmit(self, slot: int, sinr_db: Float32Array) -> SlotResult:
        """Send one transport block to every UE present.

        Args:
            slot: the same as in `receive_feedback`.
            sinr_db: [ue], effective SINR of this slot.
        """
        native, link = self._native, self.link
        in_force = self._expires > slot
        chosen = np.where(in_force & (self._kind == MCS), self._value, native)
        offset = in_force & (self._kind == MCS_OFFSET)
        if offset.any():
            chosen = np.where(offset, np.clip(native + self._value, 0, link.max_mcs), chosen)
        return self._harq.transmit(slot, chosen, native, sinr_db)

"""The decision loop: one indication in, one control message out, all its UEs in one call of the policy.

`DecisionLoop.step` takes and gives octet strings; `DecisionLoop.decide` is the same between decoding and encoding, for
an in-process E2 node that has arrays already. Both run to completion on the caller's thread. Order is kept per cell:
what arrives twice or late is dropped and counted, a node that restarted is recognised.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

import numpy as np
from numpy import count_nonzero
from pydantic import BaseModel, ConfigDict, Field

from xapp.e2.codec import ControlEncoder, Identity, Refused, decode_indication, decode_indication_header
from xapp.e2.report import MCS, MCS_OFFSET, NATIVE, Decisions, IntArray, KpiReport
from xapp.errors import InputError
from xapp.policy.bundle import Bundle
from xapp.policy.columns import Layout
from xapp.policy.guard import Guard, GuardConfig, Limits
from xapp.policy.ue_table import UeTable
from xapp.stats import LoopStats

log = logging.getLogger(__name__)

_LATE_IN_ORDER: Final = 8
_KINDS = {"native": NATIVE, "mcs": MCS, "mcs_offset": MCS_OFFSET}


class LoopConfig(BaseModel):
    """Settings of the decision loop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str = Field(default="policy", min_length=1, description="name of the arm that decisions carry")
    ue_capacity: int = Field(
        default=8192, ge=1, le=1_000_000, description="UEs remembered; the longest unseen goes first"
    )
    cell_capacity: int = Field(default=1024, ge=1, description="cells remembered; the longest unseen goes first")
    valid_for_periods: int = Field(
        default=2, ge=1, le=1000, description="report periods that a decision outlives its indication"
    )
    valid_for_extra_slots: int = Field(
        default=16, ge=0, le=1_000_000, description="added to that, for the way there and back"
    )

    def valid_for_slots(self, period_slots: int) -> int:
        """Slots for which a decision is valid, counted from the slot of its indication."""
        return self.valid_for_periods * period_slots + self.valid_for_extra_slots


@dataclass(slots=True)
class _CellOrder:
    sequence: int
    timestamp_us: int
    # The latest indication that was taken for a late one, and how many such came in order without a newer between.
    late_sequence: int = -1
    late_in_order: int = 0


def _began_anew(order: _CellOrder, sequence: int) -> bool:
    """Whether what looks late is a restarted node with its clock set back: late ones do not keep coming in order."""
    in_order = sequence == order.late_sequence + 1
    order.late_in_order = order.late_in_order + 1 if in_order else 1
    order.late_sequence = sequence
    return order.late_in_order >= _LATE_IN_ORDER


class _Policy:
    """A bundle made ready to decide, with the memory of its UEs."""

    def __init__(self, bundle: Bundle, limits: Limits, ue_capacity: int) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.layout = Layout(manifest.columns)
        self.guard = Guard(limits, manifest.mcs_tables, manifest.columns)
        self.kind_of_action = np.array([_KINDS[action.kind] for action in manifest.actions])
        self.value_of_action = np.array([action.value for action in manifest.actions])
        self.ues = UeTable(ue_capacity, manifest.state_size)
        # ONNX Runtime plans its memory on first use, which the first UE should not wait for.
        bundle.run(np.zeros((1, len(manifest.columns)), np.float32), np.zeros((1, manifest.state_size), np.float32))


class DecisionLoop:
    """Decides for every UE of an indication.

    Args:
        bundle: the policy.
        config: settings.
        guard_config: limits on what may go out.
        identity: who the control messages come from.
        clock_ns: monotonic clock, replaced in tests.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: LoopConfig | None = None,
        guard_config: GuardConfig | None = None,
        identity: Identity | None = None,
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.config = config or LoopConfig()
        self.stats = LoopStats()
        self.limits = Limits(guard_config or GuardConfig())
        """What the guard enforces; may be replaced while decisions are made."""
        self._encoder = ControlEncoder(identity or Identity())
        self._clock_ns = clock_ns
        self._policy = _Policy(bundle, self.limits, self.config.ue_capacity)
        self._order: dict[str, _CellOrder] = {}

    @property
    def bundle(self) -> Bundle:
        """The policy that decides now."""
        return self._policy.bundle

    def swap(self, bundle: Bundle, arm: str | None = None) -> None:
        """Have another policy decide from the next indication on; from any thread, whose time it takes to warm it up.

        The UEs' memory starts anew, as it means nothing to another graph; the same graph again changes nothing.

        Args:
            bundle: the policy, loaded and so checked.
            arm: whose policy it is; there is one arm.

        Raises:
            InputError: there is no such arm.
        """
        if arm not in (None, self.config.arm):
            raise InputError(f"no arm {arm!r}: there is {self.config.arm!r}")
        if bundle.digest != self.bundle.digest:
            self._policy = _Policy(bundle, self.limits, self.config.ue_capacity)

    def step(
        self, header_data: bytes, message_data: bytes, received_ns: int | None = None
    ) -> tuple[bytes, bytes] | None:
        """Decide on one indication.

        Args:
            header_data: RICindicationHeader, the octet string.
            message_data: RICindicationMessage.
            received_ns: when it arrived, on the loop's clock; the deadline counts from there. None: now.

        Returns:
            RICcontrolHeader and RICcontrolMessage, or None where there is nothing to send; the reason is counted.
        """
        start_ns = self._clock_ns()
        try:
            header = decode_indication_header(header_data)
            report = decode_indication(header, message_data, self.stats.noticed)
        except Refused as refusal:
            self.stats.dropped[refusal.reason] += 1
            log.debug("indication refused: %s", refusal)
            return None
        decoded_ns = self._clock_ns()
        decisions = self.decide(report, start_ns if received_ns is None else received_ns)
        if decisions is None:
            return None
        decided_ns = self._clock_ns()
        control = self._encoder.encode(decisions)
        end_ns = self._clock_ns()
        latency = self.stats.latency
        latency["decode"].add((decoded_ns - start_ns) / 1000)
        latency["encode"].add((end_ns - decided_ns) / 1000)
        latency["total"].add((end_ns - start_ns) / 1000)
        return control

    def decide(self, report: KpiReport, received_ns: int | None = None) -> Decisions | None:
        """Decide on one decoded report; None where it is dropped (counted by reason)."""
        start_ns = self._clock_ns()
        if not self._in_order(report):
            return None
        if report.num_ues == 0:
            self.stats.dropped["no_ue"] += 1
            return None
        if report.num_ues > self.config.ue_capacity:
            self.stats.dropped["too_many_ues"] += 1
            return None
        # One look: another thread may put another policy in its place at any time.
        policy = self._policy
        ues = policy.ues
        rows = ues.rows(report, self.stats.noticed)
        self._watch_counters(report, ues, rows)
        matrix = policy.layout.matrix(report)
        state = ues.state[rows]
        state_ns = self._clock_ns()
        score, action, next_state = policy.bundle.run(matrix, state)
        # A state that is not finite would poison every later decision of the UE: forget it instead.
        finite = np.isfinite(next_state)
        if count_nonzero(finite) < finite.size:
            lost = np.asarray(~finite.all(axis=1))
            next_state = np.where(lost[:, None], np.float32(0), next_state)
            self.stats.noticed["state_not_finite"] += int(lost.sum())
        ues.state[rows] = next_state
        infer_ns = self._clock_ns()
        kind, value = policy.guard.check(
            report,
            score,
            policy.kind_of_action[action],
            policy.value_of_action[action],
            ues,
            rows,
            self.stats.guarded,
        )
        guard_ns = self._clock_ns()
        elapsed_us = (guard_ns - (start_ns if received_ns is None else received_ns)) / 1000
        if policy.guard.deadline_missed(elapsed_us, kind, self.stats.guarded):
            kind, value = np.full_like(kind, NATIVE), np.zeros_like(value)
        stats = self.stats
        stats.indications += 1
        stats.decisions += report.num_ues
        stats.native += int(count_nonzero(kind == NATIVE))
        stats.latency["state"].add((state_ns - start_ns) / 1000)
        stats.latency["infer"].add((infer_ns - state_ns) / 1000)
        stats.latency["guard"].add((guard_ns - infer_ns) / 1000)
        return Decisions(
            cell_id=report.cell_id,
            answers_sequence=report.sequence,
            sfn=report.sfn,
            slot=report.slot,
            timestamp_us=report.timestamp_us,
            valid_for_slots=self.config.valid_for_slots(report.period_slots),
            rnti=report.rnti,
            ue_id=report.ue_id,
            kind=kind,
            value=value,
            arms=[(self.config.arm, policy.bundle.digest)],
        )

    def _in_order(self, report: KpiReport) -> bool:
        """Whether the report is newer than the latest of its cell; drops and counts it otherwise."""
        order = self._order.get(report.cell_id)
        if order is None:
            if len(self._order) >= self.config.cell_capacity:
                # Dicts keep insertion order, and cells are re-inserted when heard: the first is the longest unheard.
                self._order.pop(next(iter(self._order)))
                self.stats.noticed["cell_evicted"] += 1
            self._order[report.cell_id] = _CellOrder(report.sequence, report.timestamp_us)
            return True
        if report.sequence <= order.sequence:
            if report.timestamp_us <= order.timestamp_us and not _began_anew(order, report.sequence):
                reason = "duplicate" if report.sequence == order.sequence else "out_of_order"
                self.stats.dropped[reason] += 1
                return False
            # The sequence began anew, and time went on or the node's clock was set back with it: the node restarted.
            self.stats.noticed["node_restart"] += 1
        else:
            if report.sequence > order.sequence + 1:
                self.stats.noticed["indications_missed"] += report.sequence - order.sequence - 1
            if report.timestamp_us < order.timestamp_us:
                # The sequence is the better witness; a clock may be set back.
                self.stats.noticed["time_backwards"] += 1
        if len(self._order) > 1:
            del self._order[report.cell_id]
            self._order[report.cell_id] = order
        order.sequence, order.timestamp_us = report.sequence, report.timestamp_us
        order.late_sequence, order.late_in_order = -1, 0
        return True

    def _watch_counters(self, report: KpiReport, ues: UeTable, rows: IntArray) -> None:
        """Compare running totals with what the reports add up to: shows lost feedback, and new UEs on old RNTIs."""
        total = report.total_first_tx
        before = ues.total_first_tx[rows]
        unknown = np.isnan(total)
        if count_nonzero(unknown):
            # A report without the total says nothing about it: the one known stays.
            total = np.where(unknown, before, total)
        ues.total_first_tx[rows] = total
        lost = total - before - report.first_tx
        if not count_nonzero(lost):
            return
        restarted = np.asarray(total < before)
        if restarted.any():
            # The counter starts anew at attach, so this is another UE on the same RNTI, or the same one re-attached.
            ues.reset(rows[restarted])
            ues.total_first_tx[rows[restarted]] = total[restarted]
            self.stats.noticed["ue_counter_restart"] += int(restarted.sum())
        lost = np.where(restarted | np.isnan(lost), 0, lost)
        for reason, count in (
            ("harq_feedback_missed", lost.clip(min=0).sum()),
            ("harq_beyond_total", -lost.clip(max=0).sum()),
        ):
            if count:
                self.stats.noticed[reason] += int(count)

"""The decision loop: one indication in, one control message out, all its UEs in one call of the policy.

`DecisionLoop.step` takes and returns octet strings, `DecisionLoop.step_decoded` an indication whose header is decoded
already; `DecisionLoop.decide` is the part between decoding and encoding, for an in-process E2 node that has arrays. All
run to completion on the caller's thread. Order is kept per cell: an indication that arrives twice or late is dropped
and counted, a node that restarted is recognised.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final

import numpy as np
from numpy import count_nonzero
from pydantic import BaseModel, ConfigDict, Field

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.codec import ControlEncoder, Identity, Rejected, decode_indication, decode_indication_header
from distila.xapp.errors import InputError
from distila.xapp.kpi.report import NATIVE, UNNUMBERED, Decisions, KpiReport
from distila.xapp.nr.arrays import IntArray
from distila.xapp.policy.arm import Arm, CellAssignment, Decided, Engine, Lineup, Meter
from distila.xapp.policy.bundle import Bundle
from distila.xapp.policy.guard import GuardConfig, Limits, deadline_missed
from distila.xapp.policy.ue_table import UeTable
from distila.xapp.stats import LoopStats

log = logging.getLogger(__name__)

_LATE_IN_ORDER: Final = 8
_NO_ENGINE: Final = 0


class LoopConfig(BaseModel):
    """Settings of the decision loop: how much it remembers, and how long its decisions are valid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str = Field(default="policy", min_length=1, description="name of the arm that is written into decisions")
    ue_capacity: int = Field(
        default=8192,
        ge=1,
        le=1_000_000,
        description="UEs whose memory is kept; the UE not seen for longest is forgotten first",
    )
    cell_capacity: int = Field(
        default=1024,
        ge=1,
        description="cells whose order of indications is kept; the cell not seen for longest is forgotten first",
    )
    valid_for_periods: int = Field(default=2, ge=1, le=1000, description="report periods for which a decision is valid")
    valid_for_extra_slots: int = Field(
        default=16,
        ge=0,
        le=1_000_000,
        description="slots added to that, for the delay from the E2 node to the xApp and back",
    )

    def valid_for_slots(self, period_slots: int) -> int:
        """Slots for which a decision is valid, counted from the slot of its indication."""
        return self.valid_for_periods * period_slots + self.valid_for_extra_slots


@dataclass(slots=True)
class _CellOrder:
    sequence: int
    timestamp_us: int
    # The latest indication that was dropped as late, and how many such arrived in order without a newer one between.
    late_sequence: int = -1
    late_in_order: int = 0


def _restarted(order: _CellOrder, sequence: int) -> bool:
    """Whether late indications come from a restarted node with its clock set back: such ones keep arriving in order."""
    in_order = sequence == order.late_sequence + 1
    order.late_in_order = order.late_in_order + 1 if in_order else 1
    order.late_sequence = sequence
    return order.late_in_order >= _LATE_IN_ORDER


class DecisionLoop:
    """Decides for every UE of an indication. One loop serves many cells; it remembers each UE from report to report.

    Args:
        bundle: the policy.
        config: settings.
        guard_config: limits on the decisions that may be sent.
        identity: the sender in control messages.
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
        self._bundle = bundle
        self.stats = LoopStats()
        self.meter: Meter | None = None
        self.limits = Limits(guard_config or GuardConfig())
        """The limits that the guard enforces; may be replaced while decisions are made."""
        self._encoder = ControlEncoder(identity or Identity())
        self._clock_ns = clock_ns
        self._ues = UeTable(self.config.ue_capacity)
        self._order: dict[str, _CellOrder] = {}
        self._assignments: dict[str, CellAssignment] = {}
        self._engine_of_row = np.full(self.config.ue_capacity, _NO_ENGINE)
        self._shadow_counts: Counter[str] = Counter()
        self._change = threading.Lock()
        self._next = Lineup((Arm(self.config.arm, self.engine(bundle)),))
        self._lineup = self._next
        self._adopt_lineup()

    @property
    def bundle(self) -> Bundle:
        """The policy of the default arm; if that arm has none now, its latest policy."""
        engine = self._next.arms[0].engine
        if engine is not None:
            self._bundle = engine.bundle
        return self._bundle

    @property
    def lineup(self) -> Lineup:
        """The arms that decide from the next indication on."""
        return self._next

    def engine(self, bundle: Bundle) -> Engine:
        """An engine that runs a bundle under this loop's limits, warmed up on the caller's thread."""
        return Engine(bundle, self.limits, self.config.ue_capacity)

    def swap(self, bundle: Bundle, arm: str | None = None) -> None:
        """Replace the policy of an arm; from any thread, with effect from the next indication.

        The memory of the arm's UEs is cleared, unless the graph is the same.

        Args:
            bundle: the new policy.
            arm: name of the arm, shadows included; None: the default one.

        Raises:
            InputError: there is no such arm.
        """
        with self._change:
            lineup = self._next
            name = lineup.arms[0].name if arm is None else arm
            arms = (*lineup.arms, *lineup.shadows)
            if name not in (one.name for one in arms):
                raise InputError(f"arm {name!r}: no such arm, there are {', '.join(one.name for one in arms)}")
            known = [one for one in lineup.engines if one.bundle.digest == bundle.digest]
            engine = known[0] if known else self.engine(bundle)

            def swapped(which: tuple[Arm, ...]) -> tuple[Arm, ...]:
                return tuple(Arm(name, engine) if one.name == name else one for one in which)

            self._next = Lineup(swapped(lineup.arms), lineup.assign, swapped(lineup.shadows))

    def deploy(self, lineup: Lineup) -> None:
        """Set the arms; from any thread, with effect from the next indication.

        A UE that changes to another engine starts with an empty memory there, even if the engine ran as its shadow: the
        shadow's memory reflects decisions of another policy.
        """
        with self._change:
            self._next = lineup

    def _adopt_lineup(self) -> None:
        """Start to use the lineup set by `deploy` or `swap`."""
        lineup = self._next
        for engine in lineup.engines:
            if engine not in self._lineup.engines:
                # Its memory is of other UEs, or of long ago.
                engine.memory.clear()
        self._lineup = lineup
        self._ues.memories = [engine.memory for engine in lineup.engines]
        self._arms = [(arm.name, arm.digest) for arm in lineup.arms]
        self._assignments.clear()

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
        except Rejected as rejection:
            self._reject(rejection)
            return None
        return self._step(header, message_data, start_ns, received_ns)

    def step_decoded(
        self, header: pb.IndicationHeader, message_data: bytes, received_ns: int | None = None
    ) -> tuple[bytes, bytes] | None:
        """As `step`, for a caller that has decoded and checked the header already, as the inbox does."""
        return self._step(header, message_data, self._clock_ns(), received_ns)

    def _step(
        self, header: pb.IndicationHeader, message_data: bytes, start_ns: int, received_ns: int | None
    ) -> tuple[bytes, bytes] | None:
        try:
            report = decode_indication(header, message_data, self.stats.noticed)
        except Rejected as rejection:
            self._reject(rejection)
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

    def _reject(self, rejection: Rejected) -> None:
        self.stats.dropped[rejection.reason] += 1
        log.debug("indication rejected: %s", rejection)

    def decide(self, report: KpiReport, received_ns: int | None = None) -> Decisions | None:
        """Decide on one decoded report.

        Args:
            report: from `KpiReport.of`, or from an E2 node in this process.
            received_ns: when it arrived, on the loop's clock; the deadline counts from there. None: now.

        Returns:
            One decision for each UE of the report, in its order. None where the report is dropped: it came twice or
            late by its sequence number, holds no UE, or more than ``LoopConfig.ue_capacity``; ``stats.dropped`` counts
            such reports by reason.
        """
        start_ns = self._clock_ns()
        if not self._in_order(report):
            return None
        if report.num_ues == 0:
            self.stats.dropped["no_ue"] += 1
            return None
        if report.num_ues > self.config.ue_capacity:
            self.stats.dropped["too_many_ues"] += 1
            return None
        if self._next is not self._lineup:
            self._adopt_lineup()
        rows = self._ues.rows(report, self.stats.noticed)
        self._watch_counters(report, rows)
        assigned = self._assignments.get(report.cell_id)
        if assigned is None or assigned.rows is not rows:
            assigned = self._assign(report, rows)
        stats = self.stats
        spent: list[tuple[int, int]] = []
        kind, value, proposed = self._decide_all(report, assigned, spent)
        guard_ns = self._clock_ns()
        elapsed_us = (guard_ns - (start_ns if received_ns is None else received_ns)) / 1000
        if deadline_missed(self.limits.default, elapsed_us, kind, stats.guarded):
            kind, value = np.full_like(kind, NATIVE), np.zeros_like(value)
        native = count_nonzero(kind == NATIVE)
        stats.indications += 1
        stats.decisions += report.num_ues
        stats.native += int(native)
        infer_us, guarded_us = (sum(times) / 1000 for times in zip(*spent, strict=True)) if spent else (0.0, 0.0)
        stats.latency["state"].add((guard_ns - start_ns) / 1000 - infer_us - guarded_us)
        stats.latency["infer"].add(infer_us)
        stats.latency["guard"].add(guarded_us)
        if self.meter is not None:
            withheld = (kind == NATIVE) & (proposed != NATIVE) if native else None
            self.meter.record(Decided(report, assigned, withheld, [sum(times) / 1000 for times in spent]))
        if assigned.lineup.shadows:
            self._shadow(report, assigned, kind, value)
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
            arms=self._arms,
            arm=assigned.arm,
        )

    def _assign(self, report: KpiReport, rows: IntArray) -> CellAssignment:
        """Assign the UEs of a cell to arms and engines, because the UEs or the arms have changed."""
        lineup = self._lineup
        arm = None if lineup.assign is None else lineup.assign(report)
        assigned = CellAssignment.of(lineup, rows, self._ues.units(report, rows), arm)
        decides = np.full(len(rows), _NO_ENGINE)
        for engine, index in assigned.groups:
            mine = slice(None) if index is None else index
            decides[mine] = engine.number
            is_new = self._engine_of_row[rows[mine]] != engine.number
            engine.memory.reset(rows[mine][is_new])
        self._engine_of_row[rows] = decides
        self._assignments[report.cell_id] = assigned
        return assigned

    def _decide_all(
        self, report: KpiReport, assigned: CellAssignment, spent: list[tuple[int, int]]
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Kind, value, and the kind proposed before the guard, [ue]; appends each group's inference and guard time."""
        groups = assigned.groups
        if len(groups) == 1 and groups[0][1] is None:
            return self._decide_group(groups[0][0], report, assigned.rows, spent)
        kind, value, proposed = (np.zeros(report.num_ues, np.int64) for _ in range(3))
        kind[:] = proposed[:] = NATIVE
        for engine, index in groups:
            part = report if index is None else report.part(index)
            rows = assigned.rows if index is None else assigned.rows[index]
            into = slice(None) if index is None else index
            kind[into], value[into], proposed[into] = self._decide_group(engine, part, rows, spent)
        return kind, value, proposed

    def _decide_group(
        self, engine: Engine, report: KpiReport, rows: IntArray, spent: list[tuple[int, int]]
    ) -> tuple[IntArray, IntArray, IntArray]:
        clock_ns = self._clock_ns
        matrix = engine.matrix(report)
        state_ns = clock_ns()
        score, action = engine.infer(matrix, rows, self.stats.noticed)
        infer_ns = clock_ns()
        decided = engine.guarded(report, score, action, rows, self.stats.guarded)
        spent.append((infer_ns - state_ns, clock_ns() - infer_ns))
        return decided

    def _shadow(self, report: KpiReport, assigned: CellAssignment, kind: IntArray, value: IntArray) -> None:
        """Let the shadow arms decide. Their decisions are not sent, and a fault in one does not affect other arms."""
        for arm in assigned.lineup.shadows:
            if arm.engine is None:
                continue
            try:
                score, action = arm.engine.infer(arm.engine.matrix(report), assigned.rows, self._shadow_counts)
                decided = arm.engine.guarded(report, score, action, assigned.rows, self._shadow_counts)
            except Exception:
                self.stats.noticed["shadow_failed"] += 1
                log.debug("shadow arm %s failed", arm.name, exc_info=True)
                continue
            if self.meter is not None:
                self.meter.shadowed(arm, report, decided[0], decided[1], kind, value)

    def _in_order(self, report: KpiReport) -> bool:
        """Whether the report is newer than the latest of its cell; drops and counts it otherwise."""
        order = self._order.get(report.cell_id)
        if order is None:
            if len(self._order) >= self.config.cell_capacity:
                # Dicts keep insertion order, and each report re-inserts its cell: the first was not seen for longest.
                forgotten = next(iter(self._order))
                self._order.pop(forgotten)
                self._assignments.pop(forgotten, None)
                self.stats.noticed["cell_evicted"] += 1
            self._order[report.cell_id] = _CellOrder(report.sequence, report.timestamp_us)
            return True
        if report.sequence == UNNUMBERED:
            # Nothing to compare: it is the newest, and says nothing about the order of numbered ones.
            order.late_sequence, order.late_in_order = -1, 0
            self._order[report.cell_id] = self._order.pop(report.cell_id)
            return True
        if report.sequence <= order.sequence:
            if report.timestamp_us <= order.timestamp_us and not _restarted(order, report.sequence):
                reason = "duplicate" if report.sequence == order.sequence else "out_of_order"
                self.stats.dropped[reason] += 1
                return False
            # The sequence started again, and time went on or the node's clock was set back too: the node restarted.
            self.stats.noticed["node_restart"] += 1
        else:
            if report.sequence > order.sequence + 1 and order.sequence != UNNUMBERED:
                self.stats.noticed["indications_missed"] += report.sequence - order.sequence - 1
            if report.timestamp_us < order.timestamp_us:
                # The sequence is more reliable than the clock, which may be set back.
                self.stats.noticed["time_backwards"] += 1
        if len(self._order) > 1:
            del self._order[report.cell_id]
            self._order[report.cell_id] = order
        order.sequence, order.timestamp_us = report.sequence, report.timestamp_us
        order.late_sequence, order.late_in_order = -1, 0
        return True

    def _watch_counters(self, report: KpiReport, rows: IntArray) -> None:
        """Compare running totals with the sums of the reports: finds lost feedback, and new UEs on old RNTIs."""
        total = report.total_first_tx
        before = self._ues.total_first_tx[rows]
        unknown = np.isnan(total)
        if count_nonzero(unknown):
            # A report may lack the total: then the known one stays.
            total = np.where(unknown, before, total)
        self._ues.total_first_tx[rows] = total
        lost = total - before - report.first_tx
        if not count_nonzero(lost):
            return
        restarted = np.asarray(total < before)
        if restarted.any():
            # The counter starts at 0 at attach, so this is another UE on the same RNTI, or the same UE re-attached.
            self._ues.reset(rows[restarted])
            self._assignments.pop(report.cell_id, None)
            self._ues.total_first_tx[rows[restarted]] = total[restarted]
            self.stats.noticed["ue_counter_restart"] += int(restarted.sum())
        lost = np.where(restarted | np.isnan(lost), 0, lost)
        for reason, count in (
            ("harq_feedback_missed", lost.clip(min=0).sum()),
            ("harq_beyond_total", -lost.clip(max=0).sum()),
        ):
            if count:
                self.stats.noticed[reason] += int(count)

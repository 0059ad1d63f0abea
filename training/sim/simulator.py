"""The simulator: HARQ, the DU's own link adaptation, delayed decisions, reports; all links of a batch at once.

Each slot has these steps: HARQ feedback of ``harq_rtt_slots`` ago and a due CQI arrive; the DU's link adaptation, if
there is one, reads them and chooses an MCS; a report is made if it is due; then every link with data transmits one
block, new or retransmitted, at the MCS of the decision in force or at the DU's own choice. `distila.replay.du` has the
same order.

Stop-and-wait HARQ: slot ``t`` uses process ``t mod harq_rtt_slots``. So the outcome of a slot is not known until
``harq_rtt_slots`` later, and up to that many slots under one decision are processed as one tensor [slot, link]: the
*window*. Only what changes from slot to slot (the DU's loop, buffers) is computed slot by slot. Where a link has fewer
processes than the round trip has slots, the slots without one are *stalled*: nothing is sent.

A block's first transmission is decided at its own effective SINR. Retransmissions, in the order of redundancy versions
0, 2, 3, 1, are combined with what the decoder holds (`distila.xapp.nr.soft_combining`); the links that send one in a
window are picked out, so that only they pay for it. Of a missed grant the UE receives nothing, and the DU goes on with
the next version. After the last transmission RLC in acknowledged mode brings the bits back into the buffer after
``rlc_delay_slots``; in unacknowledged mode they are lost.

    conditions = Conditions(scenario, 1000, Split.TEST, 0, 4000)
    simulator = Simulator(conditions, native=baseline("olla", **tuned_settings("olla")))
    policy.start(conditions.cell(), conditions.generator("policy"))
    while simulator.slot < 4000:
        report = simulator.step(policy.decide(simulator.report))
    simulator.counters.goodput
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from distila.training.sim.conditions import Conditions
from distila.training.sim.link import steeper
from distila.training.sim.report import Decision, Policy, Report
from distila.training.sim.split import seed_sequence
from distila.training.sim.traffic import Traffic
from distila.xapp.kpi.block_delay import MAX_TRANSMISSIONS, BlockDelays, BlockTiming, delays_by_transmissions
from distila.xapp.kpi.link_metrics import RATIOS, LinkCounts, stalled_slot_share
from distila.xapp.kpi.report import MCS, NATIVE
from distila.xapp.nr.soft_combining import NUM_VERSIONS

RE_PER_PRB_SLOT: Final = 12 * 14
"""Resource elements of a PRB in a slot, overhead included: one for each bit/s/Hz, see `Counters.goodput`."""


@dataclass(frozen=True)
class Counters(LinkCounts[Tensor]):
    """Counts of each link since the start or the latest `Simulator.restart_counters`; float64 [link].

    ``resource`` are resource elements that carried transmissions, overhead included, so `goodput` is in bit/s/Hz.
    """

    mean_mcs: Tensor
    """mean over first transmissions; NaN: there were none"""
    decoded_after: Tensor
    """[link, 8], blocks decoded after 1, 2... transmissions"""
    lost_bits: Tensor
    """of residual losses in RLC's unacknowledged mode; in acknowledged mode they come again"""
    slots: int
    """counted"""
    stalled_slots: int
    """of them, those without a free HARQ process"""
    timing: BlockTiming
    slot_us: float

    @property
    def stalled_slot_share(self) -> float:
        """Share of slots without a free HARQ process; NaN without slots."""
        return stalled_slot_share(self.stalled_slots, self.slots)

    def block_delays_ms(self) -> BlockDelays:
        """Delays of all blocks of all links together [ms]."""
        decoded_after = self.decoded_after.sum(dim=0).cpu().numpy()
        return delays_by_transmissions(decoded_after, float(self.residual.sum()), self.timing).scaled(
            self.slot_us / 1e3
        )

    def figures(self) -> dict[str, float | None]:
        """Figures that a training logs, None where they are not defined.

        ``goodput`` [bit/s/Hz], mean over links; over all links together the metrics of
        `distila.xapp.kpi.link_metrics.RATIOS`, ``stalled_slot_share``, and percentiles of block delay [ms]
        (`distila.xapp.kpi.block_delay`): ``block_delay_ms_p50``, ``block_delay_ms_p95``, ``block_delay_ms_p99``.
        """
        total = self.total()
        found = {name: float(getattr(total, name)) for name in RATIOS}
        found["stalled_slot_share"] = self.stalled_slot_share
        found |= {
            f"block_delay_ms_{name}": value for name, value in self.block_delays_ms().percentiles()._asdict().items()
        }
        defined = {name: value if math.isfinite(value) else None for name, value in found.items()}
        return {"goodput": float(self.goodput.mean()), **defined}


@dataclass(frozen=True, slots=True)
class Sent:
    """Transmissions of the slots of a window, and their outcomes: [slot, link], not to be changed."""

    slot: int
    """the first slot"""
    first: Tensor
    """bool, whether it was the first transmission of a block"""
    failed: Tensor
    """bool, sent, and not decoded after this transmission"""
    lost: Tensor
    """bool, failed, and was the block's last transmission: a residual loss"""
    bits: Tensor
    """float32, bits of the block; 0: nothing was sent"""
    resource: Tensor
    """float32, resource elements of the transmission, overhead included"""


class Simulator:
    """A batch of links under given conditions.

    Args:
        conditions: the exogenous conditions; good for one run.
        native: the DU's own link adaptation; None: there is none, and every decision must be an absolute MCS.
        on_sent: called in order with the transmissions of every slot: the true outcomes, before any feedback.

    Attributes:
        slot: the next slot; its feedback has been received.
        report: the latest report; before the first step, that of slot 0.
        native_mcs: int64 [link], what the DU would use in that slot; None without native link adaptation.
    """

    def __init__(
        self, conditions: Conditions, native: Policy | None = None, on_sent: Callable[[Sent], None] | None = None
    ) -> None:
        self.conditions, self.tables, self.native = conditions, conditions.tables, native
        self._on_sent = on_sent
        self.device, self.num_links = conditions.device, conditions.num_links
        if native is None and conditions.decision_delay_slots:
            raise ValueError("without native link adaptation nothing decides until the first decision takes effect")
        self._rtt = conditions.harq_rtt_slots
        self._usable = min(self._rtt, conditions.processes)  # slots of a round trip that have a process
        shape = (self._rtt, self.num_links)
        # HARQ processes, [process, link].
        self._row = self._zeros(shape, torch.int64)  # allocation and MCS of the block, see LinkTables
        self._mcs = self._row if len(self.tables.allocations) == 1 else self._zeros(shape, torch.int64)
        self._attempt = self._zeros(shape, torch.uint8)  # transmissions of the block so far, 0: none
        self._open = self._zeros(shape, torch.bool)  # the block failed and will be sent again
        self._first_db = self._zeros(shape)  # effective SINR of the first transmission, -inf: grant missed
        self._store = self._zeros((self._rtt * self.num_links, NUM_VERSIONS))  # of blocks sent again, see Combining
        self._outcome = self._zeros(shape, torch.uint8)  # feedback on the way, of a first transmission
        self._lost = self._zeros(shape)
        self._retx = self._zeros((3, *shape))  # see `Report.retx`
        self._own = torch.ones(shape, dtype=torch.bool, device=self.device)  # at the DU's own choice
        self._all_own = True
        traffic = conditions.scenario.traffic
        self.traffic: Traffic | None = None
        if traffic.full_buffer_share.bounds[0] < 1:
            rng = np.random.default_rng(
                seed_sequence(conditions.split, conditions.seed, f"traffic {conditions.scenario.name}")
            )
            args = (self.num_links, conditions.num_slots, conditions.slot_us, rng, self.device)
            self.traffic = Traffic(traffic, *args)
            self._payload = self._zeros(shape)  # bits of the block that were in the buffer
            self._share = self._zeros(shape)  # of the allocation that the block needs
        # PRBs of every slot where they are the same for all and there is always something to send, else 0.
        always = self.traffic is None and len(self.tables.allocations) == 1
        self._always_prbs = float(self.tables.allocations[0][0]) if always else 0.0
        self._sums = self._zeros((9, *shape))
        # Blocks by number of transmissions, [number, link], from 2 on.
        self._decoded_again = self._zeros((MAX_TRANSMISSIONS + 1, self.num_links))
        self._counted_from_slot = self._stalled_slots = 0
        self._loses_bits = conditions.rlc == "um"
        self._returning: deque[tuple[int, Tensor, Tensor]] = deque()  # slot, links and bits of lost blocks
        if native is not None:
            native.start(conditions.cell(), conditions.generator("native"))
        self._no_links = self._zeros((0,), torch.int64)
        # Columns of the report that never change.
        self._constant: dict[str, Tensor | float] = {
            "mcs_table": conditions.mcs_table,
            "cqi_table": conditions.cqi_table,
        }
        settings = {
            "combining": 1 + (conditions.combining.kind != "chase"),
            "max_transmissions": conditions.max_transmissions,
        }
        not_reported = conditions.scenario.e2.not_reported
        self._constant |= {name: value for name, value in settings.items() if name not in not_reported}
        self._full_buffer = torch.full((1,), torch.nan, device=self.device).expand(self.num_links)
        self.native_mcs: Tensor | None = None
        self._in_force: Decision | None = None
        self._on_the_way: deque[tuple[int, Decision | None]] = deque()
        self._collecting = True
        self._clear_feedback()
        self.slot = 0
        self._receive(0)
        self.report = self._report(0)

    def step(self, decision: Decision | None = None) -> Report:
        """Apply the decision on the latest report, and simulate until the next one.

        Args:
            decision: the xApp's decision; None: no override until the next decision.

        Returns:
            The report one period later, also kept in `report`.

        Raises:
            ValueError: the decision needs the DU's own choice where there is none, or the conditions have ended.
        """
        decision = self._checked(decision)
        self._all_own = self._all_own and decision is None
        self._on_the_way.append((self.slot + self.conditions.decision_delay_slots, decision))
        self._clear_feedback()
        self._advance(self.slot + self.conditions.report_period_slots)
        self.report = self._report(self.conditions.report_period_slots)
        return self.report

    def run(self, slots: int) -> None:
        """Simulate slots under the DU's own link adaptation without reports, which is fastest.

        The next report counts no feedback of these slots.

        Raises:
            ValueError: there is no native link adaptation.
        """
        if self.native is None:
            raise ValueError("without native link adaptation every slot needs a decision")
        self._in_force = None
        self._on_the_way.clear()
        self._collecting = False
        self._advance(self.slot + slots)
        self._collecting = True
        self._clear_feedback()
        self.report = self._report(0)

    def _advance(self, end: int) -> None:
        while self.slot < end:
            while self._on_the_way and self._on_the_way[0][0] <= self.slot:
                self._in_force = self._on_the_way.popleft()[1]
            next_change = self._on_the_way[0][0] if self._on_the_way else end
            round_start, process = self.slot - self.slot % self._rtt, self.slot % self._rtt
            # A window is either stalled or not.
            next_round = round_start + (self._usable if process < self._usable else self._rtt)
            next_block = self.slot + self.conditions.window_slots(self.slot)
            self._window(min(end, next_change, next_round, next_block) - self.slot)

    def _checked(self, decision: Decision | None) -> Decision | None:
        """The decision, None for NATIVE throughout; ValueError where there is no such MCS, or no native choice."""
        if decision is not None and isinstance(decision.kind, int) and decision.kind == NATIVE:
            decision = None
        if decision is None:
            absolute = self._no_links
        elif isinstance(decision.kind, int):
            absolute = decision.value if decision.kind == MCS else self._no_links
        else:
            absolute = decision.value[decision.kind == MCS]
        if self.native is None and len(absolute) < self.num_links:
            raise ValueError("without native link adaptation every decision must be an absolute MCS")
        if len(absolute):
            low, high = (int(edge) for edge in torch.aminmax(absolute))
            if low < 0 or high > self.tables.max_mcs:
                raise ValueError(f"MCS {low if low < 0 else high} is not in the table: 0 to {self.tables.max_mcs}")
        return decision

    def _clear_feedback(self) -> None:
        """Clear the feedback that the next report counts."""
        self._feedback_since_report: list[tuple[Tensor, Tensor]] = []
        self._residual_since_report = self._zeros((self.num_links,))
        self._retx_since_report = self._zeros((3, self.num_links))

    def _zeros(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def restart_counters(self) -> None:
        """Reset the counters: the slots so far were a warm-up."""
        self._sums.zero_()
        self._decoded_again.zero_()
        self._counted_from_slot, self._stalled_slots = self.slot, 0

    @property
    def counters(self) -> Counters:
        """The counters so far."""
        sums = self._sums.sum(dim=1, dtype=torch.float64)
        slots = self.slot - self._counted_from_slot
        sums[_PRBS] += self._always_prbs * (slots - self._stalled_slots)
        conditions = self.conditions
        decoded_after = self._decoded_again[1:].T.to(torch.float64)
        decoded_after[:, 0] = sums[_FIRST] - sums[_FAILED]
        return Counters(
            bits=sums[_BITS],
            resource=sums[_PRBS] * RE_PER_PRB_SLOT,
            first_ack=sums[_FIRST] - sums[_FAILED],
            first_nack=sums[_FAILED] - sums[_MISSED],
            first_dtx=sums[_MISSED],
            retransmissions=sums[_AGAIN],
            residual=sums[_RESIDUAL],
            mean_mcs=sums[_MCS] / sums[_FIRST],
            decoded_after=decoded_after,
            lost_bits=sums[_LOST],
            slots=slots,
            stalled_slots=self._stalled_slots,
            timing=BlockTiming(self._rtt, conditions.max_transmissions, conditions.rlc, conditions.rlc_delay_slots),
            slot_us=conditions.slot_us,
        )

    def file_delays_slots(self) -> list[np.ndarray]:
        """Delays of the files that arrived since the counters began; see `Traffic.file_delays_slots`."""
        if self.traffic is None:
            return []
        return list(self.traffic.file_delays_slots(self._counted_from_slot, self.slot))

    # Start of a slot

    def _receive(self, slot: int) -> None:
        """Receive feedback and CQI, and let the DU choose an MCS."""
        self.conditions.enter(slot)
        process = slot % self._rtt
        outcome, mcs = self._outcome[process], self._mcs[process]
        if slot > 0 and self._collecting:
            # The process is about to be reused, hence copies.
            self._feedback_since_report.append((mcs.clone(), outcome.clone()))
            self._residual_since_report += self._lost[process]
            self._retx_since_report += self._retx[:, process]
        if self.traffic is not None:
            self._return_lost(slot, process)
            self.traffic.arrive(slot)
        if self.native is not None:
            # The DU learns only from its own choices, as in srsRAN Project: an override freezes its loop.
            own = outcome if self._all_own else outcome * self._own[process]
            report = self._report_of(slot, 1, mcs[None], own[None], self._lost[process], self._retx[:, process])
            self.native_mcs = self.native.decide(report).value

    def _return_lost(self, slot: int, process: int) -> None:
        """Acknowledged mode: bits of lost blocks come back into the buffers after RLC's delay."""
        assert self.traffic is not None
        if self._loses_bits:
            return
        links = self._lost[process].nonzero()[:, 0]
        if len(links):
            due = slot + self.conditions.rlc_delay_slots
            self._returning.append((due, links, self._payload[process][links]))
        while self._returning and self._returning[0][0] <= slot:
            _, links, bits = self._returning.popleft()
            self.traffic.give_back(links, bits)

    def _report(self, period: int) -> Report:
        if self._feedback_since_report:
            mcs, outcome = (torch.stack(rows) for rows in zip(*self._feedback_since_report, strict=True))
        else:
            mcs, outcome = torch.zeros_like(self._mcs[:1]), torch.zeros_like(self._outcome[:1])
        return self._report_of(
            self.slot, period, mcs, outcome, self._residual_since_report, self._retx_since_report, self.native_mcs
        )

    def _report_of(
        self,
        slot: int,
        period: int,
        mcs: Tensor,
        outcome: Tensor,
        residual: Tensor,
        retx: Tensor,
        native_mcs: Tensor | None = None,
    ) -> Report:
        conditions = self.conditions
        if self.traffic is None:
            buffer = self._full_buffer
        else:
            buffer = torch.where(self.traffic.bursty, self.traffic.buffer_bits / 8, torch.nan)
        # A report must not change after it was handed out.
        own = native_mcs is None and self.native is not None
        columns = {
            **self._constant,
            "cqi": conditions.cqi if own else conditions.cqi.clone(),
            "cqi_age_slots": slot - conditions.cqi_slot,
            "ri": conditions.ri,
            "prbs": conditions.allocated_prbs(slot),
            "dl_buffer_bytes": buffer,
            "harq_residual": residual,
            **dict(zip(("retx_ack", "retx_nack", "retx_mcs_sum"), retx.unbind(), strict=True)),
        }
        if native_mcs is not None:
            columns["native_mcs"] = native_mcs
        return Report(slot, period, columns, mcs, outcome)

    # Transmission

    def _window(self, count: int) -> None:
        """Transmit in ``count`` slots from `slot` on, then start the slot after them."""
        begin, traffic = self.slot, self.traffic
        process = begin % self._rtt
        stalled = process >= self._usable
        chosen: list[Tensor] = []
        natives: list[Tensor] = []
        taken: list[Tensor] = []
        for slot in range(begin, begin + count):
            if slot > begin:
                self._receive(slot)
            if self.native_mcs is not None:
                natives.append(self.native_mcs)
            if slot == begin or natives:
                chosen.append(self._chosen())
            if traffic is not None and not stalled:
                size = self.tables.tbs_bits[self._new_row(slot, chosen[-1])]
                taken.append(traffic.take(size * ~self._open[process + slot - begin]))
        mcs = torch.stack(chosen) if len(chosen) == count else chosen[0].expand(count, -1)
        if not self._all_own and natives and not stalled:
            self._own[process : process + count] = mcs == torch.stack(natives)
        if stalled:
            self._stall(begin, count)
        else:
            self._transmit(begin, mcs, torch.stack(taken) if taken else None)
        self.slot = begin + count
        self._receive(self.slot)

    def _chosen(self) -> Tensor:
        """MCS of new blocks, int64 [link]: the decision in force applied to the DU's own choice."""
        decision, native = self._in_force, self.native_mcs
        if decision is None:
            assert native is not None  # see `_checked`
            return native
        kind, value = decision.kind, decision.value
        if native is None or (isinstance(kind, int) and kind == MCS):
            return value
        moved = (native + value).clamp_(0, self.tables.max_mcs)
        if isinstance(kind, int):
            return moved
        return torch.where(kind == MCS, value, torch.where(kind == NATIVE, native, moved))

    def _new_row(self, slot: int, mcs: Tensor) -> Tensor:
        first_row = self.conditions.first_row(slot, 1)
        return mcs if first_row is None else first_row[0] + mcs

    def _stall(self, slot: int, count: int) -> None:
        """Slots in which all HARQ processes wait for feedback."""
        self._stalled_slots += count
        if self._on_sent is not None:
            no, none = (self._zeros((count, self.num_links), dtype) for dtype in (torch.bool, torch.float32))
            self._on_sent(Sent(slot, no, no, no, none, none))

    def _transmit(self, slot: int, chosen: Tensor, taken: Tensor | None) -> None:
        """One transmission per slot and link.

        Args:
            slot: the first slot.
            chosen: int64 [slot, link], MCS of new blocks.
            taken: float32 [slot, link], bits taken out of the buffer for a new block, 0: none; None: full buffer.
        """
        conditions, tables, count = self.conditions, self.tables, chosen.shape[0]
        process = slice(slot % self._rtt, slot % self._rtt + count)
        again, attempt, row = (x[process] for x in (self._open, self._attempt, self._row))
        first_row = conditions.first_row(slot, count)
        mcs = self._mcs[process]
        torch.where(again, mcs, chosen, out=mcs)
        if first_row is not None:
            torch.where(again, row, chosen + first_row, out=row)
        first = ~again
        attempt.mul_(again).add_(1)
        repeated = again.view(-1).nonzero()[:, 0]  # places in [slot, link], one after the other
        number = _look_up(attempt.view(-1), repeated).to(torch.int64)  # transmissions of these blocks so far
        link = repeated if count == 1 else repeated % self.num_links
        draws, missed_grant = conditions.draws(slot, count), None
        if conditions.has_dtx:
            # One draw decides both whether the grant was received and, if so, whether the block was decoded.
            missed_grant = draws < conditions.dtx
            draws = (draws - conditions.dtx) / (1 - conditions.dtx)
        failed = draws < self._error_rate(slot, mcs, row, _Repeated(repeated, link, number), missed_grant)
        size = _look_up(tables.tbs_bits, row)
        used = None if self._always_prbs else _look_up(tables.prbs, row)
        if missed_grant is not None:
            failed |= missed_grant
        if taken is not None:
            assert used is not None
            payload, share = self._payload[process], self._share[process]
            torch.where(again, payload, taken, out=payload)
            # The last block of a file takes only the PRBs that it needs.
            torch.where(again, share, (taken / size * used).ceil_() / used, out=share)
            sent = share > 0
            failed &= sent
            first &= sent
            size, used = payload, used * share
        decoded, undecoded, retx_mcs = self._retx[:, process]
        torch.logical_and(again, ~failed, out=decoded)
        torch.logical_and(again, failed, out=undecoded)
        torch.mul(mcs, again, out=retx_mcs)
        if len(repeated):
            place = link.add(number, alpha=self.num_links)
            self._decoded_again.view(-1).index_add_(0, place, _look_up(decoded.view(-1), repeated))
        last = attempt >= conditions.max_transmissions
        lost = failed & last
        arrived = torch.where(failed, 0.0, size)
        lost_bits = lost * size if self._loses_bits else None
        if self.traffic is not None:
            for index in range(count):
                self.traffic.deliver(slot + index, arrived[index], None if lost_bits is None else lost_bits[index])
        sums = self._sums[:, process]
        sums[_AGAIN] += again
        torch.logical_and(failed, ~last, out=again)
        self._lost[process] = lost
        first_failed = first & failed
        # ACK, NACK and DTX are 1, 2 and 3.
        outcome = torch.add(first.to(torch.uint8), first_failed)
        sums[_BITS] += arrived
        sums[_FIRST] += first
        sums[_FAILED] += first_failed
        sums[_RESIDUAL] += lost
        sums[_MCS] += mcs * first
        if used is not None:
            sums[_PRBS] += used
        if lost_bits is not None:
            sums[_LOST] += lost_bits
        if missed_grant is not None:
            missed = first_failed & missed_grant
            outcome += missed
            sums[_MISSED] += missed
        self._outcome[process] = outcome
        if self._on_sent is not None:
            prbs = torch.full_like(size, self._always_prbs) if used is None else used
            # These processes are about to be reused, hence the copy of their payload.
            bits = size if taken is None else size.clone()
            self._on_sent(Sent(slot, first, failed, lost, bits, prbs * RE_PER_PRB_SLOT))

    def _error_rate(
        self, slot: int, mcs: Tensor, row: Tensor, repeated: "_Repeated", missed_grant: Tensor | None
    ) -> Tensor:
        """TBLER after this transmission, float32 [slot, link]; what the decoders hold is updated."""
        conditions, tables = self.conditions, self.tables
        sinr_db = conditions.effective_sinr_db(slot, _look_up(tables.beta_db, mcs), row)
        if conditions.max_transmissions > 1:
            process = slice(slot % self._rtt, slot % self._rtt + len(mcs))
            if len(repeated.place):
                combined_db = self._combined_db(process, row, repeated, sinr_db, missed_grant)
            # Needed of blocks that fail; which do is not known yet.
            first_db = self._first_db[process]
            first_db.copy_(sinr_db)
            if missed_grant is not None:
                first_db.masked_fill_(missed_grant, -torch.inf)
            if len(repeated.place):
                sinr_db.view(-1).index_copy_(0, repeated.place, combined_db)
        if not conditions.plain_curves:
            sinr_db = steeper(sinr_db, _look_up(tables.centre_db, row), conditions.slope, conditions.shift_db)
        return tables.tbler(row, sinr_db)

    def _combined_db(
        self, process: slice, row: Tensor, repeated: "_Repeated", sinr_db: Tensor, missed_grant: Tensor | None
    ) -> Tensor:
        """Effective SINR [dB] of the blocks that are sent again, float32 [block], with all that the UEs received."""
        conditions, place, number = self.conditions, repeated.place, repeated.number
        combining = conditions.combining
        stores = self._store.view(self._rtt, self.num_links, -1)[process].view(-1, NUM_VERSIONS)
        first = combining.first(_look_up(self._first_db[process].view(-1), place))
        store = torch.where((number == 2)[:, None], first, stores.index_select(0, place))
        efficiency = None
        if not conditions.combines_fully:
            efficiency = _look_up(conditions.combining_efficiency, repeated.link)
        added = combining.add(store, number, _look_up(sinr_db.view(-1), place), efficiency)
        if missed_grant is not None:
            # The UE does not know of the transmission.
            added = torch.where(_look_up(missed_grant.view(-1), place)[:, None], store, added)
        stores.index_copy_(0, place, added)
        sent = number if conditions.max_transmissions > combining.unrepeated else 1
        return combining.effective_sinr_db(_look_up(row.view(-1), place), added, sent, efficiency)


@dataclass(frozen=True, slots=True)
class _Repeated:
    """The blocks of a window that are sent again, int64 [block]."""

    place: Tensor
    """in [slot, link], one after the other"""
    link: Tensor
    number: Tensor
    """of this transmission, from 2 on"""


_BITS, _PRBS, _FIRST, _FAILED, _MISSED, _AGAIN, _RESIDUAL, _MCS, _LOST = range(9)


def _look_up(table: Tensor, index: Tensor) -> Tensor:
    return torch.index_select(table, 0, index.reshape(-1)).view(index.shape)

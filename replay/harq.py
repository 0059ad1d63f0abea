"""HARQ processes of the DU stand-in: transport blocks, sent until they are decoded or dropped, for all UEs at once.

Stop-and-wait: slot ``t`` uses process ``t mod harq_rtt_slots`` of every UE, whose previous feedback arrives with that
slot. With fewer processes than slots of the round trip, slots are left in which no process is free: nothing is sent
then (*stalled slots*).

The decoder combines the transmissions of a block as `distila.xapp.nr.soft_combining` says. Each transmission has its
own random draw, compared with the error rate of the first transmission's curve at the effective SINR of all of them. A
retransmission keeps MCS and TBS. After the last failure the block is dropped (a residual loss); with RLC AM its data
come again in a later block, which with full buffers changes no more than their delay (`distila.replay.record`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from distila.replay.du_config import DuConfig
from distila.replay.link import Link, RandomDraws
from distila.replay.trace import ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import BoolArray, Float32Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.nr.soft_combining import Carrier, SoftCombining

IDLE, SENT_ACK, SENT_NACK = range(3)
"""Outcome of a UE's slot: nothing sent, block decoded, block not decoded."""

_MOST_CARRIER_PRBS: Final = 273


@dataclass(frozen=True, slots=True)
class Transmissions:
    """Transmissions of some slots and their outcomes, [slot, ue] each."""

    mcs: IntArray
    attempt: IntArray
    """number of the block's transmission, 1 = first; where nothing is sent, that of a block that waits, or 0"""
    outcome: IntArray
    lost: BoolArray
    """the block was dropped after this transmission"""
    since: IntArray
    """slot of the block's first transmission"""


class SlotResult:
    """Transmissions of one slot; attributes as those of `Transmissions`, [ue] each.

    They are decided when one is read, or when feedback on them arrives, whichever comes first.

    Attributes:
        stalled: no HARQ process was free, so nothing was sent.
    """

    __slots__ = ("_decide", "_of", "_row", "stalled")

    def __init__(self, decide: Callable[[], None] | None, of: Transmissions | None, row: int, stalled: bool) -> None:
        self._decide, self._of, self._row, self.stalled = decide, of, row, stalled

    @classmethod
    def known(cls, of: Transmissions, row: int, stalled: bool = False) -> "SlotResult":
        """One slot of transmissions that are decided."""
        return cls(None, of, row, stalled)

    def decided(self, of: Transmissions, row: int) -> None:
        """Called when they are decided."""
        self._decide, self._of, self._row = None, of, row

    @property
    def of(self) -> Transmissions:
        """What it is a slot of."""
        if self._decide is not None:
            self._decide()
        assert self._of is not None
        return self._of

    @property
    def mcs(self) -> IntArray:  # noqa: D102
        return np.asarray(self.of.mcs[self._row])

    @property
    def attempt(self) -> IntArray:  # noqa: D102
        return np.asarray(self.of.attempt[self._row])

    @property
    def outcome(self) -> IntArray:  # noqa: D102
        return np.asarray(self.of.outcome[self._row])

    @property
    def lost(self) -> BoolArray:  # noqa: D102
        return np.asarray(self.of.lost[self._row])

    @property
    def since(self) -> IntArray:  # noqa: D102
        return np.asarray(self.of.since[self._row])


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the DU receives on the latest slot of a process, [ue] each."""

    mcs: IntArray
    first_ack: BoolArray
    first_nack: BoolArray
    own: BoolArray
    """first transmissions at the MCS that was the native choice"""
    again_ack: BoolArray
    again_nack: BoolArray
    lost: BoolArray
    any_first: bool
    any_own: bool
    any_again: bool
    any_lost: bool


@dataclass(slots=True)
class _Pending:
    """A slot whose transmissions are not decided yet."""

    slot: int
    chosen: IntArray
    native: IntArray
    sinr_db: Float32Array
    result: SlotResult


class HarqProcesses:
    """The HARQ processes of all UEs of a trace.

    Nothing depends on the outcome of a slot before its feedback arrives, a round trip later. So the slots of a round
    trip are decided together, as arrays [slot, ue], which costs little more than one of them.

    Args:
        trace: the UEs.
        link: their block sizes and error rates.
        config: settings.
        draws: random draws that decide each transmission.

    Raises:
        InputError: the carrier is smaller than an allocation of the trace.
    """

    def __init__(self, trace: ChannelTrace, link: Link, config: DuConfig, draws: RandomDraws) -> None:
        count = trace.num_ues
        self._link, self._draws = link, draws
        self._rtt, self._most = config.harq_rtt_slots, config.max_transmissions
        self._efficiency = config.combining_efficiency
        self._combining = soft_combining(trace, link, config)
        self._processes = min(config.processes, config.harq_rtt_slots)
        # The block of each process, [process, ue].
        shape = (self._processes, count)
        self._mcs = np.zeros(shape, np.int64)
        self._attempt = np.zeros(shape, np.int64)
        self._own = np.zeros(shape, bool)  # its MCS was the native choice
        self._open = np.zeros(shape, bool)  # it will be sent again
        self._since = np.zeros(shape, np.int64)
        self._store = np.zeros((4, *shape), np.float32)  # what the decoder keeps of it
        self._feedback: list[Feedback | None] = [None] * self._processes
        self._pending: list[_Pending] = []
        zeros, none = np.zeros((1, count), np.int64), np.zeros((1, count), bool)
        self._nothing = Transmissions(zeros, zeros, zeros, none, zeros)

    def feedback(self, slot: int) -> Feedback | None:
        """The feedback that arrives in this slot; None: there cannot be any."""
        process = slot % self._rtt
        if process >= self._processes:
            return None
        if self._pending and self._pending[0].slot <= slot - self._rtt:
            self._decide()
        return self._feedback[process]

    def transmit(self, slot: int, chosen: IntArray, native: IntArray, sinr_db: Float32Array) -> SlotResult:
        """Send one transport block to every UE that has an SINR; `feedback` of the slot has been called.

        Args:
            slot: counted from the start of the replay.
            chosen: [ue], MCS of new blocks.
            native: [ue], the MCS that the DU would have chosen.
            sinr_db: [ue], effective SINR of this slot; NaN: the UE is not scheduled.
        """
        if slot % self._rtt >= self._processes:
            return SlotResult.known(self._nothing, 0, stalled=True)
        result = SlotResult(self._decide, None, 0, stalled=False)
        self._pending.append(_Pending(slot, chosen, native, sinr_db, result))
        return result

    def _decide(self) -> None:
        """Decide all pending slots; each is of another process."""
        pending, self._pending = self._pending, []
        slots = np.array([each.slot for each in pending])
        process = slots % self._rtt
        chosen, native, sinr_db = (
            np.array(rows) for rows in zip(*((each.chosen, each.native, each.sinr_db) for each in pending), strict=True)
        )
        present = ~np.isnan(sinr_db)
        # A UE that is not scheduled for a while keeps its block: nothing is sent, and the HARQ process waits.
        kept = self._open[process]
        first, again = present & ~kept, present & kept
        mcs = np.where(kept, self._mcs[process], chosen)
        own = np.where(kept, self._own[process], chosen == native)
        attempt = self._attempt[process] * kept + present
        since = np.where(kept, self._since[process], slots[:, None])
        row, ue = again.nonzero()
        effective_db = sinr_db
        if len(row):
            effective_db = sinr_db.copy()
            effective_db[row, ue] = self._combined_db(
                process[row], ue, mcs[row, ue], attempt[row, ue], sinr_db[row, ue]
            )
        draws = np.array([self._draws.draw(each.slot) for each in pending])
        acked = (draws >= self._link.tbler(mcs, effective_db)) & present
        failed = present & ~acked
        lost = failed & (attempt >= self._most)
        waits = (failed & ~lost) | (kept & ~present)
        self._keep_first(process, first & waits, sinr_db)
        self._mcs[process], self._attempt[process], self._own[process] = mcs, attempt, own
        self._open[process], self._since[process] = waits, since
        outcome = SENT_NACK * present - acked
        self._settle(pending, process, Transmissions(mcs, attempt, outcome, lost, since), own, first, again, acked)

    def _combined_db(
        self, process: IntArray, ue: IntArray, mcs: IntArray, number: IntArray, sinr_db: Float32Array
    ) -> Float32Array:
        """Effective SINR [dB] of blocks with this transmission, which is added to what the decoder has of them, [n]."""
        store = self._combining.add(self._store[:, process, ue], number, sinr_db, self._efficiency)
        self._store[:, process, ue] = store
        return self._combining.effective_sinr_db(self._link.row(ue, mcs), store, number, self._efficiency)

    def _keep_first(self, process: IntArray, failed: BoolArray, sinr_db: Float32Array) -> None:
        """Put first transmissions that failed, [slot, ue], into the decoder's store."""
        row, ue = failed.nonzero()
        if len(row):
            empty = np.zeros((4, len(row)), np.float32)
            store = self._combining.add(empty, np.ones(len(row), np.int64), sinr_db[row, ue], 1.0)
            self._store[:, process[row], ue] = store

    def _settle(
        self,
        pending: list[_Pending],
        process: IntArray,
        sent: Transmissions,
        own: BoolArray,
        first: BoolArray,
        again: BoolArray,
        acked: BoolArray,
    ) -> None:
        """Tell the results of the slots, and keep the feedback until it arrives."""
        own_first = own & first
        parts = (sent.mcs, first & acked, first & ~acked, own_first, again & acked, again & ~acked, sent.lost)
        marks = zip(*(part.any(axis=1).tolist() for part in (first, own_first, again, sent.lost)), strict=True)
        for number, (each, into, *rows, any_of) in enumerate(
            zip(pending, process.tolist(), *parts, marks, strict=True)
        ):
            each.result.decided(sent, number)
            self._feedback[into] = Feedback(*rows, *any_of)


def soft_combining(trace: ChannelTrace, link: Link, config: DuConfig) -> SoftCombining:
    """How the decoders of a trace's UEs combine; its rows are those of `Link.row`.

    Raises:
        InputError: the carrier is smaller than an allocation of the trace.
    """
    ues = trace.meta.ues
    prbs = _of_carrier(trace, "carrier_prbs", config.carrier_prbs, [ue.prbs for ue in ues])
    layers = _of_carrier(trace, "carrier_layers", config.carrier_layers, [ue.layers for ue in ues])
    parts = []
    row_class = np.zeros(len(link.row_tbs_bits), np.int64)
    classes = 0
    for mcs_table, table in MCS_TABLES.items():
        rows = link.rows_of(mcs_table)
        if not len(rows):
            continue
        # No carrier is wider than 273 PRBs, but an allocation of a trace may be.
        carrier = Carrier(min(prbs, _MOST_CARRIER_PRBS), layers, max(6, int(table.modulation_order.max())))
        sizes = np.minimum(link.row_tbs_bits[rows], carrier.lbrm_tbs_bits)
        part = SoftCombining.for_blocks(config.combining, mcs_table, rows % NUM_MCS, sizes, carrier)
        row_class[rows] = part.row_class + classes
        classes += len(part.repeat_db)
        parts.append(part)
    return SoftCombining(
        config.combining,
        np.concatenate([part.gain_db for part in parts]),
        np.concatenate([part.repeat_db for part in parts]),
        row_class,
        np.concatenate([part.decoded_alone for part in parts]),
    )


def _of_carrier(trace: ChannelTrace, setting: str, given: int | None, of_ue: Sequence[int]) -> int:
    largest = max(of_ue)
    if given is not None and given < largest:
        ue = trace.meta.ues[of_ue.index(largest)].name
        raise InputError(
            f"DU settings: {setting} = {given}: less than the {largest} of UE {ue} in trace {trace.meta.name}"
        )
    return largest if given is None else given

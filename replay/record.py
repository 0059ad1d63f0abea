"""What a closed-loop run leaves behind: by UE and time bin what was sent and arrived; MCS by SINR; block delays."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from distila.replay.harq import IDLE, SENT_ACK, SlotResult
from distila.replay.trace import ChannelTrace
from distila.xapp.kpi.block_delay import BlockDelays, BlockTiming, delays_by_slots
from distila.xapp.kpi.link_metrics import LinkCounts, stalled_slot_share
from distila.xapp.nr.arrays import BoolArray, Float32Array, Float64Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS

SINR_EDGES_DB: Final = np.arange(-10.0, 40.5, 1.0)
"""Edges of the SINR bins of `RunRecord.mcs_at_sinr`; the outer bins take what lies beyond."""

_SERIES: Final = ("bits", "slots", "stalled", "first_tx", "first_fail", "lost", "mcs_sum")


@dataclass
class RunRecord:
    """Totals of one run, every array [ue, time bin].

    Attributes:
        bits: transport block bits that arrived.
        slots: slots in which something was sent.
        stalled: slots in which nothing was sent because no HARQ process was free.
        first_tx, first_fail: first transmissions, and those not decoded.
        lost: transport blocks dropped after their last transmission.
        mcs_sum: sum of the MCS of first transmissions.
        mcs_at_sinr: [SINR bin, MCS], first transmissions.
        end_slot: [time bin], first slot after the bin.
        slot_us: slot duration.
    """

    trace: ChannelTrace
    num_slots: int
    num_bins: int
    bits: Float64Array = field(init=False)
    slots: Float64Array = field(init=False)
    stalled: Float64Array = field(init=False)
    first_tx: Float64Array = field(init=False)
    first_fail: Float64Array = field(init=False)
    lost: Float64Array = field(init=False)
    mcs_sum: Float64Array = field(init=False)

    def __post_init__(self) -> None:
        for name in _SERIES:
            setattr(self, name, np.zeros((self.trace.num_ues, self.num_bins)))
        # Decoded blocks by UE and delay in slots, some pairs more than once: [UE, delay, number] each.
        self._delivered: list[IntArray] = []
        self.mcs_at_sinr = np.zeros((len(SINR_EDGES_DB) + 1, NUM_MCS))
        self.slot_us = self.trace.meta.slot_us
        self.end_slot = np.linspace(0, self.num_slots, self.num_bins + 1).round().astype(np.int64)[1:]

    def add(
        self,
        start_slot: int,
        results: list[SlotResult],
        sinr_db: Float32Array,
        tbs_bits: IntArray,
    ) -> None:
        """Account for consecutive slots.

        Args:
            start_slot: the first of them.
            results: one per slot.
            sinr_db: [slot, ue].
            tbs_bits: [ue, mcs].
        """
        mcs = np.stack([result.mcs for result in results])  # [slot, ue]
        outcome = np.stack([result.outcome for result in results])
        first = np.stack([result.attempt for result in results]) == 1
        lost = np.stack([result.lost for result in results])
        sent = outcome != IDLE
        acked = outcome == SENT_ACK
        first &= sent
        stalled = np.array([result.stalled for result in results])[:, None] & ~np.isnan(sinr_db)
        series = {
            "bits": acked * tbs_bits[np.arange(tbs_bits.shape[0]), mcs],
            "slots": sent,
            "stalled": stalled,
            "first_tx": first,
            "first_fail": first & ~acked,
            "lost": lost,
            "mcs_sum": first * mcs,
        }
        bins = np.searchsorted(self.end_slot, np.arange(start_slot, start_slot + len(results)), side="right")
        starts = np.flatnonzero(np.r_[True, np.diff(bins) > 0])
        for name, values in series.items():
            # reduceat sums runs of slots that share a bin, [run, ue].
            sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
            getattr(self, name)[:, bins[starts]] += sums.T
        self._add_delays(start_slot, acked, np.stack([result.since for result in results]))
        sinr_bin = np.searchsorted(SINR_EDGES_DB, sinr_db[first])
        flat = np.bincount(sinr_bin * NUM_MCS + mcs[first], minlength=self.mcs_at_sinr.size)
        self.mcs_at_sinr += flat.reshape(self.mcs_at_sinr.shape)

    def _add_delays(self, start_slot: int, acked: BoolArray, since: IntArray) -> None:
        row, ue = np.nonzero(acked)
        if len(row):
            pairs = np.stack([ue, start_slot + row + 1 - since[row, ue], np.ones_like(ue)])
            self._delivered = [_merged([*self._delivered, pairs])]

    def block_delays(self, timing: BlockTiming) -> BlockDelays:
        """Delays of the blocks of all UEs [slots]; those that are still on their way at the end are not counted."""
        ue, delay, number = _merged(self._delivered)
        lost = self.lost.sum(axis=1)
        of_ue = []
        for one in range(self.trace.num_ues):
            mine = ue == one
            delivered = np.bincount(delay[mine], number[mine]).astype(np.float64)
            of_ue.append(delays_by_slots(delivered, lost[one], timing))
        return BlockDelays.together(of_ue)

    def counts(self) -> LinkCounts[float]:
        """What happened to all UEs together, per microsecond of a UE that is scheduled, stalled slots included."""
        return self.counts_over_time(np.zeros(1, np.int64)).total()

    def counts_over_time(self, starts: IntArray) -> LinkCounts[Float64Array]:
        """What happened to all UEs together in stretches of time, per microsecond of a UE that is scheduled.

        A slot in which a UE has data but no free HARQ process is time of the UE too. The DU stand-in detects all
        feedback, so there is no DTX.

        Args:
            starts: [stretch], the first bin of each, ascending.
        """
        bits, slots, stalled, first_tx, first_fail, lost = (
            np.add.reduceat(getattr(self, name).sum(axis=0), starts)
            for name in ("bits", "slots", "stalled", "first_tx", "first_fail", "lost")
        )
        return LinkCounts(
            bits=bits,
            resource=(slots + stalled) * self.slot_us,
            first_ack=first_tx - first_fail,
            first_nack=first_fail,
            first_dtx=np.zeros_like(first_tx),
            retransmissions=slots - first_tx,
            residual=lost,
        )

    def goodput_mbps(self) -> float:
        """Mean over UEs and time of what one UE gets while it is in the trace, stalled slots included [Mbit/s]."""
        return self.counts().goodput

    def summary(self) -> dict[str, float | None]:
        """The figures of the run, for summary.json; None where nothing was sent."""
        counts = self.counts()
        sent = counts.first_tx > 0
        stalled = float(self.stalled.sum())
        counted = stalled + float(self.slots.sum())
        return {
            "goodput_mbps": round(counts.goodput, 4) if sent else None,
            "first_tx_bler": round(counts.first_tx_bler, 5) if sent else None,
            "transmissions_per_block": round(counts.transmissions_per_block, 4) if sent else None,
            "retransmission_share": round(counts.retransmission_share, 5) if sent else None,
            "residual_bler": round(counts.residual_bler, 6) if sent else None,
            "stalled_slot_share": round(stalled_slot_share(stalled, counted), 5) if counted else None,
            "mean_mcs": round(float(self.mcs_sum.sum()) / counts.first_tx, 3) if sent else None,
            "first_transmissions": int(counts.first_tx),
        }


def _merged(parts: list[IntArray]) -> IntArray:
    """Numbers of equal pairs of UE and delay added up, int64 [3, pair]."""
    ue, delay, number = np.concatenate([np.empty((3, 0), np.int64), *parts], axis=1)
    longest = int(delay.max(initial=0)) + 1
    key, pair = np.unique(ue * longest + delay, return_inverse=True)
    return np.stack([key // longest, key % longest, np.bincount(pair, number, len(key)).astype(np.int64)])

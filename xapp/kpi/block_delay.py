"""Block delay: slots from the start of a transport block's first transmission to the end of the one that was decoded.

Every part of distila that reports block delay computes it here. A block that is decoded after its ``n``-th transmission
has ``(n - 1) * round trip + 1`` slots where no retransmission waits, as in the simulator; where they wait (UEs that are
not scheduled in every slot) the slots are counted. A block that is lost after its last transmission:

* RLC in acknowledged mode sends its bits again. Its delay is what it has taken so far, plus RLC's delay, plus the delay
  of another block, which may be lost again.
* RLC in unacknowledged mode does not: the block is never delivered and has no delay.

Blocks that are still on their way when a measurement ends are not counted. ::

    timing = BlockTiming(harq_rtt_slots=8, max_transmissions=4, rlc="am", rlc_delay_slots=80)
    p50, p95, p99 = block_delay_percentiles(decoded_after, residual, timing)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from distila.xapp.nr.arrays import Float64Array

MAX_TRANSMISSIONS: Final = 8
"""Most transmissions of a block that are counted one by one."""
PERCENTILES: Final = (50.0, 95.0, 99.0)

_LEAST_SHARE: Final = 1e-5  # of blocks: rarer sequences of losses do not move a percentile
_MOST_LOSSES: Final = 2000


class DelayPercentiles(NamedTuple):
    """Percentiles of block delay; NaN: no block was delivered, infinite: so many never are."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class BlockTiming:
    """What the delay of a block depends on besides its number of transmissions."""

    harq_rtt_slots: int
    max_transmissions: int
    rlc: Literal["am", "um"] = "am"
    rlc_delay_slots: int = 0

    @property
    def slots_until_lost(self) -> int:
        """Slots from the first transmission to the end of the last one of a block that is lost."""
        return (self.max_transmissions - 1) * self.harq_rtt_slots + 1


@dataclass(frozen=True)
class BlockDelays:
    """Delays of blocks, each value with the number of blocks that have it; in any one unit, slots or ms."""

    delay: Float64Array
    """[value]; infinite: never delivered in acknowledged mode"""
    blocks: Float64Array
    """[value]"""

    def percentiles(self) -> DelayPercentiles:
        """The smallest delay that at least 50, 95 and 99 % of the blocks do not exceed."""
        total = self.blocks.sum()
        if not total > 0:
            return DelayPercentiles(np.nan, np.nan, np.nan)
        order = np.argsort(self.delay, kind="stable")
        below = np.cumsum(self.blocks[order])
        # Sums of counts are rounded; a percentile that falls on an edge must not jump to the next value for that.
        wanted = np.array(PERCENTILES) / 100 * total * (1 - 1e-12)
        at = np.minimum(np.searchsorted(below, wanted), len(order) - 1)
        return DelayPercentiles(*(float(value) for value in self.delay[order][at]))

    def scaled(self, factor: float) -> "BlockDelays":
        """In another unit: slots times the duration of a slot [ms]."""
        return BlockDelays(self.delay * factor, self.blocks)

    @classmethod
    def together(cls, parts: Sequence["BlockDelays"]) -> "BlockDelays":
        """Of several runs, all in the same unit."""
        if not parts:
            return cls(np.empty(0), np.empty(0))
        return cls(np.concatenate([part.delay for part in parts]), np.concatenate([part.blocks for part in parts]))


def delays_by_transmissions(decoded_after: Float64Array, residual: float, timing: BlockTiming) -> BlockDelays:
    """Delays [slots] where no retransmission waits.

    Args:
        decoded_after: float64 [8], blocks decoded after 1, 2... transmissions.
        residual: blocks lost after their last transmission.
        timing: of the link.
    """
    slots = np.arange(len(decoded_after), dtype=np.float64) * timing.harq_rtt_slots + 1
    return _with_losses(slots, np.asarray(decoded_after, np.float64), float(residual), timing)


def delays_by_slots(delivered: Float64Array, residual: float, timing: BlockTiming) -> BlockDelays:
    """Delays [slots] where retransmissions may wait, from a histogram of what was measured.

    Args:
        delivered: float64 [slot], decoded blocks by slots from the start of the first transmission to the end of the
            last one: entry 1 has those decoded at once, entry 0 is not used.
        residual: blocks lost after their last transmission. They count as if none of their transmissions had waited.
        timing: of the link.
    """
    return _with_losses(
        np.arange(len(delivered), dtype=np.float64), np.asarray(delivered, np.float64), float(residual), timing
    )


def block_delay_percentiles(decoded_after: Float64Array, residual: float, timing: BlockTiming) -> DelayPercentiles:
    """Percentiles of `delays_by_transmissions` [slots]."""
    return delays_by_transmissions(decoded_after, residual, timing).percentiles()


def _with_losses(slots: Float64Array, blocks: Float64Array, residual: float, timing: BlockTiming) -> BlockDelays:
    used = blocks > 0
    slots, blocks = slots[used], blocks[used]
    if timing.rlc == "um" or not residual:
        return BlockDelays(slots, blocks)
    if not len(blocks):
        return BlockDelays(np.array([np.inf]), np.array([residual]))
    lost = residual / (blocks.sum() + residual)
    rounds = min(_MOST_LOSSES, 1 + int(np.ceil(np.log(_LEAST_SHARE) / np.log(lost))))
    losses = np.arange(rounds)
    delay = losses[:, None] * float(timing.slots_until_lost + timing.rlc_delay_slots) + slots
    count = lost ** losses[:, None] * blocks
    never = blocks.sum() + residual - count.sum()
    return BlockDelays(np.append(delay.ravel(), np.inf), np.append(count.ravel(), max(0.0, never)))

"""Link metrics, defined once: every part of distila that reports one of these computes it here.

A transport block is sent once (its *first transmission*) and, where that fails, again. The feedback of a first
transmission is ACK, NACK, or DTX: the node detected no feedback, because the UE missed the grant or the feedback was
lost. With the counts of `LinkCounts`:

=========================== ============================================ ==========================================
metric                      formula                                      DTX
=========================== ============================================ ==========================================
first-transmission BLER     NACK / (ACK + NACK)                          left out: the channel decoder decided nothing
first-transmission failure  (NACK + DTX) / (ACK + NACK + DTX)            counts as a failure
rate
residual BLER               residual losses / (ACK + NACK + DTX)         its blocks count in the denominator
transmissions per block     (first + retransmissions) / first            counts as a transmission
retransmission share        retransmissions / (first + retransmissions)  counts as a transmission
stalled slot share          slots without a free HARQ process / slots    -
goodput                     delivered bits / allocated resource          its resource is spent, nothing is delivered
=========================== ============================================ ==========================================

A residual loss is a block that is dropped after its last transmission. A loss can come in a later report period than
the block's first transmission, so over a short time residual BLER can exceed 1. The retransmission share is the share
of grants that carry retransmissions. Block delay is in `distila.xapp.kpi.block_delay`.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import numpy as np

RATIOS: Final = {
    "first_tx_bler": ("first_nack", "first_decided"),
    "first_tx_failure_rate": ("first_failed", "first_tx"),
    "residual_bler": ("residual", "first_tx"),
    "transmissions_per_block": ("transmissions", "first_tx"),
    "retransmission_share": ("retransmissions", "transmissions"),
}
"""Numerator and denominator of each metric, attributes of `LinkCounts`."""


class Number(Protocol):
    """What counts may be: a float, a numpy array, a torch tensor."""

    def __add__(self, other: Any, /) -> Any:
        """The sum."""

    def __truediv__(self, other: Any, /) -> Any:
        """The quotient."""


T = TypeVar("T", bound=Number)


@dataclass(frozen=True)
class LinkCounts(Generic[T]):
    """What happened on a link, or on each of many: floats, or float arrays or tensors of one shape.

    The metrics are NaN where their denominator is 0; `goodput` is 0 there.
    """

    bits: T
    """delivered"""
    resource: T
    """allocated, in whatever unit goodput shall be per: resource elements, PRBs, seconds"""
    first_ack: T
    """first transmissions with ACK"""
    first_nack: T
    """first transmissions with NACK"""
    first_dtx: T
    """first transmissions without detected feedback"""
    retransmissions: T
    """later transmissions of blocks"""
    residual: T
    """residual losses: blocks dropped after their last transmission"""

    @property
    def first_decided(self) -> T:
        """First transmissions with ACK or NACK."""
        return cast(T, self.first_ack + self.first_nack)

    @property
    def first_failed(self) -> T:
        """First transmissions with NACK or DTX."""
        return cast(T, self.first_nack + self.first_dtx)

    @property
    def first_tx(self) -> T:
        """First transmissions, which is the number of blocks."""
        return cast(T, self.first_decided + self.first_dtx)

    @property
    def transmissions(self) -> T:
        """All transmissions."""
        return cast(T, self.first_tx + self.retransmissions)

    @property
    def first_tx_bler(self) -> T:
        """First-transmission BLER: NACK / (ACK + NACK)."""
        return self._ratio("first_tx_bler")

    @property
    def first_tx_failure_rate(self) -> T:
        """First-transmission failure rate: (NACK + DTX) / (ACK + NACK + DTX)."""
        return self._ratio("first_tx_failure_rate")

    @property
    def residual_bler(self) -> T:
        """Residual losses per block, that is per first transmission, DTX included."""
        return self._ratio("residual_bler")

    @property
    def transmissions_per_block(self) -> T:
        """Mean number of transmissions of a block."""
        return self._ratio("transmissions_per_block")

    @property
    def retransmission_share(self) -> T:
        """Share of transmissions, that is of grants, that are retransmissions."""
        return self._ratio("retransmission_share")

    @property
    def goodput(self) -> T:
        """Delivered bits per allocated resource; 0 where nothing was allocated."""
        return goodput(self.bits, self.resource)

    def total(self) -> "LinkCounts[float]":
        """The counts of all links together."""
        return LinkCounts(**{name: float(cast(Any, value).sum()) for name, value in self._counts().items()})

    def _counts(self) -> dict[str, T]:
        return {name: getattr(self, name) for name in LinkCounts.__dataclass_fields__}

    def _ratio(self, metric: str) -> T:
        part, whole = (getattr(self, name) for name in RATIOS[metric])
        if isinstance(whole, int | float):
            return cast(T, part / whole if whole else math.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return cast(T, part / whole)


def goodput(bits: T, resource: T) -> T:
    """Delivered bits per allocated resource; 0 where nothing was allocated."""
    return cast(T, bits / (resource + (cast(Any, resource) == 0)))


def stalled_slot_share(stalled_slots: float, slots: float) -> float:
    """Share of slots in which all HARQ processes wait for feedback, so that nothing can be sent; NaN without slots."""
    return stalled_slots / slots if slots else math.nan

"""Whether an LDPC code block is decoded after several HARQ transmissions: its bits' information against what is needed.

Accumulated conditional mutual information (Ikuno, Mehlfuehrer, Rupp, "A novel link error prediction model for OFDM
systems with HARQ", ICC 2011), for the buffer, redundancy versions and bit interleaver of TS 38.212: every coded bit
gathers what its transmissions say about it, each at its place of a QAM symbol (`distila.xapp.nr.bit_information`), and
the block is decoded when the sum over all bits reaches the block's length times an *overhead*, which a real decoder
needs beyond capacity::

    sum over coded bits of I(bit) >= K' * overhead

Transmissions of one redundancy version repeat the same symbols, so their SINRs add up first. The overhead was fitted to
block error rates of a layered min-sum decoder (`distila.training.harq_fit`); it has the same coefficients for all MCS,
modulations, redundancy versions, buffers and SINRs.

Parity bits alone do not decode a block, however good they are: the decoder also needs some information on the block's
own, *systematic* bits. How much was measured where RV 2 is received far better than RV 0 (`LEAST_SYSTEMATIC`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from distila.xapp.nr.arrays import BoolArray, Float64Array
from distila.xapp.nr.bit_information import GRID_DB, level_information, level_sinr_db
from distila.xapp.nr.rate_matching import BaseGraph, CarriedBits, CodeBlock

TARGET_BLER: Final = 0.1
"""Block error rate that the overhead is for."""
OVERHEAD: Final = (
    0.67231,
    0.61321,
    -0.10816,
    -0.00684,
    -0.01284,
    -0.01897,
    -0.01061,
    0.00971,
    0.91478,
    -0.52969,
    -0.58833,
    0.00186,
    -0.03616,
    0.07281,
    0.00438,
    0.06279,
    -0.08482,
)
"""Coefficients of `Transmissions.overhead_terms`; ``python -m distila.training.harq_fit.fit`` prints them."""

_NOMINAL_BITS: Final = 1056
_HIGHEST_MEAN: Final = 0.998
LEAST_SYSTEMATIC: Final[dict[BaseGraph, tuple[float, float]]] = {1: (0.265, 0.13), 2: (0.01, 0.145)}
"""Least mean information of systematic bits, by base graph: a constant, and its slope over the code rate."""
SOFTNESS_DB: Final[dict[BaseGraph, float]] = {1: 1.5, 2: 2.5}
"""How gradually a lack of systematic information sets in, by base graph."""
_MOST_SYSTEMATIC: Final = 0.65
"""`LEAST_SYSTEMATIC` is no more than this times the code rate."""
_UNEVEN: Final = 0.1
"""Where other bits have as much more information than systematic ones, a lack sets in as gradually as it can."""
_LITTLE: Final = 1e-3
_SEARCH_DB: Final = 32.0
_HALVINGS: Final = 18


@dataclass(frozen=True)
class Transmissions:
    """A code block and the transmissions that a receiver adds up.

    Attributes:
        block: the code block.
        num_bits: E of every transmission.
        order: bits per QAM symbol.
        redundancy_versions: of the transmissions, in order.
    """

    block: CodeBlock
    num_bits: int
    order: int
    redundancy_versions: tuple[int, ...]

    @cached_property
    def _different(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.redundancy_versions))

    @cached_property
    def _carried(self) -> CarriedBits:
        return self.block.carried(self.num_bits, self.order, self._different)

    @property
    def effective_rate(self) -> float:
        """K' over the number of different coded bits that are received."""
        return float(self.block.block_bits / self._carried.size.sum())

    def bit_information(self, sinr_db: Float64Array) -> Float64Array:
        """Mutual information of the bits of each group of `CodeBlock.carried`, float64 [..., group].

        Args:
            sinr_db: of every transmission, float64 [..., transmission].
        """
        linear = 10 ** (sinr_db / 10)
        versions = np.array(self.redundancy_versions)
        merged_db = 10 * np.log10(np.stack([linear[..., versions == one].sum(-1) for one in self._different], axis=-1))
        equivalent_db = np.stack([np.interp(merged_db, GRID_DB, level) for level in level_sinr_db(self.order)], axis=-1)
        gathered = np.tensordot(10 ** (equivalent_db / 10), self._carried.count, axes=([-2, -1], [1, 2]))
        return np.asarray(np.interp(10 * np.log10(gathered), GRID_DB, level_information(2)[0]))

    def mean_information(self, information: Float64Array) -> Float64Array:
        """Mean over bits of what `bit_information` gives, float64 [...]."""
        size = self._carried.size
        return np.asarray(information @ (size / size.sum()))

    def overhead_terms(self, information: Float64Array) -> Float64Array:
        """What the overhead is linear in, float64 [..., 17].

        A lower effective rate, a shorter block, unequal bits, poor systematic bits, many different redundancy versions
        and repeated symbols of many bits each cost a decoder something.

        Args:
            information: of the bits of each group, float64 [..., group].
        """
        carried = self._carried
        share = carried.size / carried.size.sum()
        mean = information @ share
        variance = ((information - mean[..., None]) ** 2) @ share
        copies = carried.count.sum(axis=(1, 2))
        systematic = information @ (carried.size * carried.systematic) / self.block.block_bits
        rate = float(-np.log(self.effective_rate))
        length = float(np.log2(self.block.block_bits / _NOMINAL_BITS))
        sent_rate = self.block.block_bits / self.num_bits
        one = np.ones_like(mean)
        terms = (
            one,
            rate * one,
            rate**2 * one,
            length * one,
            length * rate * one,
            (self.block.graph == 2) * rate * one,
            variance / mean**2,
            float(((copies - copies @ share) ** 2) @ share) * one,
            systematic,
            systematic * rate,
            systematic**2,
            length**2 * one,
            (len(self._different) >= 3) * rate * one,
            (len(self._different) >= 4) * rate * one,
            (self.order > 2) * (len(self.redundancy_versions) - len(self._different)) * one,
            (len(self._different) >= 3) * sent_rate * one,
            (len(self._different) >= 4) * sent_rate * one,
        )
        return np.stack(terms, axis=-1)

    @property
    def least_systematic(self) -> float:
        """Mean information of systematic bits under which the block is not decoded."""
        constant, slope = LEAST_SYSTEMATIC[self.block.graph]
        rate = self.block.block_bits / self.num_bits
        return min(constant + slope * rate, _MOST_SYSTEMATIC * rate)

    def margin_db(self, sinr_db: Float64Array, overhead: Float64Array | tuple[float, ...] = OVERHEAD) -> Float64Array:
        """By how much all SINRs together could fall until the block error rate is `TARGET_BLER` [dB], float64 [...].

        Args:
            sinr_db: of every transmission, float64 [..., transmission].
            overhead: coefficients of `overhead_terms`.

        Returns:
            Within some 32 dB of 0; negative where the block fails more often than that.
        """

        def informed(shifted: Float64Array) -> BoolArray:
            information = self.bit_information(shifted)
            needed = self.effective_rate * (self.overhead_terms(information) @ np.asarray(overhead))
            # At code rates near 1 the fit would ask for more than there is.
            return np.asarray(self.mean_information(information) > np.minimum(needed, _HIGHEST_MEAN))

        share = self._carried.size * self._carried.systematic / self.block.block_bits
        least = self.least_systematic
        by_all = _margin_db(sinr_db, informed)
        by_systematic = _margin_db(sinr_db, lambda shifted: np.asarray(self.bit_information(shifted) @ share > least))
        information = self.bit_information(sinr_db - by_all[..., None])
        systematic = information @ share / max(share.sum(), _LITTLE)
        uneven = np.clip((self.mean_information(information) - systematic) / _UNEVEN, _LITTLE, 1)
        softness = SOFTNESS_DB[self.block.graph] * uneven
        return np.asarray(-softness * np.logaddexp(-by_all / softness, -by_systematic / softness))


def _margin_db(sinr_db: Float64Array, enough: Callable[[Float64Array], BoolArray]) -> Float64Array:
    """How far all SINRs can fall while there is ``enough`` [dB], float64 [...]; within 32 dB of 0."""
    low = np.full(sinr_db.shape[:-1], -_SEARCH_DB)
    high = -low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        kept = enough(sinr_db - middle[..., None])
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return np.asarray((low + high) / 2)

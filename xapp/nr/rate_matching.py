"""Which coded bits a transmission of a code block carries: LDPC rate matching of TS 38.212 clauses 5.2.2 and 5.4.2.

A code block of K' bits becomes a circular buffer of N_cb coded bits (the first two systematic columns are never sent,
filler bits are skipped). A transmission of E bits reads the buffer from a start that its redundancy version (RV) sets,
and goes round where E is longer. Limited buffer rate matching (LBRM) keeps the buffer short for large blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final, Literal, TypeVar

import numpy as np

from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray
from distila.xapp.nr.tbs import (
    MAX_CODE_BLOCK_SIZE_BITS,
    MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2,
    MIN_CODE_BLOCK_SIZE_BITS,
)

BaseGraph = Literal[1, 2]
Count = TypeVar("Count", int, IntArray)

RV_ORDER: Final = (0, 2, 3, 1)
"""Redundancy versions of the transmissions of a block, as gNBs use them (TS 38.214 clause 5.1.2.1)."""
LBRM_RATE: Final = Fraction(2, 3)
"""R_LBRM: the code rate to which the buffer of the largest block is limited (TS 38.212 clause 5.4.2.1)."""

SYSTEMATIC_COLUMNS: Final = {1: 22, 2: 10}
"""Columns of each base graph that hold the block itself, in units of the lifting size."""
_LARGEST: Final = {1: MAX_CODE_BLOCK_SIZE_BITS, 2: MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2}
BUFFER_COLUMNS: Final = {1: 66, 2: 50}
"""Columns of each base graph that are sent."""
START_COLUMNS: Final = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}
"""Column of a whole buffer at which each redundancy version starts, by base graph."""
_LIFTING: Final = np.sort(
    [base << shift for base in (2, 3, 5, 7, 9, 11, 13, 15) for shift in range(8) if base << shift <= 384]
)


def base_graph(tbs_bits: int, code_rate: float) -> BaseGraph:
    """LDPC base graph of a transport block (TS 38.212 clause 7.2.2)."""
    return 2 if base_graphs(np.array(tbs_bits), np.array(code_rate)) == 2 else 1


def base_graphs(tbs_bits: IntArray, code_rate: Float64Array) -> IntArray:
    """`base_graph` of many transport blocks, int64 of their shape."""
    second = (tbs_bits <= 292) | ((tbs_bits <= 3824) & (code_rate <= 0.67)) | (code_rate <= 0.25)
    return np.where(second, 2, 1)


def lifting_sizes(graph: IntArray, block_bits: IntArray) -> IntArray:
    """Z_c of code blocks of K' bits, int64 of their shape (TS 38.212 clause 5.2.2)."""
    second = np.select([block_bits > 640, block_bits > 560, block_bits > 192], [10, 9, 8], 6)
    columns = np.where(graph == 1, SYSTEMATIC_COLUMNS[1], second)
    return _LIFTING[np.searchsorted(_LIFTING, -(-block_bits // columns))]


def limited_buffer_bits(num_code_blocks: Count, lbrm_tbs_bits: int) -> Count:
    """N_ref, length of a code block's buffer under LBRM.

    Args:
        num_code_blocks: C of the transport block, or of each.
        lbrm_tbs_bits: TBS_LBRM, the largest transport block of the carrier: all its PRBs, the most layers, the highest
            modulation that is configured, code rate 948/1024.
    """
    return lbrm_tbs_bits * LBRM_RATE.denominator // (num_code_blocks * LBRM_RATE.numerator)


@dataclass(frozen=True)
class CodeBlock:
    """One LDPC code block.

    Attributes:
        graph: base graph 1 or 2.
        block_bits: K', with CRC and without filler bits.
        limited_bits: N_ref of `limited_buffer_bits`; None: no limit.

    Raises:
        ValueError: a block that the base graph cannot hold, or a buffer shorter than the block.
    """

    graph: BaseGraph
    block_bits: int
    limited_bits: int | None = None

    def __post_init__(self) -> None:
        least, largest = MIN_CODE_BLOCK_SIZE_BITS, _LARGEST[self.graph]
        if not least <= self.block_bits <= largest:
            raise ValueError(f"block_bits is {self.block_bits}; base graph {self.graph} takes {least} to {largest}")
        if self.limited_bits is not None and self.limited_bits < self.block_bits:
            raise ValueError(f"limited_bits is {self.limited_bits}; a block has {self.block_bits}")

    @cached_property
    def lifting_size(self) -> int:
        """Z_c, TS 38.212 clause 5.2.2."""
        return int(lifting_sizes(np.array(self.graph), np.array(self.block_bits)))

    @property
    def filler(self) -> tuple[int, int]:
        """First filler bit of the codeword, and the one after the last."""
        return self.block_bits, SYSTEMATIC_COLUMNS[self.graph] * self.lifting_size

    @property
    def codeword_bits(self) -> int:
        """Bits of the codeword, with filler bits and with the two columns that are never sent."""
        return (BUFFER_COLUMNS[self.graph] + 2) * self.lifting_size

    @property
    def buffer_bits(self) -> int:
        """N_cb."""
        return min(BUFFER_COLUMNS[self.graph] * self.lifting_size, self.limited_bits or self.codeword_bits)

    def sent_bits(self, num_bits: int, redundancy_version: int) -> IntArray:
        """Codeword bits that a transmission carries, in the order of rate matching, int64 [num_bits].

        Args:
            num_bits: E.
            redundancy_version: 0 to 3.
        """
        size, length = self.lifting_size, self.buffer_bits
        start = START_COLUMNS[self.graph][redundancy_version] * length // (BUFFER_COLUMNS[self.graph] * size) * size
        begin, end = self.filler
        bits = np.roll(np.arange(length), -start) + 2 * size
        return np.resize(bits[(bits < begin) | (bits >= end)], num_bits)

    def carried(self, num_bits: int, order: int, redundancy_versions: Sequence[int]) -> "CarriedBits":
        """How often each bit of the buffer is carried, by which transmission, at which place of a QAM symbol.

        The bit interleaver (clause 5.4.2.2) writes E bits in rows of E / Q_m, and the rows become the bits of the
        symbols: the first rows are the best protected ones. Two rows each, in-phase and quadrature, are protected
            alike.

        Args:
            num_bits: E of every transmission, a multiple of ``order``.
            order: Q_m.
            redundancy_versions: of the transmissions.
        """
        level: IntArray = np.arange(num_bits) // (num_bits // order) // 2
        count = np.zeros((self.codeword_bits, len(redundancy_versions), order // 2), np.int64)
        for transmission, version in enumerate(redundancy_versions):
            np.add.at(count[:, transmission], (self.sent_bits(num_bits, version), level), 1)
        systematic = np.arange(self.codeword_bits) < self.block_bits
        rows = np.concatenate([count.reshape(self.codeword_bits, -1), systematic[:, None]], axis=1)
        groups, size = np.unique(rows[count.any(axis=(1, 2))], axis=0, return_counts=True)
        return CarriedBits(
            groups[:, :-1].reshape(-1, *count.shape[1:]), size.astype(np.int64), groups[:, -1].astype(np.bool_)
        )


@dataclass(frozen=True, eq=False)
class CarriedBits:
    """Coded bits that some transmission carries, in groups of bits with one history.

    Attributes:
        count: int64 [group, transmission, order / 2], how often each transmission carries these bits at each level.
        size: int64 [group], number of bits.
        systematic: bool [group], whether they are bits of the block itself.
    """

    count: IntArray
    size: IntArray
    systematic: BoolArray

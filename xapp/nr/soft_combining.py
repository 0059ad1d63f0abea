"""What a receiver's decoder gains from the earlier transmissions of a block: HARQ soft combining at run time.

A receiver keeps, of each HARQ process, the sum of the linear SINRs of every redundancy version that it received: its
*store*. From it follows the *effective SINR*: that at which one transmission alone would be decoded as often, to be
looked up on the error rate curve of the block's MCS. There are three kinds:

* ``ir``: redundancy versions 0, 2, 3, 1 and so on, with the circular buffer, limited buffer rate matching and bit
  interleaver of TS 38.212, by the rule of `distila.xapp.nr.harq`, which was fitted to a real LDPC decoder.
* ``chase``: version 0 every time; SINRs add up, less a measured loss.
* ``ideal``: capacities ``log2(1 + SINR)`` add up, which no code reaches. For comparison only.

The rule's margin changes by c dB when all SINRs change by c dB. So it is tabulated over the SINRs of RVs 2, 3 and 1
relative to that of RV 0, for classes of blocks: modulation, code rate, base graph, buffer and size. The tables are made
by `distila.training.harq_fit.tabulate`; no more than look-ups and sums are left for run time.

RV 1 or 2 without RV 0 and RV 3 holds too few of the block's own bits and is not decoded, however good it is, unless the
code rate is under some 0.5 (base graph 1) or 0.4 (base graph 2).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import BoolArray, Float32Array, Float64Array, IntArray
from distila.xapp.nr.mcs import checked_mcs
from distila.xapp.nr.mcs import mcs_table as table_of
from distila.xapp.nr.rate_matching import (
    BUFFER_COLUMNS,
    RV_ORDER,
    START_COLUMNS,
    SYSTEMATIC_COLUMNS,
    BaseGraph,
    base_graphs,
    lifting_sizes,
    limited_buffer_bits,
)
from distila.xapp.nr.tbs import MAX_RE_PER_PRB, code_blocks, transport_block_size_bits

CombiningKind = Literal["ir", "chase", "ideal"]

NOTHING_DB: Final = -60.0
"""Effective SINR of what cannot be decoded at all."""

FIRST_DB: Final = -30.0
"""First node of the tables' axes: this far under RV 0, a version counts as not received [dB]."""
STEP_DB: Final = 3.0
NUM_NODES: Final = 19
LAST_DB: Final = FIRST_DB + STEP_DB * (NUM_NODES - 1)
"""Last node: RV 0 counts as no further than this under the strongest version [dB]."""
NODES_DB: Final[Float64Array] = FIRST_DB + STEP_DB * np.arange(NUM_NODES, dtype=np.float64)
BUFFER_NODES: Final[dict[BaseGraph, tuple[float, ...]]] = {
    1: (1.4, 1.5, 1.75, 2.0, 2.5, 3.0),
    2: (1.5, 2.0, 3.0, 5.0),
}
"""Bits of the circular buffer over block length K' of the tables, by base graph; the last is the whole buffer."""
SIZE_NODES: Final[dict[BaseGraph, tuple[int, ...]]] = {1: (352, 704, 1760, 8448), 2: (320, 1280, 3840)}
"""Block lengths K' of the tables, by base graph."""
TABLES_FILE: Final = Path(__file__).with_name("soft_combining.npz")

NUM_VERSIONS: Final = len(RV_ORDER)
_OWN_BITS_ALONE: Final[dict[BaseGraph, float]] = {1: 0.33, 2: 0.15}
"""Share of a block's own bits that RV 2 or 1 must hold to be decoded without RVs 0 and 3, by base graph; measured."""
_LBRM_PRBS: Final = (32, 66, 107, 135, 162, 217, 273)
_LBRM_CODE_RATE: Final = 948 / 1024
_TINY: Final = 1e-12
"""Linear SINR of what was not received."""
# Blocks that differ by less share a class.
_BUFFER_STEPS: Final = 32
_SIZE_STEPS: Final = 4


@dataclass(frozen=True)
class Carrier:
    """What limits a UE's soft buffer: the largest transport block that the carrier could send it.

    Attributes:
        prbs: of the carrier's bandwidth part, 1 to 273.
        max_layers: the most layers of a codeword that the UE is configured for, 1 to 4.
        max_modulation_order: 8 where the UE is configured with MCS table 2, else 6.
    """

    prbs: int
    max_layers: int
    max_modulation_order: int

    def __post_init__(self) -> None:
        if not 1 <= self.prbs <= _LBRM_PRBS[-1]:
            raise InputError(f"prbs of a carrier is {self.prbs}; must be 1 to {_LBRM_PRBS[-1]}")
        if not 1 <= self.max_layers <= 4:
            raise InputError(f"max_layers of a carrier is {self.max_layers}; must be 1 to 4")
        if self.max_modulation_order not in (6, 8):
            raise InputError(f"max_modulation_order of a carrier is {self.max_modulation_order}; must be 6 or 8")

    @property
    def lbrm_tbs_bits(self) -> int:
        """TBS_LBRM of TS 38.212 clause 5.4.2.1: all PRBs, rounded up to a carrier size, 156 resource elements each, the
        most layers, the highest modulation, code rate 948/1024."""
        prbs = next(size for size in _LBRM_PRBS if size >= self.prbs)
        size = transport_block_size_bits(
            prbs * MAX_RE_PER_PRB, _LBRM_CODE_RATE, self.max_modulation_order, self.max_layers
        )
        return int(size)

    def __str__(self) -> str:
        return f"{self.prbs} PRBs, {self.max_layers} layers, modulation order {self.max_modulation_order}"


@dataclass(frozen=True, eq=False)
class SoftCombining:
    """Soft combining of a set of kinds of block, one per *row*; rows that combine alike share a *class*.

    Attributes:
        kind: ``ir``, ``chase`` or ``ideal``.
        gain_db: float32 [class, NUM_NODES, NUM_NODES, NUM_NODES], what RVs 2, 3 and 1 gain over RV 0 alone [dB], at
            `NODES_DB` for each of their SINRs relative to RV 0's; linear between nodes, constant beyond. No classes
            unless ``ir``.
        repeat_db: float32 [class], by how much each repeated version falls short of adding up SINRs [dB].
        row_class: int64 [row].
        decoded_alone: bool [class, 2], whether RV 2, and whether RV 1, can be decoded without RVs 0 and 3: where a low
            code rate lets it go round the buffer, so that it holds the block's own bits too.
    """

    kind: CombiningKind
    gain_db: Float32Array
    repeat_db: Float32Array
    row_class: IntArray
    decoded_alone: BoolArray

    @classmethod
    def for_blocks(
        cls, kind: CombiningKind, mcs_table: ArrayLike, mcs: ArrayLike, tbs_bits: ArrayLike, carrier: Carrier
    ) -> "SoftCombining":
        """Combining of the blocks of a link's tables.

        Args:
            kind: see `distila.xapp.nr.soft_combining`.
            mcs_table: 1, 2 or 3, of all rows or of each.
            mcs: int [row].
            tbs_bits: transport block sizes, int [row]; 0: no such block (the row is never looked up).
            carrier: what limits the buffer.

        Raises:
            ValueError: no such kind, table or MCS.
            InputError: a block is larger than the carrier's largest, so that the buffer would be too short for it.
        """
        if kind not in get_args(CombiningKind):
            raise ValueError(f"combining is {kind!r}; must be one of {', '.join(get_args(CombiningKind))}")
        tables, index, size = np.broadcast_arrays(np.asarray(mcs_table), np.asarray(mcs), np.asarray(tbs_bits))
        if index.ndim != 1:
            raise ValueError(f"mcs has shape {index.shape}; must be one number per row")
        order, rate = np.full(index.shape, 2), np.full(index.shape, 0.5)
        used = size > 0
        for table in np.unique(tables):
            here = used & (tables == table)
            number = checked_mcs(int(table), index[here])
            order[here], rate[here] = (
                table_of(int(table)).modulation_order[number],
                table_of(int(table)).code_rate[number],
            )
        _check_sizes(tables, index, size, carrier)
        size = np.where(used, size, 24)
        count, block_bits = code_blocks(size, rate)
        limited = limited_buffer_bits(count, carrier.lbrm_tbs_bits)
        return cls.for_code_blocks(kind, order, rate, base_graphs(size, rate), block_bits, limited)

    @classmethod
    def for_code_blocks(
        cls,
        kind: CombiningKind,
        order: IntArray,
        code_rate: Float64Array,
        graph: IntArray,
        block_bits: IntArray,
        limited_bits: IntArray | Float64Array,
    ) -> "SoftCombining":
        """Combining of code blocks.

        Args:
            kind: see `distila.xapp.nr.soft_combining`.
            order, code_rate: of an MCS, int and float64 [row].
            graph: base graph, int [row].
            block_bits: K', int [row].
            limited_bits: N_ref, [row]; inf: no limit.
        """
        keys = _class_keys(order, code_rate, graph, block_bits, limited_bits)
        classes, row_class = np.unique(keys, axis=0, return_inverse=True)
        weights, repeat_db = _interpolated(classes)
        shape = (-1, *(NUM_NODES,) * 3)
        gain_db = (
            _combined(weights, _shipped().components).reshape(shape)
            if kind == "ir"
            else np.zeros((0, *shape[1:]), np.float32)
        )
        return cls(kind, gain_db, repeat_db, row_class.reshape(-1).astype(np.int64), _decoded_alone(classes))

    def add(
        self, store: Float32Array, transmission: IntArray, sinr_db: Float32Array, efficiency: Float32Array | float = 1.0
    ) -> Float32Array:
        """The store after a transmission was received.

        Args:
            store: float32 [4, n], linear sums of RVs 0, 2, 3, 1 (of ``ideal``: of ``ln(1 + SINR)``, in the first).
            transmission: int [n], number of this transmission of the block; 1 is the first, which empties the store.
            sinr_db: float32 [n]; -inf: it was not received.
            efficiency: combining efficiency, 0 to 1: the share of the store that the receiver still has.

        Returns:
            float32 [4, n].
        """
        linear = 10 ** (np.asarray(sinr_db, np.float32) * np.float32(0.1))
        received = np.log1p(linear) if self.kind == "ideal" else linear
        kept = np.where(transmission == 1, np.float32(0), np.float32(1) * np.asarray(efficiency, np.float32))
        total = np.asarray(store * kept, np.float32)
        plane = (transmission - 1) % NUM_VERSIONS if self.kind == "ir" else np.zeros_like(transmission)
        total[plane, np.arange(total.shape[1])] += received
        return total

    def effective_sinr_db(
        self, row: IntArray, store: Float32Array, transmission: IntArray, efficiency: Float32Array | float = 1.0
    ) -> Float32Array:
        """SINR at which one transmission alone would fail as often as all of a store together [dB], float32 [n].

        Args:
            row: int [n], kind of block.
            store: float32 [4, n], of `add`.
            transmission: int [n], how many the block has had.
            efficiency: combining efficiency, with which repeated versions count.

        Returns:
            `NOTHING_DB` where nothing was received, or nothing that can be decoded.
        """
        if self.kind == "ideal":
            return np.maximum(_decibel(np.expm1(store[0])), np.float32(NOTHING_DB))
        kind = self.row_class[row]
        unrepeated = NUM_VERSIONS if self.kind == "ir" else 1
        repeats = np.maximum(np.asarray(transmission) - unrepeated, 0).astype(np.float32)
        loss_db = repeats * np.asarray(efficiency, np.float32) * self.repeat_db[kind]
        if self.kind == "chase":
            return np.maximum(_decibel(store[0]) - loss_db, np.float32(NOTHING_DB))
        received_db = _decibel(store)
        first_db = np.maximum(received_db[0], received_db.max(axis=0) - np.float32(LAST_DB))
        gain_db = self._gain_db(kind, received_db[1:] - first_db)
        received = store > _TINY
        alone = self.decoded_alone[kind]
        decodable = received[0] | received[2] | (received[1] & alone[:, 0]) | (received[3] & alone[:, 1])
        effective_db = np.maximum(first_db + gain_db - loss_db, np.float32(NOTHING_DB))
        return np.where(decodable, effective_db, np.float32(NOTHING_DB))

    def _gain_db(self, kind: IntArray, difference_db: Float32Array) -> Float32Array:
        """`gain_db` of classes at SINRs of RVs 2, 3 and 1 less that of RV 0, [3, n]; linear between nodes."""
        position = np.clip((difference_db - np.float32(FIRST_DB)) * np.float32(1 / STEP_DB), 0, NUM_NODES - 1)
        node = np.minimum(position.astype(np.int64), NUM_NODES - 2)
        weight = position - node.astype(np.float32)
        corner = ((kind * NUM_NODES + node[0]) * NUM_NODES + node[1]) * NUM_NODES + node[2]
        table = self.gain_db.reshape(-1)

        def along_last(start: IntArray) -> Float32Array:
            low, high = table[start], table[start + 1]
            return np.asarray(low + (high - low) * weight[2])

        def along_middle(start: IntArray) -> Float32Array:
            low, high = along_last(start), along_last(start + NUM_NODES)
            return np.asarray(low + (high - low) * weight[1])

        low, high = along_middle(corner), along_middle(corner + NUM_NODES**2)
        return np.asarray(low + (high - low) * weight[0])


def _combined(weights: Float32Array, components: Float32Array) -> Float32Array:
    """Their matrix product, float32 [class, node]: the same bits whatever the number of threads and of classes.

    Libraries of linear algebra sum in another order with another number of threads, and a training with several workers
    must give the weights of one with one.
    """
    product: Float32Array = np.zeros((len(weights), components.shape[1]), np.float32)
    for index, component in enumerate(components):
        product += weights[:, index, None] * component
    return product


def _decibel(linear: Float32Array) -> Float32Array:
    """In dB; far under `NOTHING_DB` where nothing was received."""
    return np.asarray(np.float32(10) * np.log10(np.maximum(linear, np.float32(_TINY))), np.float32)


def _check_sizes(tables: IntArray, mcs: IntArray, tbs_bits: IntArray, carrier: Carrier) -> None:
    limit = carrier.lbrm_tbs_bits
    if not tbs_bits.size or tbs_bits.max() <= limit:
        return
    row = int(np.argmax(tbs_bits))
    raise InputError(
        f"a transport block of MCS {mcs[row]} of table {tables[row]} has {tbs_bits[row]} bits; the soft buffer of a"
        f" carrier of {carrier} is made for {limit} bits (TBS_LBRM)"
    )


def _class_keys(
    order: IntArray,
    rate: Float64Array,
    graph: IntArray,
    block_bits: IntArray,
    limited_bits: IntArray | Float64Array,
) -> Float64Array:
    """(base graph, position of modulation and code rate, buffer over block length, log2 of block length), [row, 4]."""
    shipped = _shipped()
    lifting = lifting_sizes(graph, block_bits)
    filler = np.where(graph == 1, SYSTEMATIC_COLUMNS[1], SYSTEMATIC_COLUMNS[2]) * lifting - block_bits
    whole = np.where(graph == 1, BUFFER_COLUMNS[1], BUFFER_COLUMNS[2]) * lifting
    # Filler bits have their place in the buffer and are skipped.
    buffer_bits = np.minimum(limited_bits, whole) - filler
    key = np.empty((len(order), 4))
    for one in BUFFER_NODES:
        here = graph == one
        nodes, sizes = BUFFER_NODES[one], np.log2(SIZE_NODES[one])
        buffer = np.clip(buffer_bits[here] / block_bits[here], nodes[0], nodes[-1])
        size = np.clip(np.log2(block_bits[here]), sizes[0], sizes[-1])
        key[here, 0] = one
        key[here, 1] = np.searchsorted(shipped.pair[one], _pair(order[here], rate[here]) - 1e-9)
        key[here, 2] = np.round(buffer * _BUFFER_STEPS) / _BUFFER_STEPS
        key[here, 3] = np.round(size * _SIZE_STEPS) / _SIZE_STEPS
    return key


def _pair(order: IntArray, rate: Float64Array) -> Float64Array:
    """One number for modulation and code rate."""
    return np.asarray(order + rate)


def _interpolated(keys: Float64Array) -> tuple[Float32Array, Float32Array]:
    """Weights of the components [class, component] and repeat losses [class], linear in buffer and log2 of size."""
    shipped = _shipped()
    weights = np.empty((len(keys), len(shipped.components)), np.float32)
    repeat_db = np.empty(len(keys), np.float32)
    for graph in BUFFER_NODES:
        here = keys[:, 0] == graph
        pair = keys[here, 1].astype(np.int64)
        low_buffer, buffer_share = _between(keys[here, 2], np.array(BUFFER_NODES[graph]))
        low_size, size_share = _between(keys[here, 3], np.log2(SIZE_NODES[graph]))
        corners = [
            (low_buffer + one, low_size + other, np.abs(1 - one - buffer_share) * np.abs(1 - other - size_share))
            for one in (0, 1)
            for other in (0, 1)
        ]
        weights[here] = sum(shipped.weight[graph][pair, one, other] * share[:, None] for one, other, share in corners)
        repeat_db[here] = sum(shipped.repeat_db[graph][pair, one, other] * share for one, other, share in corners)
    return weights, repeat_db


def _decoded_alone(keys: Float64Array) -> BoolArray:
    """`SoftCombining.decoded_alone` of classes."""
    alone = np.zeros((len(keys), 2), np.bool_)
    for graph in BUFFER_NODES:
        here = keys[:, 0] == graph
        order_and_rate = _shipped().pair[graph][keys[here, 1].astype(np.int64)]
        for place, version in enumerate((2, 1)):
            # From where the version starts to the end of the buffer, and on from its beginning, where own bits are.
            until_end = keys[here, 2] * (1 - START_COLUMNS[graph][version] / BUFFER_COLUMNS[graph])
            alone[here, place] = 1 / (order_and_rate % 1) - until_end > _OWN_BITS_ALONE[graph]
    return alone


def _between(value: Float64Array, nodes: Float64Array) -> tuple[IntArray, Float64Array]:
    """Index of the node below each value, and how far it is to the next."""
    low = np.clip(np.searchsorted(nodes, value, side="right") - 1, 0, len(nodes) - 2)
    return low, np.clip((value - nodes[low]) / (nodes[low + 1] - nodes[low]), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Shipped:
    """What `distila.training.harq_fit.tabulate` wrote; dicts are by base graph.

    Attributes:
        components: float32 [component, NUM_NODES ** 3].
        pair: [pair], modulation and code rate, ascending.
        weight: float32 [pair, buffer node, size node, component].
        repeat_db: float32 [pair, buffer node, size node].
    """

    components: Float32Array
    pair: dict[BaseGraph, Float64Array]
    weight: dict[BaseGraph, Float32Array]
    repeat_db: dict[BaseGraph, Float32Array]


@functools.cache
def _shipped() -> _Shipped:
    with np.load(TABLES_FILE) as file:
        return _Shipped(
            components=file["components"].astype(np.float32),
            pair={graph: _pair(file[f"order_{graph}"], file[f"rate_{graph}"]) for graph in BUFFER_NODES},
            weight={graph: file[f"weight_{graph}"] for graph in BUFFER_NODES},
            repeat_db={graph: file[f"repeat_{graph}"] for graph in BUFFER_NODES},
        )

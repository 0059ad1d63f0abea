"""Tabulate the combining rule of `distila.xapp.nr.harq` for `distila.xapp.nr.soft_combining`.

    python -m distila.training.harq_fit.tabulate [--processes N]

One table for every modulation, code rate, base graph, buffer and block size: what RVs 2, 3 and 1 gain over RV 0 alone,
at every node of their SINRs relative to RV 0's. Tables resemble each other, so the file holds their principal
components, and the weights of every table. It takes some five minutes on one core.
"""

import argparse
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.harq import Transmissions
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.rate_matching import RV_ORDER, BaseGraph, CodeBlock
from distila.xapp.nr.soft_combining import BUFFER_NODES, NODES_DB, NUM_NODES, SIZE_NODES, TABLES_FILE
from distila.xapp.nr.tbs import MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2

Class = tuple[int, float, BaseGraph, float, int]
"""Modulation order, code rate, base graph, buffer over block length, block length."""
COMPONENTS: Final = 64
_LOW_RATE: Final = 0.67
"""Of higher rates, graph 2 has the smallest blocks only; of others, graph 1 has none of the smallest."""


def modulations_and_rates() -> list[tuple[int, float]]:
    """Every (modulation order, code rate) of MCS tables 1, 2 and 3, ascending."""
    tables = MCS_TABLES.values()
    orders, rates = (
        np.concatenate([getattr(each, name) for each in tables]).tolist() for name in ("modulation_order", "code_rate")
    )
    return sorted(set(zip(orders, rates, strict=True)))


def graphs_of(code_rate: float) -> tuple[BaseGraph, ...]:
    """Base graphs that a code rate can have; small blocks of any rate use graph 2."""
    return (2,) if code_rate <= 0.25 else (1, 2)


def sent(
    order: int, code_rate: float, graph: BaseGraph, buffer: float, block_bits: int, versions: tuple[int, ...]
) -> Transmissions:
    """Transmissions of a block of ``block_bits`` K' with a circular buffer of ``buffer`` times as many bits."""
    begin, end = CodeBlock(graph, block_bits).filler
    limited = None if buffer == BUFFER_NODES[graph][-1] else int(buffer * block_bits) + end - begin
    crc_bits = 24 if block_bits > MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2 else 16
    num_bits = math.ceil((block_bits - crc_bits) / code_rate / order) * order
    return Transmissions(CodeBlock(graph, block_bits, limited), num_bits, order, versions)


def threshold_db(transmissions: Transmissions) -> float:
    """SINR [dB] of each of equal transmissions at the target block error rate."""
    sinr_db = np.full(len(transmissions.redundancy_versions), 5.0)
    for _ in range(4):  # the margin is exact within its range, so this ends where the margin is 0
        sinr_db = sinr_db - transmissions.margin_db(sinr_db)
    return float(sinr_db[0])


def exact_gain_db(
    order: int,
    code_rate: float,
    graph: BaseGraph,
    buffer: float,
    block_bits: int,
    difference_db: tuple[Float64Array, Float64Array, Float64Array],
) -> Float64Array:
    """What RVs 2, 3 and 1 gain over RV 0 alone by the rule [dB], float64 of the broadcast shape.

    The rule was fitted to transmissions within some dB of each other; one that is far weaker would lower its margin by
    some tenths of a dB, because it counts as received. A receiver can do without it: the best of all subsets counts.

    Args:
        order, code_rate, graph, buffer, block_bits: the class.
        difference_db: SINR of RV 2, of RV 3 and of RV 1 less that of RV 0, float64; -inf: not received.
    """
    alone_db = threshold_db(sent(order, code_rate, graph, buffer, block_bits, RV_ORDER[:1]))
    best = np.zeros(np.broadcast_shapes(*(each.shape for each in difference_db)))
    for used in product((False, True), repeat=3):
        if not any(used):
            continue
        versions = tuple(version for version, is_used in zip(RV_ORDER, (True, *used), strict=True) if is_used)
        some = sent(order, code_rate, graph, buffer, block_bits, versions)
        chosen = np.broadcast_arrays(*(each for each, is_used in zip(difference_db, used, strict=True) if is_used))
        relative = np.stack([np.zeros(chosen[0].shape), *chosen], axis=-1)
        total = 10 * np.log10((10 ** (relative / 10)).sum(axis=-1))
        received = np.isfinite(relative).all(axis=-1)
        # Near the threshold, because a margin is found within 32 dB.
        near = np.where(received[..., None], alone_db + relative - total[..., None], alone_db)
        best = np.maximum(best, np.where(received, some.margin_db(near) + total, 0.0))
    return best


def gain_table(order: int, code_rate: float, graph: BaseGraph, buffer: float, block_bits: int) -> Float64Array:
    """Table of one class, float64 [RV 2, RV 3, RV 1], for linear interpolation between its nodes.

    A gain is convex in the SINRs, so that straight lines between exact values would always be above it. Inner nodes
    are lowered by half of that.
    """
    axis = np.where(np.arange(NUM_NODES) == 0, -np.inf, NODES_DB)
    difference_db = (axis[:, None, None], axis[:, None], axis)
    exact = exact_gain_db(order, code_rate, graph, buffer, block_bits, difference_db)
    table = exact.copy()
    for one in range(3):
        moved, source = np.moveaxis(table, one, 0), np.moveaxis(exact, one, 0)
        moved[2:-1] -= (source[3:] - 2 * source[2:-1] + source[1:-2]) / 16
    return table


def repeat_loss_db(order: int, code_rate: float, graph: BaseGraph, buffer: float, block_bits: int) -> float:
    """By how much a repeated RV 0 falls short of adding up SINRs [dB]."""
    alone = sent(order, code_rate, graph, buffer, block_bits, (0,))
    twice = sent(order, code_rate, graph, buffer, block_bits, (0, 0))
    return 10 * float(np.log10(2)) - (threshold_db(alone) - threshold_db(twice))


def classes(graph: BaseGraph) -> Iterator[Class]:
    """Every class of a base graph, in the order of the file."""
    pairs = [pair for pair in modulations_and_rates() if graph in graphs_of(pair[1])]
    for (order, rate), buffer, bits in product(pairs, BUFFER_NODES[graph], SIZE_NODES[graph]):
        yield order, rate, graph, buffer, bits


def occurring(each: Class) -> Class:
    """The class itself, or that of the nearest block length that its code rate has with its base graph."""
    order, rate, graph, buffer, bits = each
    sizes = SIZE_NODES[graph]
    if graph == 1 and rate <= _LOW_RATE:
        bits = max(bits, sizes[-2])
    elif graph == 2 and rate > _LOW_RATE:
        bits = sizes[0]
    return order, rate, graph, buffer, bits


def one_class(each: Class) -> tuple[Float64Array, float]:
    """Gain table, flat, and repeat loss."""
    return gain_table(*each).reshape(-1), repeat_loss_db(*each)


def tabulate(processes: int) -> dict[str, np.ndarray]:
    """Arrays of the file that `distila.xapp.nr.soft_combining` reads."""
    arrays: dict[str, np.ndarray] = {}
    tables = {}
    graphs: tuple[BaseGraph, ...] = (1, 2)
    with ProcessPoolExecutor(processes) as pool:
        for graph in graphs:
            every = list(classes(graph))
            needed = list(dict.fromkeys(map(occurring, every)))
            found = {}
            for each, one in zip(needed, pool.map(one_class, needed, chunksize=8), strict=True):
                found[each] = one
                if len(found) % 50 == 0:
                    print(f"base graph {graph}: {len(found)}/{len(needed)} tables", flush=True)
            tables[graph] = np.array([found[occurring(each)][0] for each in every])
            repeat_db = np.array([found[occurring(each)][1] for each in every], np.float32)
            arrays[f"repeat_{graph}"] = repeat_db.reshape(-1, len(BUFFER_NODES[graph]), len(SIZE_NODES[graph]))
            pairs = list(dict.fromkeys(each[:2] for each in every))
            arrays[f"order_{graph}"] = np.array([order for order, _ in pairs], np.int64)
            arrays[f"rate_{graph}"] = np.array([rate for _, rate in pairs])
    stacked = np.concatenate([tables[1], tables[2]])
    left, strength, components = np.linalg.svd(stacked, full_matrices=False)
    # No gain without retransmissions, exactly.
    components[:, 0] = 0.0
    scale = np.abs(components[:COMPONENTS]).max(axis=1, keepdims=True)
    arrays["components"] = np.round(components[:COMPONENTS] / scale * 32767).astype(np.int16)
    weights = left[:, :COMPONENTS] * strength[:COMPONENTS] * scale.T / 32767
    for graph, some in zip(graphs, np.split(weights, [len(tables[1])]), strict=True):
        shape = (-1, len(BUFFER_NODES[graph]), len(SIZE_NODES[graph]))
        arrays[f"weight_{graph}"] = some.astype(np.float32).reshape(*shape, COMPONENTS)
    return arrays


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TABLES_FILE, help="file to write; default: the shipped one")
    parser.add_argument("--processes", type=int, default=1, help="worker processes")
    given = parser.parse_args()
    np.savez_compressed(given.out, allow_pickle=False, **tabulate(given.processes))


if __name__ == "__main__":
    main()

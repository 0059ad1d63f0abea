"""Measure block error rates of HARQ transmissions in NR's LDPC code, point by point, into a table that can go on.

    python -m distila.training.harq_fit.measure --out training/harq_fit/points.csv

One row is one point: a code block, its transmissions, one SNR, blocks sent and blocks not decoded. Points of one
setting share masks and noise (their seed is in the row), so its curve over the SNR is smooth. A setting is measured
from where about half of the blocks fail to where almost none do. An interrupted run goes on after the last setting that
is whole.
"""

import argparse
import csv
import itertools
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from distila.training.harq_fit.ldpc import block_errors
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.rate_matching import CodeBlock, base_graph
from distila.xapp.nr.tbs import MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2

STEP_DB: Final = 0.35
_MOST_POINTS: Final = 14
_HALF, _RARE = 0.5, 0.025
SETTING_FIELDS: Final = (
    "split",
    "mcs_table",
    "mcs",
    "base_graph",
    "block_bits",
    "num_bits",
    "buffer_bits",
    "redundancy_versions",
    "offsets_db",
)
"""Columns that do not change over a curve."""
FIELDS: Final = (*SETTING_FIELDS, "snr_db", "blocks", "errors", "seed")


@dataclass(frozen=True)
class Setting:
    """What is measured over the SNR.

    Attributes:
        split: ``grid``: of a regular grid; ``drawn``: drawn at random, for sizes, buffers and SINRs beside the grid;
            ``uneven``: of SINRs far apart; ``held_out``: drawn at random, of what is thin among those.
        table, mcs: of TS 38.214.
        block_bits: K' of the code block, CRC included.
        buffer_bits: N_ref of limited buffer rate matching; None: the whole buffer.
        redundancy_versions: of the transmissions.
        offsets_db: SINR of each transmission relative to ``snr_db``.
    """

    split: str
    table: int
    mcs: int
    block_bits: int
    buffer_bits: int | None
    redundancy_versions: tuple[int, ...]
    offsets_db: tuple[float, ...]

    @property
    def order(self) -> int:
        """Bits per symbol."""
        return int(MCS_TABLES[self.table].modulation_order[self.mcs])

    @property
    def rate(self) -> float:
        """Target code rate."""
        return float(MCS_TABLES[self.table].code_rate[self.mcs])

    @property
    def payload_bits(self) -> int:
        """Without CRC: of 24 bits for one of several blocks and for large ones, else 16."""
        return self.block_bits - (24 if self.block_bits > MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2 else 16)

    @property
    def code(self) -> CodeBlock:
        """The code block."""
        return CodeBlock(base_graph(self.payload_bits, self.rate), self.block_bits, self.buffer_bits)

    @property
    def num_bits(self) -> int:
        """E of each transmission."""
        return math.ceil(self.payload_bits / self.rate / self.order) * self.order

    @property
    def blocks(self) -> int:
        """Blocks for each point."""
        return 400 if self.block_bits <= 1100 else 256 if self.block_bits <= 3200 else 160

    def key(self) -> tuple[str, ...]:
        """The columns of its rows that do not change with the SNR."""
        return (
            self.split,
            str(self.table),
            str(self.mcs),
            str(self.code.graph),
            str(self.block_bits),
            str(self.num_bits),
            "" if self.buffer_bits is None else str(self.buffer_bits),
            "-".join(map(str, self.redundancy_versions)),
            " ".join(f"{offset:g}" for offset in self.offsets_db),
        )

    @classmethod
    def of_row(cls, row: Mapping[str, str]) -> "Setting":
        """What `key` came from."""
        return cls(
            split=row["split"],
            table=int(row["mcs_table"]),
            mcs=int(row["mcs"]),
            block_bits=int(row["block_bits"]),
            buffer_bits=int(row["buffer_bits"]) if row["buffer_bits"] else None,
            redundancy_versions=tuple(map(int, row["redundancy_versions"].split("-"))),
            offsets_db=tuple(map(float, row["offsets_db"].split())),
        )

    @property
    def seed(self) -> int:
        """Seed of masks and noise."""
        return zlib.crc32(" ".join(self.key()).encode())

    def first_guess_db(self) -> float:
        """Where capacity, less a gap, would carry the block."""
        needed = self.order * self.rate * 1.08 + 0.1
        for snr_db in np.arange(-20.0, 40.0, STEP_DB):
            got = sum(math.log2(1 + 10 ** ((snr_db + offset) / 10)) for offset in self.offsets_db)
            if got > needed:
                return float(snr_db) + 1.0
        return 40.0


_QPSK_TO_64QAM: Final = (0, 2, 4, 6, 8, 9, 10, 12, 14, 16, 17, 20, 22, 24, 26, 28)  # of table 1
_256QAM: Final = (20, 22, 24, 26, 27)  # of table 2
_PATTERNS: Final[tuple[tuple[float | None, tuple[int, ...]], ...]] = (
    (None, (0,)),
    (None, (0, 2)),
    (None, (0, 2, 3, 1)),
    (1.5, (0, 2)),
    (None, (0, 2, 3)),
    (1.5, (0, 2, 3, 1)),
    (None, (0, 0)),
)
_DRAWN: Final = 240
_DRAWN_BITS: Final = (320, 456, 640, 856, 1536, 2048, 2560, 3600, 4608, 6144, 8448)
_DRAWN_PATTERNS: Final[tuple[tuple[float | None, tuple[int, ...], tuple[float, ...]], ...]] = (
    (None, (0, 2), (0, 0)),
    (None, (0, 2, 3), (0, 0, 0)),
    (None, (0, 2, 3, 1), (0, 0, 0, 0)),
    (None, (0, 2), (0, -3)),
    (None, (0, 2), (0, 3)),
    (None, (0, 2, 3), (0, -4, 2)),
    (None, (0, 2, 3, 1), (0, 3, -3, 1)),
    (1.5, (0, 2), (0, 0)),
    (1.5, (0, 2, 3, 1), (0, 0, 0, 0)),
    (2.0, (0, 2), (0, 2)),
    (2.0, (0, 2, 3), (0, 0, 0)),
    (None, (0, 0), (0, 0)),
    (None, (0,), (0,)),
)
# Where one version is far better than the others: base graph 2, and 1 by a high code rate or a long block.
_UNEVEN: Final = (
    *((1, mcs, 1056) for mcs in (3, 6, 9, 13, 16, 20, 21, 24, 28)),
    *((2, mcs, 1056) for mcs in (20, 23, 27)),
    *((1, mcs, 4224) for mcs in (9, 16, 18)),
)
_UNEVEN_PATTERNS: Final[tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]] = (
    ((0, 2), (0, 6)),
    ((0, 2), (0, 14)),
    ((0, 2, 3, 1), (0, 9, 0, 9)),
)
# Buffers between 1.5 times the block and the whole one, by which three versions overlap.
_OVERLAP_PATTERNS: Final[tuple[tuple[float, tuple[int, ...]], ...]] = (
    (2.0, (0, 2, 3)),
    (2.5, (0, 2, 3)),
    (2.0, (0, 2, 3, 1)),
)
_OVERLAP: Final = (
    *((1, mcs, 1056) for mcs in (20, 22, 24, 26, 28, 9, 16, 13)),
    *((2, mcs, 1056) for mcs in (20, 23, 27)),
    *((1, mcs, 4224) for mcs in (9, 16)),
)
_HELD_OUT_BITS: Final = (640, 1536, 2560, 4608, 8448)
_HELD_OUT_PATTERNS: Final[tuple[tuple[float | None, tuple[int, ...], tuple[float, ...]], ...]] = (
    (1.5, (0, 2), (0, 3)),
    (1.75, (0, 2), (0, -3)),
    (1.5, (0, 2, 3), (0, -4, 2)),
    (2.0, (0, 2, 3, 1), (0, 3, -3, 1)),
    (1.5, (0, 2, 3, 1), (0, -2, 4, 0)),
    (2.5, (0, 2, 3), (0, 2, -3)),
    (None, (0, 2), (0, 8)),
    (None, (0, 2), (0, -9)),
    (None, (0, 2, 3), (0, 6, -6)),
    (2.0, (0, 2), (0, -9)),
)


def settings() -> Iterator[Setting]:
    """All settings in the order in which they are measured: of uneven SINRs, held-out ones, then cheap ones, drawn ones
    among them."""
    for (versions, offsets), (table, mcs, bits) in itertools.product(_UNEVEN_PATTERNS, _UNEVEN):
        yield Setting("uneven", table, mcs, bits, None, versions, tuple(map(float, offsets)))
    for (overlap, versions), (table, mcs, bits) in itertools.product(_OVERLAP_PATTERNS, _OVERLAP):
        limited = _buffer_bits(bits, overlap)
        yield Setting("grid", table, mcs, bits, limited, versions, (0.0,) * len(versions))
    yield from sorted(_held_out(), key=lambda each: each.block_bits)
    modulations = [(1, mcs) for mcs in _QPSK_TO_64QAM] + [(2, mcs) for mcs in _256QAM]
    fit = [
        Setting("grid", table, mcs, bits, _buffer_bits(bits, share), versions, (0.0,) * len(versions))
        for largest in (1056, 2400, 4224)
        for share, versions in _PATTERNS
        for table, mcs in modulations
        for bits in [_at_most(largest, table, mcs)]
    ]
    rng = np.random.default_rng(38212)
    drawn: list[Setting] = []
    while len(drawn) < _DRAWN:
        table = int(rng.integers(1, 3))
        mcs = int(rng.integers(0, MCS_TABLES[table].num_mcs))
        bits = _at_most(int(rng.choice(_DRAWN_BITS)), table, mcs)
        share, versions, offsets = _DRAWN_PATTERNS[int(rng.integers(0, len(_DRAWN_PATTERNS)))]
        buffer_bits = _buffer_bits(bits, share)
        drawn.append(Setting("drawn", table, mcs, bits, buffer_bits, versions, tuple(map(float, offsets))))
    drawn.sort(key=lambda each: each.block_bits > 3200)  # stable
    for one, other in itertools.zip_longest(fit, drawn):
        if one is not None:
            yield one
        if other is not None:
            yield other


def _held_out() -> Iterator[Setting]:
    rng = np.random.default_rng(3821)
    for _, (share, versions, offsets), table in itertools.product(range(2), _HELD_OUT_PATTERNS, (1, 2)):
        while True:
            mcs = int(rng.integers(0, MCS_TABLES[table].num_mcs))
            bits = int(rng.choice(_HELD_OUT_BITS))
            setting = Setting(
                "held_out", table, mcs, bits, _buffer_bits(bits, share), versions, tuple(map(float, offsets))
            )
            # Only base graph 1 ever meets a limit in a real carrier.
            if base_graph(setting.payload_bits, setting.rate) == 1:
                break
        yield setting


def _at_most(block_bits: int, table: int, mcs: int) -> int:
    """The size, or the largest that base graph 2 takes, where the code rate asks for that graph."""
    return min(block_bits, MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2) if MCS_TABLES[table].code_rate[mcs] <= 0.25 else block_bits


def _buffer_bits(block_bits: int, share: float | None) -> int | None:
    return None if share is None else int(share * block_bits)


def curve(setting: Setting) -> Iterator[tuple[float, int]]:
    """Points of a setting: SNR [dB], a multiple of `STEP_DB`, and errors; the highest SNR has hardly any errors."""
    known: dict[int, int] = {}

    def errors(place: int) -> float:
        if place not in known:
            snr_db = place * STEP_DB
            known[place] = block_errors(
                setting.code,
                setting.order,
                setting.num_bits,
                setting.redundancy_versions,
                tuple(snr_db + offset for offset in setting.offsets_db),
                setting.blocks,
                setting.seed,
            )
        return known[place] / setting.blocks

    place = round(setting.first_guess_db() / STEP_DB)
    while errors(place) > _RARE and len(known) < _MOST_POINTS:
        place += 1 if errors(place) < 0.9 else 3
    low = min(known)
    while errors(low) < _HALF and len(known) < _MOST_POINTS:
        low -= 1 if errors(low) > _RARE else 3
    # A stride of three may have jumped over the range that counts.
    for between in range(low, place):
        if len(known) < _MOST_POINTS + 3:
            errors(between)
    for position in sorted(known):
        yield position * STEP_DB, known[position]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file; measured settings in it are kept")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    done = set()
    if given.out.exists():
        with given.out.open(newline="") as file:
            done = {tuple(row[name] for name in SETTING_FIELDS) for row in csv.DictReader(file)}
    every = list(settings())
    with given.out.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not done:
            writer.writerow(FIELDS)
        for number, setting in enumerate(every, start=1):
            if setting.key() in done:
                continue
            # Written together, so that a setting is whole or not there.
            rows = [
                (*setting.key(), f"{snr_db:.2f}", setting.blocks, errors, setting.seed)
                for snr_db, errors in curve(setting)
            ]
            writer.writerows(rows)
            file.flush()
            print(f"{number}/{len(every)} {' '.join(setting.key())}: {len(rows)} points", flush=True)


if __name__ == "__main__":
    main()

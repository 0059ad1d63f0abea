"""The PDSCH modulation-and-coding-scheme (MCS) tables of TS 38.214.

``MCS_TABLES[1]``, ``[2]`` and ``[3]`` are Tables 5.1.3.1-1 (up to 64QAM), 5.1.3.1-2 (up to 256QAM) and
5.1.3.1-3 (low spectral efficiency). Only the rows that carry a code rate are present: 29, 28 and 29 rows; the
reserved rows, which a retransmission uses to signal the modulation alone, are left out. ::

    table = MCS_TABLES[2]
    table.modulation_order[27], table.code_rate[27]   # 8, 948 / 1024
    table.spectral_efficiency                         # float64 [28], bits per resource element and layer

The arrays are read-only. Spectral efficiency rises with the index in tables 2 and 3; in table 1 it dips once,
from MCS 16 (16QAM 658/1024, 2.5703) to MCS 17 (64QAM 438/1024, 2.5664). Code that searches by spectral
efficiency must not assume a sorted column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from distila.xapp.nr.arrays import Float64Array, IntArray

NUM_MCS: Final = 29
"""MCS indices 0..28 carry new data; 29..31 are reserved for retransmissions (TS 38.214 clause 5.1.3.1)."""

# One (modulation order, code rates x 1024) pair per modulation, in index order, as the standard prints them.
_TABLE_1 = (
    (2, (120, 157, 193, 251, 308, 379, 449, 526, 602, 679)),
    (4, (340, 378, 434, 490, 553, 616, 658)),
    (6, (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948)),
)
_TABLE_2 = (
    (2, (120, 193, 308, 449, 602)),
    (4, (378, 434, 490, 553, 616, 658)),
    (6, (466, 517, 567, 616, 666, 719, 772, 822, 873)),
    (8, (682.5, 711, 754, 797, 841, 885, 916.5, 948)),
)
_TABLE_3 = (
    (2, (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602)),
    (4, (340, 378, 434, 490, 553, 616)),
    (6, (438, 466, 517, 567, 616, 666, 719, 772)),
)


@dataclass(frozen=True, eq=False)
class McsTable:
    """One MCS table; position in the arrays is the MCS index.

    Attributes:
        index: 1, 2 or 3, for TS 38.214 Table 5.1.3.1-``index``.
        modulation_order: int64 [num_mcs], bits per modulation symbol (2, 4, 6 or 8).
        code_rate: float64 [num_mcs], target code rate R in (0, 1) (the printed R x 1024 divided by 1024).
    """

    index: int
    modulation_order: IntArray
    code_rate: Float64Array

    @property
    def spectral_efficiency(self) -> Float64Array:
        """float64 [num_mcs]: information bits per resource element and layer, modulation order times R."""
        return self.modulation_order * self.code_rate

    @property
    def num_mcs(self) -> int:
        """Number of rows; valid MCS indices are 0 to ``num_mcs - 1``."""
        return int(self.modulation_order.size)


def _build(index: int, rows: tuple[tuple[int, tuple[float, ...]], ...]) -> McsTable:
    modulation_order = np.array([order for order, rates in rows for _ in rates], dtype=np.int64)
    code_rate = np.array([rate for _, rates in rows for rate in rates], dtype=np.float64) / 1024.0
    modulation_order.setflags(write=False)
    code_rate.setflags(write=False)
    return McsTable(index, modulation_order, code_rate)


MCS_TABLES: Mapping[int, McsTable] = MappingProxyType(
    {1: _build(1, _TABLE_1), 2: _build(2, _TABLE_2), 3: _build(3, _TABLE_3)}
)
"""PDSCH MCS tables by number (1, 2, 3), TS 38.214 Tables 5.1.3.1-1 to -3."""


def mcs_table(index: int) -> McsTable:
    """Return ``MCS_TABLES[index]``; ValueError, not KeyError, when there is no such table."""
    try:
        return MCS_TABLES[index]
    except (KeyError, TypeError):
        raise ValueError(f"mcs_table is {index!r}; must be one of {sorted(MCS_TABLES)}") from None


def checked_mcs(table_index: int, mcs: object) -> IntArray:
    """Return ``mcs`` (int or integer array) as int64, or raise ValueError when outside its table."""
    table = mcs_table(table_index)
    values = np.asarray(mcs)
    if values.dtype.kind not in "iu":
        raise ValueError(f"mcs has dtype {values.dtype}; must be an integer type")
    if values.size and (values.min() < 0 or values.max() >= table.num_mcs):
        bad = values[(values < 0) | (values >= table.num_mcs)].flat[0]
        raise ValueError(f"mcs is {bad}; must be 0 to {table.num_mcs - 1} in MCS table {table_index}")
    return values.astype(np.int64, copy=False)

"""Channel quality indicator (CQI): the tables of TS 38.214 5.2.2.1 and the mappings from and to them.

``CQI_TABLES[1]``, ``[2]`` and ``[3]`` are Tables 5.2.2.1-2 (64QAM), 5.2.2.1-3 (256QAM) and 5.2.2.1-4 (low
spectral efficiency). Index 0 means "out of range": modulation order 0, code rate 0. ::

    thresholds_db = cqi_thresholds_db(2, SmoothBler.load())    # float64 [16], -inf first
    cqi = cqi_for_sinr_db(sinr_db, thresholds_db)              # what the UE reports
    mcs = mcs_for_cqi(cqi_table=2, mcs_table=2)[cqi]           # what a plain scheduler makes of it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.bler import BlerModel, sinr_db_for_tbler
from distila.xapp.nr.mcs import MCS_TABLES, mcs_table
from distila.xapp.nr.tbs import num_re as count_re
from distila.xapp.nr.tbs import transport_block_size_bits

_TABLE_1 = (
    (2, (78, 120, 193, 308, 449, 602)),
    (4, (378, 490, 616)),
    (6, (466, 567, 666, 772, 873, 948)),
)
_TABLE_2 = (
    (2, (78, 193, 449)),
    (4, (378, 490, 616)),
    (6, (466, 567, 666, 772, 873)),
    (8, (711, 797, 885, 948)),
)
_TABLE_3 = (
    (2, (30, 50, 78, 120, 193, 308, 449, 602)),
    (4, (378, 490, 616)),
    (6, (466, 567, 666, 772)),
)

NUM_CQI = 16

DEFAULT_NUM_RE = count_re(num_prb=52, num_symbols=12, dmrs_re_per_prb=12)
"""Resource elements that a CQI speaks for by default: 52 PRB (10 MHz at 15 kHz), 12 symbols."""

TARGET_BLER: Mapping[int, float] = MappingProxyType({1: 0.1, 2: 0.1, 3: 1e-5})
"""BLER that a CQI of each table promises (TS 38.214 clause 5.2.2.1); of table 3, where so configured."""

# Separation forced between thresholds that a model makes coincide; far below what a SINR measurement
# resolves.
_MIN_STEP_DB = 1e-3


@dataclass(frozen=True, eq=False)
class CqiTable:
    """One CQI table; position in the arrays is the CQI index 0 to 15, entry 0 ("out of range") being zero.

    Attributes:
        index: 1, 2 or 3, for TS 38.214 Table 5.2.2.1-2, -3 or -4.
        modulation_order: int64 [16], bits per modulation symbol.
        code_rate: float64 [16], R in [0, 1).
    """

    index: int
    modulation_order: IntArray
    code_rate: Float64Array

    @property
    def spectral_efficiency(self) -> Float64Array:
        """float64 [16]: information bits per resource element and layer, strictly increasing."""
        return self.modulation_order * self.code_rate


def _build(index: int, rows: tuple[tuple[int, tuple[int, ...]], ...]) -> CqiTable:
    order = np.array([0] + [order for order, rates in rows for _ in rates], dtype=np.int64)
    rate = np.array([0] + [rate for _, rates in rows for rate in rates], dtype=np.float64) / 1024.0
    order.setflags(write=False)
    rate.setflags(write=False)
    return CqiTable(index, order, rate)


CQI_TABLES: Mapping[int, CqiTable] = MappingProxyType(
    {1: _build(1, _TABLE_1), 2: _build(2, _TABLE_2), 3: _build(3, _TABLE_3)}
)
"""CQI tables by number (1, 2, 3), TS 38.214 Tables 5.2.2.1-2 to -4."""


def mcs_for_cqi(cqi_table: int, mcs_table: int) -> IntArray:
    """MCS that a CQI supports without further knowledge.

    Returns:
        int64 [16]: the highest MCS index of ``mcs_table`` whose spectral efficiency does not exceed that of
        the CQI; 0 for CQI 0 and for a CQI below every MCS. Where table 1 offers two MCS of nearly the same
        spectral efficiency (16 and 17) the higher index wins, as "highest" says.
    """
    limit = _cqi_table(cqi_table).spectral_efficiency
    fits = _mcs_spectral_efficiency(mcs_table)[np.newaxis, :] <= limit[:, np.newaxis]
    return np.asarray((fits * np.arange(fits.shape[1])).max(axis=1), dtype=np.int64)


def cqi_for_sinr_db(sinr_db: ArrayLike, thresholds_db: Float64Array) -> IntArray:
    """Highest CQI whose threshold is reached, int64 of the shape of ``sinr_db``; NaN raises ValueError.

    ``thresholds_db`` is float64 [16] as from :func:`cqi_thresholds_db`: entry 0 is ignored, the rest ascends.
    """
    sinr = np.asarray(sinr_db, dtype=np.float64)
    if np.isnan(sinr).any():
        raise ValueError("sinr_db holds NaN; must be numbers")
    steps = np.asarray(thresholds_db, dtype=np.float64)
    if steps.shape != (NUM_CQI,) or not np.all(steps[2:] >= steps[1:-1]):
        raise ValueError(f"thresholds_db is {steps.tolist()}; must be {NUM_CQI} values, ascending from index 1")
    return np.asarray(np.searchsorted(steps[1:], sinr, side="right"), dtype=np.int64)


def cqi_thresholds_db(
    cqi_table: int, bler: BlerModel, target: float = 0.1, num_re: int = DEFAULT_NUM_RE
) -> Float64Array:
    """SINR from which each CQI may be reported, by the definition of TS 38.214 5.2.2.1.

    A CQI may be reported when one transport block with its modulation, its code rate and the size that
    follows from them, filling ``num_re`` resource elements, would fail with probability at most ``target``
    (0.1 in the standard, 1e-5 for table 3 where so configured). Every CQI row is also a row of some MCS
    table, and that row's curve is used: nothing is interpolated over code rate.

    Returns:
        float64 [16] in dB, ascending: -inf for CQI 0, then finite and strictly increasing. A model with gaps
        (:class:`distila.training.sionna_bler.SionnaBler`) makes two exceptions: lowest CQIs that it lacks continue from
        the lowest one that it has, 10 log10 of the ratio of the spectral efficiencies below it; highest CQIs
        that it grants at no SINR, and those above, are +inf, that is never reported.
    """
    table = _cqi_table(cqi_table)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target is {target}; must be between 0 and 1")
    thresholds = np.full(NUM_CQI, -np.inf)
    for cqi in range(1, NUM_CQI):
        order, rate = table.modulation_order[cqi], table.code_rate[cqi]
        tbs = transport_block_size_bits(num_re, rate, order)
        # A model may cover a row in one table and not in another: the first copy that it has will do.
        for index, mcs in _mcs_rows(cqi_table, order, rate):
            thresholds[cqi] = float(sinr_db_for_tbler(bler, index, mcs, tbs, target))
            if np.isfinite(thresholds[cqi]):
                break
    known = np.flatnonzero(np.isfinite(thresholds))
    if known.size == 0:
        raise ValueError(f"the BLER model reaches {target} for no CQI of table {cqi_table}; check the model")
    lowest = int(known[0])
    ratio = table.spectral_efficiency[1:lowest] / table.spectral_efficiency[lowest]
    thresholds[1:lowest] = thresholds[lowest] + 10.0 * np.log10(ratio)
    for cqi in range(2, NUM_CQI):
        thresholds[cqi] = max(thresholds[cqi], thresholds[cqi - 1] + _MIN_STEP_DB)
    return thresholds


def _mcs_rows(preferred_table: int, order: int, rate: float) -> list[tuple[int, int]]:
    """(MCS table, MCS) of the rows with this modulation and code rate, ``preferred_table`` first."""
    return [
        (index, int(mcs))
        for index in sorted(MCS_TABLES, key=lambda index: index != preferred_table)
        for mcs in np.flatnonzero((MCS_TABLES[index].modulation_order == order) & (MCS_TABLES[index].code_rate == rate))
    ]


def _mcs_spectral_efficiency(index: int) -> Float64Array:
    return mcs_table(index).spectral_efficiency


def _cqi_table(index: int) -> CqiTable:
    try:
        return CQI_TABLES[index]
    except (KeyError, TypeError):
        raise ValueError(f"cqi_table is {index!r}; must be one of {sorted(CQI_TABLES)}") from None

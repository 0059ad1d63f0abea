"""Sionna's simulated PDSCH error-rate tables, and a BLER model that interpolates them the way Sionna does.

A second BLER model beside :class:`distila.xapp.nr.bler.SmoothBler`: train or evaluate with it to see whether a result
depends on the smooth fit. ::

    model = SionnaBler.load()
    model.bler(1, mcs, code_block_size_bits, sinr_db)     # called like any distila.xapp.nr.bler.BlerModel

The numbers are read from the JSON files of the installed ``sionna`` (or ``sionna-no-rt``) package; this repository
has no copy of them. Only the files are used: torch is not imported.

It reproduces ``sionna.sys.PHYAbstraction`` with its default settings, PDSCH (category 1):

* log10(BLER) is interpolated bilinearly in (code block size, SNR dB), with a zero replaced by a
  hundredth of the smallest non-zero BLER of that MCS; a result below the smallest non-zero BLER becomes 0 again.
* The result is tabulated at code block sizes 24, 124, ... and SNR -5.0, -4.9, ... 30.0 dB, and a query takes
  the nearest tabulated point (half rounds to even), clamped at the edges. So the curves have steps of 0.1 dB, are flat
  below -5 dB and above the simulated range, and a code block above 2000 bits has the curve of 2000 bits.
* An MCS that was not simulated has BLER 1 (Sionna stores +inf, which it treats as a certain loss): table 1 MCS
  0-2, table 2 MCS 0-1, table 3 MCS 0-8.

Simulation noise makes BLER rise slightly with SINR in places. Use :class:`~distila.xapp.nr.bler.SmoothBler` where
monotone curves are needed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.files import read_json
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.mcs import MCS_TABLES, checked_mcs

_PDSCH_CATEGORY = "1"
_SNR_FIRST_DB, _SNR_STOP_DB, _SNR_STEP_DB = -5.0, 30.01, 0.1
_CBS_FIRST, _CBS_STOP, _CBS_STEP = 24, 8448, 100


@dataclass(frozen=True, eq=False)
class SimulatedRow:
    """Simulated block error rate of one MCS.

    Attributes:
        cbs_bits: float64 [N], code block sizes, ascending.
        snr_db: float64 [S], Es/N0 in dB, ascending.
        bler: float64 [N, S].
    """

    cbs_bits: Float64Array
    snr_db: Float64Array
    bler: Float64Array


def sionna_version() -> str:
    """Name and version of the installed Sionna distribution, for provenance; FileNotFoundError if none."""
    for name in ("sionna-no-rt", "sionna"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise FileNotFoundError("Sionna is not installed; pip install sionna-no-rt")


def read_tables() -> dict[tuple[int, int], SimulatedRow]:
    """Read Sionna's PDSCH tables 1 to 3: (MCS table, MCS) -> row, only the rows Sionna simulated."""
    spec = importlib.util.find_spec("sionna")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("Sionna is not installed; pip install sionna-no-rt")
    folder = Path(spec.submodule_search_locations[0]) / "sys" / "bler_tables"
    rows: dict[tuple[int, int], SimulatedRow] = {}
    for table in MCS_TABLES:
        content = read_json(folder / f"PDSCH_table{table}.json")
        for mcs, row in content["category"][_PDSCH_CATEGORY]["index"][str(table)]["MCS"].items():
            curves = sorted((float(cbs), entry["BLER"]) for cbs, entry in row["CBS"].items())
            rows[table, int(mcs)] = SimulatedRow(
                np.array([cbs for cbs, _ in curves]),
                np.array(row["SNR_db"], dtype=np.float64),
                np.array([bler for _, bler in curves], dtype=np.float64),
            )
    return rows


class SionnaBler:
    """BLER by Sionna's own interpolation of its tables; see the module docstring.

    Attributes:
        cbs_grid_bits: float64 [N], tabulated code block sizes.
        snr_grid_db: float64 [S], tabulated SNR.
        tables: by MCS table, float64 [num_mcs, N, S]; 1.0 throughout for an MCS Sionna did not simulate.
    """

    def __init__(self, rows: dict[tuple[int, int], SimulatedRow]) -> None:
        """Tabulate ``rows`` on Sionna's grid."""
        self.cbs_grid_bits = np.arange(_CBS_FIRST, _CBS_STOP, _CBS_STEP, dtype=np.float64)
        self.snr_grid_db = np.arange(_SNR_FIRST_DB, _SNR_STOP_DB, _SNR_STEP_DB)
        self.tables: dict[int, Float64Array] = {}
        for index, table in MCS_TABLES.items():
            values = np.ones((table.num_mcs, self.cbs_grid_bits.size, self.snr_grid_db.size))
            for mcs in range(table.num_mcs):
                if (index, mcs) in rows:
                    values[mcs] = _tabulate(rows[index, mcs], self.cbs_grid_bits, self.snr_grid_db)
            self.tables[index] = values

    @classmethod
    def load(cls) -> SionnaBler:
        """Build from the installed Sionna package (once per process); FileNotFoundError if there is none."""
        return _load()

    def bler(self, mcs_table: int, mcs: ArrayLike, code_block_size_bits: ArrayLike, sinr_db: ArrayLike) -> Float64Array:
        """Code-block error rate, float64 of the broadcast shape; arguments as for any BlerModel."""
        index = checked_mcs(mcs_table, mcs)
        sinr = np.asarray(sinr_db, dtype=np.float64)
        cbs = np.asarray(code_block_size_bits, dtype=np.float64)
        if np.isnan(sinr).any() or np.isnan(cbs).any():
            raise ValueError("sinr_db or code_block_size_bits holds NaN; must be numbers")
        cbs_position = _nearest(cbs, _CBS_FIRST, _CBS_STEP, self.cbs_grid_bits.size)
        snr_position = _nearest(sinr, _SNR_FIRST_DB, _SNR_STEP_DB, self.snr_grid_db.size)
        return np.asarray(self.tables[mcs_table][index, cbs_position, snr_position])


def _nearest(value: Float64Array, first: float, step: float, size: int) -> np.ndarray:
    # Clipping before the cast keeps +-inf meaningful.
    return np.clip(np.round((value - first) / step), 0, size - 1).astype(np.int64)


def _tabulate(row: SimulatedRow, cbs_grid: Float64Array, snr_grid: Float64Array) -> Float64Array:
    positive = row.bler > 0
    if not positive.any():
        return np.zeros((cbs_grid.size, snr_grid.size))
    floor = np.log10(row.bler[positive].min())
    log_bler = np.where(positive, np.log10(np.where(positive, row.bler, 1.0)), floor - 2.0)
    cbs_low, cbs_weight = _bracket(row.cbs_bits, cbs_grid)
    snr_low, snr_weight = _bracket(row.snr_db, snr_grid)
    along_snr = log_bler[:, snr_low] * (1 - snr_weight) + log_bler[:, snr_low + 1] * snr_weight
    both = along_snr[cbs_low] * (1 - cbs_weight[:, None]) + along_snr[cbs_low + 1] * cbs_weight[:, None]
    bler = np.power(10.0, both)
    # Sionna compares against the floor only where the row has a zero to replace.
    if not positive.all():
        bler[bler < 10.0**floor] = 0.0
    return np.asarray(np.clip(bler, 0.0, 1.0))


def _bracket(nodes: Float64Array, queries: Float64Array) -> tuple[np.ndarray, Float64Array]:
    inside = np.clip(queries, nodes[0], nodes[-1])
    low = np.clip(np.searchsorted(nodes, inside, side="right") - 1, 0, nodes.size - 2)
    return low, (inside - nodes[low]) / (nodes[low + 1] - nodes[low])


@functools.cache
def _load() -> SionnaBler:
    return SionnaBler(read_tables())

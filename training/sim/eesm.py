"""Effective SINR over PRBs and layers (EESM), tabulated so that one table serves every SNR and every MCS.

EESM maps the SINRs of an allocation to the SINR of a flat channel with the same block error rate, with one beta per
MCS::

    sinr_eff = -beta ln mean exp(-sinr / beta)

With sinr = S g (mean SNR S times the normalised gain g of each PRB and layer) and B = beta / S::

    sinr_eff = S * (-B ln mean exp(-g / B))

so that, in decibels and exactly, ::

    sinr_eff_db = s + E(beta_db - s),    E(b) = 10 log10(-B ln mean exp(-g / B)),    B = 10^(b / 10)

E depends on the gains alone, and only through one number: it rises with b from the weakest gain (b -> -inf) to the
mean gain (b -> +inf). A fading bank holds it at the nodes ``NODE_FIRST_DB + NODE_STEP_DB * i`` and is read with linear
interpolation, clamped beyond the ends.
"""

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from distila.xapp.files import read_json
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.mcs import MCS_TABLES

NODE_FIRST_DB: Final = -28.0
"""Lowest node b = beta_db - s [dB]."""
NODE_STEP_DB: Final = 3.5
"""Distance of the nodes [dB].

Measured error of the linear interpolation within 4 dB of an MCS' working point, over TDL, CDL, UMi and UMa and ranks 1
to 4: 0.02 dB in the median, 0.09 dB at the 99th percentile, 0.2 dB at most. (At the 99th percentile, a step of 4 dB
errs by 0.12 dB, of 6 dB by 0.28 dB, of 8 dB by 0.45 dB.)"""
NUM_NODES: Final = 13
"""Number of nodes; the last is at +14 dB. Where an MCS can work at all, b is between -28 and +11 dB."""


BETA_AT_0_DB: Final = 2.19
BETA_SLOPE_PER_DB: Final = 0.155
BETA_MIN: Final = 1.6
"""The beta of the MCS that a SINR supports: ``max(BETA_MIN, BETA_AT_0_DB * exp(BETA_SLOPE_PER_DB * sinr_db))``; where
it comes from is explained in `distila.training.bundled_trace.effective_sinr_db`."""


def nodes_db() -> Float64Array:
    """The nodes b of a fading bank [dB], float64 [node]."""
    return np.asarray(NODE_FIRST_DB + NODE_STEP_DB * np.arange(NUM_NODES), np.float64)


def eesm_beta(mcs_table: int) -> Float64Array:
    """EESM's beta of every MCS of a PDSCH table, float64 [mcs].

    Read from the installed Sionna package (``sionna/sys/esm_params/eesm_beta_table.json``), which has tables 1 and 2.
    An MCS that Sionna has no beta for (all of table 3) takes the beta of table 1 at the nearest spectral efficiency; of
    two equally near, that of the same modulation. Below the first MCS of table 1 that is a constant, 1.6, which is
    harmless: beta hardly changes within QPSK (1.60 to 1.82).

    Raises:
        FileNotFoundError: Sionna is not installed.
        ValueError: there is no such table.
    """
    if mcs_table not in MCS_TABLES:
        raise ValueError(f"mcs_table is {mcs_table!r}; must be one of {sorted(MCS_TABLES)}")
    known = {int(index): np.array(values, np.float64) for index, values in _read_betas()["index"].items()}
    table, first = MCS_TABLES[mcs_table], MCS_TABLES[1]
    efficiency_gap = np.abs(table.spectral_efficiency[:, None] - first.spectral_efficiency)
    # Far below any step between two MCS: it matters only where two are equally near.
    efficiency_gap += 1e-6 * (table.modulation_order[:, None] != first.modulation_order)
    beta = known[1][efficiency_gap.argmin(axis=1)]
    own = known.get(mcs_table, np.empty(0))[: table.num_mcs]
    beta[: own.size] = own
    return np.asarray(beta)


def _read_betas() -> Any:
    spec = importlib.util.find_spec("sionna")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("Sionna is not installed; pip install sionna-no-rt")
    path = Path(spec.submodule_search_locations[0]) / "sys" / "esm_params" / "eesm_beta_table.json"
    return read_json(path)


def effective_gain_db(gain: npt.NDArray[np.floating], nodes_db: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """E of the module's docstring [dB], of the gains' dtype, [..., node].

    Args:
        gain: gains of the PRBs and layers, linear and not negative, [..., sample].
        nodes_db: beta relative to the mean SNR [dB], [node].
    """
    gain = np.asarray(gain)
    lowest = gain.min(axis=-1)
    above = gain - lowest[..., None]
    result = np.empty((*gain.shape[:-1], np.size(nodes_db)), gain.dtype)
    tiny = np.finfo(np.float32).tiny
    for index, node_db in enumerate(np.atleast_1d(nodes_db)):
        scale = gain.dtype.type(10 ** (node_db / 10))
        # Relative to the weakest gain, so that the mean cannot underflow; with expm1 and log1p, so that a scale far
        # above the gains does not cancel.
        mean_less_1 = np.expm1(above * (-1 / scale)).mean(axis=-1)
        result[..., index] = lowest - scale * np.log1p(mean_less_1)
    return np.asarray(10 * np.log10(np.maximum(result, tiny)))


def unbiased_nodes_db(gain: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Values of a bank at its nodes [dB], [..., node]: E, shifted so that interpolation is exact on average.

    A line between exact values deviates from a curve by ``h^2 E'' / 12`` on average, downwards where the curve is
    concave. Each value is shifted by that, with the second difference in place of ``h^2 E''``.
    """
    exact = effective_gain_db(gain, NODE_FIRST_DB + NODE_STEP_DB * np.arange(-1, NUM_NODES + 1))
    bend = exact[..., 2:] - 2 * exact[..., 1:-1] + exact[..., :-2]
    return np.asarray(exact[..., 1:-1] - bend / 12)

"""Information rate of Gray-labelled square QAM with bit-interleaved coded modulation (BICM) over AWGN.

``snr_db_for_rate(modulation_order, bits_per_symbol)`` is the SNR that an ideal, infinitely long code would need.
The BLER fit measures every curve's distance from it, because that distance hardly changes with the code rate.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.nr.arrays import Float64Array

_SNR_DB = np.arange(-25.0, 40.0, 0.1)


def bicm_rate(modulation_order: int, snr_db: float) -> float:
    """BICM mutual information in bits per symbol at Es/N0 ``snr_db``, by Gauss-Hermite quadrature."""
    bits = modulation_order // 2
    position = np.arange(2**bits)
    label = position ^ (position >> 1)
    level = 2.0 * position - (2**bits - 1)
    level /= np.sqrt(np.mean(level**2))
    node, weight = np.polynomial.hermite_e.hermegauss(64)
    weight = weight / weight.sum()
    # One quadrature component with unit signal power; the SNR per component equals that of the symbol.
    sigma = 10.0 ** (-snr_db / 20.0)
    received = level[:, None] + sigma * node[None, :]
    metric = -((received[:, :, None] - level) ** 2) / (2.0 * sigma**2)
    likelihood = np.exp(metric - metric.max(axis=-1, keepdims=True))
    total = likelihood.sum(axis=-1)
    rate = 0.0
    for bit in range(bits):
        value = (label >> bit) & 1
        agreeing = (likelihood * (value[:, None, None] == value[None, None, :])).sum(axis=-1)
        rate += 1.0 + float(np.mean(np.log2(agreeing / total) @ weight))
    return 2.0 * rate


def snr_db_for_rate(modulation_order: int, bits_per_symbol: ArrayLike) -> Float64Array:
    """Es/N0 in dB at which :func:`bicm_rate` equals ``bits_per_symbol`` (below the modulation order)."""
    return np.asarray(np.interp(np.asarray(bits_per_symbol, dtype=np.float64), _rates(modulation_order), _SNR_DB))


@functools.cache
def _rates(modulation_order: int) -> Float64Array:
    return np.array([bicm_rate(modulation_order, snr_db) for snr_db in _SNR_DB])

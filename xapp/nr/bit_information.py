"""Mutual information of coded bits in square QAM (BICM), and of bits that several transmissions carry.

A QAM symbol protects its bits unequally. Of bit level l (0: the best) at SINR g, `level_sinr_db` gives the SINR at
which a QPSK bit would carry as much information. A receiver adds the log-likelihood ratios of a repeated bit; for QPSK
SINRs then add up, and so these equivalent SINRs are added for every level (Gaussian approximation of LLRs, ten Brink
2004). That is exact for QPSK, and it holds what a repeated bit gains when it comes at another place of the symbol.
"""

from functools import cache
from typing import Final

import numpy as np

from distila.xapp.nr.arrays import Float64Array

FIRST_DB: Final = -40.0
LAST_DB: Final = 60.0
STEP_DB: Final = 0.25
GRID_DB: Final[Float64Array] = np.arange(FIRST_DB, LAST_DB + STEP_DB / 2, STEP_DB)
_NODES: Final = 48
_EDGE: Final = 1e-12


def pam_amplitudes(bits: int) -> Float64Array:
    """Amplitudes of one quadrature of square QAM by label, float64 [2 ** bits], first bit highest; mean power 1/2.

    Gray mapping of TS 38.211 clauses 5.1.3 to 5.1.6.
    """
    label = np.arange(2**bits)
    amplitude = np.zeros(2**bits)
    for place in range(bits):  # from the last bit of a label to the first
        sign = 1.0 - 2.0 * ((label >> place) & 1)
        amplitude = sign if place == 0 else sign * (2.0**place - amplitude)
    return np.asarray(amplitude / np.sqrt(2 * np.mean(amplitude**2)))


@cache
def level_information(order: int) -> Float64Array:
    """Mutual information of every bit level over `GRID_DB` in AWGN, exact demapping, float64 [order / 2, step];
    bits."""
    bits = order // 2
    amplitude, label = pam_amplitudes(bits), np.arange(2**bits)
    node, weight = np.polynomial.hermite.hermgauss(_NODES)
    weight = weight / np.sqrt(np.pi)
    information = np.empty((bits, len(GRID_DB)))
    for step, sinr_db in enumerate(GRID_DB):
        variance = 0.5 * 10 ** (-sinr_db / 10)
        received = amplitude[:, None] + np.sqrt(2 * variance) * node  # [label, node]
        metric = -((received[..., None] - amplitude) ** 2) / (2 * variance)
        every = np.logaddexp.reduce(metric, axis=-1)
        for level in range(bits):
            one = (label >> (bits - 1 - level)) & 1 == 1
            same = np.where(
                one[:, None], np.logaddexp.reduce(metric[..., one], -1), np.logaddexp.reduce(metric[..., ~one], -1)
            )
            information[level, step] = 1 - ((every - same) @ weight).mean() / np.log(2)
    information = np.clip(information, _EDGE, 1 - _EDGE)
    information.setflags(write=False)
    return information


@cache
def level_sinr_db(order: int) -> Float64Array:
    """SINR [dB] at which a QPSK bit carries what each level of ``order`` does over `GRID_DB`, float64 [order / 2,
    step]."""
    qpsk = level_information(2)[0]
    equivalent = np.stack([np.interp(level, qpsk, GRID_DB) for level in level_information(order)])
    equivalent.setflags(write=False)
    return equivalent

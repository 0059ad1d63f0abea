"""Transport block size (TS 38.214 5.1.3.2) and code block segmentation (TS 38.212 5.2.2).

From an allocation to what the decoder sees::

    re = num_re(num_prb=52)                                        # resource elements that count for the TBS
    tbs_bits = transport_block_size_bits(re, code_rate, modulation_order)
    num_cb, cbs_bits = code_blocks(tbs_bits, code_rate)

``code_rate`` is R in (0, 1), not R x 1024. All functions broadcast their arguments like numpy operators. Code
rates of the 38.214 tables are multiples of 1/2048, so the intermediate N_info is exact in float64 and no
result hangs on rounding.

The code block size returned is K', the number of bits in each code block *with* its CRC bits and *without*
filler bits: (TBS + TB CRC) / C, plus 24 when C > 1. It is the key under which link-level BLER tables are
simulated.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.nr.arrays import Float64Array, IntArray

MAX_RE_PER_PRB = 156
"""Cap on the resource elements per PRB counted for the TBS (TS 38.214 5.1.3.2 step 1)."""

MAX_CODE_BLOCK_SIZE_BITS = 8448
MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2 = 3840
"""Largest code block of LDPC base graph 2 (TS 38.212 5.2.2)."""
MIN_CODE_BLOCK_SIZE_BITS = 24

# TS 38.214 Table 5.1.3.2-1, TBS for N_info <= 3824.
_SMALL_TBS_BITS = np.array(
    [
        *range(24, 193, 8),
        *range(208, 385, 16),
        *range(408, 577, 24),
        *range(608, 769, 32),
        *(
            808,
            848,
            888,
            928,
            984,
            1032,
            1064,
            1128,
            1160,
            1192,
            1224,
            1256,
            1288,
            1320,
            1352,
            1416,
            1480,
            1544,
        ),
        *(
            1608,
            1672,
            1736,
            1800,
            1864,
            1928,
            2024,
            2088,
            2152,
            2216,
            2280,
            2408,
            2472,
            2536,
            2600,
            2664,
            2728,
        ),
        *(2792, 2856, 2976, 3104, 3240, 3368, 3496, 3624, 3752, 3824),
    ],
    dtype=np.int64,
)
_SMALL_TBS_BITS.setflags(write=False)
_MAX_SMALL_TBS_BITS = 3824


@overload
def num_re(num_prb: int, num_symbols: int = 14, dmrs_re_per_prb: int = 12, overhead_re_per_prb: int = 0) -> int: ...
@overload
def num_re(
    num_prb: IntArray, num_symbols: int = 14, dmrs_re_per_prb: int = 12, overhead_re_per_prb: int = 0
) -> IntArray: ...
def num_re(
    num_prb: int | IntArray, num_symbols: int = 14, dmrs_re_per_prb: int = 12, overhead_re_per_prb: int = 0
) -> int | IntArray:
    """Resource elements that count for the TBS, N_RE = min(156, N'_RE) x n_PRB (TS 38.214 5.1.3.2 step 1).

    Args:
        num_prb: allocated PRBs, int or int array, >= 0.
        num_symbols: PDSCH symbols in the slot, 1 to 14.
        dmrs_re_per_prb: DM-RS resource elements per PRB, counting CDM groups without data.
        overhead_re_per_prb: xOverhead, one of 0, 6, 12, 18.

    Returns:
        int for an int, int64 array of the same shape for an array. Not the number of resource elements
        available for rate matching, which is not capped.
    """
    if not 1 <= num_symbols <= 14:
        raise ValueError(f"num_symbols is {num_symbols}; must be 1 to 14")
    if overhead_re_per_prb not in (0, 6, 12, 18):
        raise ValueError(f"overhead_re_per_prb is {overhead_re_per_prb}; must be 0, 6, 12 or 18")
    if np.any(np.asarray(num_prb) < 0):
        raise ValueError(f"num_prb is {np.min(num_prb)}; must be >= 0")
    re_per_prb = 12 * num_symbols - dmrs_re_per_prb - overhead_re_per_prb
    if dmrs_re_per_prb < 0 or re_per_prb < 0:
        raise ValueError(
            f"dmrs_re_per_prb is {dmrs_re_per_prb}; must be 0 to {12 * num_symbols - overhead_re_per_prb}"
            f" for {num_symbols} symbols and overhead {overhead_re_per_prb}"
        )
    total = np.asarray(num_prb, dtype=np.int64) * min(MAX_RE_PER_PRB, re_per_prb)
    return int(total) if total.ndim == 0 else total


def transport_block_size_bits(
    num_re: ArrayLike, code_rate: ArrayLike, modulation_order: ArrayLike, num_layers: ArrayLike = 1
) -> IntArray:
    """Transport block size for a PDSCH allocation (TS 38.214 5.1.3.2 steps 2 to 4, one codeword).

    Args:
        num_re: N_RE from :func:`num_re`, >= 0.
        code_rate: target code rate R, in (0, 1).
        modulation_order: bits per symbol.
        num_layers: spatial layers of the codeword, 1 to 4.

    Returns:
        int64 array of the broadcast shape. 0 where ``num_re`` is 0: nothing is sent (the standard would round
        up to 24). Otherwise at least 24.
    """
    re = np.asarray(num_re, dtype=np.float64)
    rate = np.asarray(code_rate, dtype=np.float64)
    order = np.asarray(modulation_order, dtype=np.float64)
    layers = np.asarray(num_layers, dtype=np.float64)
    _require(re, re >= 0, "num_re", ">= 0")
    _require(rate, (rate > 0) & (rate < 1), "code_rate", "between 0 and 1 (R, not R x 1024)")
    _require(order, order >= 1, "modulation_order", ">= 1")
    _require(layers, (layers >= 1) & (layers <= 4), "num_layers", "1 to 4")

    n_info = re * rate * order * layers
    tbs = np.where(n_info <= _MAX_SMALL_TBS_BITS, _small_tbs_bits(n_info), _large_tbs_bits(n_info, rate))
    return np.where(n_info > 0, tbs, 0).astype(np.int64)


def _small_tbs_bits(n_info: Float64Array) -> IntArray:
    """Step 3, N_info <= 3824: quantise down, then the smallest table entry that is not below."""
    step = 2.0 ** np.maximum(3, _floor_log2(n_info) - 6)
    quantised = np.maximum(24.0, step * np.floor(n_info / step))
    position = np.searchsorted(_SMALL_TBS_BITS, quantised)
    return _SMALL_TBS_BITS[np.minimum(position, _SMALL_TBS_BITS.size - 1)]


def _large_tbs_bits(n_info: Float64Array, rate: Float64Array) -> Float64Array:
    """Step 4, N_info > 3824: quantise to nearest, then fill C equal, byte-aligned code blocks."""
    step = 2.0 ** (_floor_log2(n_info - 24.0) - 5)
    # "Ties in the round function are broken towards the next largest integer": numpy's round goes to even.
    quantised = np.maximum(3840.0, step * np.floor((n_info - 24.0) / step + 0.5))
    payload = quantised + 24.0
    num_cb = np.where(
        rate <= 0.25, np.ceil(payload / 3816.0), np.where(quantised > 8424.0, np.ceil(payload / 8424.0), 1.0)
    )
    return np.asarray(8.0 * num_cb * np.ceil(payload / (8.0 * num_cb)) - 24.0, dtype=np.float64)


def _floor_log2(value: Float64Array) -> IntArray:
    # frexp is exact where floor(log2(x)) can be off by one just below a power of two.
    _, exponent = np.frexp(np.maximum(value, 1.0))
    return exponent.astype(np.int64) - 1


def code_blocks(tbs_bits: ArrayLike, code_rate: ArrayLike) -> tuple[IntArray, IntArray]:
    """Segment transport blocks into LDPC code blocks (TS 38.212 5.1, 5.2.2, 7.2.1, 7.2.2).

    TB CRC is 16 bits up to a TBS of 3824, else 24. LDPC base graph 2 (largest code block 3840) is used when
    TBS <= 292, or TBS <= 3824 and R <= 0.67, or R <= 0.25; base graph 1 (8448) otherwise. Several code blocks
    carry a 24-bit CRC each.

    Args:
        tbs_bits: transport block size, >= 1.
        code_rate: target code rate R of the MCS, in (0, 1).

    Returns:
        (num_code_blocks, code_block_size_bits), int64 arrays of the broadcast shape. The size is K' (module
        docstring); for a TBS of :func:`transport_block_size_bits` it is a whole number for all blocks alike,
        for any other TBS it is rounded up.
    """
    tbs, rate = np.broadcast_arrays(np.asarray(tbs_bits), np.asarray(code_rate, dtype=np.float64))
    if tbs.dtype.kind not in "iu":
        raise ValueError(f"tbs_bits has dtype {tbs.dtype}; must be an integer type")
    _require(tbs, tbs >= 1, "tbs_bits", ">= 1")
    _require(rate, (rate > 0) & (rate < 1), "code_rate", "between 0 and 1 (R, not R x 1024)")
    tbs = tbs.astype(np.int64)

    with_crc = tbs + np.where(tbs > _MAX_SMALL_TBS_BITS, 24, 16)
    # The other two ways into base graph 2 need a TBS of at most 3824, which is one code block in either graph.
    largest = np.where(rate <= 0.25, MAX_CODE_BLOCK_SIZE_BITS_GRAPH_2, MAX_CODE_BLOCK_SIZE_BITS)
    num_cb = np.where(with_crc <= largest, 1, -(-with_crc // (largest - 24)))
    size = -(-with_crc // num_cb) + np.where(num_cb > 1, 24, 0)
    return num_cb.astype(np.int64), size.astype(np.int64)


def _require(value: Float64Array | IntArray, ok: np.ndarray, name: str, rule: str) -> None:
    # NaN fails every comparison, so it is rejected here too.
    if not np.all(ok):
        bad = np.broadcast_to(value, np.shape(ok))[~ok].flat[0]
        raise ValueError(f"{name} is {bad}; must be {rule}")

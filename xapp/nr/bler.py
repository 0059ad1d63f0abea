"""Code-block and transport-block error rates of NR PDSCH over SINR.

Two questions are answered: how likely does a block fail, and at which SINR does it fail with a given
probability. ::

    model = SmoothBler.load()                                   # the shipped fit, cached
    model.bler(1, mcs, code_block_size_bits, sinr_db)           # code block, arrays broadcast
    tbler(model, 1, mcs, tbs_bits, sinr_db)                     # transport block, 1 - (1 - bler)^C
    model.sinr_db_for_bler(1, mcs, code_block_size_bits, 0.1)   # exact inverse of bler
    sinr_db_for_tbler(model, 1, mcs, tbs_bits, 0.1)             # bisection, any BlerModel

``sinr_db`` is the (effective) post-equalisation SINR per modulation symbol, Es/N0 in dB, in AWGN; not Eb/N0.
``code_block_size_bits`` is K' of :func:`distila.xapp.nr.tbs.code_blocks`, 24 to 8448.

Form of the shipped curves. Each (MCS row, code block size node) has four numbers: centre c (dB), scale w > 0
(dB), skew e and tail weight d > 0, and ::

    u = (sinr_db - c) / w - sinh(e / d)
    z = sinh(d asinh(u) + e)
    bler = 1 / (1 + exp(z))

a logistic in dB bent by a sinh-arcsinh transform. c is the SINR of BLER 0.5 whatever the other three
are; d = 1, e = 0 gives the plain logistic. It is strictly decreasing in SINR for any parameters, and inverts
in closed form.

Between code block size nodes c, log w, e and log d are interpolated linearly in log(code block size), so
every code block size has a curve of the same form. Where the parameters come from, the rows no simulation
covers and how they are filled, is explained in :mod:`distila.training.bler_fit.fit`, which writes the data file
``bler_curves.npz``.

All functions are free of state and thread-safe.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.mcs import MCS_TABLES, checked_mcs, mcs_table
from distila.xapp.nr.tbs import MAX_CODE_BLOCK_SIZE_BITS, MIN_CODE_BLOCK_SIZE_BITS, code_blocks

_CURVES_FILE = "bler_curves.npz"


class BlerModel(Protocol):
    """What a block-error model has to offer; training and tests may plug in another one."""

    def bler(self, mcs_table: int, mcs: ArrayLike, code_block_size_bits: ArrayLike, sinr_db: ArrayLike) -> Float64Array:
        """Code-block error rate in [0, 1], of the broadcast shape of the three array arguments."""
        ...  # pragma: no cover

    def __hash__(self) -> int: ...  # pragma: no cover  # tables made from a model are kept for that model


def curve_bler(sinr_db: ArrayLike, params: Float64Array) -> Float64Array:
    """BLER of the curve form of the module docstring.

    Args:
        sinr_db: SINR in dB, broadcast against ``params[..., 0]``; +-inf are allowed, NaN gives NaN.
        params: float64 [..., 4]: c (dB), log w (w in dB), e, log d.
    """
    centre, scale, skew, tail = _unpack(params)
    # Far out sinh overflows to +-inf, which is the limit wanted; exp(-logaddexp) keeps small BLER accurate.
    with np.errstate(over="ignore", invalid="ignore"):
        u = (np.asarray(sinr_db, dtype=np.float64) - centre) / scale - np.sinh(skew / tail)
        z = np.sinh(tail * np.arcsinh(u) + skew)
        return np.asarray(np.exp(-np.logaddexp(0.0, z)), dtype=np.float64)


def curve_sinr_db(bler: ArrayLike, params: Float64Array) -> Float64Array:
    """Inverse of :func:`curve_bler`: SINR in dB at which the curve has ``bler``; -inf for 1, +inf for 0."""
    centre, scale, skew, tail = _unpack(params)
    target = np.asarray(bler, dtype=np.float64)
    with np.errstate(divide="ignore"):
        z = np.log1p(-target) - np.log(target)
    return np.asarray(centre + scale * (np.sinh((np.arcsinh(z) - skew) / tail) + np.sinh(skew / tail)))


def _unpack(params: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    return params[..., 0], np.exp(params[..., 1]), params[..., 2], np.exp(params[..., 3])


class SmoothBler:
    """The smooth BLER curves shipped with the package; see the module docstring for their form.

    Attributes:
        cbs_nodes_bits: float64 [N], code block sizes that carry parameters, ascending, first 24, last 8448.
        params: by MCS table (1, 2, 3), float64 [num_mcs, N, 4]: c, log w, e, log d.
        provenance: where the numbers come from, as name -> text.
    """

    def __init__(
        self, cbs_nodes_bits: Float64Array, params: Mapping[int, Float64Array], provenance: Mapping[str, str]
    ) -> None:
        """Take curves over; ValueError unless the shapes fit the MCS tables and the nodes span 24 to 8448."""
        nodes = np.asarray(cbs_nodes_bits, dtype=np.float64)
        if nodes.ndim != 1 or nodes.size < 2 or not np.all(np.diff(nodes) > 0):
            raise ValueError(f"cbs_nodes_bits is {nodes.tolist()}; must be an ascending 1-D array of 2 or more")
        if nodes[0] != MIN_CODE_BLOCK_SIZE_BITS or nodes[-1] != MAX_CODE_BLOCK_SIZE_BITS:
            raise ValueError(
                f"cbs_nodes_bits spans {nodes[0]:g} to {nodes[-1]:g}; must span"
                f" {MIN_CODE_BLOCK_SIZE_BITS} to {MAX_CODE_BLOCK_SIZE_BITS}"
            )
        for index, table in MCS_TABLES.items():
            shape = (table.num_mcs, nodes.size, 4)
            if index not in params or params[index].shape != shape:
                found = params[index].shape if index in params else None
                raise ValueError(f"params of MCS table {index} have shape {found}; must be {shape}")
            if not np.all(np.isfinite(params[index])):
                raise ValueError(f"params of MCS table {index} hold NaN or inf; must be finite")
        self.cbs_nodes_bits = nodes
        self.params = {index: np.asarray(params[index], dtype=np.float64) for index in MCS_TABLES}
        self.provenance = dict(provenance)
        self._log_nodes = np.log(nodes)

    @classmethod
    def load(cls, path: str | Path | None = None) -> SmoothBler:
        """Return the shipped model (read once per process), or one read from an npz file at ``path``."""
        return _load_shipped() if path is None else _read(Path(path))

    def params_at(self, mcs_table: int, mcs: ArrayLike, code_block_size_bits: ArrayLike) -> Float64Array:
        """Curve parameters, float64 [..., 4], for broadcast MCS and code block size; see :func:`curve_bler`.

        To evaluate many SINR values for the same MCS and size, get the parameters once and use
        :func:`curve_bler`.
        """
        index = checked_mcs(mcs_table, mcs)
        size = np.asarray(code_block_size_bits, dtype=np.float64)
        ok = (size >= MIN_CODE_BLOCK_SIZE_BITS) & (size <= MAX_CODE_BLOCK_SIZE_BITS)
        if not np.all(ok):
            raise ValueError(
                f"code_block_size_bits is {size[~ok].flat[0]:g}; must be"
                f" {MIN_CODE_BLOCK_SIZE_BITS} to {MAX_CODE_BLOCK_SIZE_BITS}"
            )
        index, size = np.broadcast_arrays(index, size)
        log_size = np.log(size)
        low = np.clip(np.searchsorted(self._log_nodes, log_size, side="right") - 1, 0, self._log_nodes.size - 2)
        weight = (log_size - self._log_nodes[low]) / (self._log_nodes[low + 1] - self._log_nodes[low])
        rows = self.params[mcs_table]
        weight = weight[..., np.newaxis]
        return np.asarray((1.0 - weight) * rows[index, low] + weight * rows[index, low + 1])

    def bler(self, mcs_table: int, mcs: ArrayLike, code_block_size_bits: ArrayLike, sinr_db: ArrayLike) -> Float64Array:
        """Code-block error rate, float64 of the broadcast shape, in [0, 1], never rising with SINR.

        Args:
            mcs_table: 1, 2 or 3.
            mcs: MCS index or indices, integer.
            code_block_size_bits: K', 24 to 8448.
            sinr_db: SINR (Es/N0) in dB; +-inf are allowed, NaN gives NaN.

        Raises:
            ValueError: no such table or MCS, or a code block size out of range.
        """
        return curve_bler(sinr_db, self.params_at(mcs_table, mcs, code_block_size_bits))

    def sinr_db_for_bler(
        self, mcs_table: int, mcs: ArrayLike, code_block_size_bits: ArrayLike, bler: ArrayLike
    ) -> Float64Array:
        """SINR in dB at which :meth:`bler` is ``bler``, in closed form; -inf for 1 and +inf for 0."""
        target = _checked_probability(bler, "bler")
        return curve_sinr_db(target, self.params_at(mcs_table, mcs, code_block_size_bits))


def tbler(model: BlerModel, mcs_table: int, mcs: ArrayLike, tbs_bits: ArrayLike, sinr_db: ArrayLike) -> Float64Array:
    """Transport-block error rate 1 - (1 - bler)^C, float64 of the broadcast shape.

    The transport block is segmented by :func:`distila.xapp.nr.tbs.code_blocks`; its C code blocks are taken to fail
    independently at the same SINR.
    """
    num_cb, size = _segment(mcs_table, mcs, tbs_bits)
    return _any_block_fails(model.bler(mcs_table, mcs, size, sinr_db), num_cb)


def sinr_db_for_tbler(
    model: BlerModel,
    mcs_table: int,
    mcs: ArrayLike,
    tbs_bits: ArrayLike,
    tbler: ArrayLike,
    low_db: float = -60.0,
    high_db: float = 80.0,
) -> Float64Array:
    """Lowest SINR in dB at which the transport-block error rate does not exceed ``tbler``.

    Bisection over [``low_db``, ``high_db``] to below 1e-9 dB, so it works with any model that does not rise
    with SINR, also one with steps. +inf where the target is missed even at ``high_db`` (a row the model
    lacks, or target 0); -inf where it is met even at ``low_db`` (target 1).
    """
    if not low_db < high_db:
        raise ValueError(f"low_db is {low_db}, high_db {high_db}; low_db must be below high_db")
    target = _checked_probability(tbler, "tbler")
    num_cb, size = _segment(mcs_table, mcs, tbs_bits)
    mcs_all, num_cb, size, target = np.broadcast_arrays(np.asarray(mcs), num_cb, size, target)

    def met(sinr_db: Float64Array) -> np.ndarray:
        return np.asarray(_any_block_fails(model.bler(mcs_table, mcs_all, size, sinr_db), num_cb) <= target)

    low = np.full(target.shape, float(low_db))
    high = np.full(target.shape, float(high_db))
    # A smooth curve reaches zero only by floating-point underflow, which is no SINR to report.
    always, never = met(low), ~met(high) | (target == 0.0)
    # Each step halves the bracket; this many bring it under 1e-9 dB.
    for _ in range(int(np.ceil(np.log2((high_db - low_db) / 1e-9)))):
        middle = 0.5 * (low + high)
        ok = met(middle)
        high = np.where(ok, middle, high)
        low = np.where(ok, low, middle)
    return np.where(always, -np.inf, np.where(never, np.inf, high))


def _segment(table: int, mcs: ArrayLike, tbs_bits: ArrayLike) -> tuple[IntArray, IntArray]:
    return code_blocks(tbs_bits, mcs_table(table).code_rate[checked_mcs(table, mcs)])


def _any_block_fails(bler: Float64Array, num_cb: IntArray) -> Float64Array:
    # expm1/log1p keep small error rates accurate where 1 - (1 - p)^C would cancel.
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(num_cb * np.log1p(-bler)))


def _checked_probability(value: ArrayLike, name: str) -> Float64Array:
    values = np.asarray(value, dtype=np.float64)
    ok = (values >= 0.0) & (values <= 1.0)
    if not np.all(ok):
        raise ValueError(f"{name} is {values[~ok].flat[0]}; must be 0 to 1")
    return values


@functools.cache
def _load_shipped() -> SmoothBler:
    with resources.as_file(resources.files("distila.xapp.nr").joinpath(_CURVES_FILE)) as path:
        return _read(path)


def _read(path: Path) -> SmoothBler:
    with np.load(path, allow_pickle=False) as data:
        missing = {"cbs_nodes_bits", *(f"params_table{i}" for i in MCS_TABLES)} - set(data.files)
        if missing:
            raise ValueError(f"{path} lacks {sorted(missing)}; write it with python -m distila.training.bler_fit.fit")
        provenance = {
            name.removeprefix("provenance_"): str(data[name]) for name in data.files if name.startswith("provenance_")
        }
        params = {index: data[f"params_table{index}"].astype(np.float64) for index in MCS_TABLES}
        return SmoothBler(data["cbs_nodes_bits"].astype(np.float64), params, provenance)

"""Fit smooth BLER curves to Sionna's simulated PDSCH tables and write the file that :mod:`distila.xapp.nr.bler`
ships.

    python -m distila.training.bler_fit.fit --out xapp/nr/bler_curves.npz [--plot FILE.png]

Needs the installed ``sionna`` (or ``sionna-no-rt``) package for its tables, scipy, and matplotlib for
``--plot``. Deterministic; takes about a minute. Fails, and writes nothing, when a curve misses a simulated
point by more than 0.02.

What is fitted
    Sionna simulated code blocks of 24, 100, 500, 1000 and 2000 bits at SNR steps of 1.58 dB (tables 2, 3) or
    1.79 dB (table 1), Es/N0 in AWGN, 20 decoder iterations. At that spacing a curve of a long code block has
    one or two points that are neither 0 nor 1, so the points alone do not determine it. The fit has two
    steps.

    1. A trend over all curves at once: the centre is the BICM capacity limit of the code rate that really
       results (the code block is rate-matched to a whole number of symbols) plus a gap, cubic in that rate
       with an offset for each modulation; log scale is quadratic in the rate and linear in the modulation
       order; skew and tail depend on the code block size only. The gaps come out at 0.6 to 1.3 dB.
    2. Each curve by itself: least squares weighted by the simulation noise, drawn to the trend by a prior
       (standard deviations ``PRIOR_STD``), with a steep penalty where a point is missed by more than
       ``SOFT_LIMIT``. MCS with the same modulation that send the code block in the same number of symbols
       send the same codeword: they share one curve, fitted to the points of all. (So do the same rows of
       different tables and, at 24 bits, neighbouring MCS of one table.) Only where these points contradict each
       other by more than ``HARD_LIMIT`` does every MCS get its own curve, drawn to the common one.

Curves that are filled in by rule
    Code blocks above 2000 bits: node 8448 has the centre, skew and tail of node 2000 plus the change of the
        capacity limit (whole symbols), and the scale of node 2000 times sqrt(2000 / 8448), as in the normal
        approximation (dispersion falls with the square root of the block length; the centre stays).
    QPSK below Sionna's lowest rate, 251/1024 (table 1 MCS 0-2, table 2 MCS 0-1, table 3 MCS 0-8): the lowest
        simulated QPSK curve, moved as follows. Down to the mother code rate of LDPC base graph 2 the gap to
        capacity is kept. Below it the standard repeats coded bits, and repetition in AWGN gains exactly its
        energy: the centre moves by 10 log10 of the rate ratio. Scale, skew and tail are kept throughout.

Accuracy of the filled-in curves
    Checked once against short runs of Sionna's ``CodedAWGNChannelNR`` (150 to 600 blocks a point, seven or so
    points a curve). Fitted curves between the grid points, 2000 bits, 16QAM 490/1024, 64QAM 666/1024, 256QAM
    797/1024: within 0.06 dB. QPSK at rate 0.205, 500 and 1000 bits: within 0.05 dB of the rule. 8448 bits, the
    same three and QPSK 449/1024: the SINR of BLER 0.5 within 0.08 dB, the curves up to a fifth less steep than
    the rule says. Repetition itself could not be checked: Sionna does not implement it. Above 3840 bits, code
    rates from 1/4 to 1/3 use base graph 1 with repetition, which costs 0.1 dB that the rule leaves out.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from distila.training.bler_fit.capacity import snr_db_for_rate
from distila.training.sionna_bler import SimulatedRow, read_tables, sionna_version
from distila.xapp.files import replacing
from distila.xapp.nr.arrays import Float64Array, IntArray
from distila.xapp.nr.bler import SmoothBler, curve_bler
from distila.xapp.nr.mcs import MCS_TABLES

HARD_LIMIT = 0.02
SOFT_LIMIT = 0.014
# Standard deviation of a curve about the trend: centre (dB), log scale, skew, log tail.
PRIOR_STD = np.array([0.15, 0.15, 0.15, 0.15])
LARGEST_CBS = 8448.0
# The simulated QPSK row from which lower rates are continued, 251/1024: (MCS table, MCS).
LOWEST_RATE_MCS = (3, 9)

Code = tuple[int, int]
"""Modulation order and number of modulation symbols: with the code block size, they identify a codeword."""

Mcs = tuple[int, int]
"""MCS table and MCS index."""

Points = tuple[Float64Array, Float64Array]
"""SNR [dB] and BLER, 1-D arrays."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """Sionna's points of one code block size: by code, then by MCS."""

    cbs_bits: float
    points: dict[Code, dict[Mcs, Points]]


def code_of(cbs_bits: float, table: int, mcs: int) -> Code:
    """Code of an MCS: its code rate, rate-matched to a whole number of modulation symbols."""
    row = MCS_TABLES[table]
    order = int(row.modulation_order[mcs])
    # The margin keeps rounding errors from raising a whole quotient by one.
    return order, int(np.ceil(cbs_bits / (float(row.code_rate[mcs]) * order) - 1e-9))


def simulations(rows: dict[Mcs, SimulatedRow]) -> list[Simulation]:
    """Regroup Sionna's rows by code block size and code; code block sizes ascending."""
    sizes = sorted({float(cbs) for row in rows.values() for cbs in row.cbs_bits})
    groups: list[Simulation] = []
    for cbs in sizes:
        points: dict[Code, dict[Mcs, Points]] = {}
        for mcs, row in rows.items():
            (position,) = np.flatnonzero(row.cbs_bits == cbs)
            points.setdefault(code_of(cbs, *mcs), {})[mcs] = (row.snr_db, row.bler[position])
        groups.append(Simulation(cbs, points))
    return groups


def effective_rate(cbs_bits: float, code: Code) -> float:
    """Code rate that results from the number of symbols; at most the code rate of the MCS."""
    return cbs_bits / (code[0] * code[1])


def capacity_snr_db(cbs_bits: float, code: Code) -> float:
    """Es/N0 in dB at which an ideal code of the effective rate works."""
    return float(snr_db_for_rate(code[0], cbs_bits / code[1]))


def noise_std(bler: Float64Array) -> Float64Array:
    """Standard deviation of a simulated BLER.

    Sionna does not state the number of blocks; the values are multiples of 1/600 where most blocks fail and of
    1/3000 where few do.
    """
    blocks = np.clip(500.0 / np.maximum(bler, 1e-9), 600.0, 3000.0)
    return np.asarray(np.sqrt(bler * (1.0 - bler) / blocks) + 1e-3)


@dataclass(frozen=True, eq=False)
class _Design:
    """Regressors and points of one code block size; ``owner`` is the position in ``codes`` of each point."""

    cbs_bits: float
    codes: list[Code]
    gap: Float64Array
    log_scale: Float64Array
    limit_db: Float64Array
    owner: IntArray
    snr_db: Float64Array
    bler: Float64Array


_NUM_GAP, _NUM_SCALE, _NUM_SHAPE = 7, 4, 3


def _design(group: Simulation) -> _Design:
    codes = list(group.points)
    rate = np.array([effective_rate(group.cbs_bits, code) for code in codes])
    order = np.array([code[0] for code in codes])
    one = np.ones_like(rate)
    points = [(number, *xy) for number, code in enumerate(codes) for xy in group.points[code].values()]
    return _Design(
        cbs_bits=group.cbs_bits,
        codes=codes,
        gap=np.stack([one, rate, rate**2, rate**3, order == 4, order == 6, order == 8], axis=1),
        log_scale=np.stack([one, rate, rate**2, order / 8.0], axis=1),
        limit_db=np.array([capacity_snr_db(group.cbs_bits, code) for code in codes]),
        owner=np.concatenate([np.full(snr.size, number) for number, snr, _ in points]),
        snr_db=np.concatenate([snr for _, snr, _ in points]),
        bler=np.concatenate([bler for _, _, bler in points]),
    )


def fit_trend(groups: list[Simulation]) -> list[dict[Code, Float64Array]]:
    """Step 1: for every code block size, code -> trend parameters [4] of :func:`distila.xapp.nr.bler.curve_bler`."""
    designs = [_design(group) for group in groups]
    per_size = _NUM_GAP + _NUM_SCALE

    def params(theta: Float64Array, number: int) -> Float64Array:
        design = designs[number]
        own = theta[number * per_size : (number + 1) * per_size]
        shape = theta[-_NUM_SHAPE:]
        centre = design.limit_db + design.gap @ own[:_NUM_GAP]
        skew = np.full_like(centre, shape[0] + shape[1] * np.log(design.cbs_bits / 500.0))
        tail = np.full_like(centre, shape[2])
        return np.stack([centre, design.log_scale @ own[_NUM_GAP:], skew, tail], axis=-1)

    def residuals(theta: Float64Array) -> Float64Array:
        parts = [
            curve_bler(design.snr_db, params(theta, number)[design.owner]) - design.bler
            for number, design in enumerate(designs)
        ]
        # A weak prior at zero determines what the points leave open.
        return np.concatenate([*parts, 0.01 * theta])

    start = np.zeros(len(groups) * per_size + _NUM_SHAPE)
    for number, group in enumerate(groups):
        start[number * per_size] = 1.0
        start[number * per_size + _NUM_GAP] = np.log(0.15 + 3.0 / np.sqrt(group.cbs_bits))
    theta = least_squares(residuals, start, loss="soft_l1", f_scale=0.02).x
    return [dict(zip(design.codes, params(theta, number), strict=True)) for number, design in enumerate(designs)]


def fit_curve(points: list[Points], prior: Float64Array, prior_std: Float64Array) -> Float64Array:
    """Step 2 for one curve: parameters [4] near ``prior`` that pass within the limit of all points."""
    snr = np.concatenate([snr for snr, _ in points])
    bler = np.concatenate([bler for _, bler in points])
    weight = 1.0 / noise_std(bler)

    def residuals(params: Float64Array) -> Float64Array:
        error = curve_bler(snr, params) - bler
        excess = np.maximum(np.abs(error) - SOFT_LIMIT, 0.0)
        return np.concatenate([0.3 * weight * error, 2e3 * excess, (params - prior) / prior_std])

    return np.asarray(least_squares(residuals, prior, x_scale=prior_std, max_nfev=2000).x)


def worst_error(points: list[Points], params: Float64Array) -> float:
    """Largest absolute difference of the curve from the points."""
    return max(float(np.abs(curve_bler(snr, params) - bler).max()) for snr, bler in points)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Curves of one code block size: one for each MCS, and the common one of all MCS with the same code."""

    own: dict[Mcs, Float64Array]
    common: dict[Mcs, Float64Array]
    parted: list[Mcs]


def fit_group(group: Simulation, trend: dict[Code, Float64Array]) -> Fitted:
    """Step 2 for one code block size."""
    fitted = Fitted({}, {}, [])
    for code, members in group.points.items():
        common = fit_curve(list(members.values()), trend[code], PRIOR_STD)
        together = _passes(list(members.values()), common)
        for mcs, points in members.items():
            fitted.own[mcs] = fitted.common[mcs] = common
            if together:
                continue
            fitted.parted.append(mcs)
            # A narrow prior first: the curves should stay as close to the common one as the points allow.
            for width in (0.1, 0.2, 0.5, 1.0, 3.0):
                fitted.own[mcs] = fit_curve([points], common, width * PRIOR_STD)
                if _passes([points], fitted.own[mcs]):
                    break
    return fitted


def _passes(points: list[Points], params: Float64Array) -> bool:
    # A little inside the limit: the parameters are rounded to float32 afterwards.
    return worst_error(points, params) <= HARD_LIMIT - 5e-4


def base_graph_2_mother_rate(cbs_bits: float) -> float:
    """Lowest code rate LDPC base graph 2 reaches without repeating bits (TS 38.212 5.2.2, 5.3.2).

    The 50 Zc coded bits less the fillers, with Kb information columns in use: K / (K + 40 Zc), Zc about K /
    Kb.
    """
    columns = 10 if cbs_bits > 640 else 9 if cbs_bits > 560 else 8 if cbs_bits > 192 else 6
    return 1.0 / (1.0 + 40.0 / columns)


def lower_rate(params: Float64Array, cbs_bits: float, table: int, mcs: int) -> Float64Array:
    """Curve of a QPSK row below those simulated, from that of ``LOWEST_RATE_MCS``, by the module's rule."""
    mother = base_graph_2_mother_rate(cbs_bits)
    rate = effective_rate(cbs_bits, code_of(cbs_bits, table, mcs))
    unrepeated = max(rate, mother)
    shift_db = float(snr_db_for_rate(2, 2.0 * unrepeated))
    shift_db -= capacity_snr_db(cbs_bits, code_of(cbs_bits, *LOWEST_RATE_MCS))
    shift_db += 10.0 * np.log10(rate / unrepeated)
    return np.asarray(params + np.array([shift_db, 0.0, 0.0, 0.0]))


def larger_block(params: Float64Array, cbs_bits: float, table: int, mcs: int) -> Float64Array:
    """Curve at ``LARGEST_CBS`` bits from that of the largest block simulated, by the module's rule."""
    shift_db = capacity_snr_db(LARGEST_CBS, code_of(LARGEST_CBS, table, mcs))
    shift_db -= capacity_snr_db(cbs_bits, code_of(cbs_bits, table, mcs))
    return np.asarray(params + np.array([shift_db, -0.5 * np.log(LARGEST_CBS / cbs_bits), 0.0, 0.0]))


def fit(rows: dict[Mcs, SimulatedRow], log: bool = True) -> SmoothBler:
    """Fit, fill in and check; ValueError if any simulated point is missed by more than ``HARD_LIMIT``."""
    groups = simulations(rows)
    nodes = np.array([group.cbs_bits for group in groups] + [LARGEST_CBS])
    params = {index: np.empty((table.num_mcs, nodes.size, 4)) for index, table in MCS_TABLES.items()}
    everything = [(index, mcs) for index, table in MCS_TABLES.items() for mcs in range(table.num_mcs)]
    for column, (group, trend) in enumerate(zip(groups, fit_trend(groups), strict=True)):
        cbs = group.cbs_bits
        fitted = fit_group(group, trend)
        if log:
            own, total = len(fitted.parted), len(fitted.own)
            print(f"CBS {cbs:g}: {own} of {total} MCS have a curve of their own {fitted.parted}")
        for index, mcs in everything:
            known = fitted.own.get((index, mcs))
            if known is None:
                known = lower_rate(fitted.own[LOWEST_RATE_MCS], cbs, index, mcs)
            params[index][mcs, column] = known
            if column == len(groups) - 1:
                # Copies of a code differ by noise only, which a steeper curve would magnify.
                largest = fitted.common.get((index, mcs), known)
                params[index][mcs, -1] = larger_block(largest, cbs, index, mcs)
    stored = {index: values.astype(np.float32) for index, values in params.items()}
    provenance = {
        "source": f"{sionna_version()}, sys/bler_tables/PDSCH_table{{1,2,3}}.json (Apache-2.0)",
        "script": "python -m distila.training.bler_fit.fit",
        "params": "float32 [mcs, cbs node, 4]: centre dB, log scale, skew, log tail; see xapp.nr.bler",
    }
    model = SmoothBler(nodes, {index: np.asarray(v, dtype=np.float64) for index, v in stored.items()}, provenance)
    worst, where = grid_error(model, rows)
    if log:
        print(f"worst error at the simulated points: {worst:.4f} at {where}")
    if worst > HARD_LIMIT:
        raise ValueError(f"the fit misses {where} by {worst:.4f}; must be within {HARD_LIMIT}")
    return model


def grid_error(model: SmoothBler, rows: dict[Mcs, SimulatedRow]) -> tuple[float, str]:
    """Largest absolute error of ``model`` at the simulated points, and where it is, in words."""
    worst, where = 0.0, "no point"
    for (table, mcs), row in rows.items():
        error = np.abs(model.bler(table, mcs, row.cbs_bits[:, None], row.snr_db) - row.bler)
        if error.max() > worst:
            size, step = np.unravel_index(int(error.argmax()), error.shape)
            worst = float(error.max())
            where = f"table {table} MCS {mcs} CBS {row.cbs_bits[size]:g} SNR {row.snr_db[step]:.2f} dB"
    return worst, where


def save(model: SmoothBler, path: Path) -> None:
    """Write ``model`` as the npz that :meth:`distila.xapp.nr.bler.SmoothBler.load` reads."""
    arrays: dict[str, Any] = {"cbs_nodes_bits": model.cbs_nodes_bits}
    arrays |= {f"params_table{index}": values.astype(np.float32) for index, values in model.params.items()}
    arrays |= {f"provenance_{name}": np.array(text) for name, text in model.provenance.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def main(argv: list[str] | None = None) -> int:
    """Command line; exit status 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(description="Fit the BLER curves of xapp.nr.bler to Sionna's tables.")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    parser.add_argument("--plot", type=Path, help="also draw the fit over Sionna's points into this PNG file")
    args = parser.parse_args(argv)
    try:
        rows = read_tables()
        model = fit(rows)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    save(model, args.out)
    if args.plot is not None:
        from distila.training.bler_fit.plot import draw

        draw(model, rows, args.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

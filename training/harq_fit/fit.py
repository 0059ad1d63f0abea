"""Fit the overhead of `distila.xapp.nr.harq` to measured points, and compare it with points that it was not fitted to.

    python -m distila.training.harq_fit.fit [POINTS.csv]

Prints the coefficients. Least squares in dB: an error of information is divided by what one dB changes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from distila.training.harq_fit.measure import Setting
from distila.training.harq_fit.points import POINTS_FILE, Threshold, read_thresholds
from distila.xapp.nr.arrays import Float64Array

_STEP_DB: Final = 0.2
_OVERLAP_WEIGHT: Final = 0.5
"""Of small blocks with a limited buffer, of which there are many among the points, and none in a carrier."""


def fitted_overhead(thresholds: Sequence[Threshold]) -> Float64Array:
    """Coefficients of `distila.xapp.nr.harq.Transmissions.overhead_terms` for these thresholds, float64 [17]."""
    rows, wanted = [], []
    for each in thresholds:
        sent = each.transmissions
        # Both ends of a small step, and the threshold itself.
        sinr_db = each.sinr_db + np.array([-_STEP_DB, 0.0, _STEP_DB])[:, None]
        information = sent.bit_information(sinr_db)
        mean, terms = sent.mean_information(information), sent.overhead_terms(information)
        per_db = (mean[2] - mean[0]) / (2 * _STEP_DB) / sent.effective_rate
        weight = _OVERLAP_WEIGHT if _overlaps(each.setting) else 1.0
        rows.append(weight * terms[1] / per_db)
        wanted.append(weight * mean[1] / sent.effective_rate / per_db)
    return np.asarray(np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0])


def _overlaps(setting: Setting) -> bool:
    return (
        setting.split == "grid" and setting.buffer_bits is not None and setting.buffer_bits > 1.9 * setting.block_bits
    )


def errors_db(thresholds: Sequence[Threshold], overhead: Float64Array) -> Float64Array:
    """Measured less predicted SINR at the target error rate, float64 [threshold]; positive: the rule is too kind."""
    return np.array([each.transmissions.margin_db(each.sinr_db, overhead) for each in thresholds])


def split(thresholds: Sequence[Threshold]) -> tuple[list[Threshold], list[Threshold]]:
    """The settings to fit to, and those held out: every other of the drawn ones, by its seed, and those meant so.

    Settings with SINRs far apart (``uneven``) are neither: `distila.xapp.nr.harq.LEAST_SYSTEMATIC` was set by them.
    """
    held_out = [
        each
        for each in thresholds
        if each.setting.split == "held_out" or (each.setting.split == "drawn" and each.setting.seed % 2)
    ]
    return [each for each in thresholds if each not in held_out and each.setting.split != "uneven"], held_out


def main() -> None:
    """Command line."""
    fitted, held_out = split(read_thresholds(Path(sys.argv[1]) if len(sys.argv) > 1 else POINTS_FILE))
    overhead = fitted_overhead(fitted)
    print("OVERHEAD =", f"({', '.join(f'{value:.5f}' for value in overhead)})")
    for name, thresholds in (("fitted", fitted), ("held out", held_out)):
        error = np.abs(errors_db(thresholds, overhead))
        print(
            f"{name}: {len(error)} settings, error p95 {np.quantile(error, 0.95):.3f} dB, largest {error.max():.3f} dB"
        )


if __name__ == "__main__":
    main()

"""`distila bench harq`: the combining rule and the ideal one, compared with points that neither was fitted to."""

from collections.abc import Sequence

import numpy as np

from distila.replay.bench_results import CombiningErrors, HarqBench
from distila.training.harq_fit.fit import errors_db, split
from distila.training.harq_fit.points import Threshold, read_thresholds
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.harq import OVERHEAD, Transmissions

_SEARCH_DB = 24.0
_HALVINGS = 30


def bench_harq() -> HarqBench:
    """Errors of both rules at the measured settings that the rule was not fitted to.

    Raises:
        InputError: the table of points cannot be read.
    """
    fitted, held_out = split(read_thresholds())
    # The ideal rule speaks of incremental redundancy, not of one version repeated.
    combined = [each for each in held_out if len(set(each.setting.redundancy_versions)) > 1]
    by_number: dict[int, list[Threshold]] = {}
    for each in sorted(combined, key=lambda each: len(each.setting.redundancy_versions)):
        by_number.setdefault(len(each.setting.redundancy_versions), []).append(each)
    return HarqBench(
        fitted_settings=len(fitted),
        all=_errors(held_out, combined),
        by_transmissions={number: _errors(some, some) for number, some in by_number.items()},
    )


def _errors(held_out: Sequence[Threshold], combined: Sequence[Threshold]) -> CombiningErrors:
    ours = errors_db(held_out, np.array(OVERHEAD))
    ideal = np.array([ideal_error_db(each) for each in combined])
    return CombiningErrors(
        settings=len(held_out),
        mean_error_db=round(float(ours.mean()), 3),
        p95_error_db=round(float(np.quantile(np.abs(ours), 0.95)), 3),
        worst_error_db=round(float(np.abs(ours).max()), 3),
        ideal_mean_error_db=round(float(ideal.mean()), 3),
        ideal_p95_error_db=round(float(np.quantile(np.abs(ideal), 0.95)), 3),
        ideal_worst_error_db=round(float(np.abs(ideal).max()), 3),
    )


def ideal_error_db(threshold: Threshold) -> float:
    """By how much the ideal rule is too kind at a measured threshold [dB].

    The ideal rule adds up capacities: transmissions at SINRs ``g_i`` equal one at ``g`` with
    ``log2(1 + g) = sum log2(1 + g_i)``. Its threshold of one transmission is that of our rule.
    """
    sent = threshold.transmissions
    first = Transmissions(sent.block, sent.num_bits, sent.order, sent.redundancy_versions[:1])
    alone_db = _threshold_db(first)
    needed = np.log2(1 + 10 ** (alone_db / 10))
    low, high = -_SEARCH_DB, _SEARCH_DB
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = np.log2(1 + 10 ** ((threshold.sinr_db - middle) / 10)).sum() > needed
        low, high = (middle, high) if enough else (low, middle)
    return (low + high) / 2


def _threshold_db(sent: Transmissions) -> float:
    """SINR [dB] of the only transmission at the target error rate."""
    sinr_db: Float64Array = np.array([5.0])
    for _ in range(4):  # the margin is exact within its range, so this ends where the margin is 0
        sinr_db = sinr_db - sent.margin_db(sinr_db)
    return float(sinr_db[0])

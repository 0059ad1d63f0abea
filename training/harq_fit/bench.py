"""`distila bench harq`: combining at run time and the ideal rule, compared with points that neither was fitted to."""

from collections.abc import Callable, Sequence

import numpy as np

from distila.replay.bench_results import CombiningErrors, HarqBench
from distila.training.harq_fit.fit import split
from distila.training.harq_fit.measure import Setting
from distila.training.harq_fit.points import Threshold, read_thresholds
from distila.training.harq_fit.tabulate import threshold_db
from distila.xapp.nr.arrays import BoolArray, Float64Array
from distila.xapp.nr.harq import Transmissions
from distila.xapp.nr.soft_combining import CombiningKind, SoftCombining

_SEARCH_DB = 24.0
_HALVINGS = 30


def bench_harq() -> HarqBench:
    """Errors of the run-time rule and of the ideal one at the measured settings that the rule was not fitted to.

    Raises:
        InputError: the table of points cannot be read.
    """
    fitted, held_out = split(read_thresholds())
    predictions = Predictions([each for each in held_out if len(each.setting.redundancy_versions) > 1])
    several = [each.setting for each in predictions.thresholds]
    chase = _where(several, lambda one: len(set(one.redundancy_versions)) == 1)
    number = np.array([len(one.redundancy_versions) for one in several])
    groups = {
        "MCS table 1": _where(several, lambda one: one.table == 1),
        "MCS table 2": _where(several, lambda one: one.table == 2),
        "base graph 1": _where(several, lambda one: one.code.graph == 1),
        "base graph 2": _where(several, lambda one: one.code.graph == 2),
        "whole buffer": _where(several, lambda one: one.buffer_bits is None),
        "limited buffer": _where(several, lambda one: one.buffer_bits is not None),
        # Only several large blocks of base graph 1 meet a limit, see `distila.xapp.nr.soft_combining.Carrier`.
        "buffers that carriers have": _where(
            several, lambda one: one.buffer_bits is None or (one.code.graph == 1 and one.block_bits > 2000)
        ),
        "equal SINRs": _where(several, lambda one: not any(one.offsets_db)),
        "unequal SINRs": _where(several, lambda one: any(one.offsets_db)),
        "up to 1056 bits": _where(several, lambda one: one.block_bits <= 1056),
        "above 1056 bits": _where(several, lambda one: one.block_bits > 1056),
    }
    return HarqBench(
        fitted_settings=len(fitted),
        **dict(predictions.errors(~chase)),
        by_transmissions={many: predictions.errors(~chase & (number == many)) for many in sorted(set(number.tolist()))},
        by_group={name: predictions.errors(~chase & which) for name, which in groups.items()}
        | {"chase": predictions.errors(chase)},
    )


def _where(settings: Sequence[Setting], is_one: Callable[[Setting], bool]) -> BoolArray:
    return np.array([is_one(each) for each in settings], np.bool_)


class Predictions:
    """Measured settings, and by how much two rules are too kind at their thresholds [dB].

    Attributes:
        thresholds: the settings.
        error_db: of `distila.xapp.nr.soft_combining` with the shipped tables, float64 [setting].
        ideal_error_db: of adding up capacities (of ``chase``, SINRs), float64 [setting].
    """

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        self.thresholds = thresholds
        self.error_db = runtime_errors_db(thresholds)
        self.ideal_error_db = np.array([ideal_error_db(each) for each in thresholds])

    def errors(self, which: BoolArray) -> CombiningErrors:
        """Errors of some of the settings, bool [setting]."""
        ours, ideal = self.error_db[which], self.ideal_error_db[which]
        return CombiningErrors(
            settings=len(ours),
            mean_error_db=round(float(ours.mean()), 3),
            p95_error_db=round(float(np.quantile(np.abs(ours), 0.95)), 3),
            worst_error_db=round(float(np.abs(ours).max()), 3),
            ideal_mean_error_db=round(float(ideal.mean()), 3),
            ideal_p95_error_db=round(float(np.quantile(np.abs(ideal), 0.95)), 3),
            ideal_worst_error_db=round(float(np.abs(ideal).max()), 3),
        )


def runtime_errors_db(thresholds: Sequence[Threshold]) -> Float64Array:
    """Effective SINR of `SoftCombining` less what one transmission alone needs, at measured thresholds, float64
    [threshold]; positive: the rule is too kind. A block all of whose transmissions are RV 0 is combined by chase."""
    found = []
    for each in thresholds:
        setting = each.setting
        kind: CombiningKind = "ir" if len(set(setting.redundancy_versions)) > 1 else "chase"
        soft = SoftCombining.for_code_blocks(
            kind,
            np.array([setting.order]),
            np.array([setting.rate]),
            np.array([setting.code.graph]),
            np.array([setting.block_bits]),
            np.array([np.inf if setting.buffer_bits is None else setting.buffer_bits]),
        )
        store = np.zeros((4, 1), np.float32)
        for number, sinr_db in enumerate(each.sinr_db, start=1):
            store = soft.add(store, np.array([number]), np.array([sinr_db], np.float32))
        last = np.array([len(each.sinr_db)])
        found.append(float(soft.effective_sinr_db(np.array([0]), store, last)[0]) - _alone_db(each))
    return np.array(found)


def ideal_error_db(threshold: Threshold) -> float:
    """By how much the ideal rule is too kind at a measured threshold [dB].

    The ideal rule adds up capacities: transmissions at SINRs ``g_i`` equal one at ``g`` with
    ``log2(1 + g) = sum log2(1 + g_i)``. Of one version repeated, SINRs add up. Its threshold of one transmission is
    that of our rule.
    """
    alone_db = _alone_db(threshold)
    if len(set(threshold.setting.redundancy_versions)) == 1:
        return float(10 * np.log10((10 ** (threshold.sinr_db / 10)).sum())) - alone_db
    needed = np.log2(1 + 10 ** (alone_db / 10))
    low, high = -_SEARCH_DB, _SEARCH_DB
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = np.log2(1 + 10 ** ((threshold.sinr_db - middle) / 10)).sum() > needed
        low, high = (middle, high) if enough else (low, middle)
    return (low + high) / 2


def _alone_db(threshold: Threshold) -> float:
    """SINR [dB] of a first transmission alone at the target error rate, by the rule."""
    sent = threshold.transmissions
    return threshold_db(Transmissions(sent.block, sent.num_bits, sent.order, sent.redundancy_versions[:1]))

"""Channel traces from what a log tells indirectly: failure counts, or mean CQI. And the proof that it worked.

*From failures.* Where a log has the MCS and how many of ``n`` first transmissions failed, but no channel
measurement, the SINR is the one at which the BLER curve of that MCS gives the observed rate.
``replayed_failures`` is the test of such a trace: replaying the logged MCS on it must give the logged failure
rate of each run, within its binomial interval (``share_within_interval``).

*From CQI.* A UE reports CQI k while its SINR lies between the 10 % threshold of k and that of k + 1
(TS 38.214 5.2.2.1).
"""

import numpy as np
import numpy.typing as npt

from distila.replay.trace import ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray
from distila.xapp.nr.bler import BlerModel, sinr_db_for_tbler, tbler
from distila.xapp.nr.cqi import cqi_thresholds_db
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

CENSORED_COUNT = 0.1
"""Failures (or successes) assumed for a segment with none: see `sinr_db_from_failures`."""

_NORMAL_95 = 1.959963984540054
_SINR_RANGE_DB = (-30.0, 60.0)


def tbs_bits(mcs_table: int, mcs: npt.NDArray[np.integer], prbs: npt.NDArray[np.integer]) -> IntArray:
    """Transport block size of each (MCS, PRBs) pair [segment]: 1 layer, 14 symbols, 12 DM-RS REs per PRB."""
    table = MCS_TABLES[mcs_table]
    res = num_re(np.asarray(prbs, np.int64))
    return transport_block_size_bits(res, table.code_rate[mcs], table.modulation_order[mcs])


def sinr_db_from_failures(
    bler: BlerModel,
    mcs_table: int,
    mcs: npt.NDArray[np.integer],
    prbs: npt.NDArray[np.integer],
    first_tx: npt.NDArray[np.integer],
    first_fail: npt.NDArray[np.integer],
) -> Float64Array:
    """SINR [dB] at which the transport-block error rate is ``first_fail / first_tx``, all arrays [segment].

    A segment without failures bounds the SINR from below only, one with nothing but failures from above only (it
    is *censored*). It gets the SINR at which `CENSORED_COUNT` = 0.1 failures (or successes) are expected: close
    to the known bound, and so few that the total of a run stays unbiased. The result is clipped to -30..60 dB.

    Args:
        first_tx: at least 1.
        first_fail: 0 to ``first_tx``.
    """
    rate = np.clip(first_fail, CENSORED_COUNT, first_tx - CENSORED_COUNT) / first_tx
    sinr_db = sinr_db_for_tbler(bler, mcs_table, mcs, tbs_bits(mcs_table, mcs, prbs), rate)
    return np.asarray(np.clip(sinr_db, *_SINR_RANGE_DB))


def censored(first_tx: npt.NDArray[np.integer], first_fail: npt.NDArray[np.integer]) -> BoolArray:
    """Segments for which only a bound of the SINR is known: no failure, or nothing but failures; [segment]."""
    return np.asarray((first_fail == 0) | (first_fail == first_tx))


def fill_censored(
    sinr_db: Float64Array,
    time: npt.NDArray[np.integer],
    first_tx: npt.NDArray[np.integer],
    first_fail: npt.NDArray[np.integer],
    min_first_tx: int = 20,
) -> Float64Array:
    """Move the censored segments of one run from their bound to the SINR of their neighbours, [segment] in dB.

    Link adaptation that idles or starts at a low MCS has no failures there, which only bounds the SINR from below;
    if the bound were used as SINR, the channel would seem to follow the MCS. So the SINR is interpolated over
    ``time`` between segments that had both outcomes in at least ``min_first_tx`` transmissions, and used where it
    is beyond the bound. Even fewer failures (successes) than the `CENSORED_COUNT` of the bound are expected there.
    Without such segments the bound is kept.
    """
    is_censored = censored(first_tx, first_fail)
    sure = ~is_censored & (first_tx >= min_first_tx)
    if not sure.any():
        return sinr_db
    guess = np.interp(time, time[sure], sinr_db[sure])
    beyond = np.where(first_fail == 0, np.maximum(sinr_db, guess), np.minimum(sinr_db, guess))
    return np.where(is_censored, beyond, sinr_db)


def sinr_db_for_mean_cqi(
    mean_cqi: npt.NDArray[np.floating], bler: BlerModel, cqi_table: int, prbs: int
) -> Float64Array:
    """SINR [dB] for a mean CQI in 1..15 [row] over ``prbs`` PRBs.

    CQI k means that the SINR lies between the thresholds of k and k + 1; the middle is used, so that
    the result is neither optimistic nor pessimistic. Fractional CQI is interpolated between these middles.
    Above CQI 15 the last step is repeated, because CQI does not resolve higher SINR.
    """
    thresholds = cqi_thresholds_db(cqi_table, bler, num_re=num_re(prbs))[1:]
    thresholds = np.append(thresholds, 2 * thresholds[-1] - thresholds[-2])
    middles = 0.5 * (thresholds[1:] + thresholds[:-1])
    return np.asarray(np.interp(mean_cqi, np.arange(1, 16), middles), np.float64)


def replayed_failures(trace: ChannelTrace, bler: BlerModel, rng: np.random.Generator) -> IntArray:
    """First transmissions that fail when the logged MCS is replayed on the trace, int64 [ue].

    Each logged first transmission fails independently with the error rate of the logged MCS at its segment's
    SINR.

    Raises:
        InputError: the trace holds no logged outcome.
    """
    if trace.logged is None:
        raise InputError(
            f"trace {trace.meta.name}: has no logged_ columns, so there are no logged transmissions to replay"
        )
    rate = np.zeros(len(trace.slots))
    known = (trace.logged.first_tx > 0) & ~np.isnan(trace.sinr_db) & (trace.logged.mcs >= 0)
    ue = np.repeat(np.arange(trace.num_ues), np.diff(trace.offset))
    for table in sorted({meta.mcs_table for meta in trace.meta.ues}):
        here = np.flatnonzero(known & np.array([meta.mcs_table == table for meta in trace.meta.ues])[ue])
        mcs = trace.logged.mcs[here].astype(np.int64)
        prbs = np.array([meta.prbs for meta in trace.meta.ues])[ue[here]]
        rate[here] = tbler(bler, table, mcs, tbs_bits(table, mcs, prbs), trace.sinr_db[here])
    failures = rng.binomial(np.where(known, trace.logged.first_tx, 0), rate)
    return np.bincount(ue, failures, trace.num_ues).astype(np.int64)


def logged_counts(trace: ChannelTrace) -> tuple[IntArray, IntArray]:
    """First transmissions and failures among them that the source counted, each int64 [ue]."""
    if trace.logged is None:
        raise InputError(f"trace {trace.meta.name}: has no logged_ columns")
    start = trace.offset[:-1]
    return (
        np.add.reduceat(trace.logged.first_tx.astype(np.int64), start),
        np.add.reduceat(trace.logged.first_fail.astype(np.int64), start),
    )


def wilson_interval(
    failures: npt.NDArray[np.integer], trials: npt.NDArray[np.integer]
) -> tuple[Float64Array, Float64Array]:
    """95 % binomial interval of a rate, lower and upper end (Wilson 1927); ``trials`` at least 1."""
    n = np.asarray(trials, np.float64)
    rate = failures / n
    z2 = _NORMAL_95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _NORMAL_95 / (1 + z2 / n) * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    # At rates 0 and 1 the ends are exactly 0 and 1; rounding must not move them inwards.
    low = np.where(rate == 0, 0.0, np.clip(middle - half, 0, 1))
    high = np.where(rate == 1, 1.0, np.clip(middle + half, 0, 1))
    return low, high


def share_within_interval(trace: ChannelTrace, bler: BlerModel, rng: np.random.Generator) -> float:
    """Share of the UEs whose replayed failure rate lies within the 95 % interval of the logged one."""
    first_tx, first_fail = logged_counts(trace)
    low, high = wilson_interval(first_fail, first_tx)
    rate = replayed_failures(trace, bler, rng) / first_tx
    return float(((low <= rate) & (rate <= high)).mean())

"""How much better, and how sure: the paired gain of one run over another with its bootstrap interval."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from distila.replay.record import RunRecord
from distila.xapp.nr.arrays import Float64Array

RESAMPLES: Final = 4000
_MIN_UES: Final = 10
_TIME_BLOCKS: Final = 20


@dataclass(frozen=True)
class Gain:
    """Relative gain in goodput [%], its 95 % interval, and what was resampled to find it; NaN over nothing."""

    mean_pct: float
    low_pct: float
    high_pct: float
    unit: str


def paired_gain(policy: RunRecord, against: RunRecord, rng: np.random.Generator) -> Gain:
    """Gain of ``policy`` over ``against`` in total bits, with a percentile bootstrap interval over paired units.

    Both runs met the same channels and the same random draws, so a unit is a pair. With ten or more UEs the units are
    the UEs, and the interval speaks about other UEs of the same kind; with fewer they are UEs times twenty stretches of
    time, and it speaks about other times of the same UEs (Efron and Tibshirani 1993, chapters 8 and 13).
    """
    if policy.trace.num_ues >= _MIN_UES:
        ours, theirs, unit = policy.bits.sum(axis=1), against.bits.sum(axis=1), "UE"
    else:
        ours, theirs, unit = _blocks(policy.bits), _blocks(against.bits), "UE and stretch of time"
    return Gain(*bootstrap_gain(ours, theirs, rng), unit)


def bootstrap_gain(ours: Float64Array, theirs: Float64Array, rng: np.random.Generator) -> tuple[float, float, float]:
    """Gain of the sum of ``ours`` over that of ``theirs`` [%], and its 95 % percentile interval over paired units.

    Args:
        ours, theirs: [unit]; a unit in which both have nothing is left out.
        rng: draws the resamples.

    Returns:
        Mean, low and high; NaN where ``theirs`` has nothing at all.
    """
    if theirs.sum() == 0:
        return math.nan, math.nan, math.nan
    low, high = np.nanpercentile(resampled_gains(ours, theirs, rng), [2.5, 97.5])
    return float(100 * (ours.sum() / theirs.sum() - 1)), float(low), float(high)


def resampled_gains(ours: Float64Array, theirs: Float64Array, rng: np.random.Generator) -> Float64Array:
    """The gain of `bootstrap_gain` [%] in every resample of the paired units, float64 [RESAMPLES].

    NaN in a resample in which ``theirs`` has nothing: it says nothing about the ratio.
    """
    used = (ours > 0) | (theirs > 0)
    ours, theirs = ours[used], theirs[used]
    if len(ours) == 0:
        return np.full(RESAMPLES, math.nan)
    picks = rng.integers(0, len(ours), (RESAMPLES, len(ours)))
    baseline = theirs[picks].sum(axis=1)
    baseline[baseline == 0] = math.nan
    return np.asarray(100 * (ours[picks].sum(axis=1) / baseline - 1))


def _blocks(bits: Float64Array) -> Float64Array:
    edges = np.linspace(0, bits.shape[1], min(_TIME_BLOCKS, bits.shape[1]) + 1).astype(int)[:-1]
    return np.add.reduceat(bits, edges, axis=1).reshape(-1)

"""Comparison at equal BLER: a policy's goodput against OLLA's at the first-transmission BLER that the policy reaches.

OLLA runs once for each BLER target, and at the textbook's 10 % in any case. What it reaches, goodput over BLER, is its
*frontier*: straight lines between these points, in order of BLER. A policy that reaches BLER ``p`` is compared with the
frontier at ``p``. Nothing is extrapolated: below the lowest and above the highest BLER the frontier goes on level, so
that the policy is compared with OLLA's nearest target, and `EqualBlerGain.beyond_targets` says so.

Goodput over BLER is concave where OLLA works well, so straight lines lie a little under the true curve: with few
targets far apart a policy looks a little better than it is. `EqualBlerGain.coarse_reference` says where they are far
apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from distila.replay.page.verdict import Difference
from distila.replay.statistics import RESAMPLES
from distila.training.benchmark.episode import Episode
from distila.training.benchmark.results import EqualBlerGain, GainKind
from distila.xapp.nr.arrays import BoolArray, Float64Array
from distila.xapp.result_file import Estimate, rounded

EQUAL_WITHIN: Final = 0.1
"""BLERs that differ by less than this share of the reference's count as equal."""

COARSE_ABOVE: Final = 2.5
"""Between two points of OLLA whose BLERs differ by more than this factor, a straight line is a coarse reference."""


@dataclass(frozen=True)
class PolicySums:
    """Sums over the links of each UE of the fading bank, of all seeds; float64 [UE].

    Attributes:
        goodput: of links that count, bit/s/Hz.
        nack: first transmissions with NACK.
        decided: first transmissions with ACK or NACK.
    """

    goodput: Float64Array
    nack: Float64Array
    decided: Float64Array

    @classmethod
    def of(cls, episodes: Sequence[Episode], used: BoolArray) -> "PolicySums":
        """The sums of a policy's runs.

        Args:
            episodes: one per seed.
            used: links whose goodput counts, bool [link of all seeds].
        """
        rows = np.concatenate([episode.fading_row + 1e6 * seed for seed, episode in enumerate(episodes)])
        _, ue = np.unique(rows, return_inverse=True)
        goodput, ack, nack = (
            np.concatenate([getattr(episode, name) for episode in episodes])
            for name in ("goodput", "first_ack", "first_nack")
        )
        sums = (np.bincount(ue, values) for values in (goodput * used, nack, ack + nack))
        return cls(*(np.asarray(each, np.float64) for each in sums))


class Frontier:
    """What OLLA reaches at its targets in one family, and in resamples of its UEs.

    Args:
        olla: episodes of OLLA at each target, one per seed.
        used: links whose goodput counts, bool [link of all seeds].
        seed: of the bootstrap.
    """

    def __init__(self, olla: Sequence[Sequence[Episode]], used: BoolArray, seed: Sequence[int]) -> None:
        self._used = used
        points = [PolicySums.of(episodes, used) for episodes in olla]
        ues = len(points[0].goodput)
        picks = np.random.default_rng(seed).integers(0, ues, (RESAMPLES, ues))
        # How often each UE is in each resample; the first row is the sample itself. [1 + resample, UE]
        drawn = np.stack([np.bincount(row, minlength=ues) for row in picks])
        self._weights = np.concatenate((np.ones((1, ues)), drawn.astype(np.float64)))
        found = [self._bler_and_goodput(sums) for sums in points]
        bler, goodput = (np.stack(values, axis=1) for values in zip(*found, strict=True))  # [1 + resample, target]
        order = np.argsort(bler, axis=1, kind="stable")  # NaN last
        self._bler, self._goodput = (np.take_along_axis(values, order, axis=1) for values in (bler, goodput))

    def gain(self, episodes: Sequence[Episode]) -> tuple[EqualBlerGain, Float64Array]:
        """Gain of a policy's mean goodput over the frontier at the policy's BLER [%].

        Args:
            episodes: of the policy, one per seed, on the same links.

        Returns:
            The gain with its 95 % interval, paired: the bootstrap resamples the UEs of the fading bank, and with them
            policy and frontier together; and the gain [%] in every resample, float64 [resample], NaN where it is not
            defined.
        """
        bler, goodput = self._bler_and_goodput(PolicySums.of(episodes, self._used))
        known = np.isfinite(self._bler)
        lowest, highest = self._bler[:, 0], np.where(known, self._bler, -np.inf).max(axis=1)
        reference = interpolated(self._bler, self._goodput, bler)
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = np.where(reference > 0, 100 * (goodput / reference - 1), np.nan)
        reference_bler = np.where(np.isfinite(highest), np.clip(bler, lowest, highest), np.nan)
        gain, excess = _estimate(gains, 3), _estimate(bler - reference_bler, 6)
        away = abs(bler[0] - reference_bler[0])
        found = EqualBlerGain(
            mean=gain.mean,
            ci95=gain.ci95,
            reference_bler=rounded(reference_bler[0], 5),
            bler_vs_reference=excess,
            beyond_targets=bool(away > EQUAL_WITHIN * reference_bler[0]),
            coarse_reference=is_coarse(self._bler[0], float(bler[0])),
            kind=gain_kind(gain, excess, rounded(reference_bler[0], 5)),
        )
        return found, np.asarray(gains[1:])

    def _bler_and_goodput(self, sums: PolicySums) -> tuple[Float64Array, Float64Array]:
        """First-transmission BLER and summed goodput, float64 [1 + resample]; NaN where nothing was decided."""
        decided = self._weights @ sums.decided
        bler = np.divide(self._weights @ sums.nack, decided, out=np.full(len(decided), np.nan), where=decided > 0)
        return bler, np.asarray(self._weights @ sums.goodput)


def interpolated(bler: Float64Array, goodput: Float64Array, at: Float64Array) -> Float64Array:
    """Goodput of a frontier at a BLER, by straight lines; level beyond its ends.

    Args:
        bler: [row, point], ascending in each row; NaN, at the end, is no point.
        goodput: [row, point].
        at: [row].

    Returns:
        float64 [row]; NaN where the row has no point, or ``at`` is NaN.
    """
    points = np.isfinite(bler).sum(axis=1)
    rows, last = np.arange(len(bler)), np.maximum(points - 1, 0)
    above = np.clip((bler < at[:, None]).sum(axis=1), 0, last)
    below = np.maximum(above - 1, 0)
    width = bler[rows, above] - bler[rows, below]
    share = np.divide(at - bler[rows, below], width, out=np.ones(len(rows)), where=width > 0).clip(0, 1)
    found = goodput[rows, below] + share * (goodput[rows, above] - goodput[rows, below])
    return np.where((points > 0) & np.isfinite(at), found, np.nan)


def is_coarse(points: Float64Array, at: float) -> bool:
    """Whether a BLER lies between two points of a frontier that are far apart, and is equal to neither.

    Args:
        points: BLERs of the frontier, ascending; NaN, at the end, is no point.
        at: the BLER.
    """
    points = points[np.isfinite(points)]
    above = int(np.searchsorted(points, at))
    if not 0 < above < len(points):  # beyond the ends there is no line; NaN sorts last
        return False
    low, high = points[above - 1], points[above]
    nearest = low if at - low < high - at else high
    return bool(high > COARSE_ABOVE * low and abs(at - nearest) > EQUAL_WITHIN * nearest)


def gain_kind(gain: Estimate, bler_vs_reference: Estimate, reference_bler: float | None) -> GainKind:
    """What a gain shows, given how much higher the policy's BLER is than the reference's.

    Args:
        gain: over the reference [%].
        bler_vs_reference: first-transmission BLER minus the reference's.
        reference_bler: the reference's.
    """
    kind = Difference.of(gain.mean, gain.ci95).kind
    if kind == "better":
        excess, least = bler_vs_reference.mean, bler_vs_reference.ci95[0]
        if excess is not None and least is not None and least > 0 and excess > EQUAL_WITHIN * (reference_bler or 0.0):
            return "bought_with_bler"
        return "better"
    return "worse" if kind == "worse" else "no_difference" if kind == "no-difference" else "nothing_decided"


def _estimate(values: Float64Array, digits: int) -> Estimate:
    """The first value, with the 95 % interval of the others."""
    others = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(others, [2.5, 97.5]) if len(others) and np.isfinite(values[0]) else (np.nan, np.nan)
    return Estimate.of(values[0], low, high, digits)

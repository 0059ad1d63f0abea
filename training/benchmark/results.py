"""From episodes to figures: goodput, gain with interval, BLER, delays; as plain data for JSON and the page."""

import itertools
import math
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from distila.replay.statistics import RESAMPLES, bootstrap_gain, resampled_gains
from distila.training.benchmark.episode import Episode
from distila.training.benchmark.policies import REFERENCE
from distila.xapp.nr.arrays import BoolArray, Float64Array

GENIE: Final = "genie"
_SPEED_EDGES_KMH: Final = (0, 10, 30, 60, 120, 500)
_MIN_LINKS: Final = 8
_PERCENTILES: Final = tuple(range(0, 101, 5))


def used_links(policies: Iterable[Sequence[Episode]]) -> BoolArray:
    """Links on which every policy sent something after the warm-up, bool [link of all seeds].

    Arrivals are common, but one policy may have sent a file before the warm-up ended and another not.
    """
    used = [_joined(episodes, "resource") > 0 for episodes in policies]
    return np.asarray(np.logical_and.reduce(used))


def policy_figures(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, rng_seed: int
) -> dict[str, Any]:
    """Figures of one policy in one family.

    Args:
        episodes: its results, one per seed.
        reference: those of the reference under the same seeds.
        used: links that count, see `used_links`.
        rng_seed: of the bootstrap.

    Returns:
        See `benchmark_results`; without ``genie_share_pct``, which needs another policy.
    """
    goodput = _joined(episodes, "goodput")
    first_ack, first_nack = _joined(episodes, "first_ack").sum(), _joined(episodes, "first_nack").sum()
    delays = np.concatenate([episode.file_delay_ms for episode in episodes])
    return {
        "goodput": _rounded(goodput[used].mean() if used.any() else math.nan),
        "goodput_p5": _rounded(np.percentile(goodput[used], 5) if used.any() else math.nan),
        "gain_vs_olla_pct": gain(episodes, reference, used, rng_seed),
        "first_tx_bler": _rounded(_ratio(float(first_nack), float(first_ack + first_nack)), 5),
        "residual_bler": _rounded(_ratio(_joined(episodes, "residual").sum(), _blocks(episodes).sum()), 6),
        "residual_vs_olla": residual_difference(episodes, reference, rng_seed),
        "mean_mcs": _rounded(float(np.nanmean(_joined(episodes, "mean_mcs")))) if used.any() else None,
        "file_delay_ms": _delays(delays),
        "goodput_percentiles": [_rounded(x) for x in np.percentile(goodput[used], _PERCENTILES)] if used.any() else [],
        "gain_by_speed": _by_speed(episodes, reference, used, rng_seed),
        "elapsed_s": _rounded(sum(episode.elapsed_s for episode in episodes), 2),
    }


def gain(episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, rng_seed: int) -> dict[str, Any]:
    """Gain of mean goodput over the reference [%] with its 95 % interval, paired.

    What is resampled are UEs of the fading bank, each with all the links that share its fading, because those are not
    independent of each other.
    """
    ours, theirs = (_per_ue(given, _joined(given, "goodput"), used) for given in (episodes, reference))
    mean, low, high = bootstrap_gain(ours, theirs, np.random.default_rng(rng_seed))
    return {"mean": _rounded(mean, 3), "ci95": [_rounded(low, 3), _rounded(high, 3)]}


def gain_resamples(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, seed: Sequence[int]
) -> Float64Array:
    """The gain [%] in resamples as `gain` takes them, float64 [resample]; NaN where it is not defined."""
    ours, theirs = (_per_ue(given, _joined(given, "goodput"), used) for given in (episodes, reference))
    return resampled_gains(ours, theirs, np.random.default_rng(seed))


def residual_difference(episodes: Sequence[Episode], reference: Sequence[Episode], rng_seed: int) -> dict[str, Any]:
    """Residual BLER less the reference's, with its 95 % interval; paired and resampled as in `gain`.

    Of all links, as ``residual_bler`` is: one that did not send adds nothing to either sum.
    """
    every = np.ones(len(_blocks(episodes)), np.bool_)
    lost, sent, lost_there, sent_there = (
        _per_ue(given, values, every)
        for given in (episodes, reference)
        for values in (_joined(given, "residual"), _blocks(given))
    )
    if not sent.sum() or not sent_there.sum():
        return {"mean": None, "ci95": [None, None]}
    picks = np.random.default_rng(rng_seed).integers(0, len(sent), (RESAMPLES, len(sent)))
    totals, totals_there = (np.maximum(values[picks].sum(axis=1), 1) for values in (sent, sent_there))
    differences = lost[picks].sum(axis=1) / totals - lost_there[picks].sum(axis=1) / totals_there
    low, high = np.percentile(differences, [2.5, 97.5])
    mean = lost.sum() / sent.sum() - lost_there.sum() / sent_there.sum()
    return {"mean": _rounded(mean, 8), "ci95": [_rounded(low, 8), _rounded(high, 8)]}


def add_genie_share(policies: dict[str, Any]) -> None:
    """Set ``genie_share_pct`` of every policy: how much of the way from the reference to the genie it goes."""
    reference = policies[REFERENCE]["goodput"]
    best = next((figures["goodput"] for figures in policies.values() if figures["base"] == GENIE), None)
    for figures in policies.values():
        share = None
        if best is not None and figures["goodput"] is not None and reference is not None and best > reference:
            share = _rounded(100 * (figures["goodput"] - reference) / (best - reference), 1)
        figures["genie_share_pct"] = share


def benchmark_results(
    quick: bool, settings: dict[str, Any], families: dict[str, Any], averages: dict[str, Any], e2_sweep: Any
) -> dict[str, Any]:
    """The content of ``results.json``.

    ``families.<name>``: ``description``, ``unseen``, ``slot_us``, ``e2_period_ms``, ``e2_delay_ms``, ``links``,
    ``bursty_share``, ``policies.<name>``. Of a policy: ``base``, ``seat``, ``settings``, ``goodput`` [bit/s/Hz] (mean
    over links), ``goodput_p5`` (5th percentile link), ``gain_vs_olla_pct`` (``mean``, ``ci95``), ``first_tx_bler``,
    ``residual_bler`` (blocks given up per first transmission), ``residual_vs_olla`` (``mean``, ``ci95`` of that less
    the reference's), ``genie_share_pct``, ``mean_mcs``, ``file_delay_ms`` (``p50``, ``p95``, ``p99``, ``files``; null
    where nothing is bursty), ``goodput_percentiles`` (0, 5, ... 100), ``gain_by_speed``, ``elapsed_s``. What is not
    defined is null.

    ``averages.<group>``: ``families`` (names), and ``policies.<name>`` with ``mean`` and ``ci95`` of the gain [%], see
    `distila.training.benchmark.averages`.

    ``settings.e2_period_ms`` and ``settings.e2_delay_ms`` are there where every family was run with that E2 timing
    instead of its own.
    """
    return {
        "kind": "benchmark",
        "version": 1,
        "distila": version("distila"),
        "quick": quick,
        "settings": settings,
        "families": families,
        "averages": averages,
        "e2_sweep": e2_sweep,
    }


def _per_ue(episodes: Sequence[Episode], values: Float64Array, used: BoolArray) -> Float64Array:
    """Sums of [link of all seeds] over the used links of each UE of the fading bank; every seed has its own UEs."""
    rows = np.concatenate([episode.fading_row + 1e6 * seed for seed, episode in enumerate(episodes)])[used]
    _, unit = np.unique(rows, return_inverse=True)
    return np.asarray(np.bincount(unit, values[used]), np.float64)


def _blocks(episodes: Sequence[Episode]) -> Float64Array:
    """First transmissions [link of all seeds], whatever became of them."""
    return np.asarray(sum(_joined(episodes, f"first_{outcome}") for outcome in ("ack", "nack", "dtx")))


def _joined(episodes: Sequence[Episode], field: str) -> Float64Array:
    return np.concatenate([getattr(episode, field) for episode in episodes])


def _by_speed(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, rng_seed: int
) -> list[dict[str, Any]]:
    speed = _joined(episodes, "speed_kmh")
    found = []
    for low, high in itertools.pairwise(_SPEED_EDGES_KMH):
        inside = used & (speed >= low) & (speed < high)
        if inside.sum() >= _MIN_LINKS:
            links = int(inside.sum())
            found.append({"speed_kmh": [low, high], "links": links, **gain(episodes, reference, inside, rng_seed)})
    return found


def _delays(delays_ms: Float64Array) -> dict[str, Any] | None:
    if len(delays_ms) == 0:
        return None
    percentiles = {f"p{p}": _rounded(np.percentile(delays_ms, p), 2) for p in (50, 95, 99)}
    return {**percentiles, "files": len(delays_ms)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _rounded(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None

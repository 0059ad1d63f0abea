"""From episodes to figures: goodput, gain with interval, BLER, delays; as plain data for JSON and the page."""

import itertools
import math
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from replay.statistics import bootstrap_gain
from training.benchmark.episode import Episode
from training.benchmark.policies import REFERENCE

FloatArray = npt.NDArray[np.float64]

GENIE: Final = "genie"
_SPEED_EDGES_KMH: Final = (0, 10, 30, 60, 120, 500)
_MIN_LINKS: Final = 8
_PERCENTILES: Final = tuple(range(0, 101, 5))


def used_links(policies: Iterable[Sequence[Episode]]) -> npt.NDArray[np.bool_]:
    """Links on which every policy sent something after the warm-up, bool [link of all seeds].

    Arrivals are common, but one policy may have sent a file before the warm-up ended and another not.
    """
    used = [_joined(episodes, "resource") > 0 for episodes in policies]
    return np.asarray(np.logical_and.reduce(used))


def policy_figures(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: npt.NDArray[np.bool_], rng_seed: int
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
    blocks = first_ack + first_nack + _joined(episodes, "first_dtx").sum()
    delays = np.concatenate([episode.file_delay_ms for episode in episodes])
    return {
        "goodput": _rounded(goodput[used].mean() if used.any() else math.nan),
        "goodput_p5": _rounded(np.percentile(goodput[used], 5) if used.any() else math.nan),
        "gain_vs_olla_pct": gain(episodes, reference, used, rng_seed),
        "first_tx_bler": _rounded(_ratio(float(first_nack), float(first_ack + first_nack)), 5),
        "residual_bler": _rounded(_ratio(_joined(episodes, "residual").sum(), blocks), 6),
        "mean_mcs": _rounded(float(np.nanmean(_joined(episodes, "mean_mcs")))) if used.any() else None,
        "file_delay_ms": _delays(delays),
        "goodput_percentiles": [_rounded(x) for x in np.percentile(goodput[used], _PERCENTILES)] if used.any() else [],
        "gain_by_speed": _by_speed(episodes, reference, used, rng_seed),
        "elapsed_s": _rounded(sum(episode.elapsed_s for episode in episodes), 2),
    }


def gain(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: npt.NDArray[np.bool_], rng_seed: int
) -> dict[str, Any]:
    """Gain of mean goodput over the reference [%] with its 95 % interval, paired.

    What is resampled are UEs of the fading bank, each with all the links that share its fading, because those are not
    independent of each other.
    """
    group = np.concatenate([episode.fading_row + 1e6 * seed for seed, episode in enumerate(episodes)])[used]
    ours, theirs = _joined(episodes, "goodput")[used], _joined(reference, "goodput")[used]
    _, unit = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(rng_seed)
    mean, low, high = bootstrap_gain(_summed(unit, ours), _summed(unit, theirs), rng)
    return {"mean": _rounded(mean, 3), "ci95": [_rounded(low, 3), _rounded(high, 3)]}


def add_genie_share(policies: dict[str, Any]) -> None:
    """Set ``genie_share_pct`` of every policy: how much of the way from the reference to the genie it goes."""
    reference = policies[REFERENCE]["goodput"]
    best = next((figures["goodput"] for figures in policies.values() if figures["base"] == GENIE), None)
    for figures in policies.values():
        share = None
        if best is not None and figures["goodput"] is not None and reference is not None and best > reference:
            share = _rounded(100 * (figures["goodput"] - reference) / (best - reference), 1)
        figures["genie_share_pct"] = share


def benchmark_results(quick: bool, settings: dict[str, Any], families: dict[str, Any], e2_sweep: Any) -> dict[str, Any]:
    """The content of ``results.json``.

    ``families.<name>``: ``description``, ``unseen``, ``slot_us``, ``e2_period_ms``, ``e2_delay_ms``, ``links``,
    ``bursty_share``, ``policies.<name>``. Of a policy: ``base``, ``seat``, ``settings``, ``goodput`` [bit/s/Hz] (mean
    over links), ``goodput_p5`` (5th percentile link), ``gain_vs_olla_pct`` (``mean``, ``ci95``), ``first_tx_bler``,
    ``residual_bler``, ``genie_share_pct``, ``mean_mcs``, ``file_delay_ms`` (``p50``, ``p95``, ``p99``, ``files``; null
    where nothing is bursty), ``goodput_percentiles`` (0, 5, ... 100), ``gain_by_speed``, ``elapsed_s``. What is not
    defined is null.
    """
    return {
        "kind": "benchmark",
        "version": 1,
        "distila": version("distila"),
        "quick": quick,
        "settings": settings,
        "families": families,
        "e2_sweep": e2_sweep,
    }


def _summed(unit: npt.NDArray[np.intp], values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(unit, values), np.float64)


def _joined(episodes: Sequence[Episode], field: str) -> FloatArray:
    return np.concatenate([getattr(episode, field) for episode in episodes])


def _by_speed(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: npt.NDArray[np.bool_], rng_seed: int
) -> list[dict[str, Any]]:
    speed = _joined(episodes, "speed_kmh")
    found = []
    for low, high in itertools.pairwise(_SPEED_EDGES_KMH):
        inside = used & (speed >= low) & (speed < high)
        if inside.sum() >= _MIN_LINKS:
            links = int(inside.sum())
            found.append({"speed_kmh": [low, high], "links": links, **gain(episodes, reference, inside, rng_seed)})
    return found


def _delays(delays_ms: FloatArray) -> dict[str, Any] | None:
    if len(delays_ms) == 0:
        return None
    percentiles = {f"p{p}": _rounded(np.percentile(delays_ms, p), 2) for p in (50, 95, 99)}
    return {**percentiles, "files": len(delays_ms)}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _rounded(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None

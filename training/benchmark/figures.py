"""From episodes to figures: goodput, gain with interval, BLER, delays."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Final

import numpy as np

from distila.replay.statistics import RESAMPLES, bootstrap_gain, resampled_gains
from distila.training.benchmark.episode import Episode
from distila.training.benchmark.frontier import gain_kind
from distila.training.benchmark.policies import REFERENCE, PolicySpec
from distila.training.benchmark.results import (
    PERCENTILES,
    BlockDelays,
    EqualBlerGain,
    FileDelays,
    PolicyFigures,
    SpeedGain,
)
from distila.xapp.kpi import block_delay
from distila.xapp.kpi.link_metrics import RATIOS, LinkCounts, stalled_slot_share
from distila.xapp.nr.arrays import BoolArray, Float64Array
from distila.xapp.result_file import Estimate, rounded

GENIE: Final = "genie"
_SPEED_EDGES_KMH: Final = (0, 10, 30, 60, 120, 500)
_MIN_LINKS: Final = 8


def used_links(policies: Iterable[Sequence[Episode]]) -> BoolArray:
    """Links on which every policy sent something after the warm-up, bool [link of all seeds].

    Arrivals are common, but one policy may have sent a file before the warm-up ended and another not.
    """
    used = [_joined(episodes, "resource") > 0 for episodes in policies]
    return np.asarray(np.logical_and.reduce(used))


def policy_figures(
    policy: PolicySpec,
    family: str,
    episodes: Sequence[Episode],
    reference: Sequence[Episode],
    used: BoolArray,
    rng_seed: int,
    equal_bler: EqualBlerGain | None = None,
) -> PolicyFigures:
    """Figures of one policy in one family, without ``genie_share_pct``, which needs another policy.

    Args:
        policy: the policy.
        family: name of the family.
        episodes: results of the policy, one per seed.
        reference: those of the reference under the same seeds.
        used: links that count, see `used_links`.
        rng_seed: seed of the bootstrap.
        equal_bler: gain at equal BLER; None where there are no BLER targets.
    """
    goodput = _joined(episodes, "goodput")
    total = _counts(episodes).total()
    file_delays = np.concatenate([episode.file_delay_ms for episode in episodes])
    gained = gain(episodes, reference, used, rng_seed)
    decided = decided_share(episodes)
    if not decided and equal_bler is not None:
        # It is the DU's own OLLA that gained.
        equal_bler = equal_bler.model_copy(update={"kind": "nothing_decided"})
    bler_excess = ratio_difference("first_tx_bler", episodes, reference, rng_seed)
    reference_bler = rounded(_counts(reference).total().first_tx_bler, 5)
    return PolicyFigures(
        base=policy.base,
        seat=policy.seat,
        settings=policy.settings(family),
        takes_target=policy.takes_target,
        target_bler=policy.target_bler,
        decided_share=decided,
        undecided_because=None if all(policy.knows_table(each.mcs_table) for each in episodes) else "mcs_table",
        goodput=rounded(goodput[used].mean() if used.any() else math.nan),
        goodput_p5=rounded(np.percentile(goodput[used], 5) if used.any() else math.nan),
        gain_vs_olla_pct=gained,
        gain_kind=gain_kind(gained, bler_excess, reference_bler) if decided else "nothing_decided",
        equal_bler_gain=equal_bler,
        first_tx_bler=rounded(total.first_tx_bler, 5),
        bler_vs_olla=bler_excess,
        transmissions_per_block=rounded(total.transmissions_per_block),
        retransmission_share=rounded(total.retransmission_share, 5),
        stalled_slot_share=_stalled_slot_share(episodes),
        block_delay_ms=_block_delays(episodes),
        residual_bler=rounded(total.residual_bler, 6),
        residual_vs_olla=ratio_difference("residual_bler", episodes, reference, rng_seed),
        mean_mcs=rounded(float(np.nanmean(_joined(episodes, "mean_mcs")))) if used.any() else None,
        file_delay_ms=_delays(file_delays),
        goodput_percentiles=tuple(rounded(x) for x in np.percentile(goodput[used], PERCENTILES)) if used.any() else (),
        gain_by_speed=_by_speed(episodes, reference, used, rng_seed),
        elapsed_s=rounded(sum(episode.elapsed_s for episode in episodes), 2),
    )


def gain(episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, rng_seed: int) -> Estimate:
    """Gain of mean goodput over the reference [%] with its 95 % interval, paired.

    The bootstrap resamples the UEs of the fading bank, each with all the links that share its fading, because those
    links are not independent of each other.
    """
    ours, theirs = (_per_ue(given, _joined(given, "goodput"), used) for given in (episodes, reference))
    return Estimate.of(*bootstrap_gain(ours, theirs, np.random.default_rng(rng_seed)), digits=3)


def gain_resamples(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, seed: Sequence[int]
) -> Float64Array:
    """The gain [%] in resamples as `gain` takes them, float64 [resample]; NaN where it is not defined."""
    ours, theirs = (_per_ue(given, _joined(given, "goodput"), used) for given in (episodes, reference))
    return resampled_gains(ours, theirs, np.random.default_rng(seed))


def ratio_difference(metric: str, episodes: Sequence[Episode], reference: Sequence[Episode], rng_seed: int) -> Estimate:
    """A metric minus the reference's, with its 95 % interval; paired and resampled as in `gain`.

    It is over all links, as the metric is: a link that did not send adds nothing to either sum.

    Args:
        metric: one of `distila.xapp.kpi.link_metrics.RATIOS`.
        episodes: results of the policy, one per seed.
        reference: those of the reference under the same seeds.
        rng_seed: seed of the bootstrap.
    """
    every = np.ones(len(_joined(episodes, "resource")), np.bool_)
    part, whole, part_there, whole_there = (
        _per_ue(given, getattr(_counts(given), name), every)
        for given in (episodes, reference)
        for name in RATIOS[metric]
    )
    if not whole.sum() or not whole_there.sum():
        return Estimate(mean=None, ci95=(None, None))
    picks = np.random.default_rng(rng_seed).integers(0, len(whole), (RESAMPLES, len(whole)))
    totals, totals_there = (np.maximum(values[picks].sum(axis=1), 1) for values in (whole, whole_there))
    differences = part[picks].sum(axis=1) / totals - part_there[picks].sum(axis=1) / totals_there
    low, high = np.percentile(differences, [2.5, 97.5])
    return Estimate.of(part.sum() / whole.sum() - part_there.sum() / whole_there.sum(), low, high, digits=8)


def with_genie_share(policies: Mapping[str, PolicyFigures]) -> dict[str, PolicyFigures]:
    """The same figures with ``genie_share_pct``: how much of the gain from the reference to the genie each reaches."""
    reference = policies[REFERENCE].goodput
    best = next((figures.goodput for figures in policies.values() if figures.base == GENIE), None)
    if best is None or reference is None or best <= reference:
        return dict(policies)

    def share(goodput: float | None) -> float | None:
        return None if goodput is None else rounded(100 * (goodput - reference) / (best - reference), 1)

    return {
        name: figures.model_copy(update={"genie_share_pct": share(figures.goodput)})
        for name, figures in policies.items()
    }


def decided_share(episodes: Sequence[Episode]) -> float:
    """Share of decisions that do not leave the MCS to the DU, over all links and seeds."""
    return round(float(np.mean([episode.decided_share for episode in episodes])), 5)


def _per_ue(episodes: Sequence[Episode], values: Float64Array, used: BoolArray) -> Float64Array:
    """Sums of [link of all seeds] over the used links of each UE of the fading bank; every seed has its own UEs."""
    rows = np.concatenate([episode.fading_row + 1e6 * seed for seed, episode in enumerate(episodes)])[used]
    _, unit = np.unique(rows, return_inverse=True)
    return np.asarray(np.bincount(unit, values[used]), np.float64)


def _counts(episodes: Sequence[Episode]) -> LinkCounts[Float64Array]:
    """The counts of [link of all seeds]."""
    return LinkCounts(**{field.name: _joined(episodes, field.name) for field in fields(LinkCounts)})


def _joined(episodes: Sequence[Episode], field: str) -> Float64Array:
    return np.concatenate([getattr(episode, field) for episode in episodes])


def _by_speed(
    episodes: Sequence[Episode], reference: Sequence[Episode], used: BoolArray, rng_seed: int
) -> tuple[SpeedGain, ...]:
    speed = _joined(episodes, "speed_kmh")
    found = []
    for low, high in itertools.pairwise(_SPEED_EDGES_KMH):
        inside = used & (speed >= low) & (speed < high)
        if inside.sum() >= _MIN_LINKS:
            estimate = gain(episodes, reference, inside, rng_seed)
            links = int(inside.sum())
            found.append(SpeedGain(speed_kmh=(low, high), links=links, mean=estimate.mean, ci95=estimate.ci95))
    return tuple(found)


def _stalled_slot_share(episodes: Sequence[Episode]) -> float | None:
    stalled, slots = (float(sum(getattr(e, name) for e in episodes)) for name in ("stalled_slots", "slots"))
    return rounded(stalled_slot_share(stalled, slots), 5)


def _block_delays(episodes: Sequence[Episode]) -> BlockDelays | None:
    """Percentiles over the blocks of all links and seeds; None where nothing was sent."""
    found = block_delay.BlockDelays.together(
        [block_delay.BlockDelays(episode.block_delay_ms, episode.delayed_blocks) for episode in episodes]
    )
    if not found.blocks.sum():
        return None
    p50, p95, p99 = (rounded(value, 4) for value in found.percentiles())
    return BlockDelays(p50=p50, p95=p95, p99=p99)


def _delays(delays_ms: Float64Array) -> FileDelays | None:
    if len(delays_ms) == 0:
        return None
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(delays_ms, [50, 95, 99]))
    return FileDelays(p50=p50, p95=p95, p99=p99, files=len(delays_ms))

"""Tuning of the baselines: a grid of settings for each, on validation seeds, over the seen families.

A baseline that loses because of its settings proves nothing, so each gets as many tries as it has settings that matter.
There are two objectives:

* `tune`, *goodput*: the best setting of a family is the one with the highest mean goodput there; the global one has the
  highest mean over the families of goodput relative to the family's best, so that no family counts for more because its
  SNR is higher. The BLER is what comes of it.
* `tune_at_targets`, *goodput at a BLER target*: of the settings that hold the target, the one with the highest mean
  over the families of goodput relative to the family's best. A setting holds a target if the BLER that it reaches is
  within `tolerance` of it in at least half of the families (the median distance). If no setting does, those count that
  come closest. The BLER is that of the links in between: at the top and at the bottom of the MCS table no policy can
  hold a target, so a link whose mean MCS is outside `HELD_MCS` does not count there.

What comes out is the file of the settings in use with what was tuned in place of what was there, so that it can take
that file's place.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from distila.training.baselines.targets import BLER_WINDOW, target_key, with_target
from distila.training.benchmark.episode import Episode, EpisodePlan
from distila.training.benchmark.episode_pool import code_digest, run_all
from distila.training.benchmark.policies import PolicySpec
from distila.training.benchmark.sizes import Sizes
from distila.training.benchmark.tuned_file import (
    TUNED_FILE,
    Settings,
    TunedAtTarget,
    TunedBaseline,
    TunedTargets,
    Tuning,
    TuningSettings,
    read_tuning,
    write_tuning,
)
from distila.training.sim.scenario import Scenario, families
from distila.training.sim.split import Split
from distila.xapp.files import check_writable
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.progress import Progress

Grid = dict[str, tuple[float | None, ...]]

GRIDS: Final[dict[str, Grid]] = {
    "illa": {"target": (0.03, 0.1, 0.2, 0.3, 0.45), "cqi_position": (0.0, 0.25, 0.5)},
    "olla": {
        "target": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
        "step_on_nack_db": (0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
        "cqi_position": (0.0, 0.5),
    },
    "srsran-olla": {
        "target": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
        "step_on_nack": (0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    },
    "bler-window": {
        "lower": (0.01, 0.03, 0.05, 0.1),
        "upper": (0.12, 0.15, 0.3),
        "window_ms": (5.0, 20.0, 100.0),
        "memory": (0.0, 0.5, 0.9),
    },
    "salad": {"target": (0.05, 0.1, 0.15, 0.2, 0.3), "tau_gain": (0.001, 0.002, 0.005, 0.02)},
    "thompson": {
        "tbler_limit": (None, 0.2, 0.3),
        "diffusion_db": (0.03, 0.1, 0.3),
        "cqi_std_db": (1.0, 2.0, 4.0),
        "outlier": (0.02, 0.1),
    },
}
"""Settings that are tried, every combination, on top of the defaults."""

TARGET_GRIDS: Final[dict[str, Grid]] = {
    "olla": {"step_on_nack_db": (0.02, 0.05, 0.1, 0.2, 0.5), "cqi_position": (0.0, 0.5)},
    "srsran-olla": {"step_on_nack": (0.01, 0.03, 0.1, 0.3)},
    "bler-window": {
        "lower": (0.1, 0.5, 0.8),
        "upper": (1.0, 1.5),
        "window_ms": (5.0, 20.0, 100.0),
        "memory": (0.0, 0.5),
    },
    "salad": {"tau_gain": (0.001, 0.003, 0.01)},
    "thompson": {
        "step_on_nack_db": (0.03, 0.1, 0.3),
        "diffusion_db": (0.03,),
        "outlier": (0.005,),
        "forget": (0.0001,),
    },
}
"""The same at a BLER target, which is given; ``lower`` and ``upper`` of ``bler-window`` are multiples of it."""

TUNABLE: Final = tuple(GRIDS)
TUNABLE_AT_TARGETS: Final = tuple(TARGET_GRIDS)

HELD_MCS: Final = (0.5, 25.5)
"""Mean MCS of a link between which a policy can move its BLER both ways; tables end at MCS 27 and 28."""

TOLERANCE: Final = 0.01
"""How far the BLER may be from a target; half of the target where that is less."""


def tolerance(target: float) -> float:
    """How far the BLER that a setting reaches may be from the target."""
    return min(TOLERANCE, target / 2)


def combinations(grid: Grid) -> list[Settings]:
    """Every combination of a grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def settings_at(policy: str, tried: Settings, target: float) -> Settings:
    """The settings that a combination of `TARGET_GRIDS` stands for at a target."""
    if policy != BLER_WINDOW:
        return with_target(policy, tried, target)
    scaled = {name: value * target for name in ("lower", "upper") if (value := tried[name]) is not None}
    return {**tried, **scaled}


@dataclass(frozen=True)
class TuningRun:
    """Where and how a tuning runs; ``cache``: directory of fading banks, None: the default one."""

    sizes: Sizes
    out: Path
    jobs: int
    cache: Path | None
    on_bank: Progress
    on_episode: Progress

    @property
    def how(self) -> TuningSettings:
        """What the file says about it."""
        return TuningSettings(**self.sizes.model_dump(), code=code_digest())

    def try_all(self, tries: Sequence[tuple[str, Settings]], scenarios: Sequence[Scenario]) -> list[list[Episode]]:
        """Run every policy and setting in every scenario: episodes [try][scenario]."""
        plans = [
            EpisodePlan(scenario, PolicySpec.trial(policy, given), Split.VALIDATION, 0, self.sizes, self.cache)
            for policy, given in tries
            for scenario in scenarios
        ]
        episodes = run_all(plans, self.out / "episodes", self.jobs, self.on_bank, self.on_episode)
        return [episodes[start : start + len(scenarios)] for start in range(0, len(episodes), len(scenarios))]


def tune(policies: Sequence[str], run: TuningRun) -> Tuning:
    """Find the settings of these baselines that are best for goodput, and write ``tuned.yaml``.

    Raises:
        InputError: the file cannot be written.
    """
    check_writable(run.out)
    scenarios = _seen()
    tries = [(policy, settings) for policy in policies for settings in combinations(GRIDS[policy])]
    goodput = _goodput(run.try_all(tries, scenarios))
    tuning = read_tuning(TUNED_FILE)
    found = dict(tuning.policies)
    for policy in policies:
        rows = [index for index, (name, _) in enumerate(tries) if name == policy]
        ours = goodput[rows]
        best = ours.argmax(axis=0)
        overall = int(_relative(ours).argmax())
        before = found.get(policy)
        found[policy] = TunedBaseline(
            how=run.how,
            overall=tries[rows[overall]][1],
            families={scenario.name: tries[rows[best[i]]][1] for i, scenario in enumerate(scenarios)},
            tried=GRIDS[policy],
            worst_loss_of_global_pct=round(float(100 * (1 - (ours[overall] / ours.max(axis=0)).min())), 2),
            targets=None if before is None else before.targets,
        )
    return _written(found, run.out)


def tune_at_targets(policies: Sequence[str], targets: Sequence[float], run: TuningRun) -> Tuning:
    """Find the settings of these baselines that hold each BLER target at the highest goodput; write ``tuned.yaml``.

    Targets that the file in use has and that are not among ``targets`` are left out of it.

    Raises:
        InputError: the file cannot be written.
    """
    check_writable(run.out)
    scenarios = _seen()
    tries = [
        (policy, target, settings_at(policy, tried, target))
        for policy in policies
        for target in targets
        for tried in combinations(TARGET_GRIDS[policy])
    ]
    episodes = run.try_all([(policy, settings) for policy, _, settings in tries], scenarios)
    tuning = read_tuning(TUNED_FILE)
    found = dict(tuning.policies)
    for policy in policies:
        by_target = {}
        for target in sorted(targets):
            rows = [index for index, (name, at, _) in enumerate(tries) if (name, at) == (policy, target)]
            ours = [episodes[row] for row in rows]
            best = best_at_target(_goodput(ours), _bler(ours), target)
            by_target[target_key(target)] = _tuned_at_target(tries[rows[best]][2], _bler(ours)[best], target, scenarios)
        targets_found = TunedTargets(how=run.how, tried=TARGET_GRIDS[policy], by_target=by_target)
        found[policy] = found[policy].model_copy(update={"targets": targets_found})
    return _written(found, run.out)


def best_at_target(goodput: Float64Array, bler: Float64Array, target: float) -> int:
    """Which setting has the highest goodput of those that hold the target, see the module.

    Args:
        goodput: float64 [setting, family].
        bler: first-transmission BLER, float64 [setting, family]; NaN where nothing was sent.
        target: the target.
    """
    distance = _distance(bler, target)
    holds = distance <= tolerance(target)
    if not holds.any():
        holds = distance == distance.min()
    return int(np.where(holds, _relative(goodput), -np.inf).argmax())


def _distance(bler: Float64Array, target: float) -> Float64Array:
    """Median distance to the target over families, float64 [setting]."""
    return np.asarray(np.nanmedian(np.abs(bler - target), axis=-1), np.float64)


def _relative(goodput: Float64Array) -> Float64Array:
    """Mean over families of goodput relative to the family's best, float64 [setting]."""
    return np.asarray((goodput / goodput.max(axis=0)).mean(axis=1), np.float64)


def _goodput(episodes: Sequence[Sequence[Episode]]) -> Float64Array:
    return np.array([[episode.goodput.mean() for episode in row] for row in episodes])


def _bler(episodes: Sequence[Sequence[Episode]]) -> Float64Array:
    """First-transmission BLER of the links that can be held, float64 [setting, family]; NaN where there is none."""
    return np.array([[_held_bler(episode) for episode in row] for row in episodes])


def _held_bler(episode: Episode) -> float:
    held = (episode.mean_mcs > HELD_MCS[0]) & (episode.mean_mcs < HELD_MCS[1])  # NaN where nothing was sent
    nack, ack = episode.first_nack[held].sum(), episode.first_ack[held].sum()
    return float(nack / (nack + ack)) if nack + ack else np.nan


def _tuned_at_target(
    settings: Settings, bler: Float64Array, target: float, scenarios: Sequence[Scenario]
) -> TunedAtTarget:
    return TunedAtTarget(
        settings=settings,
        reached_bler=round(float(np.nanmedian(bler)), 4),
        distance=round(float(_distance(bler, target)), 4),
        families={scenario.name: round(float(each), 4) for scenario, each in zip(scenarios, bler, strict=True)},
    )


def _seen() -> list[Scenario]:
    return [scenario for scenario in families().values() if not scenario.unseen]


def _written(found: dict[str, TunedBaseline], out: Path) -> Tuning:
    result = Tuning(policies=found)
    write_tuning(out / TUNED_FILE.name, result)
    return result

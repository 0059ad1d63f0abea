"""Tuning of the baselines: a grid of settings for each, on validation seeds, per seen family and over all of them.

A baseline that loses because of its settings proves nothing, so each gets as many tries as it has settings that matter.
The best setting of a family is the one with the highest mean goodput there; the global one has the highest mean over
the families of goodput relative to the family's best, so that no family counts for more because its SNR is higher.
"""

import itertools
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from distila.training.benchmark.episode import EpisodePlan
from distila.training.benchmark.episode_pool import run_all
from distila.training.benchmark.policies import PolicySpec
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.scenario import families
from distila.training.sim.split import Split
from distila.xapp.files import check_writable, write_text
from distila.xapp.progress import Progress

GRIDS: Final[dict[str, dict[str, tuple[float | None, ...]]]] = {
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
        "target": (None, 0.2, 0.3),
        "diffusion_db": (0.03, 0.1, 0.3),
        "cqi_std_db": (1.0, 2.0, 4.0),
        "outlier": (0.02, 0.1),
    },
}
"""Settings that are tried, every combination, on top of the defaults."""

TUNABLE: Final = tuple(GRIDS)

Settings = dict[str, float | None]


class TunedBaseline(BaseModel):
    """The best settings of one baseline."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    overall: Settings = Field(alias="global", description="best over all seen families")
    families: dict[str, Settings] = Field(description="best in each seen family")
    tried: dict[str, tuple[float | None, ...]] = Field(description="values of each setting that were tried")
    worst_loss_of_global_pct: float = Field(
        description="goodput that the overall settings lose against the family's best, in the worst family [%]"
    )


class TuningSettings(Sizes):
    """How the baselines were tuned."""

    split: Literal["validation"] = "validation"
    seed: int = Field(default=0, description="seed of the split")
    seat: Literal["du"] = Field(default="du", description="where the baselines decided: in the DU")


class Tuning(BaseModel):
    """The content of ``tuned.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    how: TuningSettings
    policies: dict[str, TunedBaseline] = Field(description="by name of the baseline")


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, not as a reference."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out."""
        return True


def grid(policy: str) -> list[Settings]:
    """Every combination of a baseline's settings."""
    names, values = list(GRIDS[policy]), list(GRIDS[policy].values())
    return [dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)]


def tune(
    policies: list[str], sizes: Sizes, out: Path, jobs: int, cache: Path | None, on_bank: Progress, on_episode: Progress
) -> Tuning:
    """Try every combination of settings of these baselines, and write the best ones to ``tuned.yaml`` in ``out``."""
    check_writable(out)
    seen = [scenario for scenario in families().values() if not scenario.unseen]
    tries = [(policy, settings) for policy in policies for settings in grid(policy)]
    plans = [
        EpisodePlan(scenario, PolicySpec.trial(policy, settings), Split.VALIDATION, 0, sizes, cache)
        for policy, settings in tries
        for scenario in seen
    ]
    episodes = run_all(plans, out / "episodes", jobs, on_bank, on_episode)
    goodput = np.array([float(episode.goodput.mean()) for episode in episodes]).reshape(len(tries), len(seen))
    found: dict[str, TunedBaseline] = {}
    for policy in policies:
        rows = [index for index, (name, _) in enumerate(tries) if name == policy]
        ours = goodput[rows]
        best = ours.argmax(axis=0)
        overall = int((ours / ours.max(axis=0)).mean(axis=1).argmax())
        found[policy] = TunedBaseline(
            overall=tries[rows[overall]][1],
            families={scenario.name: tries[rows[best[i]]][1] for i, scenario in enumerate(seen)},
            tried=GRIDS[policy],
            worst_loss_of_global_pct=round(float(100 * (1 - (ours[overall] / ours.max(axis=0)).min())), 2),
        )
    result = Tuning(how=TuningSettings(**sizes.model_dump()), policies=found)
    plain = result.model_dump(mode="json", by_alias=True)
    write_text(
        out / "tuned.yaml",
        "# Written by `distila benchmark tune`; what is used is training/baselines/tuned.yaml.\n"
        + yaml.dump(plain, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=110),
    )
    return result

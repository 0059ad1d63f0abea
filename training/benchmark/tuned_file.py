"""``tuned.yaml``: the baselines' settings that `distila benchmark tune` found, and how it found them."""

from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from distila.training.benchmark.sizes import Sizes
from distila.xapp.files import read_model, write_text
from distila.xapp.shipped import package_folder

TUNED_FILE: Final = package_folder("distila.training.baselines") / "tuned.yaml"
"""The settings in use."""

Settings = dict[str, float | None]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TuningSettings(Sizes):
    """How a baseline was tuned."""

    split: Literal["validation"] = "validation"
    seed: int = Field(default=0, description="seed of the split")
    seat: Literal["du"] = Field(default="du", description="where the baselines decided: in the DU")
    code: str = Field(description="digest of the code of simulator and baselines, or in words which code it was")


class TunedAtTarget(_Section):
    """The settings of one baseline that hold a BLER target at the highest goodput."""

    settings: Settings = Field(description="best over all seen families")
    reached_bler: float = Field(description="first-transmission BLER, median over the families")
    distance: float = Field(description="how far it is from the target, median over the families")
    families: dict[str, float] = Field(description="first-transmission BLER reached in each seen family")


class TunedTargets(_Section):
    """The settings of one baseline by BLER target."""

    how: TuningSettings
    tried: dict[str, tuple[float | None, ...]] = Field(
        description="values of each setting that were tried at every target; multiples of the target where it says so"
    )
    by_target: dict[str, TunedAtTarget] = Field(description="by target in percent, as `10`")


class TunedBaseline(_Section):
    """The best settings of one baseline."""

    how: TuningSettings
    overall: Settings = Field(alias="global", description="best over all seen families")
    families: dict[str, Settings] = Field(description="best in each seen family")
    tried: dict[str, tuple[float | None, ...]] = Field(description="values of each setting that were tried")
    worst_loss_of_global_pct: float = Field(
        description="goodput that the overall settings lose against the family's best, in the worst family [%]"
    )
    targets: TunedTargets | None = Field(default=None, description="settings that hold a BLER target; null: none tuned")


class Tuning(_Section):
    """The content of ``tuned.yaml``."""

    policies: dict[str, TunedBaseline] = Field(description="by name of the baseline")


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, not as a reference."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out."""
        return True


def read_tuning(path: Path) -> Tuning:
    """Read a file of tuned settings.

    Raises:
        InputError: it is not there, or wrong.
    """
    return read_model(path, Tuning)


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Write a file of tuned settings."""
    plain = tuning.model_dump(mode="json", by_alias=True, exclude_none=False)
    write_text(
        path,
        "# Written by `distila benchmark tune`; what is used is training/baselines/tuned.yaml.\n"
        + yaml.dump(plain, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=110),
    )

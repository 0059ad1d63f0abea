"""What a shipped student is made by: a recipe, checked in, so that anybody can make it again."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from distila.training.benchmark.episode import Sizes
from distila.training.learning.config_file import load_config


class BenchmarkSizes(BaseModel):
    """How long it is judged, on test seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenarios: Literal["all"] | tuple[str, ...] = Field(default="all", description="families")
    links: int = Field(default=256, ge=8)
    duration_ms: float = Field(default=3000, gt=250)
    seeds: int = Field(default=3, ge=1)
    bank_rows: int = Field(default=64, ge=1)
    bank_slots: int = Field(default=4096, ge=1)
    peers: tuple[str, ...] = Field(default=("salad", "thompson", "genie"), description="shown beside it")
    near_rt_periods_ms: tuple[float, ...] = Field(
        default=(10, 20, 100), description="E2 periods at which the five families are run once more"
    )
    near_rt_delay_ms: float = Field(default=5, ge=0)

    @property
    def of_a_run(self) -> Sizes:
        """What the benchmark takes."""
        return Sizes(
            links=self.links, duration_ms=self.duration_ms, bank_rows=self.bank_rows, bank_slots=self.bank_slots
        )


class Gates(BaseModel):
    """What it must pass to ship."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    graph_bytes: int = Field(default=125_000, ge=1, description="at most; 1 Mbit")
    residual_excess: float = Field(
        default=1e-3,
        ge=0,
        le=1,
        description="of residual BLER over OLLA's that is let pass, where the interval says that there is one",
    )
    never_below: bool = Field(default=True, description="nowhere significantly less goodput than OLLA")


class Recipe(BaseModel):
    """``recipes/NAME.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z][a-z0-9-]*$")
    version: str
    description: str
    teacher: str = Field(description="configuration of the privileged teacher: a file, or the name of one that ships")
    student: str = Field(description="configuration of the distillation: the same")
    benchmark: BenchmarkSizes = BenchmarkSizes()
    gates: Gates = Gates()


def load_recipe(name: str) -> Recipe:
    """A recipe from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return load_config(Recipe, name, "distila.training.student", "recipes")

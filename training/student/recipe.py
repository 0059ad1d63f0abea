"""Recipes for a student that ships: checked in, so that anybody can make it again."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from distila.training.benchmark.sizes import SeededSizes
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder


class Evaluation(SeededSizes):
    """The benchmark that a student goes through."""

    links: int = Field(default=256, ge=8, description="links per family and seed")
    duration_ms: float = Field(default=3000, gt=250, description="simulated time [ms], warm-up included")
    seeds: int = Field(default=3, ge=1, description="number of seeds")
    scenarios: Literal["all"] | tuple[str, ...] = Field(default="all", description="families, or all that ship")
    peers: tuple[str, ...] = Field(default=("salad", "thompson", "genie"), description="policies to compare with")
    near_rt_periods_ms: tuple[float, ...] = Field(
        default=(10, 20, 100), description="E2 periods at which the five families are run once more [ms]"
    )
    near_rt_delay_ms: float = Field(default=5, ge=0, description="E2 delay in these runs [ms]")


class Gates(BaseModel):
    """Conditions for shipping a student."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    graph_bytes: int = Field(default=125_000, ge=1, description="largest size of the graph [bytes]; 125 000 is 1 Mbit")
    residual_excess: float = Field(
        default=1e-3, ge=0, le=1, description="largest residual BLER above OLLA's, where the difference is significant"
    )
    never_below: bool = Field(default=True, description="whether significantly less goodput than OLLA is a failure")


class Recipe(BaseModel):
    """``recipes/NAME.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern="^[a-z][a-z0-9-]*$", description="name of the policy")
    version: str = Field(description="version of the policy")
    description: str = Field(description="one or two sentences for the manifest and the model card")
    teacher: str = Field(description="configuration of the privileged teacher: a file, or the name of one that ships")
    student: str = Field(description="configuration of the distillation: a file, or the name of one that ships")
    benchmark: Evaluation = Field(default=Evaluation(), description="how the student is evaluated, on test seeds")
    gates: Gates = Field(default=Gates(), description="what it must pass")


RECIPES: Final = Shipped("recipe", package_folder("distila.training.student", "recipes"))


def load_recipe(name: str) -> Recipe:
    """A recipe from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(RECIPES.find(name), Recipe)

"""What a training of a student depends on."""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distila.training.learning.algorithm import BetaSchedule
from distila.training.resource.algorithms import TEACHERS
from distila.training.resource.problems import SETTINGS
from distila.training.resource.students import MlpConfig, StudentConfig, UnrolledGnnConfig
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder


class ResourceTerm(BetaSchedule):
    """A classical algorithm beside the objective."""

    teacher: str = Field(default="fplinq", description="whose powers the student shall not be far from")

    @field_validator("teacher")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TEACHERS:
            raise ValueError(f"there are {', '.join(TEACHERS)}")
        return name


class TrainConfig(BaseModel):
    """Everything that the weights depend on, but the seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: str = Field(description="where instances come from")
    links: tuple[int, ...] = Field(min_length=1, description="numbers of links, one each step, in turn")
    student: StudentConfig
    objective: Literal["supervised", "unsupervised", "reinforcement"] = Field(
        default="unsupervised",
        description="distance to a teacher's powers; the sum rate itself; what a critic makes of rewards",
    )
    teacher: str = Field(default="fplinq", description="of supervised training")
    algorithm: ResourceTerm | None = Field(default=None, description="a classical algorithm beside the objective")
    samples: int | None = Field(default=None, ge=1, description="instances to learn from; none: new ones every step")
    steps: int = Field(default=1000, ge=1, description="of the optimiser")
    batch: int = Field(default=64, ge=2, description="instances in a step")
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=3e-3, gt=0, allow_inf_nan=False, description="at the beginning")
    final_learning_rate_share: float = Field(default=0.01, ge=0, le=1, description="that is left at the end; linear")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="longer gradients are shortened to this")
    starts: int = Field(
        default=1, ge=1, description="candidate powers of each instance; the first starts at full power"
    )
    best_candidate: float = Field(
        default=0.0, ge=0, description="weight of the best candidate's sum rate, against 1 for their mean's"
    )
    early_rounds: float = Field(default=0.1, ge=0, description="weight of each round before the last, against 1")
    exploration: float = Field(default=0.3, ge=0, description="of reinforcement learning: deviation of powers tried")
    critic_learning_rate: float = Field(default=3e-3, gt=0, description="of reinforcement learning")
    critic_hidden: int = Field(default=32, ge=1, description="its width")
    checkpoint_every: int = Field(default=2000, ge=1, description="steps between two checkpoints")

    @field_validator("setting")
    @classmethod
    def _known_setting(cls, name: str) -> str:
        if name not in SETTINGS:
            raise ValueError(f"there are {', '.join(SETTINGS)}")
        return name

    @field_validator("teacher")
    @classmethod
    def _known_teacher(cls, name: str) -> str:
        if name not in TEACHERS:
            raise ValueError(f"there are {', '.join(TEACHERS)}")
        return name

    @field_validator("links")
    @classmethod
    def _some_links(cls, links: tuple[int, ...]) -> tuple[int, ...]:
        if min(links) < 1:
            raise ValueError("each must be 1 or more")
        return links

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.student, MlpConfig) and set(self.links) != {self.student.links}:
            raise ValueError(f"links: a perceptron for K = {self.student.links} takes no other K")
        if self.samples is not None and len(self.links) > 1:
            raise ValueError("samples: a limited number of them has one number of links")
        if self.samples is not None and self.samples < self.batch:
            raise ValueError(f"batch: {self.batch} is more than {self.samples} samples")
        if self.starts > 1 and not isinstance(self.student, UnrolledGnnConfig):
            raise ValueError(f"starts: a {self.student.kind} has one candidate")
        if self.objective == "reinforcement" and isinstance(self.student, UnrolledGnnConfig):
            raise ValueError("objective: reinforcement learning is for mlp and message-gnn")
        return self


CONFIGS: Final = Shipped("configuration of a training", package_folder("distila.training.resource", "configs"))


def load_train_config(name: str) -> TrainConfig:
    """A training from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(CONFIGS.find(name), TrainConfig)

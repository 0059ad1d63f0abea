"""Settings of a student's training."""

from typing import Final, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from distila.training.learning.algorithm import BetaSchedule
from distila.training.learning.loop import OptimizerConfig
from distila.training.resource.algorithms import TEACHERS
from distila.training.resource.problems import SETTINGS
from distila.training.resource.students import MlpConfig, StudentConfig, UnrolledGnnConfig
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder

_WARMUP_STEPS: Final = 50


class ResourceTerm(BetaSchedule):
    """A classical algorithm in the loss."""

    teacher: str = Field(default="fplinq", description="algorithm whose powers the student should be near to")

    @field_validator("teacher")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in TEACHERS:
            raise ValueError(f"there are {', '.join(TEACHERS)}")
        return name


class TrainConfig(OptimizerConfig):
    """All that the weights depend on, but the seed."""

    setting: str = Field(description="where instances come from")
    links: tuple[int, ...] = Field(min_length=1, description="numbers of links, one for each step, in turn")
    student: StudentConfig
    objective: Literal["supervised", "unsupervised", "reinforcement"] = Field(
        default="unsupervised",
        description="distance to a teacher's powers; the sum rate itself; a critic's estimate of it",
    )
    teacher: str = Field(default="fplinq", description="algorithm that labels instances of supervised training")
    algorithm: ResourceTerm | None = Field(default=None, description="a classical algorithm in the loss")
    samples: int | None = Field(
        default=None, ge=1, description="number of instances to learn from; null: new ones every step"
    )
    steps: int = Field(default=1000, ge=1, description="steps of the optimiser")
    batch_size: int = Field(
        default=64, ge=2, validation_alias=AliasChoices("batch_size", "batch"), description="instances in a step"
    )
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(
        default=3e-3,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("lr", "learning_rate"),
        description="learning rate at the beginning",
    )
    final_lr_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        validation_alias=AliasChoices("final_lr_share", "final_learning_rate_share"),
        description="learning rate at the end as a share of lr; it falls linearly",
    )
    starts: int = Field(
        default=1, ge=1, description="candidate powers of each instance; the first starts at full power"
    )
    best_candidate: float = Field(
        default=0.0, ge=0, description="weight of the best candidate's sum rate; that of the candidates' mean is 1"
    )
    early_rounds: float = Field(
        default=0.1, ge=0, description="weight of the sum rate after each round but the last, whose weight is 1"
    )
    exploration: float = Field(
        default=0.3, ge=0, description="reinforcement learning: standard deviation of the noise on powers"
    )
    critic_lr: float = Field(
        default=3e-3,
        gt=0,
        validation_alias=AliasChoices("critic_lr", "critic_learning_rate"),
        description="reinforcement learning: learning rate of the critic",
    )
    critic_hidden: int = Field(default=32, ge=1, description="reinforcement learning: width of the critic")
    checkpoint_every: int = Field(default=2000, ge=1, description="steps between two checkpoints")

    @property
    def warmup_rounds(self) -> int:
        """Steps in which Adam's learning rate rises linearly from 0."""
        return _WARMUP_STEPS if self.optimizer == "adam" else 0

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
            raise ValueError(f"links: a perceptron for K = {self.student.links} works for no other K")
        if self.samples is not None and len(self.links) > 1:
            raise ValueError("samples: a limited number of them has one number of links")
        if self.samples is not None and self.samples < self.batch_size:
            raise ValueError(f"batch_size: {self.batch_size} is more than {self.samples} samples")
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

"""Settings of the DQN teacher."""

from typing import Final, Literal

from pydantic import AliasChoices, Field, model_validator

from distila.training.learning.algorithm import AlgorithmTerm
from distila.training.learning.episodes import EpisodicConfig
from distila.training.network.config import NetworkConfig
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder

TEACHER_HIDDEN: Final = (124,) * 8
"""The teacher of the family: eight hidden layers, about 115 thousand weights."""


class DqnConfig(EpisodicConfig):
    """All that the weights depend on; ``epochs``: how often each block is learnt from, on average."""

    links: int = Field(default=128, ge=1, description="links that are simulated at once in an episode")
    exploration: float = Field(
        default=0.2, ge=0, le=1, description="share of decisions that are moved to an action near them"
    )
    exploration_reach: int = Field(default=3, ge=1, description="actions up or down by which they are moved, at most")
    epsilon: float = Field(default=1.0, ge=0, le=1, description="share of random decisions at the beginning")
    final_epsilon: float = Field(default=0.01, ge=0, le=1, description="share of random decisions at the end")
    epsilon_fraction: float = Field(
        default=0.15,
        gt=0,
        le=1,
        validation_alias=AliasChoices("epsilon_fraction", "epsilon_until"),
        description="share of the training over which epsilon falls linearly to final_epsilon",
    )
    latency_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="price of a first transmission that fails, in average slots of its link",
    )
    residual_price: float = Field(
        default=3.0,
        ge=0,
        allow_inf_nan=False,
        description="price of a block that is lost after its last transmission, in average slots of its link",
    )
    gamma: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        validation_alias=AliasChoices("gamma", "discount"),
        description="discount factor from one block of a HARQ process to the next",
    )
    n_steps: int = Field(default=1, ge=1, description="blocks of a process before the bootstrap")
    tau: float = Field(
        default=0.01,
        gt=0,
        le=1,
        validation_alias=AliasChoices("tau", "target_rate"),
        description="step of the target network's soft update",
    )
    buffer_size: int = Field(
        default=300_000,
        ge=1,
        validation_alias=AliasChoices("buffer_size", "replay"),
        description="blocks that the replay buffer holds",
    )
    evaluate_every: int = Field(default=500_000, ge=1, description="environment steps between greedy evaluations")
    evaluation_links: int = Field(default=64, ge=1, description="links of the validation split, for each scenario")
    evaluation_slots: int = Field(default=600, ge=1, description="slots of the validation split, for each scenario")
    device: Literal["cpu", "cuda", "auto"] = Field(default="auto", description="auto: cuda where there is one")
    algorithm: AlgorithmTerm | None = Field(default=None, description="a classical algorithm in the loss")
    network: NetworkConfig = NetworkConfig(hidden=TEACHER_HIDDEN)

    @model_validator(mode="after")
    def _fits(self) -> "DqnConfig":
        if self.network.head != "logit":
            raise ValueError(f"network.head is {self.network.head!r}: Q values need 'logit'")
        if self.network.memory != "filters":
            raise ValueError(f"network.memory is {self.network.memory!r}: DQN cannot train it, only 'filters' fits")
        if not self.network.hidden:
            raise ValueError("network.hidden is empty: a dueling network needs a hidden layer")
        if self.final_epsilon > self.epsilon:
            raise ValueError(f"final_epsilon = {self.final_epsilon:g} is above epsilon = {self.epsilon:g}")
        if self.buffer_size < self.batch_size:
            raise ValueError(f"buffer_size = {self.buffer_size} is below batch_size = {self.batch_size}")
        if self.algorithm is not None and self.network.actions == "mcs_offset":
            raise ValueError("algorithm: it chooses an MCS, and network.actions = mcs_offset has none")
        return self

    def epsilon_at(self, progress: float) -> float:
        """Share of random decisions when this share of the training is done."""
        fallen = min(progress / self.epsilon_fraction, 1.0)
        return self.epsilon + fallen * (self.final_epsilon - self.epsilon)


_CONFIGS: Final = Shipped("configuration of a DQN training", package_folder("distila.training.teachers", "configs/dqn"))


def load_dqn(name: str) -> DqnConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(_CONFIGS.find(name), DqnConfig)

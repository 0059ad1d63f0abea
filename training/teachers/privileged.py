"""The privileged teacher: a network that is told, in training, what every one of its actions turned out to be worth.

The simulator knows the true error rate of every MCS in every slot. So nothing has to be found out by trying, as in
reinforcement learning: the network learns by regression, from full information, what each action brings, and how likely
its first transmission fails and its block is given up (`distila.training.learning.worth`), given what it can know; and
the best decision is then the action with the highest expected worth, a lost block and a failed first transmission at
their prices (`network.residual_price`, `network.failure_price`). The prices are the multipliers of constraints: the
higher they are, the fewer blocks are given up, and the fewer have to wait for a retransmission. (It does not weigh what
a decision teaches for later ones; HARQ feedback comes with any of them.) Training is on-policy: the network drives the
simulation, so the feedback it learns to read is that of its own decisions, plus a little exploration.
"""

from collections.abc import Mapping

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.algorithm import AlgorithmTerm, distance_to_choice
from distila.training.learning.config_file import load_config
from distila.training.learning.rollout import Experience, OnSlot, RolloutPlan, collect
from distila.training.learning.trainer import LoopConfig
from distila.training.network.network import SHARE_HIGH, SHARE_LOW, Network, relative


class PrivilegedConfig(LoopConfig):
    """Everything that the weights depend on."""

    algorithm: AlgorithmTerm | None = Field(default=None, description="a classical teacher beside the truth")

    @model_validator(mode="after")
    def _expects_worths(self) -> "PrivilegedConfig":
        if self.network.head != "value":
            raise ValueError(f"network.head is {self.network.head!r}: a privileged teacher needs 'value'")
        if self.algorithm is not None and self.network.actions == "mcs_offset":
            raise ValueError("algorithm: it answers an MCS, and network.actions = mcs_offset has none")
        return self


def load_privileged(name: str) -> PrivilegedConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return load_config(PrivilegedConfig, name, "distila.training.teachers")


class PrivilegedLesson:
    """Learn what every action was worth."""

    def __init__(self, config: PrivilegedConfig) -> None:
        self._algorithm = config.algorithm

    def collect(self, plan: RolloutPlan, network: Network, on_slot: OnSlot) -> Experience:
        """See `distila.training.learning.trainer.Lesson`."""
        name = self._algorithm.algorithm if self._algorithm is not None else None
        advisor = None if name is None else baseline(name, **tuned_settings(name))
        return collect(plan, network, worth=True, advisor=advisor, on_slot=on_slot)

    def loss(self, network: Network, output: Tensor, labels: Mapping[str, Tensor], progress: float) -> Tensor:
        """Cross-entropy, as its minimum is at the expected value, and it tells 0.001 from 0.01 where squares do not."""
        share = (labels["share"] - SHARE_LOW) / (SHARE_HIGH - SHARE_LOW)
        wanted = (share, labels["failure"], labels["residual"])
        parts = zip(output.chunk(3, dim=1), wanted, strict=True)
        objective = torch.stack([F.binary_cross_entropy_with_logits(*part) for part in parts]).sum()
        if self._algorithm is None:
            return objective
        score = network.rate * network.worth(output)[:, : len(network.rate)]
        preference = relative(score) / self._algorithm.temperature
        return self._algorithm.added(objective, distance_to_choice(preference, labels["advice"]), progress)

"""The privileged teacher: in training it is given the value of every action, not only of the one chosen.

The simulator knows the true error rate of every MCS in every slot, so no action has to be tried, as it must be in
reinforcement learning. The network learns by regression what it can know from its reports: of each action the expected
return and the probabilities that its first transmission fails and that its block is lost
(`distila.training.learning.action_values`). Its decision is the action with the highest expected return less the prices
of a lost block and of a failed first transmission (`network.residual_price`, `network.failure_price`). The prices are
the multipliers of constraints: the higher they are, the fewer blocks are lost, and the fewer wait for a retransmission.
(The network does not weigh what a decision reveals for later ones; every decision brings HARQ feedback.) Training is
on-policy: the network drives the simulation, so it learns to read the feedback to its own decisions, plus a little
exploration.
"""

from collections.abc import Mapping
from typing import Final

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning.algorithm import AlgorithmTerm, distance_to_choice
from distila.training.learning.episodes import EpisodicConfig
from distila.training.learning.rollout import Experience, OnSlot, RolloutPlan, collect
from distila.training.network.network import SHARE_HIGH, SHARE_LOW, Network, relative
from distila.xapp.files import read_model
from distila.xapp.shipped import Shipped, package_folder


class PrivilegedConfig(EpisodicConfig):
    """Everything that the weights depend on."""

    algorithm: AlgorithmTerm | None = Field(default=None, description="a classical algorithm in the loss")

    @model_validator(mode="after")
    def _expects_values(self) -> "PrivilegedConfig":
        if self.network.head != "value":
            raise ValueError(f"network.head is {self.network.head!r}: a privileged teacher needs 'value'")
        if self.algorithm is not None and self.network.actions == "mcs_offset":
            raise ValueError("algorithm: it chooses an MCS, and network.actions = mcs_offset has none")
        return self


_CONFIGS: Final = Shipped(
    "configuration of a privileged training", package_folder("distila.training.teachers", "configs/privileged")
)


def load_privileged(name: str) -> PrivilegedConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(_CONFIGS.find(name), PrivilegedConfig)


class PrivilegedObjective:
    """Regression to the values of all actions, and the distance to an algorithm, if any."""

    def __init__(self, config: PrivilegedConfig) -> None:
        self._algorithm = config.algorithm

    def collect(self, plan: RolloutPlan, network: Network, on_slot: OnSlot) -> Experience:
        """See `distila.training.learning.trainer.Objective`."""
        name = self._algorithm.algorithm if self._algorithm is not None else None
        algorithm = None if name is None else baseline(name, **tuned_settings(name))
        return collect(plan, network, action_values=True, algorithm=algorithm, on_slot=on_slot)

    def loss(self, network: Network, output: Tensor, labels: Mapping[str, Tensor], progress: float) -> Tensor:
        """Sum of cross-entropies: least at the expected values, and 0.001 differs much from 0.01."""
        share = (labels["share"] - SHARE_LOW) / (SHARE_HIGH - SHARE_LOW)
        target = (share, labels["failure"], labels["residual"])
        parts = zip(output.chunk(3, dim=1), target, strict=True)
        objective = torch.stack([F.binary_cross_entropy_with_logits(*part) for part in parts]).sum()
        if self._algorithm is None:
            return objective
        score = network.rate * network.priced_share(output)[:, : len(network.rate)]
        preference = relative(score) / self._algorithm.temperature
        return self._algorithm.added(objective, distance_to_choice(preference, labels["algorithm_choice"]), progress)

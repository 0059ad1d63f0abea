"""Algorithm distillation: a classical algorithm's choice enters the loss of a training.

``loss = objective + beta * distance to the algorithm`` (arXiv 2308.07511), with beta fixed, decreasing or increasing as
the training goes on. Link adaptation and resource management share this implementation.
"""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F


class BetaSchedule(BaseModel):
    """The weight of the algorithm over the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beta: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="highest weight of the algorithm")
    schedule: Literal["fixed", "decreasing", "increasing"] = Field(
        default="decreasing", description="linear from beta to 0, or from 0 to beta"
    )

    def at(self, progress: float) -> float:
        """Beta when this share of the training is done, 0 to 1."""
        if not 0 <= progress <= 1:
            raise ValueError(f"progress is {progress}; must be 0 to 1")
        shape = {"fixed": 1.0, "decreasing": 1 - progress, "increasing": progress}
        return self.beta * shape[self.schedule]

    def added(self, objective: Tensor, distance: Tensor, progress: float) -> Tensor:
        """The objective plus the weighted distance; scalars."""
        return objective + self.at(progress) * distance


class AlgorithmTerm(BetaSchedule):
    """A classical link adaptation in the loss."""

    algorithm: str = Field(default="genie", description="reference algorithm: olla, salad, genie...")
    temperature: float = Field(
        default=0.1, gt=0, allow_inf_nan=False, description="logits are the expected values of actions divided by this"
    )


def distance_to_choice(score: Tensor, choice: Tensor) -> Tensor:
    """How far scores are from preferring an algorithm's choice: mean cross-entropy, scalar.

    Args:
        score: float32 [n, action], logits.
        choice: int64 [n].
    """
    return F.cross_entropy(score, choice)


def distance_to_power(power: Tensor, choice: Tensor) -> Tensor:
    """How far powers are from an algorithm's: mean Euclidean distance, not squared (arXiv 2308.07511), scalar.

    Args:
        power: float32 [n, link].
        choice: float32 [n, link].
    """
    distance: Tensor = torch.linalg.vector_norm(power - choice, dim=-1)
    return distance.mean()

"""How far a student is from its teacher: the losses of policy distillation (Rusu et al., arXiv 1511.06295).

A teacher's scores are the expected returns of the actions [bit per resource element]. They are taken relative to the
best one (`relative`), so that one temperature suits all links.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from distila.training.network.network import relative


class LossConfig(BaseModel):
    """Weights of the losses, and their settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kl: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="weight of the Kullback-Leibler divergence from the teacher's soft choice",
    )
    mse: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="weight of the mean squared error of the scores"
    )
    nll: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="weight of the negative log-likelihood of the teacher's action",
    )
    temperature: float = Field(
        default=0.03,
        gt=0,
        allow_inf_nan=False,
        description="share of the best score by which an action has 1/e of the best one's odds",
    )

    @model_validator(mode="after")
    def _something(self) -> "LossConfig":
        if not self.kl + self.mse + self.nll:
            raise ValueError("kl, mse and nll are all 0: nothing would be learnt")
        return self


def distillation_loss(config: LossConfig, student: Tensor, teacher: Tensor) -> Tensor:
    """The mix, scalar.

    Args:
        config: what to mix.
        student: float32 [n, action], logits.
        teacher: float32 [n, action], scores.
    """
    target = relative(teacher)
    total = student.new_zeros(())
    if config.kl:
        total = total + config.kl * kl(student, target, config.temperature)
    if config.mse:
        total = total + config.mse * mse(student, target)
    if config.nll:
        total = total + config.nll * nll(student, target)
    return total


def kl(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's distribution from the teacher's at a temperature."""
    probability = torch.softmax(target / temperature, dim=1)
    return F.kl_div(F.log_softmax(student, dim=1), probability, reduction="batchmean")


def mse(student: Tensor, target: Tensor) -> Tensor:
    """Squared error of the scores themselves; those below -1, worse than delivering nothing, count as -1."""
    return F.mse_loss(student, target.clamp(min=-1.0))


def nll(student: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's choice."""
    return F.cross_entropy(student, target.argmax(dim=1))

"""How far a student is from its teacher: the losses of policy distillation (Rusu et al., arXiv 1511.06295).

A teacher's scores are what it expects of each action [bit per resource element]; taken relative to the best one
(`relative`), one temperature does for all links.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from distila.training.network.network import relative


class LossConfig(BaseModel):
    """Weights of the losses, and their settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kl: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="weight of `kl`")
    mse: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="weight of `mse`")
    nll: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="weight of `nll`")
    temperature: float = Field(
        default=0.03, gt=0, allow_inf_nan=False, description="share of the best score; an action worse by it counts 1/e"
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
    wanted = relative(teacher)
    total = student.new_zeros(())
    if config.kl:
        total = total + config.kl * kl(student, wanted, config.temperature)
    if config.mse:
        total = total + config.mse * mse(student, wanted)
    if config.nll:
        total = total + config.nll * nll(student, wanted)
    return total


def kl(student: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student's distribution from the teacher's at a temperature."""
    target = torch.softmax(wanted / temperature, dim=1)
    return F.kl_div(F.log_softmax(student, dim=1), target, reduction="batchmean")


def mse(student: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of the scores themselves, which the student then has as its own; none is worse than bringing
    nothing."""
    return F.mse_loss(student, wanted.clamp(min=-1.0))


def nll(student: Tensor, wanted: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's choice."""
    return F.cross_entropy(student, wanted.argmax(dim=1))

"""The loop that every training runs: collect, learn, log, save a checkpoint.

A training counts in units: episodes of the simulator, or steps of the optimiser. Units come in rounds. All that a round
learns from is collected first, with the weights that the round begins with, so it may be collected on any number of
workers (`fan_out`): the weights come out the same, bit by bit. What is collected, and how it is learnt from, is the
caller's `Training`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from distila.training.learning.checkpoint import CHECKPOINT_FILE, Checkpoint
from distila.training.learning.fan_out import fan_out
from distila.training.learning.log import TrainingLog
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable
from distila.xapp.progress import Progress, no_progress

Job = TypeVar("Job")
Result = TypeVar("Result")


class OptimizerConfig(BaseModel):
    """Settings of the optimiser and of the loop that all trainings have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(
        default=2e-3,
        gt=0,
        allow_inf_nan=False,
        validation_alias=AliasChoices("lr", "learning_rate"),
        description="learning rate at the beginning",
    )
    final_lr_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        validation_alias=AliasChoices("final_lr_share", "final_learning_rate_share"),
        description="learning rate at the end as a share of lr; it falls linearly",
    )
    max_grad_norm: float = Field(
        default=1.0,
        gt=0,
        validation_alias=AliasChoices("max_grad_norm", "max_gradient_norm"),
        description="gradients with a larger norm are scaled down to this",
    )
    batch_size: int = Field(
        default=384,
        ge=1,
        validation_alias=AliasChoices("batch_size", "batch"),
        description="decisions in a step of the optimiser",
    )
    checkpoint_every: int = Field(default=10, ge=1, description="rounds between two checkpoints")

    @property
    def warmup_rounds(self) -> int:
        """Rounds in which the learning rate rises linearly from 0."""
        return 0

    def lr_at(self, peak: float, number: int, progress: float) -> float:
        """The learning rate of a round, whose number is this, from the rate without warm-up and decay."""
        warmup = min(1.0, (number + 1) / self.warmup_rounds) if self.warmup_rounds else 1.0
        return peak * warmup * (1 - progress * (1 - self.final_lr_share))


def current_names(model: type[BaseModel], settings: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings of a model, earlier names replaced by the present ones, so that they may be merged with others.

    Raises:
        ValueError: a setting is given under its earlier and its present name.
    """
    aliases = {name: field.validation_alias for name, field in model.model_fields.items()}
    names = {
        str(earlier): name
        for name, alias in aliases.items()
        if isinstance(alias, AliasChoices)
        for earlier in alias.choices
    }
    for earlier in settings:
        present = names.get(earlier, earlier)
        if present != earlier and present in settings:
            raise ValueError(f"{earlier}: the old name of {present}, which is given too; give only {present}")
    return {names.get(name, name): value for name, value in settings.items()}


class Line(NamedTuple):
    """A line of the log."""

    number: int
    """of the episode or step"""
    figures: Mapping[str, float | None]
    scenario: str | None = None
    """what was simulated, where it differs from line to line"""


class Training(Protocol[Job, Result]):
    """A training as `run` sees it.

    Attributes:
        unit: what it counts, ``episode`` or ``step``.
        total: how many there are.
        per_round: how many make a round.
        scale: by which their number is multiplied when progress is reported.
    """

    unit: str
    total: int
    per_round: int
    scale: int

    def prepare(self) -> None:
        """Called once before the first round, unless there is none left."""

    def jobs(self, numbers: range, progress: float) -> Sequence[Job]:
        """What to collect before a round.

        Args:
            numbers: of its episodes or steps.
            progress: share of the training that is done, 0 to 1.
        """
        ...

    @staticmethod
    def collect(job: Job) -> Result:
        """Do one of the jobs. A function of its picklable argument alone."""
        ...

    def learn(self, numbers: range, results: list[Result], progress: float) -> Sequence[Line]:
        """Learn from the results of the round's jobs; returns lines for the log."""
        ...


def run(
    training: Training[Job, Result],
    config: OptimizerConfig,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    out: Path | None,
    identity: Mapping[str, JsonValue],
    resume: bool = False,
    workers: int = 1,
    progress: Progress = no_progress,
) -> None:
    """Train; ``out`` gets a checkpoint every few rounds, and the lines of the log.

    The learning rate of each parameter group falls linearly from the one that the optimiser comes with.

    Args:
        training: what to collect, and how to learn from it.
        config: settings of the loop.
        module: all state of the training but the optimiser's; what a checkpoint keeps.
        optimizer: of the module's parameters.
        out: directory for `CHECKPOINT_FILE`, `LOG_FILE` and TensorBoard's files; None: none of them.
        identity: all that the weights depend on; JSON. A checkpoint of another identity is rejected.
        resume: go on from the checkpoint, if there is one.
        workers: that the jobs of a round are done on; see `fan_out`.
        progress: called with ``scale`` times the units done and in all.

    Raises:
        InputError: ``out`` cannot be written to, a checkpoint is in the way, is damaged or of another training, or
            several workers without Ray.
    """
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    first, checkpoint = 0, None
    if out is not None:
        check_writable(out)
        checkpoint = Checkpoint(out / CHECKPOINT_FILE, identity)
        first = checkpoint.load(module, optimizer) if resume else checkpoint.must_not_exist()
    total, per_round, scale = training.total, training.per_round, training.scale
    if first < total:
        training.prepare()
    progress(first * scale, total * scale)
    with nullcontext() if out is None else closing(TrainingLog(out, first, training.unit)) as log:
        for begin in range(first, total, per_round):
            started = time.perf_counter()
            numbers = range(begin, min(begin + per_round, total))
            share, round_number = begin / total, begin // per_round
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = config.lr_at(peak, round_number, share)
            results = list(fan_out(training.collect, training.jobs(numbers, share), workers))
            lines = training.learn(numbers, results, share)
            if log is not None:
                seconds = round((time.perf_counter() - started) / len(numbers), 3)
                common = {"lr": optimizer.param_groups[0]["lr"], "seconds": seconds}
                for line in lines:
                    log.write(line.number, {**line.figures, **common}, line.scenario)
            done = numbers.stop
            progress(done * scale, total * scale)
            if checkpoint is not None and ((round_number + 1) % config.checkpoint_every == 0 or done == total):
                checkpoint.save(module, optimizer, done)


def optimizer_step(loss: Tensor, optimizer: torch.optim.Optimizer, max_grad_norm: float) -> None:
    """One step down the gradient of a scalar loss, the gradient of each parameter group clipped by its norm."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    for group in optimizer.param_groups:
        clip_grad_norm_(group["params"], max_grad_norm)
    optimizer.step()


def finite(loss: Tensor, where: str, lr: float) -> float:
    """The value of a scalar loss.

    Raises:
        InputError: it is not finite; names where in the training, and the learning rate.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise InputError(
            f"the loss is {value} in {where}; an lr below {lr:g} may help; the latest checkpoint, if any, was kept"
        )
    return value

"""Training of students: supervised, unsupervised, by reinforcement, with or without a classical algorithm in the loss.

``loss = objective + beta * |power - power of the algorithm|`` (arXiv 2308.07511); the schedules of beta and the sum are
those of link adaptation (`distila.training.learning.algorithm`), and so is the loop (`distila.training.learning.loop`):
it collects instances with their labels (`distila.training.resource.instances`), and learns from them step by step.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distila.training.learning import loop
from distila.training.learning.algorithm import distance_to_power
from distila.training.learning.loop import Line, finite, optimizer_step
from distila.training.resource.algorithms.wmmse import all_ones, random_starts
from distila.training.resource.critic import make_critic
from distila.training.resource.instances import DATA, Batch, Pool, PoolJob, draw, pool_of, seeded
from distila.training.resource.problems import SETTINGS, Channels, sum_rate
from distila.training.resource.students import MessageGnn, Mlp, Student, UnrolledGnn, allocate, make_student
from distila.training.resource.train_config import TrainConfig
from distila.xapp.progress import Progress, no_progress

OnStep = Callable[[int, Student], None]

_FITTED: Final = 256
"""Instances that amplitudes are scaled by."""
_LOG_EVERY: Final = 50
"""Steps between two lines of the log."""
_WITHOUT_EFFECT: Final = {"checkpoint_every"}


def _nothing(step: int, student: Student) -> None:
    pass


def train(
    config: TrainConfig,
    seed: int,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = no_progress,
    on_step: OnStep = _nothing,
    workers: int = 1,
) -> Student:
    """Train a student.

    The same configuration and seed give the same weights, interrupted and resumed or not, on one worker or several:
    what a step draws depends on its number alone.

    Args:
        config: of the training.
        seed: of the first weights and of all random draws.
        out: directory, see `distila.training.learning.loop.run`; None: nothing is written.
        resume: go on from the checkpoint in ``out``, if any.
        progress: called with steps done and in all.
        on_step: called with the steps done and the student, before the first step and after each.
        workers: number of Ray workers that draw and label instances; 1: this process does.

    Raises:
        InputError: ``out`` cannot be written to, holds a training that is not to be resumed or is another one; a
            teacher did not converge; the loss is not finite.
    """
    torch.manual_seed(seed)
    student = make_student(config.student)
    if isinstance(student, Mlp | MessageGnn):
        student.amplitudes.fit(SETTINGS[config.setting](_FITTED, config.links[0], seeded(seed, DATA, 2)))
    module = nn.ModuleDict({"student": student})
    rates = [config.lr]
    if config.objective == "reinforcement":
        module["critic"] = make_critic(config.student, config.critic_hidden)
        rates.append(config.critic_lr)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in zip(module.values(), rates, strict=True)]
    optimizer = kind(groups, config.lr)

    def report(done: int, total: int) -> None:
        progress(done, total)
        on_step(done, student)

    student.train()
    training = _StudentTraining(config, seed, module, optimizer, workers)
    identity = {"seed": seed, **config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)}
    loop.run(training, config, module, optimizer, out, identity, resume, workers, report)
    return student.eval()


class _StudentTraining:
    """See `distila.training.learning.loop.Training`; a round is one step of the optimiser."""

    unit = "step"
    per_round = scale = 1

    def __init__(
        self, config: TrainConfig, seed: int, module: nn.ModuleDict, optimizer: torch.optim.Optimizer, workers: int
    ) -> None:
        self.total = config.steps
        self._config, self._seed, self._module, self._optimizer = config, seed, module, optimizer
        self._ahead = workers
        self._pools: dict[int, Pool] = {}

    def prepare(self) -> None:
        """Nothing."""

    def jobs(self, numbers: range, progress: float) -> list[PoolJob]:
        """None while the pool of the step is here; then as many pools as there are workers."""
        needed, last = pool_of(self._config, numbers.start), pool_of(self._config, self.total - 1)
        self._pools = {number: pool for number, pool in self._pools.items() if number >= needed}
        if needed in self._pools:
            return []
        return [
            PoolJob(self._config, self._seed, number) for number in range(needed, min(needed + self._ahead, last + 1))
        ]

    @staticmethod
    def collect(job: PoolJob) -> Pool:
        return draw(job)

    def learn(self, numbers: range, results: list[Pool], progress: float) -> Sequence[Line]:
        config, step = self._config, numbers.start
        self._pools |= {pool.job.number: pool for pool in results}
        batch = self._pools[pool_of(config, step)].batch(step)
        loss = _loss(config, self._module, batch, progress)
        value = finite(loss, f"step {step}", config.lr)
        optimizer_step(loss, self._optimizer, config.max_grad_norm)
        return [Line(step, {"loss": value})] if step % _LOG_EVERY == 0 or step + 1 == self.total else []


def _loss(config: TrainConfig, module: nn.ModuleDict, batch: Batch, progress: float) -> Tensor:
    """Mean loss of a batch, scalar; a critic's own loss is in it too, with gradients for the critic alone."""
    student: Student = module["student"]  # type: ignore[assignment]
    given = batch.channels
    if isinstance(student, UnrolledGnn):
        start = random_starts(given, config.starts, batch.generator) if config.starts > 1 else all_ones(given)
        steps = student.steps(given.snr, start, given.weight)
    else:
        steps = [allocate(student, given, all_ones(given))]
    power = steps[-1]
    if config.objective == "supervised":
        assert batch.taught is not None
        loss = distance_to_power(power[:, 0], batch.taught)
    elif config.objective == "unsupervised":
        loss = _sum_rate_loss(config, given, steps)
    else:
        loss = _critic_loss(config, module["critic"], batch, power)
    if config.algorithm is not None:
        assert batch.algorithm is not None
        loss = config.algorithm.added(loss, distance_to_power(power[:, 0], batch.algorithm), progress)
    return loss


def _sum_rate_loss(config: TrainConfig, given: Channels, steps: list[Tensor]) -> Tensor:
    """Minus the sum rate: of unrolled students that of early rounds too, and of the best candidate beside the mean."""
    loss = torch.zeros(())
    for place, power in enumerate(steps):
        rate = sum_rate(given, power)
        gained = rate.mean()
        if config.best_candidate and rate.shape[1] > 1:
            gained = gained + config.best_candidate * rate.amax(1).mean()
        loss = loss - gained * (1.0 if place == len(steps) - 1 else config.early_rounds)
    return loss


def _critic_loss(config: TrainConfig, critic: nn.Module, batch: Batch, power: Tensor) -> Tensor:
    """Deterministic policy gradient: the student follows the critic's gradient, the critic learns from rewards.

    The critic is given the sum rates of powers near the student's, and nothing of how they are computed.
    """
    given = batch.channels
    with torch.no_grad():
        noise = config.exploration * torch.randn(power.shape, generator=batch.generator)
        tried = (power + noise).clamp(0, 1)
        reward = sum_rate(given, tried).squeeze(1)
    critic_loss = F.mse_loss(critic(given.snr, tried.squeeze(1)), reward)
    for parameter in critic.parameters():
        parameter.requires_grad_(False)
    expected: Tensor = critic(given.snr, power.squeeze(1)).mean()
    for parameter in critic.parameters():
        parameter.requires_grad_(True)
    return critic_loss - expected

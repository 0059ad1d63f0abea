"""Training of students: supervised, unsupervised, by reinforcement, with or without a classical algorithm in the loss.

``loss = objective + beta * |power - power of the algorithm|`` (arXiv 2308.07511); the schedules of beta and the sum are
those of link adaptation (`distila.training.learning.algorithm`). The same configuration and seed give the same weights,
interrupted and resumed or not: what a step draws depends on its number alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from distila.training.learning.algorithm import distance_to_power
from distila.training.learning.checkpoint import CHECKPOINT_FILE, Checkpoint
from distila.training.resource.algorithms import teach
from distila.training.resource.algorithms.wmmse import all_ones, random_starts
from distila.training.resource.critic import make_critic
from distila.training.resource.problems import SETTINGS, Channels, sum_rate
from distila.training.resource.students import MessageGnn, Mlp, Student, UnrolledGnn, allocate, make_student
from distila.training.resource.train_config import TrainConfig
from distila.xapp.files import check_writable

Progress = Callable[[int, int], None]
OnStep = Callable[[int, Student], None]

_DATA, _ORDER, _STEP = 1, 2, 3
"""What is drawn; each has its own numbers."""
_FITTED: Final = 256
"""Instances that amplitudes are scaled by."""
_STEPS_OF_POOL: Final = 16
_WITHOUT_EFFECT: Final = {"checkpoint_every"}


def _generator(seed: int, what: int, number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 4 + what) * 10_000_000 + number)


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class _Batch:
    channels: Channels
    taught: Tensor | None
    """powers of the objective's teacher [instance, link]"""
    algorithm: Tensor | None
    """powers of the algorithm in the loss [instance, link]"""
    generator: torch.Generator
    """for all else that the step draws"""


class _Data:
    """Batches: out of a limited number of samples, labelled once, or new ones every step."""

    def __init__(self, config: TrainConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._labels = config.objective == "supervised" or config.algorithm is not None
        self._pool: _Batch | None = None
        self._pool_number, self._epoch, self._order = -1, -1, torch.empty(0)

    def _labelled(self, drawn: Channels, generator: torch.Generator) -> _Batch:
        config = self._config
        by_teacher: dict[str, Tensor] = {}

        def labels(teacher: str) -> Tensor:
            if teacher not in by_teacher:
                by_teacher[teacher] = teach(teacher, drawn, generator).squeeze(1)
            return by_teacher[teacher]

        taught = labels(config.teacher) if config.objective == "supervised" else None
        algorithm = None if config.algorithm is None else labels(config.algorithm.teacher)
        return _Batch(drawn, taught, algorithm, generator)

    def batch(self, step: int) -> _Batch:
        config, generator = self._config, _generator(self._seed, _STEP, step)
        if config.samples is None and not self._labels:
            links = config.links[step % len(config.links)]
            return _Batch(SETTINGS[config.setting](config.batch, links, generator), None, None, generator)
        pool = self._pool_of(step)
        epoch, place = divmod(step, len(pool.channels) // config.batch)
        if epoch != self._epoch:
            order = torch.randperm(len(pool.channels), generator=_generator(self._seed, _ORDER, epoch))
            self._epoch, self._order = epoch, order
        rows = self._order[place * config.batch : (place + 1) * config.batch]
        taught, algorithm = (None if label is None else label[rows] for label in (pool.taught, pool.algorithm))
        return _Batch(pool.channels[rows], taught, algorithm, generator)

    def _pool_of(self, step: int) -> _Batch:
        """The samples; or the new instances of several steps, because algorithms label many at once in less time."""
        config = self._config
        number = 0 if config.samples is not None else step // _STEPS_OF_POOL
        if self._pool is None or number != self._pool_number:
            count = config.samples or config.batch * _STEPS_OF_POOL
            links = config.links[number % len(config.links)]
            generator = _generator(self._seed, _DATA, 10 + number)
            self._pool = self._labelled(SETTINGS[config.setting](count, links, generator), generator)
            self._pool_number = number
        return self._pool


def train(
    config: TrainConfig,
    seed: int,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = _nothing,
    on_step: OnStep = _nothing,
) -> Student:
    """Train a student.

    Args:
        config: what and how.
        seed: of weights and of all that is drawn.
        out: directory for a checkpoint every few steps; None: none.
        resume: go on from the checkpoint in ``out``, if any.
        progress: called with steps done and steps to do.
        on_step: called with the steps done and the student, before the first step and after each.

    Raises:
        InputError: ``out`` cannot be written to, holds a training that is not to be resumed or is another one; a
            teacher did not converge.
    """
    torch.manual_seed(seed)
    student = make_student(config.student)
    if isinstance(student, Mlp | MessageGnn):
        student.amplitudes.fit(SETTINGS[config.setting](_FITTED, config.links[0], _generator(seed, _DATA, 2)))
    learner = nn.ModuleDict({"student": student})
    if config.objective == "reinforcement":
        learner["critic"] = make_critic(config.student, config.critic_hidden)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    optimizer = kind([{"params": part.parameters()} for part in learner.values()], config.learning_rate)
    rates = [config.learning_rate, config.critic_learning_rate][: len(learner)]
    first, checkpoint = 0, None
    if out is not None:
        check_writable(out)
        identity = {"seed": seed, **config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)}
        checkpoint = Checkpoint(out / CHECKPOINT_FILE, identity)
        first = checkpoint.load(learner, optimizer) if resume else checkpoint.must_not_exist()
    data = _Data(config, seed)
    student.train()
    on_step(first, student)
    for step in range(first, config.steps):
        share = step / config.steps
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            warm = min(1.0, (step + 1) / 50) if config.optimizer == "adam" else 1.0
            group["lr"] = rate * warm * (1 - share * (1 - config.final_learning_rate_share))
        batch = data.batch(step)
        loss = _loss(config, learner, batch, share)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for part in learner.values():
            clip_grad_norm_(part.parameters(), config.max_gradient_norm)
        optimizer.step()
        done = step + 1
        if checkpoint is not None and (done % config.checkpoint_every == 0 or done == config.steps):
            checkpoint.save(learner, optimizer, done)
        progress(done, config.steps)
        on_step(done, student)
    return student.eval()


def _loss(config: TrainConfig, learner: nn.ModuleDict, batch: _Batch, progress: float) -> Tensor:
    """Mean loss of a batch, scalar; a critic's own loss is in it too, with gradients for the critic alone."""
    student: Student = learner["student"]  # type: ignore[assignment]
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
        loss = _critic_loss(config, learner["critic"], batch, power)
    if config.algorithm is not None:
        assert batch.algorithm is not None
        loss = config.algorithm.added(loss, distance_to_power(power[:, 0], batch.algorithm), progress)
    return loss


def _sum_rate_loss(config: TrainConfig, given: Channels, steps: list[Tensor]) -> Tensor:
    """Minus the sum rate: of unrolled students that of early rounds too, and of the best candidate besides the mean."""
    loss = torch.zeros(())
    for place, power in enumerate(steps):
        rate = sum_rate(given, power)
        gained = rate.mean()
        if config.best_candidate and rate.shape[1] > 1:
            gained = gained + config.best_candidate * rate.amax(1).mean()
        loss = loss - gained * (1.0 if place == len(steps) - 1 else config.early_rounds)
    return loss


def _critic_loss(config: TrainConfig, critic: nn.Module, batch: _Batch, power: Tensor) -> Tensor:
    """Deterministic policy gradient: the student goes where the critic expects more, the critic learns what came of it.

    The critic is told the sum rate of powers near the student's, and nothing of how it comes about.
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

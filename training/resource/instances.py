"""Instances that students learn from, with the powers of classical algorithms as labels.

A training with a limited number of samples has one pool of them, which every step takes its batch from. Any other gets
a new pool every `STEPS_PER_POOL` steps. A pool depends on configuration, seed and its number alone, never on the
weights, so pools may be drawn and labelled anywhere.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from distila.training.resource.algorithms import teach
from distila.training.resource.problems import SETTINGS, Channels
from distila.training.resource.train_config import TrainConfig

STEPS_PER_POOL: Final = 16
"""Algorithms label many instances at once in less time than a few at a time."""

DATA, ORDER, STEP = 1, 2, 3
"""What is drawn; each has seeds of its own."""
_FIRST_POOL: Final = 10
"""Number of the first pool's seed; those below are for other draws of `DATA`."""


def seeded(seed: int, what: int, number: int = 0) -> torch.Generator:
    """The generator of one draw of a training: `DATA`, `ORDER` or `STEP`, and its number."""
    return torch.Generator().manual_seed((seed * 4 + what) * 10_000_000 + number)


@dataclass(frozen=True)
class Batch:
    """The instances of a step."""

    channels: Channels
    taught: Tensor | None
    """float32 [instance, link], powers of the teacher of supervised training"""
    algorithm: Tensor | None
    """float32 [instance, link], powers of the algorithm in the loss"""
    generator: torch.Generator
    """of all else that the step draws"""


@dataclass(frozen=True)
class PoolJob:
    """A pool to draw; picklable."""

    config: TrainConfig
    seed: int
    number: int


@dataclass(frozen=True)
class Pool:
    """Instances of several steps; picklable.

    Args:
        job: what was asked for.
        drawn: one batch for each of the steps, or one that all steps take theirs from.
    """

    job: PoolJob
    drawn: tuple[Batch, ...]

    def batch(self, step: int) -> Batch:
        """The batch of a step, which must be one of the pool's."""
        config, seed = self.job.config, self.job.seed
        if not _labelled_at_once(config):
            return self.drawn[step - self.job.number * STEPS_PER_POOL]
        (pool,) = self.drawn
        epoch, place = divmod(step, len(pool.channels) // config.batch_size)
        order = torch.randperm(len(pool.channels), generator=seeded(seed, ORDER, epoch))
        rows = order[place * config.batch_size : (place + 1) * config.batch_size]
        taught, algorithm = (None if label is None else label[rows] for label in (pool.taught, pool.algorithm))
        return Batch(pool.channels[rows], taught, algorithm, seeded(seed, STEP, step))


def pool_of(config: TrainConfig, step: int) -> int:
    """Number of the pool that a step takes its batch from."""
    return 0 if config.samples is not None else step // STEPS_PER_POOL


def draw(job: PoolJob) -> Pool:
    """Draw a pool, and label it if the configuration has a teacher or an algorithm.

    Raises:
        InputError: the algorithm did not converge, or is not up to so many links.
    """
    config, seed, number = job.config, job.seed, job.number
    setting = SETTINGS[config.setting]
    if not _labelled_at_once(config):
        steps = range(number * STEPS_PER_POOL, min((number + 1) * STEPS_PER_POOL, config.steps))
        generators = [seeded(seed, STEP, step) for step in steps]
        links = [config.links[step % len(config.links)] for step in steps]
        channels = [setting(config.batch_size, *each) for each in zip(links, generators, strict=True)]
        return Pool(job, tuple(Batch(each, None, None, g) for each, g in zip(channels, generators, strict=True)))
    count = config.samples or config.batch_size * STEPS_PER_POOL
    generator = seeded(seed, DATA, _FIRST_POOL + number)
    return Pool(
        job, (_labelled(config, setting(count, config.links[number % len(config.links)], generator), generator),)
    )


def _labelled_at_once(config: TrainConfig) -> bool:
    return config.samples is not None or config.objective == "supervised" or config.algorithm is not None


def _labelled(config: TrainConfig, drawn: Channels, generator: torch.Generator) -> Batch:
    by_teacher: dict[str, Tensor] = {}

    def powers(teacher: str) -> Tensor:
        if teacher not in by_teacher:
            by_teacher[teacher] = teach(teacher, drawn, generator).squeeze(1)
        return by_teacher[teacher]

    taught = powers(config.teacher) if config.objective == "supervised" else None
    algorithm = None if config.algorithm is None else powers(config.algorithm.teacher)
    return Batch(drawn, taught, algorithm, generator)

"""Training of a network from rollouts in the simulator: by regression, by distillation, by any `Objective`.

A round collects its episodes with the weights that it begins with, and then learns from one after the other, see
`distila.training.learning.loop`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from distila.training.learning import loop
from distila.training.learning.episodes import (
    EpisodicConfig,
    checked_scenarios,
    identity_of,
    make_banks,
    plan_episode,
)
from distila.training.learning.loop import Line, finite, optimizer_step
from distila.training.learning.rollout import Experience, OnSlot, RolloutPlan
from distila.training.network.make import make_network
from distila.training.network.network import Network
from distila.training.sim.conditions import Banks
from distila.training.sim.scenario import Scenario
from distila.training.sim.split import Split, torch_seed
from distila.xapp.errors import InputError
from distila.xapp.progress import Progress, no_progress


class Objective(Protocol):
    """What is learnt: labels and the loss."""

    def collect(self, plan: RolloutPlan, network: Network, on_slot: OnSlot) -> Experience:
        """Roll out and label; picklable, and a function of its arguments alone."""
        ...

    def loss(self, network: Network, output: Tensor, labels: Mapping[str, Tensor], progress: float) -> Tensor:
        """Mean loss of a batch, scalar.

        Args:
            network: the one that learns.
            output: float32 [n, ...], of its last layer.
            labels: of the experience, each [n, ...].
            progress: share of the training that is done, 0 to 1.
        """
        ...


def train(
    config: EpisodicConfig,
    objective: Objective,
    out: Path,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    workers: int = 1,
    progress: Progress = no_progress,
    cache: Path | None = None,
    on_bank: Progress = no_progress,
) -> Network:
    """Train a network; ``out`` gets a checkpoint every few rounds, and a line of figures for each episode.

    The same configuration gives the same weights, bit by bit, interrupted and resumed or not, on one worker or several
    (with the same number of threads, on the same kind of machine).

    Args:
        config: of the training.
        objective: labels and the loss.
        out: directory, see `distila.training.learning.loop.run`.
        identity: what the weights depend on besides the configuration, such as teachers; JSON.
        resume: go on from the checkpoint, if there is one.
        workers: number of Ray workers that collect the episodes of a round; 1: this process collects.
        progress: called with the slots done and in all.
        cache: directory of fading banks; None: the user's.
        on_bank: called with the fading banks done and in all.

    Raises:
        InputError: a setting that does not fit a scenario, a checkpoint that is in the way or of another training, an
            episode without labels, or a loss that is not finite; the latest checkpoint is then kept.
    """
    scenarios = checked_scenarios(config)
    network = new_network(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    banks = Banks(config.bank_rows, config.bank_slots, cache=cache)
    # Workers do not report slots.
    on_slot = partial(_on_slot, progress, config.episodes * config.slots, config.slots) if workers == 1 else None
    training = _RolloutTraining(config, objective, scenarios, banks, network, optimizer, on_bank, on_slot)
    everything = identity_of(config, scenarios, identity or {})
    loop.run(training, config, network, optimizer, out, everything, resume, workers, progress)
    return network


def new_network(config: EpisodicConfig) -> Network:
    """A network with its first weights, those of the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(Split.TRAIN, config.seed, "network"))
        return make_network(config.network)


@dataclass(frozen=True)
class _Job:
    """An episode to collect; picklable where ``on_slot`` is None."""

    objective: Objective
    plan: RolloutPlan
    network: Network
    number: int
    on_slot: Callable[[int, int], None] | None


class _RolloutTraining:
    """See `distila.training.learning.loop.Training`."""

    unit = "episode"

    def __init__(
        self,
        config: EpisodicConfig,
        objective: Objective,
        scenarios: list[Scenario],
        banks: Banks,
        network: Network,
        optimizer: torch.optim.Optimizer,
        on_bank: Progress,
        on_slot: Callable[[int, int], None] | None,
    ) -> None:
        self.total, self.per_round, self.scale = config.episodes, config.episodes_per_round, config.slots
        self._config, self._objective, self._scenarios, self._banks = config, objective, scenarios, banks
        self._network, self._optimizer = network, optimizer
        self._on_bank, self._on_slot = on_bank, on_slot

    def prepare(self) -> None:
        make_banks(self._scenarios, self._banks, self._on_bank)

    def jobs(self, numbers: range, progress: float) -> list[_Job]:
        plans = [plan_episode(self._config, self._scenarios, number, self._banks) for number in numbers]
        return [
            _Job(self._objective, plan, self._network, number, self._on_slot)
            for number, plan in zip(numbers, plans, strict=True)
        ]

    @staticmethod
    def collect(job: _Job) -> Experience:
        on_slot = partial(job.on_slot, job.number) if job.on_slot is not None else _no_slot
        return job.objective.collect(job.plan, job.network, on_slot)

    def learn(self, numbers: range, results: list[Experience], progress: float) -> Sequence[Line]:
        generator = torch.Generator()
        generator.manual_seed(torch_seed(Split.TRAIN, self._config.seed, f"batches {numbers.start // self.per_round}"))
        lines = []
        for number, experience in zip(numbers, results, strict=True):
            loss = self._learn(experience, progress, generator, number)
            lines.append(Line(number, {"loss": loss, **experience.figures}, experience.scenario))
        return lines

    def _learn(self, experience: Experience, progress: float, generator: torch.Generator, number: int) -> float:
        """Learn from one experience; returns the mean loss."""
        config, network = self._config, self._network
        where = f"episode {number}, scenario {experience.scenario}"
        if not len(experience.steps):
            raise InputError(f"{where}: no labels to learn from; take more slots")
        labels = {name: label.flatten(0, 1) for name, label in experience.labels.items()}
        losses: list[float] = []
        epoch = 0
        while epoch < config.epochs or len(losses) < config.min_batches:
            epoch += 1
            for picked, output in network.batches(experience.rows, experience.steps, config.batch_size, generator):
                batch = {name: label[picked] for name, label in labels.items()}
                loss = self._objective.loss(network, output, batch, progress)
                losses.append(finite(loss, where, config.lr))
                optimizer_step(loss, self._optimizer, config.max_grad_norm)
        return sum(losses) / len(losses)


def _no_slot(slot: int) -> None:
    pass


def _on_slot(progress: Progress, total: int, slots: int, number: int, slot: int) -> None:
    progress(number * slots + min(slot, slots), total)

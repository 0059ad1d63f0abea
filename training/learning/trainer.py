"""The training loop of everything that learns from rollouts: collect a round of episodes, learn from it, go on.

Within a round the weights that drive do not change, so its episodes may be collected anywhere (`fan_out`), and what
comes out is the same whoever collected. What is learnt is the caller's: an `Objective` says what to collect and
gives the loss.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from distila.training.learning.action_values import MAX_SAMPLE_PERIOD_SLOTS
from distila.training.learning.checkpoint import CHECKPOINT_FILE, Checkpoint
from distila.training.learning.fan_out import fan_out
from distila.training.learning.log import TrainingLog
from distila.training.learning.rollout import Experience, OnSlot, RolloutPlan
from distila.training.network.config import NetworkConfig
from distila.training.network.make import make_network
from distila.training.network.network import Network
from distila.training.sim.bank import fading_bank
from distila.training.sim.conditions import Banks
from distila.training.sim.scenario import Scenario, find_scenario, training_domain
from distila.training.sim.split import Split, torch_seed
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable

Progress = Callable[[int, int], None]

_WITHOUT_EFFECT: Final = {"checkpoint_every"}
"""Settings that the weights do not depend on, so that they may change when a training goes on."""
_EPISODES_APART: Final = 1_000_000


class EpisodicConfig(BaseModel):
    """What every training has; everything that the weights depend on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenarios: tuple[str, ...] = Field(
        min_length=1, description="one each episode, in turn: families, YAML files, or `domain`; none that is unseen"
    )
    links: int = Field(default=384, ge=1, description="simulated at once in an episode")
    slots: int = Field(default=600, ge=1, description="length of an episode")
    episodes: int = Field(default=160, ge=1, description="how many; the channels of each are its number's")
    episodes_per_round: int = Field(default=1, ge=1, description="that the same weights drive, at once if need be")
    epochs: int = Field(default=1, ge=1, description="how often each experience is learnt from")
    least_batches: int = Field(
        default=1, ge=1, description="of each experience; a short one, as of slow E2, is learnt from more often"
    )
    batch: int = Field(default=384, ge=1, description="decisions in a step of the optimiser")
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False, description="Adam's, at the beginning")
    final_learning_rate_share: float = Field(default=0.02, ge=0, le=1, description="that is left at the end; linear")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="longer gradients are shortened to this")
    exploration: float = Field(default=0.1, ge=0, le=1, description="share of decisions that are moved at random")
    exploration_reach: int = Field(default=2, ge=1, description="by how many actions up or down, at most")
    native_unknown: float = Field(default=0.1, ge=0, le=1, description="share of links that tell no native MCS")
    retx_unknown: float = Field(default=0.1, ge=0, le=1, description="share of links that count no retransmissions")
    combining_unknown: float = Field(default=0.2, ge=0, le=1, description="share of links that do not tell how")
    chase_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of episodes, in which nodes combine by chase whatever their scenario says: policies must find out",
    )
    label_every_slots: int = Field(default=4, ge=1, description="between two decisions that a teacher labels")
    seed: int = Field(default=0, ge=0, description="of the first weights and of what is drawn while learning")
    checkpoint_every: int = Field(default=10, ge=1, description="rounds between two checkpoints")
    bank_rows: int = Field(default=48, ge=1, description="UEs of fading per channel")
    bank_slots: int = Field(default=4096, ge=1, description="length of fading")
    network: NetworkConfig = NetworkConfig()


class Objective(Protocol):
    """What is learnt."""

    def collect(self, plan: RolloutPlan, network: Network, on_slot: OnSlot) -> Experience:
        """Roll out and label; picklable, and a function of its arguments alone."""
        ...

    def loss(self, network: Network, output: Tensor, labels: Mapping[str, Tensor], progress: float) -> Tensor:
        """Mean loss of a batch, scalar.

        Args:
            network: that learns.
            output: float32 [n, ...], of its last layer.
            labels: of the experience, each [n, ...].
            progress: share of the training that is behind, 0 to 1.
        """
        ...


def _silent(done: int, total: int) -> None:
    pass


def train(
    config: EpisodicConfig,
    objective: Objective,
    out: Path,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    workers: int = 1,
    progress: Progress = _silent,
    cache: Path | None = None,
    on_bank: Progress = _silent,
) -> Network:
    """Train a network; ``out`` gets a checkpoint every few rounds, and a line of figures for each episode.

    The same configuration gives the same weights, bit by bit, interrupted and resumed or not, on one worker or several
    (with the same number of threads, on the same kind of machine).

    Args:
        config: what to train on what.
        objective: what to learn from it.
        out: directory, see `CHECKPOINT_FILE` and `LOG_FILE`; TensorBoard, where it is installed, gets its files too.
        identity: what the weights depend on besides the configuration, such as teachers; JSON.
        resume: go on from the checkpoint, if there is one.
        workers: that episodes of a round are collected on; see `fan_out`.
        progress: told slots done and in all.
        cache: directory of fading banks; None: the user's.
        on_bank: told banks done and in all.

    Raises:
        InputError: a setting that does not fit a scenario, a checkpoint of something else or in the way, a round that
            brought nothing to learn from, or a loss that is no number any more; the latest checkpoint is then still
            there.
    """
    scenarios = checked_scenarios(config)
    check_writable(out)
    checkpoint = Checkpoint(out / CHECKPOINT_FILE, identity_of(config, scenarios, identity or {}))
    network = new_network(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    first = checkpoint.load(network, optimizer) if resume else checkpoint.must_not_exist()
    banks = Banks(config.bank_rows, config.bank_slots, cache=cache)
    if first < config.episodes:
        make_banks(scenarios, banks, on_bank)
    total = config.episodes * config.slots
    progress(first * config.slots, total)
    rounds = range(first, config.episodes, config.episodes_per_round)
    with closing(TrainingLog(out, first)) as log:
        for round_index, begin in enumerate(rounds, start=first // config.episodes_per_round):
            started = time.perf_counter()
            numbers = range(begin, min(begin + config.episodes_per_round, config.episodes))
            plans = [plan_episode(config, scenarios, number, banks) for number in numbers]
            gone = begin / config.episodes
            learning_rate = config.learning_rate * (1 - gone * (1 - config.final_learning_rate_share))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            on_slot = partial(_on_slot, progress, total, config.slots) if workers == 1 else None
            jobs = [
                _Job(objective, plan, network, number, on_slot) for plan, number in zip(plans, numbers, strict=True)
            ]
            luck = torch.Generator()
            luck.manual_seed(torch_seed(Split.TRAIN, config.seed, f"batches {round_index}"))
            experiences = list(fan_out(_collect, jobs, workers))
            losses = [
                _learn(config, objective, network, optimizer, experience, gone, luck, number)
                for experience, number in zip(experiences, numbers, strict=True)
            ]
            seconds = (time.perf_counter() - started) / len(numbers)
            for number, experience, loss in zip(numbers, experiences, losses, strict=True):
                figures = {
                    "loss": loss,
                    **experience.figures,
                    "learning_rate": learning_rate,
                    "seconds": round(seconds, 3),
                }
                log.write(number, experience.scenario, figures)
            done = numbers[-1] + 1
            progress(done * config.slots, total)
            if (round_index + 1) % config.checkpoint_every == 0 or done == config.episodes:
                checkpoint.save(network, optimizer, done)
    return network


def new_network(config: EpisodicConfig) -> Network:
    """A network with its first weights, those of the configuration's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(Split.TRAIN, config.seed, "network"))
        return make_network(config.network)


class _Job:
    """An episode to collect; picklable, but for ``on_slot``, which stays here."""

    def __init__(
        self,
        objective: Objective,
        plan: RolloutPlan,
        network: Network,
        number: int,
        on_slot: Callable[[int, int], None] | None,
    ) -> None:
        self.objective, self.plan, self.network, self.number, self.on_slot = objective, plan, network, number, on_slot


def _collect(job: _Job) -> Experience:
    on_slot = partial(job.on_slot, job.number) if job.on_slot is not None else _no_slot
    return job.objective.collect(job.plan, job.network, on_slot)


def _no_slot(slot: int) -> None:
    pass


def _on_slot(progress: Progress, total: int, slots: int, number: int, slot: int) -> None:
    progress(number * slots + min(slot, slots), total)


def plan_episode(config: EpisodicConfig, scenarios: list[Scenario], number: int, banks: Banks) -> RolloutPlan:
    """What is simulated in an episode, by its number."""
    scenario = scenarios[number % len(scenarios)]
    if np.random.default_rng((config.seed, number)).random() < config.chase_share:
        scenario = scenario.model_copy(update={"link": scenario.link.model_copy(update={"combining": "chase"})})
    return RolloutPlan(
        scenario=scenario,
        links=config.links,
        slots=config.slots,
        # Another seed meets other channels' stretches, too.
        seed=config.seed * _EPISODES_APART + number,
        banks=banks,
        exploration=config.exploration,
        exploration_reach=config.exploration_reach,
        native_unknown=config.native_unknown,
        retx_unknown=config.retx_unknown,
        combining_unknown=config.combining_unknown,
        label_every_slots=config.label_every_slots,
    )


def _learn(
    config: EpisodicConfig,
    objective: Objective,
    network: Network,
    optimizer: torch.optim.Optimizer,
    experience: Experience,
    gone: float,
    luck: torch.Generator,
    number: int,
) -> float:
    """Learn from an experience; returns the mean loss."""
    if not len(experience.steps):
        raise InputError(f"episode {number}, scenario {experience.scenario}: nothing to learn from; take more slots")
    labels = {name: label.flatten(0, 1) for name, label in experience.labels.items()}
    losses: list[float] = []
    epoch = 0
    while epoch < config.epochs or len(losses) < config.least_batches:
        epoch += 1
        for picked, output in network.batches(experience.rows, experience.steps, config.batch, luck):
            batch = {name: label[picked] for name, label in labels.items()}
            loss = objective.loss(network, output, batch, gone)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise InputError(
                    f"the loss is {value} in episode {number}, scenario {experience.scenario}; the latest checkpoint "
                    f"was kept; a learning_rate below {config.learning_rate:g} may help"
                )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            clip_grad_norm_(network.parameters(), config.max_gradient_norm)
            optimizer.step()
            losses.append(value)
    return sum(losses) / len(losses)


def identity_of(config: EpisodicConfig, scenarios: list[Scenario], more: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the weights depend on, for `Checkpoint`."""
    # A scenario's name alone would not tell that its file was changed.
    described = {scenario.name: scenario.model_dump(mode="json") for scenario in scenarios}
    return {"configuration": config.model_dump(mode="json", exclude=_WITHOUT_EFFECT), "scenario": described, **more}


def checked_scenarios(config: EpisodicConfig) -> list[Scenario]:
    """The scenarios by name, checked against the rest."""
    found = [training_domain() if name == "domain" else find_scenario(name) for name in config.scenarios]
    for scenario in found:
        if scenario.unseen:
            raise InputError(f"scenarios: {scenario.name} is unseen, to tell how well a policy does on what is new")
        for name, table in (("mcs_table", scenario.link.mcs_table), ("cqi_table", scenario.cqi.table)):
            ours = getattr(config.network, name)
            if table.bounds != (ours, ours):
                low, high = table.bounds
                theirs = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise InputError(f"network.{name} = {ours}: scenario {scenario.name} has {theirs}")
        timing = (scenario.e2.period_slots, scenario.e2.delay_slots, scenario.link.harq_rtt_slots)
        period, delay, rtt = (int(x.bounds[1]) for x in timing)
        # Until the blocks of the first decision have had all their transmissions, and were judged.
        needed = (
            delay + period + (int(scenario.link.max_transmissions.bounds[1]) - 1) * rtt + 2 * MAX_SAMPLE_PERIOD_SLOTS
        )
        if config.slots < needed:
            raise InputError(f"slots = {config.slots}: scenario {scenario.name} needs {needed} or more for a decision")
    return found


def make_banks(scenarios: list[Scenario], banks: Banks, on_bank: Progress) -> None:
    """Generate what is not in the cache, before the first episode, so that none of them waits."""
    channels = list(dict.fromkeys(channel for scenario in scenarios for channel in scenario.channels))
    for done, channel in enumerate(channels):
        on_bank(done, len(channels))
        fading_bank(channel, banks.rows, banks.slots, Split.TRAIN, banks.seed, banks.cache)
    on_bank(len(channels), len(channels))

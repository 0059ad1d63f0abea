"""The DQN teacher: learns from samples alone the values that the privileged teacher is shown.

Deep Q-learning (double, dueling, n-step; TorchRL's replay buffer, losses and exploration) on the blocks of HARQ
processes: `distila.training.teachers.dqn_env` defines step and reward. The Q network becomes the trained layers of a
`PolicyNetwork` whose scores are the Q values. Its dueling last layer, ``V + A - mean A``, is linear in its input, as an
ordinary layer is, so the two are made one in the end (`folded`), and serving costs nothing extra.

The constraint on delay and loss is priced: `DqnConfig.latency_price` for a first transmission that fails, and
`DqnConfig.residual_price` for a block that is lost after its last transmission.

The algorithm-distillation term (`distila.training.learning.algorithm`) pulls the Q values of a batch towards the choice
of a classical algorithm that gets the same reports: ``loss + beta * cross-entropy(Q / temperature, its choice)``.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torchrl.data import Categorical, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.postprocs import MultiStep
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import EGreedyModule, QValueActor
from torchrl.modules.models import DuelingMlpDQNet
from torchrl.objectives import DQNLoss, SoftUpdate

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning import loop
from distila.training.learning.algorithm import distance_to_choice
from distila.training.learning.episodes import (
    checked_scenarios,
    identity_of,
    make_banks,
    plan_episode,
)
from distila.training.learning.loop import Line, finite, optimizer_step
from distila.training.learning.rollout import RolloutPlan
from distila.training.network.filters import PolicyNetwork
from distila.training.network.policy import NetworkPolicy
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Policy
from distila.training.sim.scenario import Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split, torch_seed
from distila.training.teachers.dqn_config import DqnConfig
from distila.training.teachers.dqn_env import LinkEnv
from distila.xapp.errors import InputError
from distila.xapp.kpi.link_metrics import RATIOS
from distila.xapp.progress import Progress, no_progress

# At its own level TorchRL logs every buffer that it makes.
logging.getLogger("torchrl").setLevel(logging.WARNING)


def dueling(network: PolicyNetwork) -> DuelingMlpDQNet:
    """A Q network of a policy network's size, with new weights."""
    hidden = network.config.hidden
    net = DuelingMlpDQNet(
        len(network.actions),
        mlp_kwargs_feature={
            "in_features": len(network.feature_names),
            "num_cells": list(hidden[:-1]),
            "out_features": hidden[-1],
            "activation_class": nn.ReLU,
        },
        mlp_kwargs_output={"in_features": hidden[-1], "depth": 0, "num_cells": []},
    )
    for layer in net.features.modules():
        if isinstance(layer, nn.Linear):
            # With torch's default first weights, signals vanish over eight layers.
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return net


@torch.no_grad()
def folded(net: DuelingMlpDQNet, network: PolicyNetwork) -> PolicyNetwork:
    """The policy network whose scores are a dueling network's Q values; its weights are overwritten.

    The weights of its last layer are those of the advantage [action, hidden], less their mean over actions, plus those
    of the value [1, hidden]; biases likewise.
    """
    *features, last = (layer for layer in network.mlp if isinstance(layer, nn.Linear))
    ours = [layer for layer in net.features.modules() if isinstance(layer, nn.Linear)]
    for layer, source in zip(features, ours, strict=True):
        layer.load_state_dict(source.state_dict())
    (advantage,) = (layer for layer in net.advantage.modules() if isinstance(layer, nn.Linear))
    (value,) = (layer for layer in net.value.modules() if isinstance(layer, nn.Linear))
    for ours_, a, v in ((last.weight, advantage.weight, value.weight), (last.bias, advantage.bias, value.bias)):
        a, v = a.double(), v.double()
        ours_.copy_(a - a.mean(dim=0, keepdim=True) + v)
    return network


class DqnLearner(nn.Module):
    """Q network, target network and replay buffer; all of it is its state.

    Args:
        config: of the training.
        network: of the size and actions that are learnt.
        device: where it learns.

    Attributes:
        net: the Q network, float32 [n, feature] to [n, action].
        steps: environment steps that it has learnt from.
    """

    def __init__(self, config: DqnConfig, network: PolicyNetwork, device: torch.device) -> None:
        super().__init__()
        self._config, self._device = config, device
        self.net = dueling(network).to(device)
        actor = QValueActor(self.net, in_keys=["observation"], spec=Categorical(len(network.actions)))
        self._loss = DQNLoss(actor, loss_function="l2", double_dqn=True, delay_value=True)
        self._loss.make_value_estimator(gamma=config.gamma)
        self._target = SoftUpdate(self._loss, tau=config.tau)
        self._multi_step = MultiStep(config.gamma, config.n_steps)
        self.steps = 0
        self._buffer = self._new_buffer(device)

    def _new_buffer(self, device: torch.device) -> TensorDictReplayBuffer:
        storage = LazyTensorStorage(self._config.buffer_size, device=device)
        return TensorDictReplayBuffer(storage=storage, batch_size=self._config.batch_size)

    def get_extra_state(self) -> dict[str, object]:
        """The replay buffer belongs to the state: without it a resumed training would go another way."""
        if not len(self._buffer):
            return {"steps": self.steps, "buffer": None}
        # Its random numbers do not: see `seed`.
        return {"steps": self.steps, "buffer": {**self._buffer.state_dict(), "_rng": None}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_extra_state` returned, from whatever device."""
        self.steps = int(state["steps"])
        self._buffer = self._new_buffer(self._device)
        if state["buffer"] is not None:
            elsewhere = self._new_buffer(torch.device("cpu"))
            elsewhere.load_state_dict(state["buffer"])
            # A buffer that has held something is on its device, and what is loaded is copied to there.
            self._buffer.extend(elsewhere[:1].exclude("index"))
            self._buffer.load_state_dict(state["buffer"])

    def remember(self, blocks: TensorDictBase) -> int:
        """Put trajectories [process, block] (`LinkEnv.blocks`) into the replay buffer; returns how many blocks."""
        if not blocks["valid"].any():
            return 0
        whole = self._multi_step(blocks)
        found = whole.select(*_KEPT, strict=False)[blocks["valid"]]
        # More at once than it holds would not go in order.
        self._buffer.extend(found[-self._config.buffer_size :])
        return len(found)

    def ready(self) -> bool:
        """Whether there is a batch to learn from."""
        return len(self._buffer) >= self._config.batch_size

    def seed(self, seed: int) -> None:
        """Seed the random draws from the replay buffer."""
        generator = torch.Generator(self._device)
        generator.manual_seed(seed)
        self._buffer.set_rng(generator)

    def learn(self, optimizer: torch.optim.Optimizer, progress: float) -> Tensor:
        """One step of the optimiser; returns the loss of the Q values, scalar."""
        batch = self._buffer.sample()
        q_loss: Tensor = self._loss(batch)["loss"]
        objective, term = q_loss, self._config.algorithm
        if term is not None and term.at(progress) > 0:
            distance = distance_to_choice(self.net(batch["observation"]) / term.temperature, batch["algorithm_choice"])
            objective = term.added(q_loss, distance, progress)
        optimizer_step(objective, optimizer, self._config.max_grad_norm)
        self._target.step()
        return q_loss.detach()


_KEPT: Final = (
    "observation",
    "action",
    "algorithm_choice",
    "steps_to_next_obs",
    ("next", "observation"),
    ("next", "reward"),
    ("next", "done"),
    ("next", "terminated"),
)


def train_dqn(
    config: DqnConfig,
    out: Path,
    resume: bool = False,
    workers: int = 1,
    progress: Progress = no_progress,
    cache: Path | None = None,
    on_bank: Progress = no_progress,
) -> PolicyNetwork:
    """Train a Q network; ``out`` gets a checkpoint every few rounds, and a line of figures for each episode.

    An episode's line has its own figures, exploration included: ``loss``, those of
    `distila.training.sim.simulator.Counters.figures`, ``epsilon``, ``environment_steps`` (reports answered so far,
    counted per link, its own included); and every `DqnConfig.evaluate_every` environment steps the same figures as
    ``validation_goodput``, ``validation_first_tx_bler`` and so on, means over all scenarios, of greedy decisions on the
    same conditions of the validation split each time, and ``validation_gain``, the mean over scenarios of the goodput's
    gain over the tuned OLLA.

    The same configuration gives the same weights, bit by bit, interrupted and resumed or not, on one worker or several
    (with the same number of threads, on the same kind of machine). A checkpoint has the replay buffer in it.

    Args, Raises: see `distila.training.learning.trainer.train`. Several workers collect on CPUs, and so a ``device``
    that is not the CPU is rejected with them.
    """
    scenarios = checked_scenarios(config)
    device = _device(config.device, workers)
    banks = Banks(config.bank_rows, config.bank_slots, cache=cache)
    with _seeded(config, "network"):
        network = PolicyNetwork(config.network)
        learner = DqnLearner(config, network, device)
    network.to(device)
    optimizer = torch.optim.Adam(learner.net.parameters(), lr=config.lr)
    training = _DqnTraining(config, scenarios, banks, network, learner, optimizer, device, progress, on_bank)
    identity = identity_of(config, scenarios, {"kind": "dqn"})
    loop.run(training, config, learner, optimizer, out, identity, resume, workers, progress)
    return folded(learner.net, network).to("cpu")


def _device(name: str, workers: int) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device = cuda: torch finds none here; cpu and auto work everywhere")
    cuda = name != "cpu" and torch.cuda.is_available()
    if cuda and workers > 1:
        raise InputError(f"device = {name}: {workers} workers collect on CPUs; set device: cpu, or take 1 worker")
    return torch.device("cuda" if cuda else "cpu")


@contextmanager
def _seeded(config: DqnConfig, purpose: str) -> Iterator[None]:
    """Torch's own generators, which TorchRL's exploration draws from, seeded for a purpose and afterwards as before."""
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(Split.TRAIN, config.seed, purpose))
        yield


@dataclass(frozen=True)
class _Job:
    """An episode to collect; picklable."""

    config: DqnConfig
    plan: RolloutPlan
    number: int
    epsilon: float
    network: PolicyNetwork
    """whose features are observed"""
    net: DuelingMlpDQNet
    """the Q network that decides"""
    device: torch.device


@dataclass(frozen=True)
class _Episode:
    figures: dict[str, float | None]
    steps: int
    """environment steps"""
    blocks: TensorDict
    """see `LinkEnv.blocks`"""


class _DqnTraining:
    """See `distila.training.learning.loop.Training`."""

    unit = "episode"

    def __init__(
        self,
        config: DqnConfig,
        scenarios: list[Scenario],
        banks: Banks,
        network: PolicyNetwork,
        learner: DqnLearner,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        report_progress: Progress,
        on_bank: Progress,
    ) -> None:
        self.total, self.per_round, self.scale = config.episodes, config.episodes_per_round, config.slots
        self._config, self._scenarios, self._banks, self._device = config, scenarios, banks, device
        self._network, self._learner, self._optimizer = network, learner, optimizer
        self._report_progress, self._on_bank = report_progress, on_bank
        self._validation: _Validation | None = None

    def prepare(self) -> None:
        make_banks(self._scenarios, self._banks, self._on_bank)
        self._validation = _Validation(self._config, self._scenarios, self._banks, self._device)

    def jobs(self, numbers: range, progress: float) -> list[_Job]:
        config, epsilon = self._config, self._config.epsilon_at(progress)
        plans = [plan_episode(config, self._scenarios, number, self._banks) for number in numbers]
        return [
            _Job(config, plan, number, epsilon, self._network, self._learner.net, self._device)
            for number, plan in zip(numbers, plans, strict=True)
        ]

    @staticmethod
    def collect(job: _Job) -> _Episode:
        config, term = job.config, job.config.algorithm
        algorithm = None if term is None else baseline(term.algorithm, **tuned_settings(term.algorithm))
        env = LinkEnv(job.plan, job.network, algorithm, job.device)
        policy = _exploring(config, job.net, job.network, job.epsilon, job.device)
        # What an episode draws depends on its number alone, whoever collects it.
        with (
            _seeded(config, f"exploration {job.number}"),
            set_exploration_type(ExplorationType.RANDOM),
            torch.no_grad(),
        ):
            rollout = env.rollout(job.plan.slots, policy, break_when_any_done=True)
        blocks = env.blocks(rollout, config.latency_price, config.residual_price)
        return _Episode({**env.simulator.counters.figures(), "epsilon": job.epsilon}, rollout.numel(), blocks)

    def learn(self, numbers: range, results: list[_Episode], progress: float) -> Sequence[Line]:
        config, learner = self._config, self._learner
        names = [self._scenarios[number % len(self._scenarios)].name for number in numbers]
        steps_before, new, found = learner.steps, 0, []
        for episode in results:
            learner.steps += episode.steps
            new += learner.remember(episode.blocks)
            found.append({**episode.figures, "environment_steps": learner.steps})
        learner.seed(torch_seed(Split.TRAIN, config.seed, f"batches {numbers.start}"))
        losses: list[Tensor] = []
        updates = math.ceil(new * config.epochs / config.batch_size) if learner.ready() else 0
        for update in range(updates):
            losses.append(learner.learn(self._optimizer, progress))
            if update % 50 == 49:  # learning takes most of a round
                done = int((numbers.start + len(numbers) * update / updates) * config.slots)
                self._report_progress(done, config.episodes * config.slots)
        where = f"episode {numbers.start}, scenario {names[0]}"
        loss = finite(torch.stack(losses).mean(), where, config.lr) if losses else None
        due = learner.steps // config.evaluate_every > steps_before // config.evaluate_every
        if self._validation is not None and (due or numbers.stop == config.episodes):
            found[-1] |= self._validation.evaluate(folded(learner.net, self._network))
        return [
            Line(number, {"loss": loss, **line}, name) for number, line, name in zip(numbers, found, names, strict=True)
        ]


def _exploring(
    config: DqnConfig, net: DuelingMlpDQNet, network: PolicyNetwork, epsilon: float, device: torch.device
) -> TensorDictSequential:
    """The greedy policy, a share of its decisions moved to an action near them, and then a share to any action.

    Where a decision is already good, what is to be learnt is how it compares with its neighbours.
    """
    kinds = [action.kind for action in network.actions]
    index = torch.arange(len(kinds), device=device)
    of_a_kind = torch.tensor([[one == other for one in kinds] for other in kinds], device=device)
    near = of_a_kind & ((index[:, None] - index).abs() <= config.exploration_reach)
    spec = Categorical(len(kinds), shape=(config.links,), device=device)
    greedy = QValueActor(net, in_keys=["observation"], spec=Categorical(len(kinds)))
    neighbours = TensorDictModule(lambda action: near[action], in_keys=["action"], out_keys=["near"])
    nearby = EGreedyModule(
        spec.clone(),
        eps_init=config.exploration,
        eps_end=0.0,
        action_mask_key="near",
        device=device,
    )
    anywhere = EGreedyModule(spec, eps_init=epsilon, eps_end=0.0, device=device)
    return TensorDictSequential(greedy, neighbours, nearby, anywhere)


class _Validation:
    """Greedy decisions on the same conditions of the validation split every time."""

    def __init__(self, config: DqnConfig, scenarios: list[Scenario], banks: Banks, device: torch.device) -> None:
        self._config, self._banks, self._device = config, banks, device
        self._scenarios = list({scenario.name: scenario for scenario in scenarios}.values())
        self._olla = [self._run(scenario, None) for scenario in self._scenarios]

    def evaluate(self, network: PolicyNetwork) -> dict[str, float | None]:
        """Figures of a network, see `train_dqn`."""
        found = [self._run(scenario, NetworkPolicy(network)) for scenario in self._scenarios]
        result: dict[str, float | None] = {}
        for name in ("goodput", *RATIOS):
            known = [value for value in (one[name] for one in found) if value is not None]
            result[f"validation_{name}"] = sum(known) / len(known) if known else None
        gains = [
            ours["goodput"] / theirs["goodput"] - 1
            for ours, theirs in zip(found, self._olla, strict=True)
            if ours["goodput"] is not None and theirs["goodput"]
        ]
        result["validation_gain"] = sum(gains) / len(gains) if gains else None
        return result

    def _run(self, scenario: Scenario, policy: Policy | None) -> dict[str, float | None]:
        config = self._config
        most_slots = config.evaluation_slots + scenario.longest_report_period_slots
        conditions = Conditions(
            scenario, config.evaluation_links, Split.VALIDATION, 0, most_slots, self._device, banks=self._banks
        )
        simulator = Simulator(conditions, baseline("olla", **tuned_settings("olla")))
        if policy is None:
            simulator.run(config.evaluation_slots)
            return simulator.counters.figures()
        policy.start(conditions.cell(), conditions.generator("policy"))
        while simulator.slot < config.evaluation_slots:
            simulator.step(policy.decide(simulator.report))
        return simulator.counters.figures()

"""The DQN teacher: learns from samples alone what the privileged teacher is told.

Deep Q-learning (double, dueling, n-step; TorchRL's replay buffer, losses and exploration) on the blocks of HARQ
processes: `distila.training.teachers.dqn_env` says what a step and a reward are. The Q network becomes the trained
layers of a `PolicyNetwork` whose scores are the Q values. Its dueling last layer, ``V + A - mean A``, is linear in what
comes before, as an ordinary one is, so both are made one in the end (`folded`), and nothing of it is left to be served.

The constraint on delay and loss is priced: `DqnConfig.latency_price` for a first transmission that fails, and
`DqnConfig.residual_price` for a block that is given up.

The algorithm-distillation term (`distila.training.learning.algorithm`) pulls the Q values of a batch towards what a
classical algorithm answered to the same reports: ``loss + beta * cross-entropy(Q / temperature, its choice)``.
"""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import Field, model_validator
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torchrl.data import Categorical, LazyTensorStorage, TensorDictReplayBuffer
from torchrl.data.postprocs import MultiStep
from torchrl.envs import ExplorationType, set_exploration_type
from torchrl.modules import EGreedyModule, QValueActor
from torchrl.modules.models import DuelingMlpDQNet
from torchrl.objectives import DQNLoss, SoftUpdate

from distila.training.baselines import baseline, tuned_settings
from distila.training.learning import trainer
from distila.training.learning.algorithm import AlgorithmTerm, distance_to_choice
from distila.training.learning.checkpoint import CHECKPOINT_FILE, Checkpoint
from distila.training.learning.log import TrainingLog
from distila.training.learning.trainer import EpisodicConfig, Progress
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.policy import NetworkPolicy
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Policy
from distila.training.sim.scenario import Scenario
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split, torch_seed
from distila.training.teachers.dqn_env import LinkEnv, figures
from distila.xapp.errors import InputError
from distila.xapp.files import check_writable, read_model
from distila.xapp.shipped import Shipped, package_folder

# At this level it tells of every buffer that it makes.
logging.getLogger("torchrl").setLevel(logging.WARNING)

TEACHER_HIDDEN: Final = (124,) * 8
"""The teacher of the family: eight hidden layers, about 115 thousand weights."""


class DqnConfig(EpisodicConfig):
    """Everything that the weights depend on; ``epochs``: how often each block is learnt from, on average."""

    links: int = Field(default=128, ge=1, description="simulated at once in an episode")
    exploration: float = Field(default=0.2, ge=0, le=1, description="share of decisions moved to an action near")
    exploration_reach: int = Field(default=3, ge=1, description="by how many actions up or down, at most")
    epsilon: float = Field(default=1.0, ge=0, le=1, description="share of decisions at random, at the beginning")
    final_epsilon: float = Field(default=0.01, ge=0, le=1, description="and from epsilon_until on; linear between")
    epsilon_until: float = Field(default=0.15, gt=0, le=1, description="share of the training")
    latency_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="of a first transmission that fails, in average slots of its link",
    )
    residual_price: float = Field(
        default=3.0, ge=0, allow_inf_nan=False, description="of a block that is given up, in average slots of its link"
    )
    discount: float = Field(default=0.5, gt=0, lt=1, description="of what the next block of a HARQ process brings")
    n_steps: int = Field(default=1, ge=1, description="blocks of a process before the bootstrap")
    target_rate: float = Field(default=0.01, gt=0, le=1, description="of the target network's soft update")
    replay: int = Field(default=300_000, ge=1, description="blocks in the replay buffer")
    evaluate_every: int = Field(default=500_000, ge=1, description="environment steps between greedy evaluations")
    evaluation_links: int = Field(default=64, ge=1, description="of the validation split, per scenario")
    evaluation_slots: int = Field(default=600, ge=1, description="of the validation split, per scenario")
    device: Literal["cpu", "cuda", "auto"] = Field(default="auto", description="auto: cuda where there is one")
    algorithm: AlgorithmTerm | None = Field(default=None, description="algorithm distillation beside the samples")
    network: NetworkConfig = NetworkConfig(hidden=TEACHER_HIDDEN)

    @model_validator(mode="after")
    def _fits(self) -> "DqnConfig":
        if self.network.head != "logit":
            raise ValueError(f"network.head is {self.network.head!r}: Q values need 'logit'")
        if self.network.memory != "filters":
            raise ValueError(f"network.memory is {self.network.memory!r}: it is not learnt here, only 'filters' fits")
        if not self.network.hidden:
            raise ValueError("network.hidden is empty: a dueling network needs a hidden layer")
        if self.final_epsilon > self.epsilon:
            raise ValueError(f"final_epsilon = {self.final_epsilon:g} is above epsilon = {self.epsilon:g}")
        if self.replay < self.batch:
            raise ValueError(f"replay = {self.replay} is below batch = {self.batch}")
        if self.algorithm is not None and self.network.actions == "mcs_offset":
            raise ValueError("algorithm: it chooses an MCS, and network.actions = mcs_offset has none")
        return self

    def epsilon_at(self, progress: float) -> float:
        """Share of decisions at random when this share of the training is behind."""
        gone = min(progress / self.epsilon_until, 1.0)
        return self.epsilon + gone * (self.final_epsilon - self.epsilon)


_CONFIGS: Final = Shipped("configuration of a training", package_folder("distila.training.teachers", "configs"))


def load_dqn(name: str) -> DqnConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    return read_model(_CONFIGS.find(name), DqnConfig)


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
            # The usual first weights make what passes eight layers vanish.
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    return net


@torch.no_grad()
def folded(net: DuelingMlpDQNet, network: PolicyNetwork) -> PolicyNetwork:
    """The policy network whose scores are a dueling network's Q values; its weights are overwritten.

    With W the weights of the last layers, [action, hidden] and [1, hidden], Q has those of the advantage, less their
    mean over actions, plus those of the value; biases alike.
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
        actor: the greedy policy, on TensorDicts with ``observation``.
        steps: environment steps that it has learnt from.
    """

    def __init__(self, config: DqnConfig, network: PolicyNetwork, device: torch.device) -> None:
        super().__init__()
        self._config, self._device = config, device
        self.net = dueling(network).to(device)
        self.actor = QValueActor(self.net, in_keys=["observation"], spec=Categorical(len(network.actions)))
        self._loss = DQNLoss(self.actor, loss_function="l2", double_dqn=True, delay_value=True)
        self._loss.make_value_estimator(gamma=config.discount)
        self._target = SoftUpdate(self._loss, tau=config.target_rate)
        self._multi_step = MultiStep(config.discount, config.n_steps)
        self.steps = 0
        self._buffer = self._new_buffer(device)

    def _new_buffer(self, device: torch.device) -> TensorDictReplayBuffer:
        storage = LazyTensorStorage(self._config.replay, device=device)
        return TensorDictReplayBuffer(storage=storage, batch_size=self._config.batch)

    def get_extra_state(self) -> dict[str, Any]:
        """The replay buffer belongs to the state: without it a resumed training would go another way."""
        if not len(self._buffer):
            return {"steps": self.steps, "buffer": None}
        # Its random numbers are not: see `seed`.
        return {"steps": self.steps, "buffer": {**self._buffer.state_dict(), "_rng": None}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """What `get_extra_state` returned, from whatever device."""
        self.steps = int(state["steps"])
        self._buffer = self._new_buffer(self._device)
        if state["buffer"] is not None:
            elsewhere = self._new_buffer(torch.device("cpu"))
            elsewhere.load_state_dict(state["buffer"])
            # A buffer that has held something is where it should be, and what is loaded is copied to there.
            self._buffer.extend(elsewhere[:1].exclude("index"))
            self._buffer.load_state_dict(state["buffer"])

    def remember(self, blocks: TensorDictBase) -> int:
        """Put trajectories [process, block] (`LinkEnv.blocks`) into the replay buffer; returns how many blocks."""
        if not blocks["valid"].any():
            return 0
        whole = self._multi_step(blocks)
        found = whole.select(*_KEPT, strict=False)[blocks["valid"]]
        # More at once than it holds would not go in order.
        self._buffer.extend(found[-self._config.replay :])
        return len(found)

    def ready(self) -> bool:
        """Whether there is a batch to learn from."""
        return len(self._buffer) >= self._config.batch

    def seed(self, seed: int) -> None:
        """Begin what is drawn from the replay buffer anew."""
        luck = torch.Generator(self._device)
        luck.manual_seed(seed)
        self._buffer.set_rng(luck)

    def learn(self, optimizer: torch.optim.Optimizer, progress: float) -> Tensor:
        """One step of the optimiser; returns the loss of the Q values, scalar."""
        batch = self._buffer.sample()
        q_loss: Tensor = self._loss(batch)["loss"]
        objective, term = q_loss, self._config.algorithm
        if term is not None and term.at(progress) > 0:
            distance = distance_to_choice(self.net(batch["observation"]) / term.temperature, batch["algorithm_choice"])
            objective = term.added(q_loss, distance, progress)
        optimizer.zero_grad()
        torch.autograd.backward(objective)
        clip_grad_norm_(self.net.parameters(), self._config.max_gradient_norm)
        optimizer.step()
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
    progress: Progress = lambda done, total: None,
    cache: Path | None = None,
    on_bank: Progress = lambda done, total: None,
) -> PolicyNetwork:
    """Train a Q network; ``out`` gets a checkpoint every few rounds, and a line of figures for each episode.

    An episode's line has its own figures, exploration included: ``loss``, ``goodput``, ``bler``, ``residual``,
    ``epsilon``, ``environment_steps`` (reports of a link that were answered so far, its own included); and every
    `DqnConfig.evaluate_every` environment steps ``validation_goodput``, ``validation_bler`` and
    ``validation_residual``, means over all scenarios, of greedy decisions on the same conditions of the validation
    split each time, and ``validation_gain``, the mean over scenarios of the goodput's gain over the tuned OLLA.

    The same configuration gives the same weights, bit by bit, interrupted and resumed or not (with the same number of
    threads, on the same kind of machine). A checkpoint has the replay buffer in it.

    Args, Raises: see `distila.training.learning.trainer.train`.
    """
    scenarios = trainer.checked_scenarios(config)
    device = _device(config.device)
    check_writable(out)
    identity = trainer.identity_of(config, scenarios, {"kind": "dqn"})
    checkpoint = Checkpoint(out / CHECKPOINT_FILE, identity)
    with _randomness(config, "network"):
        network = PolicyNetwork(config.network)
        learner = DqnLearner(config, network, device)
    optimizer = torch.optim.Adam(learner.net.parameters(), lr=config.learning_rate)
    first = checkpoint.load(learner, optimizer) if resume else checkpoint.must_not_exist()
    network.to(device)
    banks = Banks(config.bank_rows, config.bank_slots, cache=cache)
    examiner: _Validation | None = None
    if first < config.episodes:
        trainer.make_banks(scenarios, banks, on_bank)
        examiner = _Validation(config, scenarios, banks, device)
    log = TrainingLog(out, first)
    total = config.episodes * config.slots
    progress(first * config.slots, total)
    for begin in range(first, config.episodes, config.episodes_per_round):
        started = time.perf_counter()
        numbers = range(begin, min(begin + config.episodes_per_round, config.episodes))
        gone, steps_before = begin / config.episodes, learner.steps
        lines, new = [], 0
        for number in numbers:
            line, blocks = _collect(config, learner, network, scenarios, number, banks, gone, device)
            new += learner.remember(blocks)
            lines.append(
                (number, scenarios[number % len(scenarios)].name, {**line, "environment_steps": learner.steps})
            )
            del blocks
        rate = config.learning_rate * (1 - gone * (1 - config.final_learning_rate_share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        learner.seed(torch_seed(Split.TRAIN, config.seed, f"batches {begin}"))
        losses: list[Tensor] = []
        updates = math.ceil(new * config.epochs / config.batch) if learner.ready() else 0
        for update in range(updates):
            losses.append(learner.learn(optimizer, gone))
            if update % 50 == 49:
                # Of a round, learning takes the most time, and it is all that progress tells of: no wrong pace.
                progress(int((begin + len(numbers) * update / updates) * config.slots), total)
        loss = float(torch.stack(losses).mean()) if losses else None
        done = numbers[-1] + 1
        if loss is not None and not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in episode {begin}, scenario {lines[0][1]}; the latest checkpoint was kept; "
                f"a learning_rate below {config.learning_rate:g} may help"
            )
        figures_of_round: dict[str, float | None] = {"loss": loss, "learning_rate": rate}
        due = learner.steps // config.evaluate_every > steps_before // config.evaluate_every
        if examiner is not None and (due or done == config.episodes):
            lines[-1][2].update(examiner.judge(folded(learner.net, network)))
        seconds = (time.perf_counter() - started) / len(numbers)
        for number, name, line in lines:
            log.write(number, name, {**figures_of_round, **line, "seconds": round(seconds, 3)})
        progress(done * config.slots, total)
        if (begin // config.episodes_per_round + 1) % config.checkpoint_every == 0 or done == config.episodes:
            checkpoint.save(learner, optimizer, done)
    log.close()
    return folded(learner.net, network).to("cpu")


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device = cuda: torch finds none here; cpu and auto work everywhere")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def _randomness(config: DqnConfig, purpose: str) -> Iterator[None]:
    """Torch's own generators seeded for a purpose, and afterwards as they were: TorchRL's exploration draws of them."""
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(Split.TRAIN, config.seed, purpose))
        yield


def _collect(
    config: DqnConfig,
    learner: DqnLearner,
    network: PolicyNetwork,
    scenarios: list[Scenario],
    number: int,
    banks: Banks,
    gone: float,
    device: torch.device,
) -> tuple[dict[str, float | None], TensorDict]:
    """An episode's figures, and its blocks (`LinkEnv.blocks`)."""
    plan = trainer.plan_episode(config, scenarios, number, banks)
    term = config.algorithm
    algorithm = None if term is None else baseline(term.algorithm, **tuned_settings(term.algorithm))
    env = LinkEnv(plan, network, algorithm, device)
    epsilon = config.epsilon_at(gone)
    policy = _exploring(config, learner.actor, network, epsilon, device)
    with _randomness(config, f"exploration {number}"), set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        rollout = env.rollout(plan.slots, policy, break_when_any_done=True)
    learner.steps += rollout.numel()
    blocks = env.blocks(rollout, config.latency_price, config.residual_price)
    return {**figures(env.simulator), "epsilon": epsilon}, blocks


def _exploring(
    config: DqnConfig, actor: QValueActor, network: PolicyNetwork, epsilon: float, device: torch.device
) -> TensorDictSequential:
    """The greedy policy, a share of its decisions moved to one near it, and then a share to any at all.

    Where a decision is already good, what is to be learnt is how it compares with those beside it.
    """
    kinds = [action.kind for action in network.actions]
    place = torch.arange(len(kinds), device=device)
    of_a_kind = torch.tensor([[one == other for one in kinds] for other in kinds], device=device)
    near = of_a_kind & ((place[:, None] - place).abs() <= config.exploration_reach)
    spec = Categorical(len(kinds), shape=(config.links,), device=device)
    whereabouts = TensorDictModule(lambda action: near[action], in_keys=["action"], out_keys=["near"])
    beside = EGreedyModule(
        spec.clone(),
        eps_init=config.exploration,
        eps_end=0.0,
        action_mask_key="near",
        device=device,
    )
    anywhere = EGreedyModule(spec, eps_init=epsilon, eps_end=0.0, device=device)
    return TensorDictSequential(actor, whereabouts, beside, anywhere)


class _Validation:
    """Greedy decisions on conditions of the validation split, the same ones every time."""

    def __init__(self, config: DqnConfig, scenarios: list[Scenario], banks: Banks, device: torch.device) -> None:
        self._config, self._banks, self._device = config, banks, device
        self._scenarios = list({scenario.name: scenario for scenario in scenarios}.values())
        self._olla = [self._run(scenario, None) for scenario in self._scenarios]

    def judge(self, network: PolicyNetwork) -> dict[str, float | None]:
        """Figures of a network, see `train_dqn`."""
        found = [self._run(scenario, NetworkPolicy(network)) for scenario in self._scenarios]
        result: dict[str, float | None] = {}
        for name in ("goodput", "bler", "residual"):
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
        most_slots = config.evaluation_slots + int(scenario.e2.period_slots.bounds[1])
        conditions = Conditions(
            scenario, config.evaluation_links, Split.VALIDATION, 0, most_slots, self._device, banks=self._banks
        )
        simulator = Simulator(conditions, baseline("olla", **tuned_settings("olla")))
        if policy is None:
            simulator.run(config.evaluation_slots)
            return figures(simulator)
        policy.start(conditions.cell(), conditions.generator("policy"))
        while simulator.slot < config.evaluation_slots:
            simulator.step(policy.decide(simulator.report))
        return figures(simulator)

"""The privileged teacher: a network that is told, in training, what every one of its actions would have been worth.

The simulator knows the true error rate of every MCS in every slot. So nothing has to be found out by trying, as in
reinforcement learning: the network learns by regression, from full information, the `efficiency` that each action will
have given what it can know; and the action with the highest rate times expected efficiency is then the best decision
for the blocks that it is made for. (It does not weigh what a decision teaches for later ones; HARQ feedback comes with
any of them.) Training is on-policy: the network drives the simulation, so the feedback it learns to read is that of its
own decisions, plus a little exploration.

* ``seat: du``: it decides every slot, and is told of that very slot.
* ``seat: xapp``: it answers E2 reports, and is told the mean over (a sample of) the slots in which its answer is in
  force. Of an absolute MCS, that is the efficiency. An offset moves what the DU itself would use in each of these
  slots, so there is no one rate beside the mean: of it, the network is told the goodput, as a share of what the best
  MCS of each slot would have brought. (A share, as the goodput itself is so small at low SNR that little would be
  learnt there.)

The file is to be read from top to bottom: `train` is the whole of it, the classes below it are its parts.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from replay.atomic_file import check_writable, replacing
from training.baselines import baseline, tuned_settings
from training.network.network import NetworkConfig, PolicyNetwork
from training.sim.bank import fading_bank
from training.sim.conditions import Banks, Conditions
from training.sim.report import Cell, Decision, Policy, Report, matrix
from training.sim.scenario import Scenario, find_scenario, training_domain
from training.sim.simulator import Simulator
from training.sim.split import Split, torch_seed
from training.teachers.efficiency import efficiency
from xapp.config import read_yaml
from xapp.e2.report import MCS, MCS_OFFSET
from xapp.errors import InputError, first_error, one_line

Progress = Callable[[int, int], None]

CHECKPOINT_FILE: Final = "checkpoint.pt"
LOG_FILE: Final = "train.jsonl"
_FORMAT: Final = "distila-privileged/1"
_NO_GOODPUT: Final = 1e-6  # bits per resource element: where no MCS brings anything, all offsets are worth nothing
_WITHOUT_EFFECT: Final = {"checkpoint_every"}
"""Settings that the weights do not depend on, so that they may change when a training goes on."""


class PrivilegedConfig(BaseModel):
    """Everything that the weights depend on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seat: Literal["du", "xapp"] = Field(default="du", description="decides every slot, or answers E2 reports")
    scenarios: tuple[str, ...] = Field(
        min_length=1, description="one each episode, in turn: families, YAML files, or `domain`; none that is unseen"
    )
    links: int = Field(default=512, ge=1, description="simulated at once; also the size of a batch")
    slots: int = Field(default=600, ge=1, description="length of an episode")
    episodes: int = Field(default=350, ge=1, description="how many; the channels of each are its number's")
    batch_every: int = Field(default=2, ge=1, description="slots between two steps of the optimiser, at least")
    learning_rate: float = Field(default=2e-3, gt=0, allow_inf_nan=False, description="Adam's, at the beginning")
    final_learning_rate_share: float = Field(default=0.02, ge=0, le=1, description="that is left at the end; linear")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="longer gradients are shortened to this")
    exploration: float = Field(default=0.1, ge=0, le=1, description="share of decisions that are moved at random")
    exploration_reach: int = Field(default=2, ge=1, description="by how many actions up or down, at most")
    latency_price: float = Field(
        default=0.1, ge=0, le=1, description="of a failed first transmission; see `training.teachers.efficiency`"
    )
    truths_per_decision: int = Field(
        default=8, ge=1, description="slots out of those in which an xApp's decision is in force, at most"
    )
    seed: int = Field(default=0, ge=0, description="of the first weights and of exploration")
    checkpoint_every: int = Field(default=10, ge=1, description="episodes between two checkpoints")
    bank_rows: int = Field(default=48, ge=1, description="UEs of fading per channel")
    bank_slots: int = Field(default=4096, ge=1, description="length of fading")
    network: NetworkConfig = NetworkConfig()


def load_privileged(name: str) -> PrivilegedConfig:
    """A configuration from a YAML file, or one that ships with distila by its name.

    Raises:
        InputError: one line naming file, setting and value.
    """
    shipped = Path(str(files("training.teachers"))) / "configs"
    path = Path(name)
    if not path.exists() and (shipped / f"{name}.yaml").is_file():
        path = shipped / f"{name}.yaml"
    try:
        return PrivilegedConfig.model_validate(read_yaml(path) or {})
    except ValidationError as error:
        raise InputError(f"{path}: {first_error(error)}") from None


def _silent(done: int, total: int) -> None:
    pass


def train(
    config: PrivilegedConfig,
    out: Path,
    resume: bool = False,
    progress: Progress = _silent,
    cache: Path | None = None,
    on_bank: Progress = _silent,
) -> PolicyNetwork:
    """Train a network; ``out`` gets a checkpoint every few episodes, and a line of figures for each.

    The same configuration gives the same weights, bit by bit, interrupted and resumed or not (with the same number of
    threads, on the same kind of machine).

    Args:
        config: what to train on what.
        out: directory, see `CHECKPOINT_FILE` and `LOG_FILE`; TensorBoard, where it is installed, gets its files too.
        resume: go on from the checkpoint, if there is one.
        progress: told slots done and in all.
        cache: directory of fading banks; None: the user's.
        on_bank: told banks done and in all.

    Raises:
        InputError: a setting that does not fit a scenario, a checkpoint of something else or in the way, or a loss that
            is no number any more; the latest checkpoint is then still there.
    """
    scenarios = _scenarios(config)
    check_writable(out)
    checkpoint = Checkpoint(out / CHECKPOINT_FILE, config, scenarios)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(Split.TRAIN, config.seed, "network"))
        network = PolicyNetwork(config.network)
    optimizer = torch.optim.Adam(network.mlp.parameters(), lr=config.learning_rate)
    first = checkpoint.load(network, optimizer) if resume else checkpoint.must_not_exist()
    banks = Banks(config.bank_rows, config.bank_slots, cache=cache)
    if first < config.episodes:
        _make_banks(scenarios, banks, on_bank)
    log = TrainingLog(out, first)
    total = config.episodes * config.slots
    progress(first * config.slots, total)
    for episode in range(first, config.episodes):
        started = time.perf_counter()
        scenario = scenarios[episode % len(scenarios)]
        gone = episode / config.episodes
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - gone * (1 - config.final_learning_rate_share))

        # The first report at or after the last slot still belongs to the episode.
        most_slots = config.slots + int(scenario.e2.period_slots.bounds[1])
        conditions = Conditions(scenario, config.links, Split.TRAIN, episode, most_slots, banks=banks)
        learner = Learner(network, optimizer, config, episode, scenario.name)
        learner.start(conditions.cell())

        def on_slot(slot: int, episode: int = episode) -> None:
            progress(episode * config.slots + min(slot, config.slots), total)

        if config.seat == "du":
            simulator = Simulator(conditions, native=InTheDu(learner, config, on_slot))
            simulator.run(config.slots)
        else:
            every = max(1, config.batch_every // conditions.report_period_slots)
            truths = Truths(baseline("olla", **tuned_settings("olla")), conditions, config, every)
            simulator = Simulator(conditions, native=truths)
            undecided: deque[tuple[int, Tensor]] = deque()
            while simulator.slot < config.slots:
                report = simulator.report
                x = learner.hear(report)
                # What a decision was worth is known once it is no longer in force.
                undecided.append((report.slot, x))
                while undecided and truths.known(undecided[0][0]):
                    answered, heard = undecided.popleft()
                    worth = truths.take(answered)
                    if worth is not None:
                        learner.learn(heard, worth)
                simulator.step(learner.decide(x))
                on_slot(simulator.slot)

        log.write(episode, scenario.name, learner, simulator, time.perf_counter() - started)
        if (episode + 1) % config.checkpoint_every == 0 or episode + 1 == config.episodes:
            checkpoint.save(network, optimizer, episode + 1)
    log.close()
    return network


class Learner:
    """The network at work: it hears, decides and learns, for all links of an episode at once."""

    def __init__(
        self,
        network: PolicyNetwork,
        optimizer: torch.optim.Optimizer,
        config: PrivilegedConfig,
        episode: int,
        scenario: str,
    ) -> None:
        self._network, self._optimizer, self._config = network, optimizer, config
        self._episode, self._scenario = episode, scenario
        self._parameters = list(network.mlp.parameters())
        self._kind = MCS if config.network.actions == "mcs" else MCS_OFFSET
        self._values = torch.tensor([action.value for action in network.actions])
        self._luck = torch.Generator()
        self._luck.manual_seed(torch_seed(Split.TRAIN, config.seed, f"exploration {episode}"))
        self._losses: list[float] = []

    @property
    def learning_rate(self) -> float:
        """Of this episode."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def loss(self) -> float | None:
        """Mean of the episode so far; None: no batch yet."""
        return sum(self._losses) / len(self._losses) if self._losses else None

    def start(self, cell: Cell) -> None:
        """Begin with new links, whose memory is empty."""
        self._cell = cell
        self._state = self._network.zero_state(cell.num_links)

    def hear(self, report: Report) -> Tensor:
        """Take in a report; returns what is now known, float32 [link, feature]."""
        rows = matrix(report, self._network.columns, self._cell.mcs_table, self._cell.cqi_table)
        with torch.no_grad():
            x, self._state = self._network.features(rows, self._state)
        return x

    def decide(self, x: Tensor) -> Decision:
        """Answer with the best action, or here and there with one near it, from which more may be learnt."""
        config, links = self._config, x.shape[0]
        with torch.no_grad():
            action = self._network.score(x).argmax(dim=1)
        moved = torch.rand(links, generator=self._luck) < config.exploration
        reach = config.exploration_reach
        by = torch.randint(-reach, reach + 1, (links,), generator=self._luck)
        action = (action + by * moved).clamp_(0, len(self._values) - 1)
        return Decision(self._kind, self._values[action])

    def learn(self, x: Tensor, worth: Tensor) -> None:
        """One step of the optimiser.

        Cross-entropy, as its minimum is at the expected value, and it tells 0.001 from 0.01 where a squared error would
        not.

        Args:
            x: float32 [link, feature], what was known when the decision was made.
            worth: float32 [link, action], 0 to 1, what is to be expected of each action then.

        Raises:
            InputError: the loss is not a finite number.
        """
        loss = F.binary_cross_entropy_with_logits(self._network.mlp(x), worth)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} in episode {self._episode}, scenario {self._scenario}; the latest checkpoint was "
                f"kept; a learning_rate below {self._config.learning_rate:g} may help"
            )
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        clip_grad_norm_(self._parameters, self._config.max_gradient_norm)
        self._optimizer.step()
        self._losses.append(value)


class InTheDu:
    """The learner as the DU's own link adaptation: decides every slot, and is told of that slot."""

    name = "privileged"

    def __init__(self, learner: Learner, config: PrivilegedConfig, on_slot: Callable[[int], None]) -> None:
        self._learner, self._config, self._on_slot = learner, config, on_slot

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin; the learner has its own random numbers."""
        self._cell = cell

    def decide(self, report: Report) -> Decision:
        """Hear, perhaps learn, and answer."""
        self._on_slot(report.slot)
        x = self._learner.hear(report)
        if report.slot % self._config.batch_every == 0:
            self._learner.learn(x, efficiency(self._cell, report.slot, self._config.latency_price))
        return self._learner.decide(x)


class Truths:
    """The DU's own link adaptation, which notes beside its work what each action of the xApp would be worth.

    It is the one that is called in every slot, and the truth about a slot is gone after it.

    Args:
        native: the DU's link adaptation.
        conditions: E2 timing.
        config: of the training.
        every: decisions for each one that is learnt from.
    """

    def __init__(self, native: Policy, conditions: Conditions, config: PrivilegedConfig, every: int) -> None:
        self.name = native.name
        self._native, self._price, self._every = native, config.latency_price, every
        self._period, self._delay = conditions.report_period_slots, conditions.decision_delay_slots
        self._stride = -(-self._period // config.truths_per_decision)
        most = config.network.max_offset
        self._offsets = torch.arange(-most, most + 1) if config.network.actions == "mcs_offset" else None
        self._noted: dict[int, list[Tensor]] = {}
        self._slot = -1

    def start(self, cell: Cell, generator: torch.Generator) -> None:
        """Begin."""
        self._cell = cell
        self._native.start(cell, generator)

    def decide(self, report: Report) -> Decision:
        """What the DU itself would do."""
        decision = self._native.decide(report)
        self._slot = report.slot
        since = report.slot - self._delay
        answered, phase = since - since % self._period, since % self._period
        if answered >= 0 and self._learnt_from(answered) and phase % self._stride == self._stride // 2:
            self._noted.setdefault(answered, []).append(self._worth(report.slot, decision.value))
        return decision

    def known(self, answered: int) -> bool:
        """Whether the decision that answered the report of this slot has been in force to its end."""
        return self._slot >= answered + self._delay + self._period - 1

    def take(self, answered: int) -> Tensor | None:
        """What each action would have been worth then, float32 [link, action]; None: not among those to learn from."""
        noted = self._noted.pop(answered, None)
        if noted is None:
            return None
        mean = torch.stack(noted).mean(dim=0)
        # The last column is what the best MCS of each slot brings.
        return mean if self._offsets is None else mean[:, :-1] / mean[:, -1:].clamp(min=_NO_GOODPUT)

    def _learnt_from(self, answered: int) -> bool:
        return answered // self._period % self._every == 0

    def _worth(self, slot: int, native_mcs: Tensor) -> Tensor:
        share = efficiency(self._cell, slot, self._price)
        if self._offsets is None:
            return share
        goodput = share * self._cell.curves.rate
        moved = (native_mcs[:, None] + self._offsets).clamp_(0, self._cell.max_mcs)
        return torch.cat([goodput.gather(1, moved), goodput.amax(dim=1, keepdim=True)], dim=1)


class Checkpoint:
    """Weights, optimiser and place of a training, in a file that says what they are of."""

    def __init__(self, path: Path, config: PrivilegedConfig, scenarios: list[Scenario]) -> None:
        self._path = path
        # A scenario's name alone would not tell that its file was changed.
        described = {scenario.name: scenario.model_dump(mode="json") for scenario in scenarios}
        self._identity = {"configuration": config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)}
        self._identity |= {"scenario": described}

    def save(self, network: PolicyNetwork, optimizer: torch.optim.Optimizer, episodes: int) -> None:
        """Write the file, whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        data = {
            "format": _FORMAT,
            "identity": json.dumps(self._identity),
            "episodes": episodes,
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        try:
            with replacing(self._path) as path:
                torch.save(data, path)
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror or error}") from None

    def load(self, network: PolicyNetwork, optimizer: torch.optim.Optimizer) -> int:
        """Read the file into both; returns the episodes that it comes after, 0 if there is none.

        Raises:
            InputError: it is damaged, or of another training.
        """
        if not self._path.exists():
            return 0
        try:
            data: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
            if data["format"] != _FORMAT:
                raise ValueError(f"its format is {data['format']!r}, not {_FORMAT!r}")
            identity, episodes = json.loads(data["identity"]), int(data["episodes"])
        except Exception as error:  # of many kinds, from zipfile to pickle
            raise InputError(f"{self._path}: no checkpoint of a privileged teacher: {one_line(error)}") from None
        differs = _difference(identity, self._identity)
        if differs is not None:
            raise InputError(f"{self._path}: of another training: {differs}")
        try:
            network.load_state_dict(data["model"])
            optimizer.load_state_dict(data["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{self._path}: of another architecture: {one_line(error)}") from None
        return episodes

    def must_not_exist(self) -> int:
        """0, the first episode of a new training.

        Raises:
            InputError: there is one, which would be lost.
        """
        if self._path.exists():
            raise InputError(f"{self._path}: there is a training already; --resume it, or take another --out")
        return 0


def _difference(theirs: Any, ours: Any, name: str = "") -> str | None:
    """The first entry, depth first, in which two trees of dicts differ, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys([*theirs, *ours]):
            found = _difference(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if theirs == ours else f"{name} was {_short(theirs)}, now it is {_short(ours)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class TrainingLog:
    """Figures of every episode: JSON lines, and TensorBoard where it is installed.

    Args:
        out: directory.
        first: episode to go on from; lines of later ones, which will be run again, are dropped.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, out: Path, first: int) -> None:
        self._path = out / LOG_FILE
        self._board = _tensorboard(out, first)
        try:
            kept = [line for line in _lines(self._path) if line["episode"] < first]
            with replacing(self._path) as path:
                path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written: {error.strerror or error}") from None

    def write(self, episode: int, scenario: str, learner: Learner, simulator: Simulator, seconds: float) -> None:
        """Add an episode."""
        counters = simulator.counters
        refused, decoded = float(counters.first_nack.sum()), float(counters.first_ack.sum())
        figures = {
            "loss": learner.loss,
            "goodput": float(counters.goodput.mean()),
            "bler": refused / (refused + decoded) if refused + decoded else None,
            "residual": float(counters.residual.sum()),
            "learning_rate": learner.learning_rate,
            "seconds": round(seconds, 3),
        }
        with self._path.open("a") as file:
            file.write(json.dumps({"episode": episode, "scenario": scenario, **figures}) + "\n")
        if self._board is not None:
            for name, value in figures.items():
                if value is not None:
                    # Families differ by more than an episode improves them, hence a curve each.
                    self._board.add_scalar(f"{name}/{scenario}", value, episode)
            self._board.flush()

    def close(self) -> None:
        """No more episodes."""
        if self._board is not None:
            self._board.close()


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a training's log, in its order."""
    return _lines(out / LOG_FILE)


def _lines(path: Path) -> list[dict[str, Any]]:
    """What can be read of a log; a killed run may have left half a line at its end."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        found.append(entry)
    return found


def _tensorboard(out: Path, first: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What an interrupted run wrote about episodes that are run again is not shown.
    return SummaryWriter(str(out), purge_step=first)


def _scenarios(config: PrivilegedConfig) -> list[Scenario]:
    """The scenarios by name, checked against the rest."""
    found = [training_domain() if name == "domain" else find_scenario(name) for name in config.scenarios]
    if config.seat == "du" and config.network.actions != "mcs":
        raise InputError(
            f"seat du with network.actions {config.network.actions}: in the DU there is no choice to shift; take mcs"
        )
    for scenario in found:
        if scenario.unseen:
            raise InputError(f"scenarios: {scenario.name} is unseen, to tell how well a policy does on what is new")
        for name, table in (("mcs_table", scenario.link.mcs_table), ("cqi_table", scenario.cqi.table)):
            ours = getattr(config.network, name)
            if table.bounds != (ours, ours):
                low, high = table.bounds
                theirs = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise InputError(f"network.{name} = {ours}: scenario {scenario.name} has {theirs}")
        period, delay = (int(x.bounds[1]) for x in (scenario.e2.period_slots, scenario.e2.delay_slots))
        # The first report at which a decision has been in force to its end, and that report's own slot.
        needed = -(-(delay + period - 1) // period) * period + 1
        if config.seat == "xapp" and config.slots < needed:
            raise InputError(f"slots = {config.slots}: scenario {scenario.name} needs {needed} or more for a decision")
    return found


def _make_banks(scenarios: list[Scenario], banks: Banks, on_bank: Progress) -> None:
    """Generate what is not in the cache, before the first episode, so that none of them waits."""
    channels = list(dict.fromkeys(channel for scenario in scenarios for channel in scenario.channels))
    for done, channel in enumerate(channels):
        on_bank(done, len(channels))
        fading_bank(channel, banks.rows, banks.slots, Split.TRAIN, banks.seed, banks.cache)
    on_bank(len(channels), len(channels))

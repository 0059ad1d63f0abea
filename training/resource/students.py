"""Students: networks that compute powers from channels in a fixed number of operations.

* `Mlp` takes the whole channel matrix as one vector, for one K; the first student of arXiv 2308.07511.
* `MessageGnn` passes messages along every pair of links, as IGCNet/WCGCN does (arXiv 2007.07632); the second student of
  arXiv 2308.07511.
* `UnrolledGnn` refines any number of candidate powers for a few rounds; its inputs are the quantities that WMMSE uses.
  Messages are products with the channel matrix, so a round costs about as much as three iterations of WMMSE.

Graph networks take any number of links K at run time, and are equivariant to the order of links.
"""

import copy
import itertools
from typing import Annotated, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils import fuse_linear_bn_eval

from distila.training.resource.problems import Channels

_SMALLEST: Final = 1e-6
"""Added before a logarithm of a value that can be 0."""
_LEAST_PRICE: Final = 1e-3
"""Price [nat] that is added to the others' loss of rate; too small to matter."""


class MlpConfig(BaseModel):
    """A multilayer perceptron."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mlp"] = "mlp"
    links: int = Field(ge=1, description="number of links K; the network works for this number only")
    hidden: tuple[int, ...] = Field(default=(200, 80, 80), description="widths of the hidden layers")
    batch_norm: bool = Field(
        default=False, description="batch norm after every layer, also on the output's logits (PCNet)"
    )


class MessageGnnConfig(BaseModel):
    """A graph network with a message along every pair of links."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["message-gnn"] = "message-gnn"
    rounds: int = Field(default=3, ge=1, description="rounds of messages, all with the same weights")
    hidden: int = Field(default=16, ge=1, description="width of messages")
    batch_norm: bool = Field(default=False, description="batch norm of the inputs and of the output's logits")


class UnrolledGnnConfig(BaseModel):
    """A graph network whose inputs are the quantities that WMMSE uses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["unrolled-gnn"] = "unrolled-gnn"
    rounds: int = Field(default=4, ge=1, description="number of rounds, each with its own weights")
    hidden: int = Field(default=16, ge=1, description="hidden width of the perceptron that updates a link")
    memory: int = Field(
        default=4, ge=0, description="width of the memory that each candidate keeps of a link between rounds"
    )
    saturated: bool = Field(default=True, description="send messages through cross / (cross + sqrt(1 + direct)) too")
    weighted: bool = Field(default=False, description="use the weights of the links as inputs")


StudentConfig = Annotated[MlpConfig | MessageGnnConfig | UnrolledGnnConfig, Field(discriminator="kind")]


class _Amplitudes(nn.Module):
    """Scales the amplitudes of a channel to zero mean and unit standard deviation over the training instances."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def fit(self, given: Channels) -> None:
        """Set mean and standard deviation from instances."""
        amplitude = given.snr.sqrt()
        self.mean, self.deviation = amplitude.mean(), amplitude.std()

    def forward(self, snr: Tensor) -> Tensor:
        """SNR to scaled amplitude, float32 of the same shape."""
        return (snr.sqrt() - self.mean) / self.deviation


class Mlp(nn.Module):
    """A perceptron from the whole channel matrix, as one vector, to the powers of all links."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [config.links**2, *config.hidden, config.links]
        layers: list[nn.Module] = []
        for place, (size, next_size) in enumerate(itertools.pairwise(sizes)):
            layers.append(nn.Linear(size, next_size))
            layers += [nn.BatchNorm1d(next_size)] * config.batch_norm
            layers += [nn.ReLU()] * (place < len(config.hidden))
        self.layers = nn.Sequential(*layers)
        self.amplitudes = _Amplitudes()

    def forward(self, snr: Tensor) -> Tensor:
        """float32 [instance, rx, tx] to power, float32 [instance, 1, link]."""
        return torch.sigmoid(self.layers(self.amplitudes(snr).flatten(1))).unsqueeze(1)


class FoldedMlp(nn.Module):
    """A perceptron for inference: scaling of amplitudes and batch norm are folded into the weights."""

    def __init__(self, student: Mlp) -> None:
        super().__init__()
        self.config = student.config
        layers: list[nn.Module] = []
        for layer in student.layers:
            if isinstance(layer, nn.BatchNorm1d):
                linear = layers.pop()
                assert isinstance(linear, nn.Linear)
                layers.append(fuse_linear_bn_eval(linear, layer))
            else:
                layers.append(copy.deepcopy(layer))
        first = layers[0]
        assert isinstance(first, nn.Linear)
        with torch.no_grad():
            first.weight.div_(student.amplitudes.deviation)
            first.bias.sub_(first.weight.sum(1) * student.amplitudes.mean)
        self.layers = nn.Sequential(*layers)

    def forward(self, snr: Tensor) -> Tensor:
        """Float32 [instance, rx, tx] to power, float32 [instance, 1, link], as `Mlp.forward`."""
        return torch.sigmoid(self.layers(snr.sqrt().flatten(1))).unsqueeze(1)


class MessageGnn(nn.Module):
    """In every round, each link gets a message from every other link about its features, power and mutual interference.

    A message is ``relu(A [direct, power] of the sender + b cross + c cross back)``. A perceptron maps the mean over the
    senders and the receiver's own state to the logit of its power. A linear layer after the ``relu`` would commute with
    the mean, so it is part of that perceptron.
    """

    def __init__(self, config: MessageGnnConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden
        self.sender = nn.Linear(2, width)
        self.to_me, self.to_them = nn.Parameter(torch.randn(width) / 2), nn.Parameter(torch.randn(width) / 2)
        self.update = nn.Sequential(nn.Linear(width + 2, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))
        self.amplitudes = _Amplitudes()
        # Each round has its own norms, since powers, and so messages, differ from round to round.
        norm = nn.BatchNorm1d if config.batch_norm else nn.Identity
        self.norms_in = nn.ModuleList(norm(width + 2) for _ in range(config.rounds))
        self.norms_out = nn.ModuleList(norm(1) for _ in range(config.rounds))

    def forward(self, snr: Tensor) -> Tensor:
        """float32 [instance, rx, tx] to power, float32 [instance, 1, link]."""
        amplitude = self.amplitudes(snr)
        count, links = snr.shape[0], snr.shape[1]
        direct = torch.diagonal(amplitude, dim1=1, dim2=2)
        index = torch.arange(links, device=snr.device)
        others = (index.unsqueeze(0) != index.unsqueeze(1)).float().unsqueeze(-1)
        pair = amplitude.unsqueeze(-1) * self.to_me + amplitude.transpose(1, 2).unsqueeze(-1) * self.to_them
        power = torch.ones_like(direct)
        for norm_in, norm_out in zip(self.norms_in, self.norms_out, strict=True):
            own = torch.stack((direct, power), -1)
            message = torch.relu(pair + self.sender(own).unsqueeze(1)) * others
            seen = torch.cat((message.sum(2) / max(links - 1, 1), own), -1)
            logit = norm_out(self.update(norm_in(seen.flatten(0, 1))))
            power = torch.sigmoid(logit.reshape(count, links))
        return power.unsqueeze(1)


class UnrolledGnn(nn.Module):
    """Refines candidate powers round by round, from the quantities that WMMSE uses.

    For each link and candidate, the inputs of a round are: the logit of its power, its SNR, interference and total
    received power; the price that other links pay for its power (the derivative of their rates, the denominator of
    WMMSE); how far interference exceeds the square root of the SNR of the link that it hits (interference up to about
    that level is best treated as noise); and a memory of its own. A perceptron updates logit and memory.
    """

    def __init__(self, config: UnrolledGnnConfig) -> None:
        super().__init__()
        self.config = config
        seen = 6 + 2 * config.saturated + config.weighted + config.memory
        self.rounds = nn.ModuleList(
            nn.Sequential(nn.Linear(seen, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1 + config.memory))
            for _ in range(config.rounds)
        )
        with torch.no_grad():
            for update in self.rounds:
                update[2].weight.mul_(0.3)  # type: ignore[index]

    def forward(self, snr: Tensor, start: Tensor, weight: Tensor | None = None) -> Tensor:
        """Candidates after the last round.

        Args:
            snr: float32 [instance, rx, tx].
            start: float32 [instance, start, link], powers before the first round.
            weight: float32 [instance, link], for a student that uses weights.

        Returns:
            power, float32 [instance, start, link].
        """
        return self.steps(snr, start, weight)[-1]

    def steps(self, snr: Tensor, start: Tensor, weight: Tensor | None = None) -> list[Tensor]:
        """Candidates after each round, each float32 [instance, start, link]."""
        index = torch.arange(snr.shape[1], device=snr.device)
        cross = snr.masked_fill(index.unsqueeze(0) == index.unsqueeze(1), 0.0)
        direct = torch.diagonal(snr, dim1=1, dim2=2).unsqueeze(1)  # [instance, 1, link]
        known = [(torch.log(direct + _SMALLEST) * 0.5).expand_as(start)]
        if weight is not None and self.config.weighted:
            known.append(torch.log(weight + _SMALLEST).unsqueeze(1).expand_as(start))
        constant = torch.stack(known)
        back = cross.transpose(1, 2)
        if self.config.saturated:
            strong = cross / (cross + torch.sqrt(1 + direct).transpose(1, 2))
        # [feature, instance, start, link] throughout: perceptrons are then products with long rows
        logit = torch.logit(start.clamp(0.02, 0.98)).unsqueeze(0)
        state = logit
        if self.config.memory:
            state = torch.cat((logit, torch.zeros_like(logit).expand(self.config.memory, -1, -1, -1)))
        power = torch.sigmoid(state[0])
        found: list[Tensor] = []
        for update in self.rounds:
            noise = torch.bmm(power, back) + 1  # interference and noise
            signal = direct * power
            total = noise + signal
            sensitivity = signal / (noise * total)
            if weight is not None and self.config.weighted:
                sensitivity = sensitivity * weight.unsqueeze(1)
            price = torch.bmm(sensitivity, cross) + _LEAST_PRICE
            logs = torch.log(torch.stack((noise, noise + direct, total, price)))
            seen = [state, constant, logs]
            if self.config.saturated:
                conflicts = torch.bmm(power, strong), torch.bmm(power, strong.transpose(1, 2))
                seen += [sum_.unsqueeze(0) for sum_ in conflicts]
            columns = torch.cat(seen).flatten(1)
            first, second = update[0], update[2]  # type: ignore[index]
            hidden = torch.relu(torch.addmm(first.bias.unsqueeze(1), first.weight, columns))
            moves = torch.addmm(second.bias.unsqueeze(1), second.weight, hidden)
            state = state + moves.reshape(state.shape)
            power = torch.sigmoid(state[0])
            found.append(power)
        return found


Student = Mlp | FoldedMlp | MessageGnn | UnrolledGnn


def make_student(config: MlpConfig | MessageGnnConfig | UnrolledGnnConfig) -> Student:
    """Make a student; its weights are drawn from torch's global generator, which the training seeds."""
    if isinstance(config, MlpConfig):
        return Mlp(config)
    return MessageGnn(config) if isinstance(config, MessageGnnConfig) else UnrolledGnn(config)


def as_used(student: Student) -> Student:
    """The student for inference: everything that does not depend on the instances is computed once."""
    return FoldedMlp(student).eval() if isinstance(student, Mlp) else student


def allocate(student: Student, given: Channels, start: Tensor) -> Tensor:
    """Powers that a student sets; a student that takes no starts gives one candidate.

    Args:
        student: a student of any kind.
        given: the instances.
        start: float32 [instance, start, link].

    Returns:
        float32 [instance, start or 1, link].
    """
    unrolled = isinstance(student, UnrolledGnn)
    power: Tensor = student(given.snr, start, given.weight) if unrolled else student(given.snr)
    return power

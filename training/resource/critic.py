"""Critics for reinforcement learning: they predict the sum rate of powers, for one number of links K or for any.

A critic takes as many links as the student that it trains.
"""

import torch
from torch import Tensor, nn

from distila.training.resource.students import MessageGnnConfig, MlpConfig, UnrolledGnnConfig


class MlpCritic(nn.Module):
    """A perceptron from channel matrix and powers, as one vector, to a value."""

    def __init__(self, links: int, hidden: int) -> None:
        super().__init__()
        width = 4 * hidden
        self.layers = nn.Sequential(
            nn.Linear(links * (links + 1), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, snr: Tensor, power: Tensor) -> Tensor:
        """float32 [instance, rx, tx] and [instance, link] to value, float32 [instance]."""
        value: Tensor = self.layers(torch.cat((snr.sqrt().flatten(1), power), 1)).squeeze(1)
        return value


class GraphCritic(nn.Module):
    """Computes a value for every link from its gain, power and interference; the critic's value is their sum.

    The interference from a transmitter is a learnt function of its gain, times its power.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.randn(hidden)), nn.Parameter(torch.randn(hidden))
        self.link_value = nn.Sequential(nn.Linear(hidden + 2, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 1))

    def forward(self, snr: Tensor, power: Tensor) -> Tensor:
        """float32 [instance, rx, tx] and [instance, link] to value, float32 [instance]."""
        amplitude = snr.sqrt()
        links = snr.shape[1]
        direct = torch.diagonal(amplitude, dim1=1, dim2=2)
        # from transmitter to receiver, [instance, rx, tx, hidden]
        message = torch.relu(amplitude.unsqueeze(-1) * self.gain + self.offset)
        received = (message * power.unsqueeze(1).unsqueeze(-1)).sum(2) / links
        values = self.link_value(torch.cat((received, torch.stack((direct, power), -1)), -1))
        value: Tensor = values.sum((1, 2))
        return value


def make_critic(student: MlpConfig | MessageGnnConfig | UnrolledGnnConfig, hidden: int) -> MlpCritic | GraphCritic:
    """Make a critic for a student; its weights are drawn from torch's global generator."""
    return MlpCritic(student.links, hidden) if isinstance(student, MlpConfig) else GraphCritic(hidden)

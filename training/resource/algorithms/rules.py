"""Simple rules without iterations: the baselines that algorithms have to beat."""

import torch
from torch import Tensor

from distila.training.resource.problems import Channels, link_rates


def all_on(given: Channels) -> Tensor:
    """Full power for every link; float32 [instance, 1, link]."""
    return torch.ones(len(given), 1, given.links)


def random_power(given: Channels, generator: torch.Generator) -> Tensor:
    """Uniformly random power for every link; float32 [instance, 1, link]."""
    return torch.rand(len(given), 1, given.links, generator=generator)


def strongest_only(given: Channels) -> Tensor:
    """Full power for the link with the highest weighted rate, none for the others; float32 [instance, 1, link]."""
    place = (torch.log2(1 + given.direct) * given.weight.unsqueeze(1)).argmax(-1, keepdim=True)
    return torch.zeros_like(given.direct).scatter_(-1, place, 1.0)


def greedy(given: Channels) -> Tensor:
    """The greedy scheduler of the D2D literature; float32 [instance, 1, link].

    It takes the links by descending SNR times weight, and switches on each one that raises the weighted sum rate.
    """
    count, rows = len(given), torch.arange(len(given))
    order = (given.direct.squeeze(1) * given.weight).argsort(dim=1, descending=True)
    power, best = torch.zeros(count, 1, given.links), torch.zeros(count)
    for place in range(given.links):
        trial = power.clone()
        trial[rows, 0, order[:, place]] = 1.0
        rate = (link_rates(given, trial).squeeze(1) * given.weight).sum(1)
        better = rate > best
        power, best = torch.where(better.view(-1, 1, 1), trial, power), torch.maximum(rate, best)
    return power

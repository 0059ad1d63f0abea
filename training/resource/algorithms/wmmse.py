"""WMMSE for single-antenna links (Shi, Razaviyayn, Luo and He, IEEE Trans. Signal Process. 2011).

With amplitude ``v`` (power is its square), receiver ``u`` and weight ``w`` of the squared error, noise 1, and gains
``h = sqrt(snr)``, it iterates

    u_i = h_ii v_i / (sum_j h_ij^2 v_j^2 + 1)
    w_i = 1 / (1 - u_i h_ii v_i)                                  = 1 + SINR_i
    v_i = alpha_i w_i u_i h_ii / sum_j alpha_j w_j u_j^2 h_ji^2,  limited to 0..1

For such links FPLinQ's continuous iteration is the same one in other variables
(`distila.training.resource.algorithms.fplinq`): as teachers, the two differ only in their start and in how the result
is used.
"""

from typing import Final

import torch
from torch import Tensor

from distila.training.resource.problems import Channels, sum_rate
from distila.xapp.errors import InputError

ITERATIONS: Final = 100
"""Number of iterations, as in the literature, which fixes it instead of waiting for convergence."""
_SMALLEST: Final = 1e-30


def wmmse(given: Channels, start: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Powers after a number of iterations, from every start.

    Args:
        given: the instances.
        start: float32 [instance, start, link], powers; a link that starts at 0 stays there.
        iterations: number of iterations.

    Returns:
        power, float32 [instance, start, link].
    """
    direct, cross, alpha = given.direct, given.cross, given.weights
    back = cross.transpose(1, 2)
    v = start.sqrt()
    for _ in range(iterations):
        power = v * v
        noise = torch.bmm(power, back).add_(1)  # interference and noise
        signal = direct * power
        # alpha w u^2: with u = h v / (noise + signal) and w = (noise + signal) / noise
        price = signal / (noise * (noise + signal))
        # alpha w u h
        pull = direct * v / noise
        if alpha is not None:
            price, pull = price * alpha, pull * alpha
        total = torch.bmm(price, cross).addcmul_(direct, price)
        v = (pull / total.add_(_SMALLEST)).clamp_(0, 1)
    return v * v


def all_ones(given: Channels) -> Tensor:
    """The usual start: every link at full power; float32 [instance, 1, link]."""
    return torch.ones(len(given), 1, given.links)


def random_starts(given: Channels, starts: int, generator: torch.Generator) -> Tensor:
    """Full power as the first start, then uniformly random powers; float32 [instance, start, link]."""
    drawn = torch.rand(len(given), starts, given.links, generator=generator)
    drawn[:, 0] = 1
    return drawn


def best_start(given: Channels, power: Tensor) -> Tensor:
    """The candidate with the highest sum rate; float32 [instance, start, link] to [instance, 1, link]."""
    place = sum_rate(given, power).argmax(1)
    return power[torch.arange(len(power)), place].unsqueeze(1)


def check_converged(given: Channels, power: Tensor, name: str, tolerance: float = 0.01, share: float = 0.05) -> None:
    """Check that an algorithm has converged and may teach: one more iteration hardly raises the sum rate.

    Args:
        given: the instances.
        power: float32 [instance, 1, link].
        name: name of the algorithm, for the error message.
        tolerance: relative gain of sum rate in one more iteration that counts as converged.
        share: share of the instances that may gain more than that.

    Raises:
        InputError: powers are not finite, or more instances than that have not converged.
    """
    if not bool(torch.isfinite(power).all()):
        raise InputError(f"teacher {name}: its powers are not finite")
    before, after = sum_rate(given, power), sum_rate(given, wmmse(given, power, 1))
    moving = (after - before) > tolerance * before.clamp(min=_SMALLEST)
    if int(moving.sum()) > share * len(given):
        raise InputError(
            f"teacher {name}: did not converge for {int(moving.sum())} of {len(given)} instances (another iteration"
            f" adds more than {100 * tolerance:g} %); give it more iterations"
        )

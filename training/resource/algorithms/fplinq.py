"""FPLinQ: link scheduling by fractional programming (Shen and Yu, IEEE Trans. Wireless Commun. 2017).

In FPLinQ's own variables, with noise power 1 and ``x`` the power:

    z_i = g_ii x_i / (sum_{j != i} g_ij x_j + 1)
    y_i = sqrt(alpha_i (1 + z_i) g_ii x_i) / (sum_j g_ij x_j + 1)
    x_i = min(1, (y_i sqrt(alpha_i (1 + z_i) g_ii) / sum_j g_ji y_j^2)^2)

This is WMMSE (`distila.training.resource.algorithms.wmmse`): ``alpha w u^2 = y^2``, and ``x`` is the square of WMMSE's
``v``.
"""

import torch
from torch import Tensor

from distila.training.resource.algorithms.wmmse import ITERATIONS
from distila.training.resource.problems import Channels

_SMALLEST = 1e-30


def fplinq(given: Channels, start: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Continuous powers after a number of iterations; shapes as `distila.training.resource.algorithms.wmmse.wmmse`."""
    snr, back = given.snr, given.snr.transpose(1, 2)
    alpha = given.weight.unsqueeze(1)
    x = start
    for _ in range(iterations):
        noise = torch.bmm(x, given.cross.transpose(1, 2)) + 1
        z = given.direct * x / noise
        total = torch.bmm(x, back) + 1
        pull = torch.sqrt(alpha * (1 + z) * given.direct)
        y = pull * x.sqrt() / total
        x = (y * pull / (torch.bmm(y * y, snr) + _SMALLEST)).square().clamp(max=1)
    return x


def schedule(power: Tensor) -> Tensor:
    """Switch links on or off: full power above half the full amplitude, a quarter of the power (``sqrt(x) > 0.5``)."""
    return (power > 0.25).float()

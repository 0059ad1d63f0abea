"""WMMSE for transmitters with several antennas. Here it differs from FPLinQ: it adapts beams, FPLinQ powers only.

Channels are ``h[instance, rx, tx, antenna]``, complex64, amplitudes at full power over the noise amplitude. Receiver
``r`` gets ``sum_t h[r, t]^H v_t`` and noise of power 1; beams ``v[instance, tx, antenna]``, complex64, of norm <= 1.
"""

from typing import Final

import torch
from torch import Tensor

from distila.training.resource.algorithms.wmmse import ITERATIONS
from distila.training.resource.problems import Channels, channels
from distila.xapp.errors import InputError

_BISECTIONS: Final = 40


def rayleigh_miso(count: int, links: int, antennas: int, snr_db: float, generator: torch.Generator) -> Tensor:
    """Draw Rayleigh channels: entries are CN(0, 1) times the root of the SNR; complex64 [instance, rx, tx, antenna]."""
    parts = torch.randn(count, links, links, antennas, 2, generator=generator)
    h: Tensor = torch.view_as_complex(parts) * (10 ** (snr_db / 10) / 2) ** 0.5
    return h


def matched_beams(h: Tensor) -> Tensor:
    """Every transmitter points its beam at its own receiver, at full power; complex64 [instance, tx, antenna]."""
    own = torch.diagonal(h, dim1=1, dim2=2).transpose(1, 2)
    beams: Tensor = own / torch.linalg.vector_norm(own, dim=-1, keepdim=True)
    return beams


def under_beams(h: Tensor, beams: Tensor) -> Channels:
    """The single-antenna problem that remains when beams are fixed and only powers can change.

    Raises:
        InputError: see `distila.training.resource.problems.channels`.
    """
    return channels(torch.einsum("brtm,btm->brt", h.conj(), beams).abs().square(), name="channel under beams")


def miso_wmmse(h: Tensor, beams: Tensor | None = None, iterations: int = ITERATIONS) -> Tensor:
    """Beams after a number of iterations, with weight 1 for every link (Shi, Razaviyayn, Luo and He, 2011, Table I).

    Args:
        h: complex64 [instance, rx, tx, antenna].
        beams: complex64 [instance, tx, antenna], beams to start from; None: `matched_beams`.
        iterations: number of iterations.

    Returns:
        complex64 [instance, tx, antenna].

    Raises:
        InputError: the channel is not square, empty or not finite.
    """
    if h.ndim != 4 or h.shape[1] != h.shape[2] or h.numel() == 0:
        raise InputError(f"channel: {'x'.join(map(str, h.shape))}; must be instances x links x links x antennas")
    if not bool(torch.isfinite(h).all()):
        raise InputError("channel: has entries that are not finite")
    v = matched_beams(h) if beams is None else beams
    own = torch.diagonal(h, dim1=1, dim2=2).transpose(1, 2)  # [instance, link, antenna]
    for _ in range(iterations):
        received = torch.einsum("brtm,btm->brt", h.conj(), v)
        total = received.abs().square().sum(-1) + 1
        own_signal = torch.diagonal(received, dim1=1, dim2=2)
        u = own_signal / total
        w = 1 / (1 - own_signal.abs().square() / total)
        price = (w * u.abs().square()).to(h.dtype)
        matrix = torch.einsum("br,brtm,brtn->btmn", price, h, h.conj())
        v = _within_power(matrix, own * (w * u).unsqueeze(-1))
    return v


def _within_power(matrix: Tensor, pull: Tensor) -> Tensor:
    """``(matrix + mu I)^-1 pull`` with the smallest mu that keeps its norm within 1, found by bisection."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp(min=1e-9)
    turned = torch.einsum("btmn,btm->btn", vectors.conj(), pull)
    strength = turned.abs().square()
    low = torch.zeros_like(values[..., :1])
    high = torch.linalg.vector_norm(pull, dim=-1, keepdim=True)  # at this mu the norm is 1 at most
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_long = (strength / (values + middle).square()).sum(-1, keepdim=True) > 1
        low, high = torch.where(too_long, middle, low), torch.where(too_long, high, middle)
    free = (strength / values.square()).sum(-1, keepdim=True) <= 1
    mu = torch.where(free, 0.0, high)
    return torch.einsum("btmn,btn->btm", vectors, turned / (values + mu))

"""CSI, precoder and receiver: from a UE's rays to the gain of every layer; see `distila.training.sim.channels`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from distila.training.sim.rays import Rays, phasor, summed, tones
from distila.training.sim.scenario import ChannelConfig

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERS_PER_BLOCK = 1 << 22
"""Largest size of intermediate arrays [complex numbers]."""


def beams_of(config: ChannelConfig, rays: Rays, slots: int) -> Tensor:
    """The channel behind the precoder, H W of the highest rank, complex64 [slot, prb, rx, layer]."""
    import torch

    antennas = config.antennas
    num_rays, num_rx, num_tx = rays.amplitude.shape
    layers, slot_s = antennas.max_rank, config.slot_us * 1e-6
    # Without a precoder, intervals only limit the number of phasors.
    period = antennas.csi_period_slots if num_tx > 1 else min(slots, 64)
    tone = tones(config, rays.delay_s)
    num_prb = tone.shape[1]
    by_antenna = rays.amplitude.reshape(num_rays * num_rx, num_tx)
    starts = np.arange(0, slots, period)
    beams = torch.empty(starts.size, period, num_prb, num_rx, layers, dtype=torch.complex64)
    per_interval = num_rays * (num_rx * layers + num_prb) + num_prb * num_rx * num_tx
    for some in np.array_split(np.arange(starts.size), math.ceil(starts.size * per_interval / _NUMBERS_PER_BLOCK)):
        at_start = phasor(starts[some][:, None] * slot_s * rays.doppler_hz)  # [interval, ray]
        if num_tx > 1:
            then = phasor((starts[some][:, None] - antennas.csi_delay_slots) * slot_s * rays.doppler_hz)
            precoder = _precoder((then[:, None] * tone.T).flatten(0, 1), rays.amplitude, len(some), layers)
        else:
            precoder = torch.ones(1, len(some) * layers, dtype=torch.complex64)
        precoded = (by_antenna @ precoder).reshape(num_rays, num_rx, len(some), layers)
        precoded = precoded.permute(2, 1, 3, 0) * at_start[:, None, None, :]  # [interval, rx, layer, ray]
        step = max(1, _NUMBERS_PER_BLOCK // (num_rays * num_prb))
        for begin in range(0, period, step):
            offsets = np.arange(begin, min(begin + step, period))
            response = summed(precoded.reshape(-1, num_rays), rays.doppler_hz, tone, offsets, slot_s)
            response = response.reshape(len(some), num_rx, layers, offsets.size, num_prb)
            beams[some[0] : some[-1] + 1, begin : begin + offsets.size] = response.permute(0, 3, 4, 1, 2)
    return beams.flatten(0, 1)[:slots]


def _precoder(phasors: Tensor, amplitude: Tensor, intervals: int, layers: int) -> Tensor:
    """Strongest eigenvectors of the PRBs' mean H^H H, [tx, interval x layer]; phasors [interval x prb, ray]."""
    import torch

    num_rays, _, num_tx = amplitude.shape
    channel = (phasors @ amplitude.reshape(num_rays, -1)).reshape(intervals, -1, num_tx)  # [interval, prb x rx, tx]
    _, vectors = torch.linalg.eigh(channel.mH @ channel)
    strongest: Tensor = vectors[..., -layers:].flip(-1)  # eigh sorts in ascending order
    return strongest.permute(1, 0, 2).reshape(num_tx, -1)


def layer_gains(beams: Tensor) -> list[Tensor]:
    """Post-combining gain of every layer for every rank: float32 [slot, prb, rank], rank 1 first.

    With G = Q R, (G^H G)^-1 is R^-1 R^-H, and the first r columns of G have the leading r x r blocks of R and R^-1:
    one decomposition (modified Gram-Schmidt) serves all ranks.

    Args:
        beams: channel behind the precoder, [slot, prb, rx, layer].
    """
    import torch

    layers = beams.shape[-1]
    columns = [beams[..., layer].movedim(-1, 0).contiguous() for layer in range(layers)]  # each [rx, slot, prb]
    length: list[Tensor] = []
    upper: dict[tuple[int, int], Tensor] = {}
    for k in range(layers):
        # Keeps the gain of a layer that has no channel of its own near zero instead of undefined.
        length.append(columns[k].abs().square().sum(0).sqrt().clamp_min(1e-9))
        unit = columns[k] / length[k]
        for m in range(k + 1, layers):
            upper[k, m] = (unit.conj() * columns[m]).sum(0)
            columns[m] = columns[m] - unit * upper[k, m]
    inverse: dict[tuple[int, int], Tensor] = {}
    diagonal = [torch.zeros_like(length[0]) for _ in range(layers)]
    gains: list[Tensor] = []
    for m in range(layers):
        inverse[m, m] = torch.complex(1 / length[m], torch.zeros_like(length[m]))
        for row in range(m):
            above = sum((inverse[row, k] * upper[k, m] for k in range(row + 1, m)), inverse[row, row] * upper[row, m])
            inverse[row, m] = -above / length[m]
        for row in range(m + 1):
            diagonal[row] = diagonal[row] + inverse[row, m].abs().square()
        gains.append(torch.stack([1 / ((m + 1) * value) for value in diagonal[: m + 1]], dim=-1))
    return gains

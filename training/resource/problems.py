"""Interference channels, batched: K links share a band, every transmitter disturbs every receiver.

One convention everywhere in this package:

* ``snr[instance, rx, tx]``: power that receiver ``rx`` gets from transmitter ``tx`` at full power, over noise power;
  linear, no unit. The diagonal holds the links themselves. The noise power is therefore 1.
* ``power[instance, start, link]``: share of full power, 0 to 1. An instance may have several powers at once: one for
  each start of an iterative algorithm.
* ``weight[instance, link]``: weight of a link's rate in the sum rate.
* Rates are in bit/s/Hz.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from distila.xapp.errors import InputError


@dataclass(frozen=True)
class Channels:
    """Instances of the problem, all with the same number of links; `channels` checks and builds them.

    Attributes:
        snr: float32 [instance, rx, tx].
        weight: float32 [instance, link], weights of the links' rates.
    """

    snr: Tensor
    weight: Tensor

    @cached_property
    def direct(self) -> Tensor:
        """SNR of each link alone; float32 [instance, 1, link]."""
        return torch.diagonal(self.snr, dim1=1, dim2=2).unsqueeze(1).contiguous()

    @cached_property
    def cross(self) -> Tensor:
        """The SNR of interference: zero on the diagonal; float32 [instance, rx, tx].

        Interference is summed without the link's own power. Subtracting that from the total would lose precision.
        """
        cross = self.snr.clone()
        torch.diagonal(cross, dim1=1, dim2=2).zero_()
        return cross

    @cached_property
    def weights(self) -> Tensor | None:
        """The weights as [instance, 1, link], or None where all are 1."""
        return None if bool((self.weight == 1).all()) else self.weight.unsqueeze(1)

    @property
    def links(self) -> int:
        """Number of links, K."""
        return self.snr.shape[1]

    def __len__(self) -> int:
        return len(self.snr)

    def __getitem__(self, where: slice | Tensor) -> "Channels":
        return Channels(self.snr[where], self.weight[where])


def channels(snr: Tensor, weight: Tensor | None = None, name: str = "channel") -> Channels:
    """Build channels from SNR and weights, which are checked.

    Args:
        snr: [instance, rx, tx] or, of one instance, [rx, tx].
        weight: [instance, link] or [link]; None: all 1.
        name: what the error message calls the channel.

    Raises:
        InputError: the matrices are not square or are empty, or an entry is negative or not finite.
    """
    snr = snr.unsqueeze(0) if snr.ndim == 2 else snr
    shape = "x".join(map(str, snr.shape))
    if snr.ndim != 3 or snr.shape[1] != snr.shape[2]:
        raise InputError(f"{name}: {shape}; must be square (receivers x transmitters), one matrix or several")
    if snr.numel() == 0:
        raise InputError(f"{name}: {shape}; there is no link in it")
    _check_entries(snr, f"{name}[{{}}]")
    if weight is None:
        weight = torch.ones(snr.shape[:2])
    if (
        weight.ndim not in (1, 2)
        or weight.shape[-1] != snr.shape[1]
        or weight.shape[:-1] not in ((), (1,), snr.shape[:1])
    ):
        given = "x".join(map(str, weight.shape))
        raise InputError(f"{name}: weights are {given}; must be {snr.shape[1]}, or {snr.shape[0]}x{snr.shape[1]}")
    weight = weight.expand(snr.shape[:2])
    _check_entries(weight, f"{name}: weight[{{}}]")
    return Channels(snr.float().contiguous(), weight.float().contiguous())


def _check_entries(values: Tensor, name: str) -> None:
    wrong = ~torch.isfinite(values) | (values < 0)
    if bool(wrong.any()):
        place = wrong.nonzero()[0].tolist()
        value = float(values[tuple(place)])
        raise InputError(f"{name.format(', '.join(map(str, place)))} is {value:g}; must be finite and not negative")


def interference(given: Channels, power: Tensor) -> Tensor:
    """Interference and noise, over noise, at every receiver.

    Args:
        given: the instances.
        power: float32 [instance, start, tx].

    Returns:
        float32 [instance, start, rx], at least 1.
    """
    # Row vectors times matrices: torch multiplies many small ones fastest this way.
    return torch.bmm(power, given.cross.transpose(1, 2)).add_(1)


def link_rates(given: Channels, power: Tensor) -> Tensor:
    """Unweighted rate of every link [bit/s/Hz]: ``log2(1 + SINR)``; float32 [instance, start, link]."""
    return torch.log2(1 + given.direct * power / interference(given, power))


def sum_rate(given: Channels, power: Tensor) -> Tensor:
    """Weighted sum rate [bit/s/Hz]; power float32 [instance, start, link] to float32 [instance, start]."""
    rates = link_rates(given, power)
    return rates.sum(-1) if given.weights is None else (rates * given.weights).sum(-1)


def rayleigh(count: int, links: int, snr_db: float, generator: torch.Generator, weighted: bool = False) -> Channels:
    """Draw Rayleigh channels: every path, also a link's own, is CN(0, 1), so its power gain is exponential.

    The mean SNR of every path is ``snr_db`` [dB].

    Weights are 1 or, if ``weighted``, uniform between 0 and 2.
    """
    parts = torch.randn(count, links, links, 2, generator=generator)
    weight = 2 * torch.rand(count, links, generator=generator) if weighted else None
    return channels(parts.square().sum(-1) / 2 * 10 ** (snr_db / 10), weight)


def rayleigh_amplitude(count: int, links: int, generator: torch.Generator) -> Channels:
    """The setting inferred from the curves of arXiv 2308.07511: the amplitude |CN(0, 1)| taken as gain, noise 1."""
    parts = torch.randn(count, links, links, 2, generator=generator)
    return channels((parts.square().sum(-1) / 2).sqrt())


@dataclass(frozen=True)
class D2dLayout:
    """A square field with transmitters anywhere in it and each receiver near its transmitter.

    The defaults are those of the D2D literature.
    """

    field_m: float = 1000.0
    """side of the square [m]"""
    shortest_m: float = 2.0
    """shortest distance between the ends of a link [m]"""
    longest_m: float = 65.0
    """longest distance between the ends of a link [m]"""
    fading: bool = True
    """True: log-normal shadowing and Rayleigh fading; False: path loss alone"""
    shadowing_db: float = 8.0
    """standard deviation of the shadowing [dB]"""
    carrier_hz: float = 2.4e9
    antenna_height_m: float = 1.5
    antenna_gain_db: float = 2.5
    """antenna gain of a link itself, not of interference [dB]"""
    tx_power_dbm: float = 40.0
    noise_dbm_per_hz: float = -169.0
    bandwidth_hz: float = 5e6

    @property
    def snr_scale(self) -> float:
        """Transmit power over noise power, linear."""
        noise_dbm = self.noise_dbm_per_hz + 10 * math.log10(self.bandwidth_hz)
        return float(10 ** ((self.tx_power_dbm - noise_dbm) / 10))


_LIGHT_M_PER_S: Final = 2.998e8
_SHORTEST_PATH_M: Final = 1.0


def itu_1411_loss_db(distance_m: Tensor, layout: D2dLayout) -> Tensor:
    """Median path loss [dB] of short-range line of sight: ITU-R P.1411, two slopes that meet at the break point."""
    wavelength_m = _LIGHT_M_PER_S / layout.carrier_hz
    height_m = layout.antenna_height_m
    break_m = 4 * height_m**2 / wavelength_m
    at_break_db = abs(20 * math.log10(wavelength_m**2 / (8 * math.pi * height_m**2)))
    beyond = 20 * torch.log10(distance_m / break_m)
    return at_break_db + 6 + beyond + beyond.clamp(min=0)


def d2d(count: int, links: int, layout: D2dLayout, generator: torch.Generator) -> Channels:
    """Drop device-to-device links in a field, as the experiments of FPLinQ and later papers do."""
    tx = torch.rand(count, links, 1, 2, generator=generator) * layout.field_m
    rx = torch.full((count, links, 1, 2), math.nan)
    outside = torch.ones(count, links, 1, dtype=torch.bool)
    while bool(outside.any()):  # a receiver outside the field is drawn again
        span = layout.longest_m - layout.shortest_m
        radius = layout.shortest_m + span * torch.rand(count, links, 1, generator=generator)
        angle = 2 * math.pi * torch.rand(count, links, 1, generator=generator)
        drawn = tx + torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
        rx = torch.where(outside.unsqueeze(-1), drawn, rx)
        outside = ((rx < 0) | (rx > layout.field_m)).any(-1)
    distance_m = (rx - tx.transpose(1, 2)).norm(dim=-1).clamp(min=_SHORTEST_PATH_M)  # [instance, rx, tx]
    gain_db = -itu_1411_loss_db(distance_m, layout)
    gain_db += layout.antenna_gain_db * torch.eye(links)
    if layout.fading:
        gain_db += layout.shadowing_db * torch.randn(count, links, links, generator=generator)
    gain = 10 ** (gain_db / 10)
    if layout.fading:
        parts = torch.randn(count, links, links, 2, generator=generator)
        gain *= parts.square().sum(-1) / 2
    return channels(gain * layout.snr_scale)


Draw = Callable[[int, int, torch.Generator], Channels]

SETTINGS: Final[dict[str, Draw]] = {
    "rayleigh-10db": lambda count, links, generator: rayleigh(count, links, 10.0, generator),
    "rayleigh-0db": lambda count, links, generator: rayleigh(count, links, 0.0, generator),
    "rayleigh-10db-weighted": lambda count, links, generator: rayleigh(count, links, 10.0, generator, weighted=True),
    "seed": rayleigh_amplitude,
    "d2d-1000m": lambda count, links, generator: d2d(count, links, D2dLayout(), generator),
    "d2d-1000m-path-loss": lambda count, links, generator: d2d(count, links, D2dLayout(fading=False), generator),
    "d2d-500m": lambda count, links, generator: d2d(count, links, D2dLayout(field_m=500.0), generator),
}
"""Each setting draws instances: it takes their number, the number of links, and the generator."""

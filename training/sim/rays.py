"""The rays of UEs as Sionna draws them, and their sum in time and frequency; see `distila.training.sim.channels`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from distila.training.sim.link_budget import CELLS, UE_HEIGHT_M, budget_db
from distila.training.sim.scenario import SYSTEM_LEVEL, ChannelConfig
from distila.xapp.nr.arrays import Float32Array, Float64Array

if TYPE_CHECKING:
    from torch import Tensor

LIGHT_M_PER_S: Final = 299_792_458.0

_SINUSOIDS = 20
"""Sinusoids of a tap; Sionna's default."""
_TDL_LOS_COSINE = 0.7
"""Doppler of a TDL's line of sight, relative to the maximum Doppler: TR 38.901 clause 7.7.2."""

_ARRAYS: Final = {1: (1, 1), 2: (1, 1), 4: (1, 2), 8: (2, 2), 16: (2, 4), 32: (4, 4), 64: (4, 8)}
"""Rows and columns of an array's elements or, from two antennas up, pairs of elements."""


class Rays(NamedTuple):
    """Plane waves of some UEs."""

    amplitude: Tensor
    """complex64 [row, ray, rx, tx], at t = 0 and the middle of the band"""
    doppler_hz: Float64Array
    """[row, ray]"""
    delay_s: Float64Array
    """[row, ray]"""
    budget_db: Float64Array
    """SNR [dB] for a gain of 1, [row]; NaN where there is no link budget"""

    def row(self, index: int) -> Rays:
        """The rays of one UE, without the first axis."""
        return Rays(self.amplitude[index], self.doppler_hz[index], self.delay_s[index], self.budget_db[index])


def draw_rays(
    config: ChannelConfig, speed_kmh: Float64Array, spread_ns: Float64Array, rng: np.random.Generator
) -> Rays:
    """Draw the rays of one UE for each speed.

    Draws from ``rng`` and from Sionna's generators.

    Args:
        config: channel model and antennas.
        speed_kmh: [row].
        spread_ns: RMS delay spread, [row]; not used for drops, which draw their own.
        rng: generator of everything that Sionna does not draw.
    """
    if config.model in SYSTEM_LEVEL:
        return _drop_rays(config, speed_kmh, rng)
    make = _cdl_rays if config.model.startswith("CDL") else _tdl_rays
    return make(config, speed_kmh, spread_ns, rng)


def summed(
    weight: Tensor, doppler_hz: Float64Array, tone: Tensor, slots: npt.NDArray[np.int_], slot_s: float
) -> Tensor:
    """Weighted sums of the rays over slots and PRBs, complex64 [sum, slot, prb].

    Args:
        weight: weights of the rays, one row for each sum, [sum, ray].
        doppler_hz: [ray].
        tone: see `tones`.
        slots: slots since the moment for which the weights hold, [slot].
        slot_s: length of a slot [s].
    """
    advance = phasor(doppler_hz[:, None] * slots * slot_s)  # [ray, slot]
    response = weight @ (advance[:, :, None] * tone[:, None]).flatten(1)
    return response.reshape(len(weight), slots.size, tone.shape[1])


def tones(config: ChannelConfig, delay_s: Float64Array) -> Tensor:
    """Phasors of the delays at each of `prb_offsets_hz`, complex64 [ray, prb]."""
    return phasor(-delay_s[:, None] * prb_offsets_hz(config))


def prb_offsets_hz(config: ChannelConfig) -> Float64Array:
    """Frequencies at which the channel is sampled, relative to the band's centre [Hz]: every 4th PRB, but 8 to 26."""
    count = min(config.prbs, max(8, min(26, round(config.prbs / 4))))
    prb = (np.arange(count) - (count - 1) / 2) * (config.prbs / count)
    return np.asarray(prb * 12e3 * config.subcarrier_khz)


def phasor(cycles: Float64Array) -> Tensor:
    """exp(2 pi j cycles), reduced in double precision, complex64: the phase of a fast UE makes thousands of turns."""
    import torch

    angle = torch.from_numpy((2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32))
    return torch.complex(angle.cos(), angle.sin())


def _max_doppler_hz(config: ChannelConfig, speed_kmh: Float64Array) -> Float64Array:
    return speed_kmh / 3.6 / LIGHT_M_PER_S * config.carrier_ghz * 1e9


def _tdl_rays(
    config: ChannelConfig, speed_kmh: Float64Array, spread_ns: Float64Array, rng: np.random.Generator
) -> Rays:
    import torch
    from sionna.phy.channel.tr38901 import TDL

    profile = TDL(config.model[-1], delay_spread=1.0, carrier_frequency=config.carrier_ghz * 1e9, device="cpu")
    power = profile.mean_powers.numpy().astype(np.float64)
    delay = np.repeat(profile.delays.numpy().astype(np.float64), _SINUSOIDS)  # of a delay spread of 1 s
    specular = float(profile.mean_power_los) if profile.los else 0.0
    power[0] -= specular
    rows, taps = speed_kmh.size, power.size
    antennas = (config.antennas.rx, config.antennas.tx)
    # One ray per sector of the circle, so that 20 rays give Jakes' spectrum.
    turn = rng.random((rows, taps, 1)) - 0.5
    cosine = np.cos(2 * np.pi / _SINUSOIDS * (1 + np.arange(_SINUSOIDS) + turn)).reshape(rows, -1)
    phase = rng.uniform(-np.pi, np.pi, (rows, taps * _SINUSOIDS, *antennas))
    amplitude = np.sqrt(np.repeat(power, _SINUSOIDS) / _SINUSOIDS)[:, None, None] * np.exp(1j * phase)
    if profile.los:
        first = np.exp(1j * rng.uniform(-np.pi, np.pi, (rows, 1, 1, 1)))
        line = np.broadcast_to(np.sqrt(specular) * first, (rows, 1, *antennas))
        amplitude = np.concatenate([amplitude, line], axis=1)
        cosine = np.concatenate([cosine, np.full((rows, 1), _TDL_LOS_COSINE)], axis=1)
        delay = np.append(delay, delay[0])
    return Rays(
        torch.from_numpy(amplitude.astype(np.complex64)),
        cosine * _max_doppler_hz(config, speed_kmh)[:, None],
        delay * spread_ns[:, None] * 1e-9,
        np.full(rows, np.nan),
    )


def _panel(config: ChannelConfig, antennas: int, pattern: str) -> Any:
    from sionna.phy.channel.tr38901 import PanelArray

    rows, columns = _ARRAYS[antennas]
    return PanelArray(
        num_rows_per_panel=rows,
        num_cols_per_panel=columns,
        polarization="single" if antennas == 1 else "dual",
        polarization_type="V" if antennas == 1 else "cross",
        antenna_pattern=pattern,
        carrier_frequency=config.carrier_ghz * 1e9,
        device="cpu",
    )


def _motion(speed_kmh: Float64Array, rng: np.random.Generator) -> tuple[Float32Array, Float32Array]:
    """Velocities [m/s] and orientations of the UEs [rad], each [row, 3]."""
    heading, yaw = rng.uniform(-np.pi, np.pi, (2, speed_kmh.size))
    velocity = speed_kmh[:, None] / 3.6 * np.stack([np.cos(heading), np.sin(heading), np.zeros_like(heading)], axis=1)
    turned = np.stack([yaw, np.zeros_like(yaw), np.zeros_like(yaw)], axis=1)
    return velocity.astype(np.float32), turned.astype(np.float32)


def _cdl_rays(
    config: ChannelConfig, speed_kmh: Float64Array, spread_ns: Float64Array, rng: np.random.Generator
) -> Rays:
    import torch
    from sionna.phy.channel.tr38901 import CDL

    velocity, orientation = _motion(speed_kmh, rng)
    base, ue = _panel(config, config.antennas.tx, "38.901"), _panel(config, config.antennas.rx, "omni")
    channel = CDL(
        config.model[-1],
        delay_spread=1.0,  # scaled to each UE's own below
        carrier_frequency=config.carrier_ghz * 1e9,
        ut_array=ue,
        bs_array=base,
        direction="downlink",
        ut_orientation=torch.from_numpy(orientation),
        ut_velocity=torch.from_numpy(velocity),
        device="cpu",
    )
    recorder = _record(channel, "_cir_gen", config, base, ue, subclustering=False)
    channel(batch_size=speed_kmh.size, num_time_steps=1, sampling_frequency=1.0)
    amplitude, doppler_hz, delay_s = recorder.rays()
    return Rays(amplitude, doppler_hz, delay_s * spread_ns[:, None] * 1e-9, np.full(speed_kmh.size, np.nan))


def _drop_rays(config: ChannelConfig, speed_kmh: Float64Array, rng: np.random.Generator) -> Rays:
    import torch
    from sionna.phy.channel import tr38901

    cell, rows = CELLS[config.model], speed_kmh.size
    velocity, orientation = _motion(speed_kmh, rng)
    # Uniform over the area of the sector.
    distance_m = np.sqrt(rng.uniform(cell.nearest_m**2, cell.radius_m**2, rows))
    bearing = rng.uniform(-np.pi / 3, np.pi / 3, rows)
    place = np.stack([distance_m * np.cos(bearing), distance_m * np.sin(bearing), np.full(rows, UE_HEIGHT_M)], axis=1)
    base, ue = _panel(config, config.antennas.tx, "38.901"), _panel(config, config.antennas.rx, "omni")
    indoor_model = {} if config.model == "RMa" else {"o2i_model": "low"}
    channel = getattr(tr38901, config.model)(
        carrier_frequency=config.carrier_ghz * 1e9,
        ut_array=ue,
        bs_array=base,
        direction="downlink",
        device="cpu",
        **indoor_model,
    )
    channel.set_topology(
        ut_loc=torch.from_numpy(place.astype(np.float32))[:, None],
        bs_loc=torch.tensor([0.0, 0.0, cell.height_m]).expand(rows, 1, 3),
        ut_orientations=torch.from_numpy(orientation)[:, None],
        bs_orientations=torch.zeros(rows, 1, 3),
        ut_velocities=torch.from_numpy(velocity)[:, None],
        in_state=torch.zeros(rows, 1, dtype=torch.bool),
    )
    recorder = _record(channel, "_cir_sampler", config, base, ue, subclustering=True)
    faded, _ = channel(num_time_samples=1, sampling_frequency=1.0)
    amplitude, doppler_hz, delay_s = recorder.rays()
    # Path loss and shadowing are applied after the coefficients.
    loss = (_power(faded) / _power(recorder.coefficients)).sqrt()
    return Rays(amplitude * loss[:, None, None, None], doppler_hz, delay_s, budget_db(config, place))


def _power(coefficients: Tensor) -> Tensor:
    return coefficients.abs().double().square().sum(dim=tuple(range(1, coefficients.dim()))).float()


class _Recorder:
    """Replaces a channel's coefficient generator: calls it for one moment, and records its arguments."""

    def __init__(self, generator: Any, per_ray: Any, subclustering: bool) -> None:
        self._generator = generator
        self._per_ray = per_ray
        self._subclustering = subclustering
        self.coefficients: Tensor
        self._k_factor: Any
        self._given: Any
        self._topology: Any
        self._cluster_spread_s: Any

    def __call__(
        self,
        num_time_samples: int,
        sampling_frequency: float,
        k_factor: Any,
        rays: Any,
        topology: Any,
        c_ds: Any = None,
    ) -> Any:
        self._k_factor, self._given, self._topology, self._cluster_spread_s = k_factor, rays, topology, c_ds
        coefficients, delays, rays.phases, _ = self._generator(
            num_time_samples, sampling_frequency, k_factor, rays, topology, c_ds, debug=True
        )
        self.coefficients = coefficients
        return coefficients, delays

    def rays(self) -> tuple[Tensor, Float64Array, Float64Array]:
        """Amplitude, Doppler and delay of every ray, line of sight last; power as in `coefficients`."""
        import torch

        given, topology = self._given, self._topology
        rows, _, _, clusters, per_cluster = given.aoa.shape
        line_of_sight = topology.los
        delay = self._ray_delays()
        # A line of sight takes its share of the power from the other rays, and needs a generator call of its own.
        k_factor = torch.where(line_of_sight, self._k_factor.reshape(line_of_sight.shape), 0.0)
        scattered = self._amplitudes(clusters * per_cluster, given, direct=False)
        direct = self._amplitudes(1, given, direct=True)
        k_factor = k_factor.reshape(rows, 1, 1, 1)
        amplitude = torch.cat([scattered * (1 / (k_factor + 1)).sqrt(), direct * (k_factor / (k_factor + 1)).sqrt()], 1)
        zenith = torch.cat([given.zoa.reshape(rows, -1), topology.los_zoa.reshape(rows, 1)], 1).double().numpy()
        azimuth = torch.cat([given.aoa.reshape(rows, -1), topology.los_aoa.reshape(rows, 1)], 1).double().numpy()
        velocity = topology.velocities.reshape(rows, 3, 1).double().numpy()
        # Velocity towards the direction of arrival (TR 38.901 equation 7.5-25).
        direction = [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)]
        doppler_hz = sum(direction[i] * velocity[:, i] for i in range(3)) / float(self._per_ray.wavelength_m)
        return amplitude, np.asarray(doppler_hz), np.concatenate([delay, delay.min(axis=1, keepdims=True)], axis=1)

    def _amplitudes(self, count: int, given: Any, direct: bool) -> Tensor:
        """[row, ray, rx, tx] at t = 0: each ray as a cluster of its own, or the line of sight alone."""
        import torch
        from sionna.phy.channel import tr38901

        rows, per_cluster, t = given.aoa.shape[0], given.aoa.shape[-1], self._topology
        link = (rows, 1, 1)
        each = (*link, count, 1)

        def angles(values: Any, line: Any) -> Any:
            return (line if direct else values).reshape(each)

        rays = tr38901.Rays(
            # Their order is kept only if the delays rise; the true delays are set later.
            delays=torch.arange(count, dtype=torch.float32).expand(*link, count),
            powers=torch.zeros(*link, 1) if direct else (given.powers / per_cluster).repeat_interleave(per_cluster, -1),
            aoa=angles(given.aoa, t.los_aoa),
            aod=angles(given.aod, t.los_aod),
            zoa=angles(given.zoa, t.los_zoa),
            zod=angles(given.zod, t.los_zod),
            xpr=torch.ones(each) if direct else given.xpr.reshape(each),
            phases=torch.zeros(*each, 4) if direct else given.phases.reshape(*each, 4),
        )
        topology = tr38901.Topology(
            velocities=t.velocities,
            moving_end=t.moving_end,
            los_aoa=t.los_aoa,
            los_aod=t.los_aod,
            los_zoa=t.los_zoa,
            los_zod=t.los_zod,
            los=torch.full(link, direct),
            distance_3d=t.distance_3d,
            tx_orientations=t.tx_orientations,
            rx_orientations=t.rx_orientations,
        )
        k_factor = torch.full(link, 1e12 if direct else 0.0)
        coefficients, _ = self._per_ray.generator(1, 1.0, k_factor, rays, topology)
        amplitude: Tensor = coefficients[:, 0, 0, :, :, :, 0]  # [row, ray, rx, tx]
        return amplitude

    def _ray_delays(self) -> Float64Array:
        """[row, ray]; the two strongest clusters have three sub-clusters each (TR 38.901 Table 7.5-5)."""
        given = self._given
        delay = np.repeat(given.delays[:, 0, 0].double().numpy()[:, :, None], given.aoa.shape[-1], axis=2)
        if self._subclustering:
            strongest = given.strongest_cluster_indices
            if strongest is None:
                strongest = given.powers.argsort(dim=-1, descending=True)[..., :2]
            offset = np.zeros(delay.shape[2])
            offset[[8, 9, 10, 11, 16, 17]] = 1.28
            offset[[12, 13, 14, 15]] = 2.56
            spread_s = self._cluster_spread_s[:, 0].double().numpy()  # [row, 1]
            row = np.arange(len(delay))[:, None]
            delay[row, strongest[:, 0, 0].numpy()] += offset * spread_s[:, :, None]
        return delay.reshape(len(delay), -1)


class _PerRay(NamedTuple):
    generator: Any
    wavelength_m: float


def _record(channel: Any, name: str, config: ChannelConfig, base: Any, ue: Any, subclustering: bool) -> _Recorder:
    """Replace the channel's generator, its attribute ``name``, by a recorder."""
    from sionna.phy.channel.tr38901 import ChannelCoefficientsGenerator

    carrier_hz = config.carrier_ghz * 1e9
    generator = ChannelCoefficientsGenerator(carrier_hz, base, ue, subclustering=False, device="cpu")
    recorder = _Recorder(getattr(channel, name), _PerRay(generator, LIGHT_M_PER_S / carrier_hz), subclustering)
    delattr(channel, name)  # a torch module, which only another module could replace
    setattr(channel, name, recorder)
    return recorder

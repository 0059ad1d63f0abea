"""Fading of UEs by the channel models of TR 38.901, precoded, combined, and summed up for a `FadingBank`.

Every channel is a sum of plane waves, "rays", up to 500 of them per UE::

    H[rx, tx](t, f) = sum_ray a[ray, rx, tx] exp(2 pi j doppler[ray] t) exp(-2 pi j f delay[ray])

* *CDL-A to -E, UMi, UMa, RMa*: rays, their angles, powers and phases, path loss, line of sight and shadowing by Sionna;
  the amplitudes a at t = 0 by Sionna's ``ChannelCoefficientsGenerator``, one "cluster" per ray. Only the sum over rays
  and its advance in time is done here (Sionna would hold every antenna pair of every ray in every slot: a gigabyte for
  a UE of a 32-antenna cell and a second). At the same moment both give the same channel; a test holds them together.
* *TDL-A to -E*: Sionna's taps, each the sum of 20 sinusoids that Sionna uses (Xiao, Zheng and Beaulieu, "Novel
  Sum-of-Sinusoids Simulation Models for Rayleigh and Rician Fading Channels", IEEE Trans. Wireless Commun., 2006), with
  the random phases drawn here. Antennas are uncorrelated.

*Arrays*: half a wavelength apart, cross-polarised from two antennas up: 2 = one pair, 4 = 1 x 2 pairs (rows x columns),
8 = 2 x 2, 16 = 2 x 4, 32 = 4 x 4, 64 = 4 x 8. The base station's elements have the pattern of TR 38.901, no tilt; the
UE's are omnidirectional, and it is turned by chance about the vertical. UEs move horizontally, in any direction.

*Drops* (UMi, UMa, RMa): one sector of 120 degrees, UEs outdoors (in RMa in cars, as TR 38.901 Table 7.2-3 has it)
anywhere on its area, see `_CELLS`. Their mean SNR is that of one layer: all the power over the band, thermal noise with
a noise figure of 9 dB, and 20 neighbouring sectors at half load, at their mean path loss (`_neighbour_gain`). Against
noise alone nearly every UE of such small cells would be beyond 32 dB.

*Precoder*: wideband, the eigenvectors to the largest eigenvalues of mean_prb H^H H, renewed every ``csi_period_slots``
from a channel that is then ``csi_delay_slots`` old. r layers get 1/r of the power each.

*Receiver*: maximum ratio combining of one layer, zero forcing of several: the gain of layer l is
1 / (r [(G^H G)^-1]_ll), G = H W (Tse and Viswanath, "Fundamentals of Wireless Communication", 2005, section 8.3.1:
decorrelator). An MMSE receiver does better at low SNR, where ranks above one are not used anyway, but its gains depend
on the SNR, and a bank must not.

*Slots*: the channel holds over a slot and a PRB; some PRBs stand for all, see `prb_offsets_hz`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from training.sim.eesm import nodes_db, unbiased_nodes_db
from training.sim.scenario import SYSTEM_LEVEL, ChannelConfig
from xapp.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with the number of UEs done and their total."""

REVISION: Final = 2
"""Goes up whenever the same configuration and seed would give another bank: banks in caches are then made anew."""

LIGHT_M_PER_S: Final = 299_792_458.0
SNR_RANGE_DB: Final = (-8.0, 32.0)
"""SNRs of drops are clipped to this: below there is no service, above the transmitter's own noise takes over."""

_MIN_GAIN_DB, _MAX_GAIN_DB = -100.0, 100.0
_SINUSOIDS = 20
_TDL_LOS_COSINE = 0.7
_NOISE_DBM_PER_HZ = -174.0
_NOISE_FIGURE_DB = 9.0
_NEIGHBOUR_LOAD = 0.5
_CAR_LOSS_DB = 9.0
_UE_HEIGHT_M = 1.5
_UES_PER_CALL = 16
"""UEs that Sionna is asked for at once; part of what the random numbers depend on."""
_CELLS_PER_BLOCK = 1 << 22
"""Bound on intermediate arrays [complex numbers]."""


@dataclass(frozen=True)
class _Cell:
    """The sector of a drop; heights and smallest distances as in TR 38.901 Tables 7.2-1 and 7.2-3."""

    height_m: float
    nearest_m: float
    site_distance_m: float
    power_dbm: float

    @property
    def radius_m(self) -> float:
        """Far corner of a hexagonal sector."""
        return self.site_distance_m * 2 / 3


_CELLS: Final = {
    "UMi": _Cell(height_m=10, nearest_m=10, site_distance_m=200, power_dbm=44),
    "UMa": _Cell(height_m=25, nearest_m=35, site_distance_m=500, power_dbm=46),
    "RMa": _Cell(height_m=35, nearest_m=35, site_distance_m=1732, power_dbm=46),
}

_ARRAYS: Final = {1: (1, 1), 2: (1, 1), 4: (1, 2), 8: (2, 2), 16: (2, 4), 32: (4, 4), 64: (4, 8)}
"""Rows and columns of an array's elements or, from two antennas up, pairs of elements."""


class Fading(NamedTuple):
    """What a bank is filled with; fields as in `FadingBank`."""

    gain_cdb: npt.NDArray[np.int16]
    speed_kmh: npt.NDArray[np.float32]
    snr_db: npt.NDArray[np.float32]


def no_progress(done: int, total: int) -> None:
    """Ignore it."""


def generate(
    config: ChannelConfig,
    rows: int,
    slots: int,
    seed_sequence: np.random.SeedSequence,
    progress: Progress = no_progress,
) -> Fading:
    """Fading of ``rows`` UEs over ``slots`` slots.

    Sionna's generators are seeded for the whole process (``sionna.phy.config.seed``). Same arguments, same fading, but
    for the last digit where another processor adds in another order.

    Raises:
        InputError: the carrier is outside the model's range, or Sionna is not installed.
    """
    if rows < 1 or slots < 1:
        raise ValueError(f"rows {rows} and slots {slots} must be at least 1")
    if config.model == "RMa" and config.carrier_ghz > 7:
        raise InputError(f"carrier_ghz = {config.carrier_ghz:g}: RMa is defined up to 7 GHz (TR 38.901 Table 7.2-3)")
    try:
        from sionna.phy import config as sionna_config
    except ImportError as error:
        raise InputError(f"{config.model}: no fading without Sionna ({error}); pip install distila[training]") from None
    # From the entropy alone: spawning from the caller's object would give other streams the second time.
    fresh = np.random.SeedSequence(seed_sequence.entropy, spawn_key=seed_sequence.spawn_key)
    calls = range(0, rows, _UES_PER_CALL)
    layout_seed, shadow_seed, sionna_seeds = fresh.spawn(3)
    layout_rng, shadow_rng = np.random.default_rng(layout_seed), np.random.default_rng(shadow_seed)
    speed_kmh = config.speed_kmh.draw(layout_rng, rows)
    # Channels with geometry draw a delay spread of their own.
    spread_ns = np.ones(rows) if config.delay_spread_ns is None else config.delay_spread_ns.draw(layout_rng, rows)
    drift = 10 ** (shadowing_drift_db(config, speed_kmh, slots, shadow_rng) / 10)
    gain_cdb = np.empty((rows, config.antennas.max_rank, slots, nodes_db().size), np.int16)
    snr_db = np.full(rows, np.nan, np.float32)
    with _one_thread():
        for first, seed in zip(calls, sionna_seeds.generate_state(len(calls)), strict=True):
            some = slice(first, min(first + _UES_PER_CALL, rows))
            sionna_config.seed = int(seed)
            make = _tdl_rays if config.model.startswith("TDL") else _drop_rays
            if config.model.startswith("CDL"):
                make = _cdl_rays
            rays = make(config, speed_kmh[some], spread_ns[some], layout_rng)
            for index, row in enumerate(range(rows)[some]):
                gain, mean_power = _row_gain(config, rays.row(index), slots)
                gain_cdb[row] = _summarise(gain, drift[row])
                if config.model in SYSTEM_LEVEL:
                    snr_db[row] = np.clip(rays.budget_db[index] + 10 * np.log10(mean_power), *SNR_RANGE_DB)
                progress(row + 1, rows)
    return Fading(gain_cdb, speed_kmh.astype(np.float32), snr_db)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the matrices are small, and threads that wait for each other starve on a busy machine.

    (Two processes on two cores: eight times as fast.) It also makes the fading independent of the number of cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prb_offsets_hz(config: ChannelConfig) -> FloatArray:
    """Where in the band the channel is sampled, relative to its centre [Hz]: every 4th PRB, but 8 to 26 of them."""
    count = min(config.prbs, max(8, min(26, round(config.prbs / 4))))
    prb = (np.arange(count) - (count - 1) / 2) * (config.prbs / count)
    return np.asarray(prb * 12e3 * config.subcarrier_khz)


def shadowing_drift_db(
    config: ChannelConfig, speed_kmh: FloatArray, slots: int, rng: np.random.Generator
) -> FloatArray:
    """Shadowing around its mean over the bank's length [dB], [row, slot]; Ornstein-Uhlenbeck in distance.

    Source: TR 38.901, clause 7.4.4 (exponential autocorrelation).
    """
    if not config.shadowing_db:
        return np.zeros((speed_kmh.size, slots))
    from scipy.signal import lfilter

    rho = np.exp(-speed_kmh / 3.6 * config.slot_us * 1e-6 / config.decorrelation_m)
    innovation = rng.standard_normal((speed_kmh.size, slots))
    innovation[:, 1:] *= np.sqrt(1 - rho**2)[:, None]
    drift = np.stack([lfilter([1.0], [1.0, -r], row) for r, row in zip(rho, innovation, strict=True)])
    return np.asarray(config.shadowing_db * (drift - drift.mean(axis=1, keepdims=True)))


def _budget_db(config: ChannelConfig, place_m: FloatArray) -> FloatArray:
    """SNR [dB] at each place if the channel had the gain 1, precoding and combining included, [row]."""
    cell = _CELLS[config.model]
    bandwidth_hz = config.prbs * 12e3 * config.subcarrier_khz
    noise_dbm = _NOISE_DBM_PER_HZ + 10 * math.log10(bandwidth_hz) + _NOISE_FIGURE_DB
    heard = 10 ** ((cell.power_dbm - noise_dbm) / 10) * _neighbour_gain(config, place_m)
    return np.asarray(cell.power_dbm - noise_dbm - 10 * np.log10(1 + _NEIGHBOUR_LOAD * heard))


def _neighbour_gain(config: ChannelConfig, place_m: FloatArray) -> FloatArray:
    """Mean gain from all the sectors around, each with the power of the own one, linear, [row].

    The other two sectors of the site and the three of each of the six sites next to it, with path loss without line of
    sight and without shadowing (TR 38.901 Table 7.4.1-1) and the horizontal pattern of an element (Table 7.3-1): what
    they send goes in beams to anyone, on average as from one element.
    """
    cell = _CELLS[config.model]
    angle = np.pi / 6 + np.pi / 3 * np.arange(6)
    ring = cell.site_distance_m * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    apart = place_m[:, None, :2] - np.concatenate([np.zeros((1, 2)), ring])  # [row, site, xy]
    distance_m = np.hypot(np.linalg.norm(apart, axis=2), cell.height_m - _UE_HEIGHT_M)
    bearing = np.degrees(np.arctan2(apart[..., 1], apart[..., 0]))[..., None] - np.array([0.0, 120.0, 240.0])
    off = (bearing + 180) % 360 - 180
    pattern_db = 8 - np.minimum(12 * (off / 65) ** 2, 30)
    gain = 10 ** ((pattern_db - _path_loss_db(config, distance_m)[..., None]) / 10)  # [row, site, sector]
    return np.asarray(gain.sum(axis=(1, 2)) - gain[:, 0, 0])  # without its own


def _path_loss_db(config: ChannelConfig, distance_m: FloatArray) -> FloatArray:
    """Without line of sight, TR 38.901 Table 7.4.1-1 at a UE height of 1.5 m; RMa with its default surroundings."""
    log_distance, log_ghz = np.log10(distance_m), math.log10(config.carrier_ghz)
    if config.model == "UMi":
        return np.asarray(22.4 + 35.3 * log_distance + 21.3 * log_ghz)
    if config.model == "UMa":
        return np.asarray(13.54 + 39.08 * log_distance + 20 * log_ghz)
    street_m, building_m, height_m = 20.0, 5.0, _CELLS["RMa"].height_m
    loss_db = 161.04 - 7.1 * math.log10(street_m) + 7.5 * math.log10(building_m)
    loss_db -= (24.37 - 3.7 * (building_m / height_m) ** 2) * math.log10(height_m)
    loss_db -= 3.2 * math.log10(11.75 * _UE_HEIGHT_M) ** 2 - 4.97
    slope_db = 43.42 - 3.1 * math.log10(height_m)
    return np.asarray(loss_db + slope_db * (log_distance - 3) + 20 * log_ghz + _CAR_LOSS_DB)


def _summarise(gain: list[npt.NDArray[np.float32]], drift: FloatArray) -> npt.NDArray[np.int16]:
    """E at the nodes in hundredths of a dB, [rank, slot, node], of the gains of each rank, [slot, sample]."""
    scaled = drift[:, None].astype(np.float32)
    db = np.stack([unbiased_nodes_db(of_rank * scaled) for of_rank in gain])
    return np.asarray(np.rint(100 * np.clip(db, _MIN_GAIN_DB, _MAX_GAIN_DB)), np.int16)


# --- rays ---


class _Rays(NamedTuple):
    """Plane waves of some UEs."""

    amplitude: Tensor
    """complex64 [row, ray, rx, tx], at t = 0 and the middle of the band"""
    doppler_hz: FloatArray
    """[row, ray]"""
    delay_s: FloatArray
    """[row, ray]"""
    budget_db: FloatArray
    """SNR [dB] where the gain is 1, [row]; NaN where there is no link budget"""

    def row(self, index: int) -> _Rays:
        """Those of one UE, without the first axis."""
        return _Rays(self.amplitude[index], self.doppler_hz[index], self.delay_s[index], self.budget_db[index])


def _max_doppler_hz(config: ChannelConfig, speed_kmh: FloatArray) -> FloatArray:
    return speed_kmh / 3.6 / LIGHT_M_PER_S * config.carrier_ghz * 1e9


def _tdl_rays(config: ChannelConfig, speed_kmh: FloatArray, spread_ns: FloatArray, rng: np.random.Generator) -> _Rays:
    import torch
    from sionna.phy.channel.tr38901 import TDL

    profile = TDL(config.model[-1], delay_spread=1.0, carrier_frequency=config.carrier_ghz * 1e9, device="cpu")
    power = profile.mean_powers.numpy().astype(np.float64)
    delay = np.repeat(profile.delays.numpy().astype(np.float64), _SINUSOIDS)  # of a delay spread of 1 s
    specular = float(profile.mean_power_los) if profile.los else 0.0
    power[0] -= specular
    rows, taps = speed_kmh.size, power.size
    antennas = (config.antennas.rx, config.antennas.tx)
    # One ray per sector of the circle, so that 20 of them have Jakes' spectrum.
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
    return _Rays(
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


def _motion(speed_kmh: FloatArray, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Velocities [m/s] and orientations of the UEs [rad], each [row, 3]."""
    heading, yaw = rng.uniform(-np.pi, np.pi, (2, speed_kmh.size))
    velocity = speed_kmh[:, None] / 3.6 * np.stack([np.cos(heading), np.sin(heading), np.zeros_like(heading)], axis=1)
    turned = np.stack([yaw, np.zeros_like(yaw), np.zeros_like(yaw)], axis=1)
    return velocity.astype(np.float32), turned.astype(np.float32)


def _cdl_rays(config: ChannelConfig, speed_kmh: FloatArray, spread_ns: FloatArray, rng: np.random.Generator) -> _Rays:
    import torch
    from sionna.phy.channel.tr38901 import CDL

    velocity, orientation = _motion(speed_kmh, rng)
    base, ue = _panel(config, config.antennas.tx, "38.901"), _panel(config, config.antennas.rx, "omni")
    channel = CDL(
        config.model[-1],
        delay_spread=1.0,  # each UE has its own, below
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
    return _Rays(amplitude, doppler_hz, delay_s * spread_ns[:, None] * 1e-9, np.full(speed_kmh.size, np.nan))


def _drop_rays(config: ChannelConfig, speed_kmh: FloatArray, spread_ns: FloatArray, rng: np.random.Generator) -> _Rays:
    import torch
    from sionna.phy.channel import tr38901

    cell, rows = _CELLS[config.model], speed_kmh.size
    velocity, orientation = _motion(speed_kmh, rng)
    # Evenly over the area of the sector.
    distance_m = np.sqrt(rng.uniform(cell.nearest_m**2, cell.radius_m**2, rows))
    bearing = rng.uniform(-np.pi / 3, np.pi / 3, rows)
    place = np.stack([distance_m * np.cos(bearing), distance_m * np.sin(bearing), np.full(rows, _UE_HEIGHT_M)], axis=1)
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
    # Path loss and shadowing come after the coefficients.
    loss = (_power(faded) / _power(recorder.coefficients)).sqrt()
    return _Rays(amplitude * loss[:, None, None, None], doppler_hz, delay_s, _budget_db(config, place))


def _power(coefficients: Tensor) -> Tensor:
    return coefficients.abs().double().square().sum(dim=tuple(range(1, coefficients.dim()))).float()


class _Recorder:
    """Stands in for a channel's coefficient generator: asks it for one moment and keeps what it was given."""

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

    def rays(self) -> tuple[Tensor, FloatArray, FloatArray]:
        """Amplitude, Doppler and delay of every ray, line of sight last; power as in `coefficients`."""
        import torch

        given, topology = self._given, self._topology
        rows, _, _, clusters, per_cluster = given.aoa.shape
        line_of_sight = topology.los
        delay = self._ray_delays()
        # A line of sight takes its share of the power from the rays around it, and its own generator call.
        k_factor = torch.where(line_of_sight, self._k_factor.reshape(line_of_sight.shape), 0.0)
        scattered = self._amplitudes(clusters * per_cluster, given, direct=False)
        direct = self._amplitudes(1, given, direct=True)
        k_factor = k_factor.reshape(rows, 1, 1, 1)
        amplitude = torch.cat([scattered * (1 / (k_factor + 1)).sqrt(), direct * (k_factor / (k_factor + 1)).sqrt()], 1)
        zenith = torch.cat([given.zoa.reshape(rows, -1), topology.los_zoa.reshape(rows, 1)], 1).double().numpy()
        azimuth = torch.cat([given.aoa.reshape(rows, -1), topology.los_aoa.reshape(rows, 1)], 1).double().numpy()
        velocity = topology.velocities.reshape(rows, 3, 1).double().numpy()
        # Towards where the ray comes from (TR 38.901 equation 7.5-25).
        direction = [np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)]
        doppler_hz = sum(direction[i] * velocity[:, i] for i in range(3)) / float(self._per_ray.wavelength_m)
        return amplitude, np.asarray(doppler_hz), np.concatenate([delay, delay.min(axis=1, keepdims=True)], axis=1)

    def _amplitudes(self, count: int, given: Any, direct: bool) -> Tensor:
        """[row, ray, rx, tx] at t = 0: each ray its own cluster, or the line of sight alone."""
        import torch
        from sionna.phy.channel.tr38901 import Rays, Topology

        rows, per_cluster, t = given.aoa.shape[0], given.aoa.shape[-1], self._topology
        link = (rows, 1, 1)
        each = (*link, count, 1)

        def angles(values: Any, line: Any) -> Any:
            return (line if direct else values).reshape(each)

        rays = Rays(
            # Their order is kept only if the delays rise; the true ones come later.
            delays=torch.arange(count, dtype=torch.float32).expand(*link, count),
            powers=torch.zeros(*link, 1) if direct else (given.powers / per_cluster).repeat_interleave(per_cluster, -1),
            aoa=angles(given.aoa, t.los_aoa),
            aod=angles(given.aod, t.los_aod),
            zoa=angles(given.zoa, t.los_zoa),
            zod=angles(given.zod, t.los_zod),
            xpr=torch.ones(each) if direct else given.xpr.reshape(each),
            phases=torch.zeros(*each, 4) if direct else given.phases.reshape(*each, 4),
        )
        topology = Topology(
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

    def _ray_delays(self) -> FloatArray:
        """[row, ray]; the two strongest clusters are three sub-clusters each (TR 38.901 Table 7.5-5)."""
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
    """Put a recorder in the place of the channel's generator, which is its attribute ``name``."""
    from sionna.phy.channel.tr38901 import ChannelCoefficientsGenerator

    carrier_hz = config.carrier_ghz * 1e9
    generator = ChannelCoefficientsGenerator(carrier_hz, base, ue, subclustering=False, device="cpu")
    recorder = _Recorder(getattr(channel, name), _PerRay(generator, LIGHT_M_PER_S / carrier_hz), subclustering)
    delattr(channel, name)  # a torch module, which only a module could replace
    setattr(channel, name, recorder)
    return recorder


# --- precoder and receiver ---


def _row_gain(config: ChannelConfig, rays: _Rays, slots: int) -> tuple[list[npt.NDArray[np.float32]], float]:
    """Gains of one UE after precoding and combining, for each rank [slot, prb x layer], and the mean they are over."""
    scale = float(rays.amplitude.abs().double().square().sum().sqrt())
    beams = _beams(config, rays._replace(amplitude=rays.amplitude / scale), slots)
    gain = [of_rank.flatten(1) for of_rank in layer_gains(beams)]
    mean = float(gain[0].double().mean())
    return [(of_rank / mean).numpy() for of_rank in gain], mean * scale**2


def _phasor(cycles: FloatArray) -> Tensor:
    """exp(2 pi j cycles), reduced in double precision: a fast UE goes through thousands of turns."""
    import torch

    angle = torch.from_numpy((2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32))
    return torch.complex(angle.cos(), angle.sin())


def _beams(config: ChannelConfig, rays: _Rays, slots: int) -> Tensor:
    """The channel behind the precoder, H W of the highest rank, complex64 [slot, prb, rx, layer]."""
    import torch

    antennas = config.antennas
    num_rays, num_rx, num_tx = rays.amplitude.shape
    layers, slot_s = antennas.max_rank, config.slot_us * 1e-6
    # Without a precoder an interval is only a way to have few phasors.
    period = antennas.csi_period_slots if num_tx > 1 else min(slots, 64)
    tone = _phasor(-rays.delay_s[:, None] * prb_offsets_hz(config))  # [ray, prb]
    num_prb = tone.shape[1]
    by_antenna = rays.amplitude.reshape(num_rays * num_rx, num_tx)
    starts = np.arange(0, slots, period)
    beams = torch.empty(starts.size, period, num_prb, num_rx, layers, dtype=torch.complex64)
    per_interval = num_rays * (num_rx * layers + num_prb) + num_prb * num_rx * num_tx
    for some in np.array_split(np.arange(starts.size), math.ceil(starts.size * per_interval / _CELLS_PER_BLOCK)):
        at_start = _phasor(starts[some][:, None] * slot_s * rays.doppler_hz)  # [interval, ray]
        if num_tx > 1:
            then = _phasor((starts[some][:, None] - antennas.csi_delay_slots) * slot_s * rays.doppler_hz)
            precoder = _precoder((then[:, None] * tone.T).flatten(0, 1), rays.amplitude, len(some), layers)
        else:
            precoder = torch.ones(1, len(some) * layers, dtype=torch.complex64)
        precoded = (by_antenna @ precoder).reshape(num_rays, num_rx, len(some), layers)
        precoded = precoded.permute(2, 1, 3, 0) * at_start[:, None, None, :]  # [interval, rx, layer, ray]
        step = max(1, _CELLS_PER_BLOCK // (num_rays * num_prb))
        for begin in range(0, period, step):
            offsets = np.arange(begin, min(begin + step, period))
            advance = _phasor(rays.doppler_hz[:, None] * offsets * slot_s)  # [ray, slot]
            response = precoded.reshape(-1, num_rays) @ (advance[:, :, None] * tone[:, None]).flatten(1)
            response = response.reshape(len(some), num_rx, layers, offsets.size, num_prb)
            beams[some[0] : some[-1] + 1, begin : begin + offsets.size] = response.permute(0, 3, 4, 1, 2)
    return beams.flatten(0, 1)[:slots]


def _precoder(phasors: Tensor, amplitude: Tensor, intervals: int, layers: int) -> Tensor:
    """Strongest eigenvectors of the PRBs' mean H^H H, [tx, interval x layer]; phasors [interval x prb, ray]."""
    import torch

    num_rays, _, num_tx = amplitude.shape
    channel = (phasors @ amplitude.reshape(num_rays, -1)).reshape(intervals, -1, num_tx)  # [interval, prb x rx, tx]
    _, vectors = torch.linalg.eigh(channel.mH @ channel)
    strongest: Tensor = vectors[..., -layers:].flip(-1)  # eigh sorts upwards
    return strongest.permute(1, 0, 2).reshape(num_tx, -1)


def layer_gains(beams: Tensor) -> list[Tensor]:
    """Post-combining gain of every layer for every rank: float32 [slot, prb, rank], rank 1 first.

    With G = Q R, (G^H G)^-1 is R^-1 R^-H, and the first r columns of G have the leading r x r blocks of R and R^-1:
    one decomposition (Gram and Schmidt's, modified) serves all ranks.

    Args:
        beams: channel behind the precoder, [slot, prb, rx, layer].
    """
    import torch

    layers = beams.shape[-1]
    columns = [beams[..., layer].movedim(-1, 0).contiguous() for layer in range(layers)]  # each [rx, slot, prb]
    length: list[Tensor] = []
    upper: dict[tuple[int, int], Tensor] = {}
    for k in range(layers):
        # Not zero: a layer without any channel of its own has a gain near zero, not an undefined one.
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

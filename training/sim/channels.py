"""Generates the fading of UEs by the channel models of TR 38.901, precoded, combined and summarised for a `FadingBank`.

Every channel is a sum of plane waves, "rays", up to 500 of them per UE::

    H[rx, tx](t, f) = sum_ray a[ray, rx, tx] exp(2 pi j doppler[ray] t) exp(-2 pi j f delay[ray])

* *CDL-A to -E, UMi, UMa, RMa*: rays, their angles, powers and phases, path loss, line of sight and shadowing by Sionna;
  the amplitudes a at t = 0 by Sionna's ``ChannelCoefficientsGenerator``, one "cluster" per ray. Only the sum over rays
  and its advance in time are computed here (Sionna would store every antenna pair of every ray in every slot: a
  gigabyte for one UE of a 32-antenna cell and one second). Both give the same channel at the same moment, as a test
  checks.
* *TDL-A to -E*: Sionna's taps, each the sum of 20 sinusoids that Sionna uses (Xiao, Zheng and Beaulieu, "Novel
  Sum-of-Sinusoids Simulation Models for Rayleigh and Rician Fading Channels", IEEE Trans. Wireless Commun., 2006), with
  the random phases drawn here. Antennas are uncorrelated.

*Arrays*: half a wavelength apart, cross-polarised from two antennas up: 2 = one pair, 4 = 1 x 2 pairs (rows x columns),
8 = 2 x 2, 16 = 2 x 4, 32 = 4 x 4, 64 = 4 x 8. The base station's elements have the pattern of TR 38.901, no tilt; the
UE's are omnidirectional, and its orientation about the vertical is random. UEs move horizontally, in any direction.

*Drops* (UMi, UMa, RMa): one sector of 120 degrees, UEs outdoors (in RMa in cars, as in TR 38.901 Table 7.2-3)
anywhere on its area. Their mean SNR is that of one layer: all the power over the band, thermal noise with a noise
figure of 9 dB, and 20 neighbouring sectors at half load, at their mean path loss (`distila.training.sim.link_budget`).
Against noise alone nearly every UE of such small cells would be beyond 32 dB.

*Precoder*: wideband, the eigenvectors to the largest eigenvalues of mean_prb H^H H, renewed every ``csi_period_slots``
from a channel that is then ``csi_delay_slots`` old. r layers get 1/r of the power each.

*Receiver*: maximum ratio combining of one layer, zero forcing of several: the gain of layer l is
1 / (r [(G^H G)^-1]_ll), G = H W (Tse and Viswanath, "Fundamentals of Wireless Communication", 2005, section 8.3.1:
decorrelator). An MMSE receiver is better at low SNR, where ranks above one are not used anyway, but its gains would
depend on the SNR, which a bank must not.

*Slots*: the channel is constant over a slot and a PRB; it is sampled at some of the PRBs, see
`distila.training.sim.rays.prb_offsets_hz`.

Rays and their sum are in `distila.training.sim.rays`, precoder and receiver in `distila.training.sim.precoding`, the
SNR of drops in `distila.training.sim.link_budget`; this module combines them, adds shadowing and summarises.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from distila.training.sim.eesm import nodes_db, unbiased_nodes_db
from distila.training.sim.precoding import beams_of, layer_gains
from distila.training.sim.rays import Rays, draw_rays
from distila.training.sim.scenario import GEOMETRY_SNR_DB, SYSTEM_LEVEL, ChannelConfig
from distila.xapp.errors import InputError
from distila.xapp.nr.arrays import Float32Array, Float64Array
from distila.xapp.progress import Progress, no_progress

REVISION: Final = 2
"""Raised whenever the same configuration and seed would give another bank, so that cached banks are generated again."""

_MIN_GAIN_DB, _MAX_GAIN_DB = -100.0, 100.0
_UES_PER_CALL = 16
"""UEs that Sionna generates at once; the random numbers depend on it."""


class Fading(NamedTuple):
    """Content of a bank; fields as in `FadingBank`."""

    gain_cdb: npt.NDArray[np.int16]
    speed_kmh: Float32Array
    snr_db: Float32Array


def generate(
    config: ChannelConfig,
    rows: int,
    slots: int,
    seed_sequence: np.random.SeedSequence,
    progress: Progress = no_progress,
) -> Fading:
    """Generate the fading of ``rows`` UEs over ``slots`` slots.

    Sionna's generators are seeded for the whole process (``sionna.phy.config.seed``). The same arguments give the same
    fading, except for the last digit on processors that add in another order.

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
        raise InputError(f"{config.model}: fading needs Sionna ({error}); pip install distila[training]") from None
    # Built from the entropy: spawning from the caller's object would give other streams the second time.
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
            rays = draw_rays(config, speed_kmh[some], spread_ns[some], layout_rng)
            for index, row in enumerate(range(rows)[some]):
                gain, mean_power = _row_gain(config, rays.row(index), slots)
                gain_cdb[row] = _summarise(gain, drift[row])
                if config.model in SYSTEM_LEVEL:
                    # Below the range there is no service; above it, the transmitter's own noise dominates.
                    snr_db[row] = np.clip(rays.budget_db[index] + 10 * np.log10(mean_power), *GEOMETRY_SNR_DB)
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


def shadowing_drift_db(
    config: ChannelConfig, speed_kmh: Float64Array, slots: int, rng: np.random.Generator
) -> Float64Array:
    """Shadowing around its mean over the bank's length [dB], [row, slot]; see `ornstein_uhlenbeck`."""
    if not config.shadowing_db:
        return np.zeros((speed_kmh.size, slots))
    rho = np.exp(-speed_kmh / 3.6 * config.slot_us * 1e-6 / config.decorrelation_m)
    innovation = rng.standard_normal((speed_kmh.size, slots))
    return config.shadowing_db * ornstein_uhlenbeck(innovation.T, rho).T


def ornstein_uhlenbeck(innovation: Float64Array, rho: Float64Array) -> Float64Array:
    """Shadowing around its mean over the slots, in its standard deviations, [slot, ue].

    Source: TR 38.901, clause 7.4.4 (autocorrelation exponential in the distance travelled).

    Args:
        innovation: standard normal numbers, [slot, ue].
        rho: correlation from slot to slot, [ue].
    """
    from scipy.signal import lfilter

    drift = innovation.copy(order="K")
    drift[1:] *= np.sqrt(1 - rho**2)
    for ue, correlation in enumerate(rho):
        drift[:, ue] = lfilter([1.0], [1.0, -correlation], drift[:, ue])
    return np.asarray(drift - drift.mean(axis=0))


def _row_gain(config: ChannelConfig, rays: Rays, slots: int) -> tuple[list[Float32Array], float]:
    """Gains of one UE after precoding and combining, for each rank [slot, prb x layer], and the mean they are over.

    That mean is one layer's, over slots and PRBs.
    """
    scale = float(rays.amplitude.abs().double().square().sum().sqrt())
    beams = beams_of(config, rays._replace(amplitude=rays.amplitude / scale), slots)
    gain = [of_rank.flatten(1) for of_rank in layer_gains(beams)]
    mean = float(gain[0].double().mean())
    return [(of_rank / mean).numpy() for of_rank in gain], mean * scale**2


def _summarise(gain: list[Float32Array], drift: Float64Array) -> npt.NDArray[np.int16]:
    """E at the nodes in hundredths of a dB, [rank, slot, node], of the gains of each rank, [slot, sample]."""
    scaled = drift[:, None].astype(np.float32)
    db = np.stack([unbiased_nodes_db(of_rank * scaled) for of_rank in gain])
    return np.asarray(np.rint(100 * np.clip(db, _MIN_GAIN_DB, _MAX_GAIN_DB)), np.int16)

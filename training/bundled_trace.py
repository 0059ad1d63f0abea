"""Makes the channel traces that come with distila: two or three seconds of an urban cell, to replay. ::

    python -m distila.training.bundled_trace --name urban --seed 1
    python -m distila.training.bundled_trace --name urban_256qam

or, from Python, ``urban_trace(BundledTraceConfig(...), seed=1)``. Needs the ``training`` extra (Sionna,
torch).

A UE's effective SINR is computed slot by slot from:

1. *Mean SNR* after combining (ensemble mean over the fading), uniform over 0 to 28 dB in each speed class.
2. *Shadowing drift* around that mean: TR 38.901 UMa, Table 7.5-6, with the exponential autocorrelation of
   clause 7.4.4 over the distance travelled. A pedestrian sees almost none of it, a car several dB.
3. *Fast fading* by Sionna: TDL-A to TDL-D of TR 38.901 clause 7.7.2 with isotropic scattering at the UE:
   Jakes' Doppler spectrum per tap, up to the maximum Doppler of the UE's speed. TDL-D adds a line of sight.
   One transmit antenna, two uncorrelated receive antennas, maximum ratio combining.
4. *Inter-cell interference* for a third of the UEs: a neighbour that transmits in bursts lifts the noise
   floor.
5. *Effective SINR* of the PRBs by the exponential mapping; see `effective_sinr_db` for its beta.

The CQI of a slot is what the UE would report from that slot's effective SINR, measured with one error that
is constant per UE and one that is drawn anew for each report. OLLA exists to correct such errors.
The DU stand-in samples the CQI with its own period and delay. The thresholds come from the shipped BLER
curves: generate the trace again when these are refitted.

Random numbers: the fading comes from Sionna's own generators, seeded through ``sionna.phy.config.seed`` (which
holds for the whole process); everything else comes from four numpy generators spawned from the same seed: UE
layout, shadowing, interference, CQI. The same seed and configuration give the same arrays.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track
from sionna.phy import config as sionna_config
from sionna.phy.channel.tr38901 import TDL

from distila.replay.du_config import DuConfig
from distila.replay.trace import ChannelTrace, Table, TraceMeta, UeMeta
from distila.training.sim.channels import ornstein_uhlenbeck
from distila.training.sim.eesm import BETA_AT_0_DB, BETA_MIN, BETA_SLOPE_PER_DB
from distila.xapp.nr.arrays import Float64Array
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db


@dataclass(frozen=True)
class BundledTraceConfig:
    """Settings of the bundled trace; the defaults make the file in the repository."""

    name: str = "urban"
    """name of the trace"""
    num_slots: int = 6000
    """length of the trace [slots]"""
    slot_us: float = 500.0
    """slot duration [us]; 500 is 30 kHz subcarrier spacing"""
    carrier_ghz: float = 3.5
    """carrier frequency [GHz]"""
    subcarrier_khz: float = 30.0
    """subcarrier spacing [kHz]"""
    prbs: int = 52
    """PRBs of every allocation, contiguous"""
    num_rx: int = 2
    """receive antennas, uncorrelated, combined by maximum ratio"""
    speeds_kmh: tuple[float, ...] = (0.5, 3.0, 10.0, 30.0, 60.0, 120.0)
    """speed classes [km/h]; 0.5 stands for a user who stands amid slow scatterers"""
    ues_per_speed: tuple[int, ...] = (10, 12, 12, 10, 10, 10)
    """UEs of each speed class"""
    tdl_profiles: str = "ABCD"
    """TDL profiles, assigned in turn within each speed class"""
    delay_spread_ns: tuple[float, float] = (30.0, 300.0)
    """range of the RMS delay spread [ns], log-uniform"""
    mean_snr_db: tuple[float, float] = (0.0, 28.0)
    """range of the mean SNR after combining [dB], which each speed class covers evenly"""
    shadowing_db: tuple[float, float] = (6.0, 4.0)
    """standard deviation of the shadowing, NLOS and LOS [dB] (UMa)"""
    decorrelation_m: tuple[float, float] = (50.0, 37.0)
    """distance over which the shadowing's autocorrelation falls to 1/e, NLOS and LOS [m] (UMa)"""
    interfered_every: int = 3
    """every n-th UE has bursts of inter-cell interference; this is n"""
    interference_rise_db: tuple[float, float] = (3.0, 9.0)
    """rise of noise plus interference during a burst [dB], constant per UE, uniform"""
    burst_slots: tuple[float, float] = (10.0, 200.0)
    """range of a UE's mean burst length [slots], log-uniform; burst lengths are geometric"""
    gap_per_burst: tuple[float, float] = (1.0, 3.0)
    """range of the mean gap between bursts, in mean burst lengths, uniform"""
    cqi_bias_db: float = 0.7
    """standard deviation over UEs of the constant error of the CQI measurement [dB]"""
    cqi_error_db: float = 0.5
    """standard deviation of the error that is drawn anew for each CQI measurement [dB]"""
    tables: tuple[tuple[Table, Table], ...] = ((1, 1),)
    """MCS table and CQI table of the UEs (TS 38.214), assigned in turn"""
    du: DuConfig = field(default_factory=DuConfig)
    """settings of the DU stand-in that belong to the cell; a replay takes them unless others are given"""

    def __post_init__(self) -> None:
        if len(self.speeds_kmh) != len(self.ues_per_speed):
            raise ValueError(
                f"ues_per_speed has {len(self.ues_per_speed)} entries; must have one per speed, {len(self.speeds_kmh)}"
            )
        if min(self.num_slots, self.num_rx, self.interfered_every, *self.ues_per_speed) < 1:
            raise ValueError("num_slots, num_rx, interfered_every and every entry of ues_per_speed must be at least 1")

    def tables_of(self, ue: int) -> tuple[Table, Table]:
        """MCS table and CQI table of the UE with this index."""
        return self.tables[ue % len(self.tables)]


BUNDLED: Final = {
    config.name: config
    for config in (
        BundledTraceConfig(),
        BundledTraceConfig(
            name="urban_256qam",
            num_slots=5000,
            ues_per_speed=(4, 4, 4, 4, 4, 4),
            mean_snr_db=(8.0, 34.0),
            tables=((2, 2),),
            du=DuConfig(cqi_period_slots=1, cqi_delay_slots=4),
        ),
        BundledTraceConfig(
            name="single_transmission",
            num_slots=4000,
            ues_per_speed=(3, 3, 3, 3, 2, 2),
            du=DuConfig(max_transmissions=1),
        ),
        BundledTraceConfig(
            name="two_transmissions",
            num_slots=4000,
            ues_per_speed=(4, 4, 4, 4, 4, 4),
            mean_snr_db=(4.0, 31.0),
            tables=((1, 1), (2, 2), (1, 1), (2, 1), (1, 1)),
            du=DuConfig(max_transmissions=2, cqi_period_slots=5, cqi_delay_slots=2),
        ),
    )
}
"""The traces that ship, by name: the first one is the default; the others are small and of another kind of cell."""


@dataclass(frozen=True)
class Ue:
    """Properties that are drawn once per UE."""

    name: str
    speed_kmh: float
    tdl_profile: str
    delay_spread_ns: float
    mean_snr_db: float
    interfered: bool

    @property
    def line_of_sight(self) -> bool:
        """Whether the profile has a specular component."""
        return self.tdl_profile in "DE"


def draw_ues(config: BundledTraceConfig, rng: np.random.Generator) -> list[Ue]:
    """Draw the UEs of the cell, in turn from each speed class, so that the first few of a trace are a mix already."""
    by_speed: list[list[Ue]] = []
    low, high = config.mean_snr_db
    for speed_kmh, count in zip(config.speeds_kmh, config.ues_per_speed, strict=True):
        # One UE per stratum: a class of ten UEs covers the cell from edge to centre with every seed.
        mean_snr_db = low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
        delay_spread_ns = _log_uniform(config.delay_spread_ns, count, rng)
        # Each speed class starts with another profile and another interfered UE, or small classes would all look alike.
        start = len(by_speed)
        by_speed.append(
            [
                Ue(
                    name="",
                    speed_kmh=speed_kmh,
                    tdl_profile=config.tdl_profiles[(start + i) % len(config.tdl_profiles)],
                    delay_spread_ns=float(delay_spread_ns[i]),
                    mean_snr_db=float(mean_snr_db[i]),
                    interfered=(start + i) % config.interfered_every == 0,
                )
                for i in range(count)
            ]
        )
    turns = [ues[i] for i in range(max(config.ues_per_speed)) for ues in by_speed if i < len(ues)]
    return [
        replace(ue, name=f"ue{i:02d}-tdl{ue.tdl_profile.lower()}-{ue.speed_kmh:g}kmh") for i, ue in enumerate(turns)
    ]


def _log_uniform(bounds: tuple[float, float], count: int, rng: np.random.Generator) -> Float64Array:
    return np.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]), count))


def fading_gain(config: BundledTraceConfig, ue: Ue) -> Float64Array:
    """Power gain of a UE's fading channel after maximum ratio combining, mean 1, float64 [slot, prb].

    The channel is constant over a slot and over a PRB (sampled at its centre). In a slot, a UE at 120 km/h moves by 0.2
    of a wavelength. Draws from Sionna's generators.
    """
    tdl = TDL(
        ue.tdl_profile,
        delay_spread=ue.delay_spread_ns * 1e-9,
        carrier_frequency=config.carrier_ghz * 1e9,
        min_speed=ue.speed_kmh / 3.6,
        num_rx_ant=config.num_rx,
        precision="double",  # the phase of the fastest UE grows to 10^4 rad
        device="cpu",
    )
    coefficients, delays = tdl(batch_size=1, num_time_steps=config.num_slots, sampling_frequency=1e6 / config.slot_us)
    taps = coefficients[0, 0, :, 0, 0].numpy()  # [rx, path, slot]
    delay_s = delays[0, 0, 0].numpy()  # [path]
    frequency_hz = (np.arange(config.prbs) - (config.prbs - 1) / 2) * 12 * config.subcarrier_khz * 1e3
    phasor = np.exp(-2j * np.pi * delay_s[:, None] * frequency_hz)  # [path, prb]
    response = taps.transpose(0, 2, 1) @ phasor  # [rx, slot, prb]
    return np.asarray(np.mean(np.abs(response) ** 2, axis=0))


def shadowing_drift_db(config: BundledTraceConfig, ues: list[Ue], rng: np.random.Generator) -> Float64Array:
    """Shadowing around its mean over the trace [dB], float64 [slot, ue]; Ornstein-Uhlenbeck in distance.

    Source: TR 38.901, clause 7.4.4 (exponential autocorrelation) and Table 7.5-6 (UMa).
    """
    kind = np.array([int(ue.line_of_sight) for ue in ues])
    sigma_db = np.array(config.shadowing_db)[kind]
    step_m = np.array([ue.speed_kmh for ue in ues]) / 3.6 * config.slot_us * 1e-6
    rho = np.exp(-step_m / np.array(config.decorrelation_m)[kind])
    innovation = rng.standard_normal((config.num_slots, len(ues)))
    return np.asarray(sigma_db * ornstein_uhlenbeck(innovation, rho))


def interference_rise_db(config: BundledTraceConfig, ues: list[Ue], rng: np.random.Generator) -> Float64Array:
    """Noise plus interference over noise alone [dB], float64 [slot, ue]: a two-state Markov chain per UE."""
    count = len(ues)
    rise_db = rng.uniform(*config.interference_rise_db, count)
    rise_db[[not ue.interfered for ue in ues]] = 0.0
    burst = _log_uniform(config.burst_slots, count, rng)
    gap = burst * rng.uniform(*config.gap_per_burst, count)
    on = rng.random(count) < burst / (burst + gap)  # stationary from the first slot on
    chance = rng.random((config.num_slots, count))
    states = np.empty((config.num_slots, count), bool)
    for slot in range(config.num_slots):
        states[slot] = on
        on ^= chance[slot] < 1 / np.where(on, burst, gap)
    return states * rise_db


def effective_sinr_db(sinr: Float64Array) -> Float64Array:
    """Effective SINR by the exponential mapping (EESM) over the last axis [dB], float64 of the leading shape.

    ::

        sinr_eff = -beta ln mean_prb exp(-sinr_prb / beta),   beta = max(1.6, 2.19 exp(0.155 sinr_eff_db))

    The beta of a slot is that of the MCS that the slot's own effective SINR supports (the fixed point of the
    two equations), because no single beta fits both QPSK (1.6) and 64QAM (up to 34). The line is fitted to
    the 29 betas of MCS table 1 in ``sionna.sys.EESM``, each at the SINR 1.5 dB above its MCS' Shannon
    limit. 5G-LENA has the same values (Lagen et al., "New Radio Physical Layer Abstraction for
    System-Level Simulations of 5G Networks", IEEE ICC 2020). The line smooths over the steps between
    modulations and stays within a factor of two of every value.

    Args:
        sinr: SINR of each PRB, linear, [..., prb].
    """
    lowest = sinr.min(axis=-1)
    exponent = 10 / np.log(10) * BETA_SLOPE_PER_DB
    effective_db = 10 * np.log10(sinr).mean(axis=-1)
    moved_db = np.inf
    # ln(sinr_eff) rises at most as fast as ln(beta): a round shrinks the error to 0.67 (`exponent`) or less.
    while moved_db > 1e-3:
        beta = np.maximum(BETA_MIN, BETA_AT_0_DB * 10 ** (effective_db / 10 * exponent))
        # Relative to the weakest PRB, so that no exponential underflows.
        mean = np.exp(-(sinr - lowest[..., None]) / beta[..., None]).mean(axis=-1)
        previous_db, effective_db = effective_db, 10 * np.log10(lowest - beta * np.log(mean))
        moved_db = np.max(np.abs(effective_db - previous_db))
    return np.asarray(effective_db)


def urban_trace(config: BundledTraceConfig, seed: int, progress: bool = False) -> ChannelTrace:
    """Generate the trace: one segment per slot, effective SINR rounded to 0.1 dB so that the file compresses well.

    Args:
        config: settings of the trace.
        seed: seed of every generator, Sionna's included; at least 0.
        progress: show a progress bar on the terminal.
    """
    layout_rng, shadow_rng, interference_rng, cqi_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)
    )
    sionna_config.seed = seed
    ues = draw_ues(config, layout_rng)
    level_db = np.array([ue.mean_snr_db for ue in ues]) + shadowing_drift_db(config, ues, shadow_rng)
    level_db -= interference_rise_db(config, ues, interference_rng)  # [slot, ue]
    sinr_db = np.empty((len(ues), config.num_slots))
    for index, ue in enumerate(track(ues, "fading channels", disable=not progress)):
        gain = fading_gain(config, ue)
        sinr_db[index] = effective_sinr_db(gain * 10 ** (level_db[:, index, None] / 10))
    bias_db = config.cqi_bias_db * cqi_rng.standard_normal((len(ues), 1))
    error_db = config.cqi_error_db * cqi_rng.standard_normal(sinr_db.shape)
    bler, measured_db = SmoothBler.load(), sinr_db + bias_db + error_db
    cqi = np.empty(sinr_db.shape, np.int64)
    for table in sorted({cqi_table for _, cqi_table in config.tables}):
        mine = [config.tables_of(index)[1] == table for index in range(len(ues))]
        cqi[mine] = cqi_for_sinr_db(measured_db[mine], cqi_thresholds_db(table, bler))
    return ChannelTrace(
        meta=_meta(config, ues, seed),
        offset=np.arange(len(ues) + 1, dtype=np.int64) * config.num_slots,
        slots=np.ones(sinr_db.size, np.int32),
        sinr_db=np.round(sinr_db, 1).astype(np.float32).ravel(),
        cqi=cqi.astype(np.int8).ravel(),
    )


def _meta(config: BundledTraceConfig, ues: list[Ue], seed: int) -> TraceMeta:
    low, high = config.mean_snr_db
    cell = f"{config.carrier_ghz:g} GHz, {config.subcarrier_khz:g} kHz subcarriers, {config.prbs} PRBs"
    return TraceMeta(
        name=config.name,
        slot_us=config.slot_us,
        source=(
            f"simulated by distila's training/bundled_trace.py (Apache-2.0), seed {seed},"
            f" TDL channels of Sionna {version('sionna-no-rt')}"
        ),
        notes=[
            f"{cell}; 1 transmit and {config.num_rx} uncorrelated receive antennas, MRC, 1 layer",
            "one independent TR 38.901 TDL channel per UE: no geometry, beams, precoding or handover",
            f"mean SNR uniform over {low:g} to {high:g} dB in each speed class, which is not the distribution of a real"
            " cell",
            "shadowing drifts around its mean as in UMa, over the distance that the UE travels",
            f"one UE in {config.interfered_every} has an interfering neighbour that switches on and off, equally"
            " strong in all PRBs",
            "effective SINR by EESM, beta following the SINR; rounded to 0.1 dB",
            f"CQI at 10 % BLER, measured with N(0, {config.cqi_bias_db:g} dB) per UE and"
            f" N(0, {config.cqi_error_db:g} dB) per report; undelayed, the DU adds period and delay",
            "the allocation is fixed: frequency-selective scheduling is not represented",
        ],
        du=config.du,
        ues=[
            UeMeta(
                name=ue.name,
                prbs=config.prbs,
                mcs_table=config.tables_of(index)[0],
                cqi_table=config.tables_of(index)[1],
                speed_kmh=ue.speed_kmh,
            )
            for index, ue in enumerate(ues)
        ],
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Generate a channel trace that comes with distila.")
    parser.add_argument("--name", choices=BUNDLED, default=next(iter(BUNDLED)), help="trace (default urban)")
    parser.add_argument("--out", type=Path, help="file to write (default replay/traces/NAME.trace)")
    parser.add_argument("--seed", type=int, default=1, help="seed of every generator (default 1)")
    parser.add_argument("--slots", type=int, help="length [slots] (default: that of the trace)")
    args = parser.parse_args()
    config = BUNDLED[args.name]
    if args.slots is not None:
        config = replace(config, num_slots=args.slots)
    out = args.out or Path("replay/traces") / f"{args.name}.trace"
    trace = urban_trace(config, args.seed, progress=True)
    trace.save(out)
    print(f"{out}: {trace.num_ues} UEs x {config.num_slots} slots, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()

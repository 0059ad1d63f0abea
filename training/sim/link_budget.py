"""Link budget of a drop: the sector, its neighbours, and the mean SNR at a place.

It is used by `distila.training.sim.channels`. Tables and clauses are those of TR 38.901.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from distila.training.sim.scenario import ChannelConfig
from distila.xapp.nr.arrays import Float64Array

UE_HEIGHT_M: Final = 1.5
"""Height of an outdoor UE; Tables 7.2-1 and 7.2-3."""
_NOISE_DBM_PER_HZ = -174.0
"""Density of thermal noise at 290 K."""
_NOISE_FIGURE_DB = 9.0
"""Noise figure of the UE, as in the calibration of clause 7.8."""
_NEIGHBOUR_LOAD = 0.5
"""Share of the time that a neighbour transmits; an assumption of this project."""
_CAR_LOSS_DB = 9.0
"""Mean loss into a car; clause 7.4.3.2."""
_STREET_M, _BUILDING_M = 20.0, 5.0
"""Width of RMa's streets and height of its buildings; the defaults of Table 7.4.1-1."""
_ELEMENT_GAIN_DB, _ELEMENT_WIDTH_DEG, _ELEMENT_DEPTH_DB = 8.0, 65.0, 30.0
"""Gain of an element, its beam width at -3 dB, and its largest attenuation; Table 7.3-1."""


@dataclass(frozen=True)
class Cell:
    """The sector of a drop."""

    height_m: float
    """height of the base station; Tables 7.2-1 and 7.2-3"""
    nearest_m: float
    """smallest distance of a UE; the same tables"""
    site_distance_m: float
    """distance between neighbouring sites; the same tables, for RMa the shorter of its two"""
    power_dbm: float
    """transmit power over the whole band, of any width; an assumption of this project"""

    @property
    def radius_m(self) -> float:
        """Far corner of a hexagonal sector."""
        return self.site_distance_m * 2 / 3


CELLS: Final = {
    "UMi": Cell(height_m=10, nearest_m=10, site_distance_m=200, power_dbm=44),
    "UMa": Cell(height_m=25, nearest_m=35, site_distance_m=500, power_dbm=46),
    "RMa": Cell(height_m=35, nearest_m=35, site_distance_m=1732, power_dbm=46),
}


def budget_db(config: ChannelConfig, place_m: Float64Array) -> Float64Array:
    """SNR [dB] at each place for a channel gain of 1 (precoding and combining included), [row]."""
    cell = CELLS[config.model]
    bandwidth_hz = config.prbs * 12e3 * config.subcarrier_khz
    noise_dbm = _NOISE_DBM_PER_HZ + 10 * math.log10(bandwidth_hz) + _NOISE_FIGURE_DB
    received = 10 ** ((cell.power_dbm - noise_dbm) / 10) * _neighbour_gain(config, place_m)
    return np.asarray(cell.power_dbm - noise_dbm - 10 * np.log10(1 + _NEIGHBOUR_LOAD * received))


def _neighbour_gain(config: ChannelConfig, place_m: Float64Array) -> Float64Array:
    """Sum of the mean gains from all neighbouring sectors, each with the power of the own sector, linear, [row].

    The neighbours are the other two sectors of the site and the three of each of the six neighbouring sites, with path
    loss without line of sight, without shadowing, and with the horizontal pattern of an element (Table 7.3-1): their
    beams point at any UE, so on average they radiate like one element.
    """
    cell = CELLS[config.model]
    angle = np.pi / 6 + np.pi / 3 * np.arange(6)
    ring = cell.site_distance_m * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    displacement_m = place_m[:, None, :2] - np.concatenate([np.zeros((1, 2)), ring])  # [row, site, xy]
    distance_m = np.hypot(np.linalg.norm(displacement_m, axis=2), cell.height_m - UE_HEIGHT_M)
    bearing = np.degrees(np.arctan2(displacement_m[..., 1], displacement_m[..., 0]))[..., None] - np.array(
        [0.0, 120.0, 240.0]
    )
    off = (bearing + 180) % 360 - 180
    pattern_db = _ELEMENT_GAIN_DB - np.minimum(12 * (off / _ELEMENT_WIDTH_DEG) ** 2, _ELEMENT_DEPTH_DB)
    gain = 10 ** ((pattern_db - _path_loss_db(config, distance_m)[..., None]) / 10)  # [row, site, sector]
    return np.asarray(gain.sum(axis=(1, 2)) - gain[:, 0, 0])  # without the own sector


def _path_loss_db(config: ChannelConfig, distance_m: Float64Array) -> Float64Array:
    """Without line of sight, Table 7.4.1-1 at `UE_HEIGHT_M`, without its lower limit (the loss with line of sight)."""
    log_distance, log_ghz = np.log10(distance_m), math.log10(config.carrier_ghz)
    if config.model == "UMi":
        return np.asarray(22.4 + 35.3 * log_distance + 21.3 * log_ghz)
    if config.model == "UMa":
        return np.asarray(13.54 + 39.08 * log_distance + 20 * log_ghz)
    height_m = CELLS["RMa"].height_m
    loss_db = 161.04 - 7.1 * math.log10(_STREET_M) + 7.5 * math.log10(_BUILDING_M)
    loss_db -= (24.37 - 3.7 * (_BUILDING_M / height_m) ** 2) * math.log10(height_m)
    loss_db -= 3.2 * math.log10(11.75 * UE_HEIGHT_M) ** 2 - 4.97
    slope_db = 43.42 - 3.1 * math.log10(height_m)
    return np.asarray(loss_db + slope_db * (log_distance - 3) + 20 * log_ghz + _CAR_LOSS_DB)

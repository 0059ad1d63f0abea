"""The channel trace that comes with distila, and the script that makes it."""

import importlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from distila.replay.trace import TRACES, ChannelTrace
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db

PATH = Path(__file__).parents[2] / "replay" / "traces" / "urban.trace"
UES_PER_SPEED = {0.5: 10, 3: 12, 10: 12, 30: 10, 60: 10, 120: 10}
LIGHT_M_PER_S = 299792458


@pytest.fixture(scope="module")
def urban():
    return ChannelTrace.load(PATH)


@pytest.fixture(scope="module")
def sinr_db(urban):  # [slot, ue]
    return urban.window(0, int(urban.num_slots[0]))[0].astype(np.float64)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("sionna")
    return importlib.import_module("distila.training.bundled_trace")


def speeds(trace):
    return np.array([ue.speed_kmh for ue in trace.meta.ues])


# --- the file in the repository ---


def test_file_is_small_enough_to_check_in():
    assert PATH.stat().st_size < 600_000


def test_file_holds_64_ues_of_six_speeds_for_three_seconds(urban):
    assert urban.num_ues == 64
    assert Counter(speeds(urban)) == UES_PER_SPEED
    assert (urban.num_slots == 6000).all()
    assert (urban.slots == 1).all()
    assert urban.meta.slot_us == 500


def test_every_slot_has_sinr_and_cqi(urban):
    assert np.isfinite(urban.sinr_db).all()
    assert urban.cqi.min() >= 0
    assert set(range(1, 16)) <= set(urban.cqi.tolist())


def test_names_tell_profile_and_speed(urban):
    for index, ue in enumerate(urban.meta.ues):
        number, profile, speed = ue.name.split("-")
        assert number == f"ue{index:02d}"
        assert profile in {"tdla", "tdlb", "tdlc", "tdld"}
        assert float(speed.removesuffix("kmh")) == ue.speed_kmh


def test_every_speed_class_reaches_from_cell_edge_to_cell_centre(urban, sinr_db):
    for speed in UES_PER_SPEED:
        mean_db = sinr_db[:, speeds(urban) == speed].mean(axis=0)
        assert mean_db.min() < 6
        assert mean_db.max() > 18


@pytest.mark.parametrize(("slow", "fast"), list(pairwise(UES_PER_SPEED)))
def test_faster_ues_decorrelate_sooner(urban, sinr_db, slow, fast):
    # A lag at which the fading of the slower ones still correlates by J0(2 pi 0.1)^2 = 0.8.
    lag_slots = round(0.1 / (slow / 3.6 * 3.5e9 / LIGHT_M_PER_S) / 500e-6)
    early, late = sinr_db[:-lag_slots], sinr_db[lag_slots:]

    def correlation(speed):
        # The median over the UEs of a class leaves out the third that interference bursts visit.
        return np.median(
            [np.corrcoef(early[:, ue], late[:, ue])[0, 1] for ue in np.flatnonzero(speeds(urban) == speed)]
        )

    assert correlation(slow) > 0.6
    assert correlation(fast) < correlation(slow) - 0.05


def test_cqi_is_what_the_sinr_supports_give_or_take_the_measurement_error(urban):
    thresholds_db = np.append(cqi_thresholds_db(1, SmoothBler.load()), np.inf)
    too_high_db = thresholds_db[urban.cqi] - urban.sinr_db
    too_low_db = urban.sinr_db - thresholds_db[urban.cqi + 1]
    # Errors per UE (0.7 dB) and per report (0.5 dB) add up to 0.86 dB; 3.5 dB is four of these.
    assert max(too_high_db.max(), too_low_db.max()) < 4.5
    assert np.mean(np.maximum(too_high_db, too_low_db) > 3.5) < 1e-3
    # and it is no perfect measurement
    assert np.mean(np.maximum(too_high_db, too_low_db) > 0.1) > 0.1


def test_sinr_is_rounded_to_a_tenth_of_a_db(urban):
    assert np.array_equal(urban.sinr_db, np.round(urban.sinr_db.astype(np.float64), 1).astype(np.float32))


# --- the other traces that ship: cells of another kind ---

OTHERS = {
    "urban_256qam": ({(2, 2)}, {"cqi_period_slots": 1, "cqi_delay_slots": 4}),
    "single_transmission": ({(1, 1)}, {"max_transmissions": 1}),
    "two_transmissions": (
        {(1, 1), (2, 2), (2, 1)},
        {"max_transmissions": 2, "cqi_period_slots": 5, "cqi_delay_slots": 2},
    ),
}
"""name -> (MCS table, CQI table) of its UEs, and the DU settings that come with it"""


def test_these_traces_ship():
    assert set(TRACES.names()) == {"urban", *OTHERS}


@pytest.mark.parametrize("name", OTHERS)
def test_another_trace_is_small_and_says_which_cell_it_is(name):
    path = TRACES.find(name)
    trace = ChannelTrace.load(path)
    assert path.stat().st_size < 150_000
    assert trace.meta.name == name
    assert "Sionna" in trace.meta.source
    assert trace.num_ues >= 10, "enough UEs to resample them"
    assert ({(ue.mcs_table, ue.cqi_table) for ue in trace.meta.ues}, trace.meta.du.given()) == OTHERS[name]


@pytest.mark.parametrize("name", OTHERS)
def test_cqi_of_each_ue_is_of_its_own_table(name):
    trace = ChannelTrace.load(TRACES.find(name))
    bler = SmoothBler.load()
    for index, ue in enumerate(trace.meta.ues):
        own = slice(trace.offset[index], trace.offset[index + 1])
        exact = cqi_for_sinr_db(trace.sinr_db[own].astype(np.float64), cqi_thresholds_db(ue.cqi_table, bler))
        # A constant error of 0.7 dB per UE moves about a third of a step of 2 dB.
        assert abs((trace.cqi[own] - exact).mean()) < 1.3


def test_the_trace_that_ships_first_brings_no_du_settings(urban):
    assert urban.meta.du.given() == {}


# --- the script ---


def small(script, num_slots=300):
    return script.BundledTraceConfig(num_slots=num_slots, speeds_kmh=(3.0, 60.0), ues_per_speed=(2, 3))


def test_same_seed_same_arrays_and_another_seed_other_arrays(script):
    first, again, other = (script.urban_trace(small(script), seed) for seed in (7, 7, 8))
    assert first.meta == again.meta
    assert np.array_equal(first.sinr_db, again.sinr_db)
    assert np.array_equal(first.cqi, again.cqi)
    assert not np.array_equal(first.sinr_db, other.sinr_db)
    assert not np.array_equal(first.cqi, other.cqi)


def test_the_script_makes_every_trace_that_ships(script):
    assert set(script.BUNDLED) == set(TRACES.names())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["urban", *OTHERS])
def test_checked_in_file_is_what_the_script_writes(script, name):
    fresh, shipped = script.urban_trace(script.BUNDLED[name], seed=1), ChannelTrace.load(TRACES.find(name))
    assert (fresh.meta.ues, fresh.meta.du) == (shipped.meta.ues, shipped.meta.du)
    # Another processor may round a borderline value the other way.
    assert np.abs(fresh.sinr_db - shipped.sinr_db).max() < 0.11
    assert np.mean(fresh.sinr_db == shipped.sinr_db) > 0.999
    again = f"BLER curves refitted? python -m distila.training.bundled_trace --name {name}"
    assert np.mean(fresh.cqi == shipped.cqi) > 0.999, again


@pytest.mark.parametrize("speed_kmh", [10.0, 30.0, 120.0])
def test_fading_autocorrelation_is_jakes(script, speed_kmh):
    # Power of a Rayleigh channel correlates as J0(2 pi f_D t)^2, which is 0.5 at f_D t = 0.179.
    script.sionna_config.seed = 3
    config = script.BundledTraceConfig(num_slots=4000)
    gain = script.fading_gain(config, script.Ue("", speed_kmh, "A", 100.0, 0.0, False))  # [slot, prb]
    gain = gain - gain.mean()
    half_lag_slots = 0.179 / (speed_kmh / 3.6 * 3.5e9 / LIGHT_M_PER_S) / 500e-6
    lags = np.arange(int(1.25 * half_lag_slots) + 2)  # falls monotonically up to there
    correlation = np.array([np.mean(gain[lag:] * gain[: len(gain) - lag]) for lag in lags]) / np.mean(gain**2)
    assert np.interp(-0.5, -correlation, lags) == pytest.approx(half_lag_slots, rel=0.15)


def test_fading_gain_has_mean_one(script):
    script.sionna_config.seed = 3
    config = script.BundledTraceConfig(num_slots=2000)
    for profile in "ABCD":
        gain = script.fading_gain(config, script.Ue("", 120.0, profile, 100.0, 0.0, False))
        assert gain.shape == (2000, 52)
        assert gain.mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("profile", "sigma_db", "decorrelation_m"), [("A", 6, 50), ("D", 4, 37)])
def test_shadowing_decorrelates_over_distance_as_in_uma(script, profile, sigma_db, decorrelation_m):
    config = script.BundledTraceConfig(num_slots=1501)
    ues = [script.Ue("", 120.0, profile, 100.0, 0.0, False)] * 1000
    drift_db = script.shadowing_drift_db(config, ues, np.random.default_rng(1))
    travelled_m = 120 / 3.6 * 1500 * 500e-6
    expected = 2 * sigma_db**2 * (1 - np.exp(-travelled_m / decorrelation_m))
    assert np.mean((drift_db[-1] - drift_db[0]) ** 2) == pytest.approx(expected, rel=0.15)
    assert np.allclose(drift_db.mean(axis=0), 0)


def test_interference_comes_in_geometric_bursts(script):
    config = script.BundledTraceConfig(num_slots=40_000, burst_slots=(20.0, 20.0), gap_per_burst=(2.0, 2.0))
    ues = [script.Ue("", 3.0, "A", 100.0, 0.0, interfered) for interfered in (True, False) * 10]
    rise_db = script.interference_rise_db(config, ues, np.random.default_rng(1))
    assert not rise_db[:, 1::2].any()
    on = rise_db[:, ::2] > 0
    assert on.mean() == pytest.approx(1 / 3, rel=0.05)
    starts = np.count_nonzero(on[1:] & ~on[:-1])
    assert on.sum() / starts == pytest.approx(20, rel=0.05)
    assert rise_db[rise_db > 0].min() >= 3
    assert rise_db.max() <= 9
    assert all(len(np.unique(rise_db[:, ue])) == 2 for ue in range(0, 20, 2))


def test_a_third_of_the_ues_is_interfered_in_every_speed_class(script):
    ues = script.draw_ues(script.BundledTraceConfig(), np.random.default_rng(1))
    victims = Counter(ue.speed_kmh for ue in ues if ue.interfered)
    assert all(3 <= victims[speed] <= 4 for speed in UES_PER_SPEED)


def test_effective_sinr_of_a_flat_channel_is_its_sinr(script):
    flat_db = np.arange(-15.0, 40.0)
    found = script.effective_sinr_db(np.repeat(10 ** (flat_db[:, None] / 10), 52, axis=1))
    assert found == pytest.approx(flat_db, abs=1e-3)


def test_effective_sinr_lies_between_weakest_and_mean_and_solves_its_equation(script):
    rng = np.random.default_rng(1)
    sinr = rng.gamma(2, 0.5, (500, 52)) * 10 ** rng.uniform(-1, 3, (500, 1))
    found = 10 ** (script.effective_sinr_db(sinr) / 10)
    assert (found > sinr.min(axis=1)).all()
    assert (found < sinr.mean(axis=1)).all()
    beta = np.maximum(1.6, 2.19 * np.exp(0.155 * 10 * np.log10(found)))
    expected = -beta * np.log(np.mean(np.exp(-sinr / beta[:, None]), axis=1))
    assert 10 * np.log10(found / expected) == pytest.approx(0, abs=2e-3)


def test_betas_follow_sionnas_table_within_a_factor_of_two(script):
    from sionna.sys import EESM

    from distila.xapp.nr.mcs import MCS_TABLES

    limit_db = 10 * np.log10(2 ** MCS_TABLES[1].spectral_efficiency - 1)
    line = script.BETA_AT_0_DB * np.exp(script.BETA_SLOPE_PER_DB * (limit_db + 1.5))
    ours = np.maximum(script.BETA_MIN, line)
    ratio = ours / np.array(EESM().beta_table["index"][1])
    assert ratio.min() > 0.5
    assert ratio.max() < 2.01


@pytest.mark.parametrize(("field", "value"), [("ues_per_speed", (3,)), ("ues_per_speed", (3, 0)), ("num_slots", 0)])
def test_impossible_configuration_is_rejected_by_name(script, field, value):
    settings = {"speeds_kmh": (3.0, 60.0), "ues_per_speed": (2, 3), field: value}
    with pytest.raises(ValueError, match=field):
        script.BundledTraceConfig(**settings)

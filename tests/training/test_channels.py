"""The fading that Sionna's channel models give, precoded and combined, and its summary for effective SINR."""

import importlib

import numpy as np
import pytest

from distila.training.sim.distribution import Distribution
from distila.training.sim.eesm import NODE_FIRST_DB, NODE_STEP_DB, eesm_beta, effective_gain_db, nodes_db
from distila.training.sim.scenario import AntennaConfig, ChannelConfig
from distila.training.sim.split import Split, seed_sequence
from distila.xapp.errors import InputError
from distila.xapp.nr.mcs import MCS_TABLES


def exactly(value):
    return Distribution(kind="constant", values=(value,))


def channel(model="TDL-A", tx=1, rx=1, rank=1, **settings):
    antennas = AntennaConfig(tx=tx, rx=rx, max_rank=rank, **settings.pop("antennas", {}))
    return ChannelConfig(model=model, antennas=antennas, **settings)


def seeds(number=1, split=Split.TRAIN):
    return seed_sequence(split, number, "bank")


@pytest.fixture(scope="module")
def channels():
    pytest.importorskip("sionna")
    return importlib.import_module("distila.training.sim.channels")


@pytest.fixture(scope="module")
def ray_module(channels):
    return importlib.import_module("distila.training.sim.rays")


@pytest.fixture(scope="module")
def precoding(channels):
    return importlib.import_module("distila.training.sim.precoding")


@pytest.fixture(scope="module")
def generate(channels):
    return channels.generate


@pytest.fixture
def recorded_gains(channels, monkeypatch):
    """Gains before they are summed up: one list per UE, [rank] of [slot, prb x layer]."""
    kept = []

    def keep(gain, drift):
        kept.append([of_rank * drift[:, None] for of_rank in gain])
        return np.stack([effective_gain_db(of_rank, nodes_db()) for of_rank in gain]).astype(np.int16)

    monkeypatch.setattr(channels, "_summarise", keep)
    return kept


def rayleigh_gains(rng, samples=13, slots=4000):
    return rng.exponential(size=(slots, samples))


def eesm_db(sinr, beta):
    return 10 * np.log10(-beta * np.log(np.mean(np.exp(-sinr / beta), axis=-1)))


def at_offset_db(node_values_db, offset_db):
    """E at ``offset_db`` = beta_db - s by linear interpolation between the nodes, clamped beyond them."""
    last = node_values_db.shape[-1] - 1
    position = np.clip((np.asarray(offset_db) - NODE_FIRST_DB) / NODE_STEP_DB, 0, last)
    position = np.broadcast_to(position, node_values_db.shape[:-1])
    low = np.minimum(position.astype(np.int64), last - 1)
    below = np.take_along_axis(node_values_db, low[..., None], axis=-1)[..., 0]
    above = np.take_along_axis(node_values_db, low[..., None] + 1, axis=-1)[..., 0]
    return below + (above - below) * (position - low)


# --- effective SINR ---


@pytest.mark.parametrize("snr_db", [-5.0, 3.0, 12.0, 25.0])
@pytest.mark.parametrize("mcs", [0, 9, 17, 28])
def test_effective_sinr_is_the_mean_snr_plus_e_at_beta_below_it(snr_db, mcs):
    pytest.importorskip("sionna")
    gain = rayleigh_gains(np.random.default_rng(1), slots=200)
    beta = eesm_beta(1)[mcs]
    direct_db = eesm_db(gain * 10 ** (snr_db / 10), beta)
    e_db = effective_gain_db(gain, [10 * np.log10(beta) - snr_db])[:, 0]
    assert snr_db + e_db == pytest.approx(direct_db, abs=1e-9)


@pytest.mark.parametrize(("mcs", "snr_db"), [(0, 2.0), (9, 8.0), (17, 14.0), (27, 20.0)])
def test_it_is_sionnas_effective_sinr(mcs, snr_db):
    pytest.importorskip("sionna")
    torch = importlib.import_module("torch")
    eesm = importlib.import_module("sionna.sys").EESM(precision="double", device="cpu")
    gain = rayleigh_gains(np.random.default_rng(2), samples=24, slots=20)
    # [batch, symbol, subcarrier, ue, stream]: 12 subcarriers, 2 layers
    sinr = torch.from_numpy(10 ** (snr_db / 10) * gain).reshape(20, 1, 12, 1, 2)
    theirs = eesm(sinr, torch.full((20, 1), mcs, dtype=torch.int32), mcs_table_index=1).numpy()[:, 0]
    ours_db = snr_db + effective_gain_db(gain, [10 * np.log10(eesm_beta(1)[mcs]) - snr_db])[:, 0]
    assert ours_db == pytest.approx(10 * np.log10(theirs), abs=1e-6)


def test_e_rises_from_the_weakest_gain_to_the_mean():
    gain = rayleigh_gains(np.random.default_rng(3), slots=100)
    e_db = effective_gain_db(gain, [-60, *nodes_db(), 60])
    assert (np.diff(e_db, axis=-1) > 0).all()
    assert e_db[:, 0] == pytest.approx(10 * np.log10(gain.min(axis=-1)), abs=0.5)
    assert e_db[:, -1] == pytest.approx(10 * np.log10(gain.mean(axis=-1)), abs=1e-3)


def test_flat_channels_have_their_gain_as_e_at_every_node():
    gain = np.array([[1e-6] * 5, [1.0] * 5, [250.0] * 5])
    assert effective_gain_db(gain, nodes_db()) == pytest.approx(
        np.tile([[-60], [0], [23.979]], nodes_db().size), abs=1e-3
    )


def test_nothing_underflows_with_gains_of_any_size():
    gain = np.array([[0.0, 1e-12, 1.0, 1e4], [1e3, 2e3, 1e5, 1e7]], np.float32)
    assert np.isfinite(effective_gain_db(gain, [-60, *nodes_db(), 60])).all()


def test_single_precision_is_good_to_a_hundredth_of_a_db():
    gain = rayleigh_gains(np.random.default_rng(4))
    exact = effective_gain_db(gain, nodes_db())
    assert np.abs(effective_gain_db(gain.astype(np.float32), nodes_db()) - exact).max() < 0.01


def test_interpolation_between_nodes_errs_by_less_than_a_tenth_of_a_db():
    rng = np.random.default_rng(5)
    errors = []
    for samples, deepest in ((13, 1.0), (26, 0.5), (13, 3.0)):
        # Exponents below and above 1 make the fading shallower and deeper than Rayleigh's.
        gain = rayleigh_gains(rng, samples) ** deepest
        gain /= gain.mean()
        offset_db = rng.uniform(-22, 10, len(gain))
        exact = np.array([effective_gain_db(g[None], [b])[0, 0] for g, b in zip(gain, offset_db, strict=True)])
        errors.append(np.abs(at_offset_db(effective_gain_db(gain, nodes_db()), offset_db) - exact))
    assert np.quantile(np.concatenate(errors), 0.99) < 0.1


def test_beyond_the_nodes_the_outermost_holds():
    e_db = effective_gain_db(rayleigh_gains(np.random.default_rng(6), slots=5), nodes_db())
    assert (at_offset_db(e_db, -90.0) == e_db[:, 0]).all()
    assert at_offset_db(e_db, 90.0) == pytest.approx(e_db[:, -1])


@pytest.mark.parametrize("table", [1, 2, 3])
def test_every_mcs_has_a_beta(table):
    pytest.importorskip("sionna")
    beta = eesm_beta(table)
    assert beta.shape == (MCS_TABLES[table].num_mcs,)
    assert (np.diff(beta) >= 0).all()
    assert beta[0] == 1.6


def test_table_3_has_the_betas_of_table_1_at_the_same_spectral_efficiency():
    pytest.importorskip("sionna")
    # Table 3 goes on from MCS 6 with the rows of table 1, but for those where the modulation changes.
    assert eesm_beta(3)[6:15].tolist() == eesm_beta(1)[:9].tolist()
    assert eesm_beta(3)[21:].tolist() == eesm_beta(1)[17:25].tolist()


def test_unknown_table_is_rejected():
    with pytest.raises(ValueError, match="must be one of"):
        eesm_beta(4)


# --- fading ---


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "TDL-A", "rx": 2},
        {"model": "TDL-D", "tx": 4, "rx": 2, "rank": 2},
        {"model": "CDL-E", "tx": 8, "rx": 2, "rank": 2},
        {"model": "UMi", "tx": 4, "rx": 2, "rank": 2},
        {"model": "UMa", "tx": 1, "rx": 4},
        {"model": "RMa", "tx": 2, "rx": 2, "rank": 2, "carrier_ghz": 0.7},
    ],
    ids=lambda settings: settings["model"],
)
def test_mean_gain_of_one_layer_is_1_and_more_layers_lie_below(generate, settings):
    fading = generate(channel(**settings), 5, 150, seeds())
    mean_db = 10 * np.log10((10 ** (fading.gain_cdb / 1000)).mean(axis=(2, 3)))  # [row, rank]
    flat_db = 10 * np.log10((10 ** (fading.gain_cdb[:, :, :, -1] / 1000)).mean(axis=2))
    assert flat_db[:, 0] == pytest.approx(0.0, abs=0.1)
    assert (np.diff(mean_db, axis=1) < -2.9).all()  # half the power, and another stream to suppress


@pytest.mark.parametrize("model", ["TDL-A", "CDL-B", "UMi"])
def test_same_seed_same_fading_other_split_other_fading(generate, model):
    config = channel(model, tx=2, rx=2, rank=2, shadowing_db=4.0)
    one, same, other = (generate(config, 3, 60, seeds(1, split)) for split in (Split.TRAIN, Split.TRAIN, Split.TEST))
    assert (one.gain_cdb == same.gain_cdb).all()
    assert (one.speed_kmh == same.speed_kmh).all()
    assert one.snr_db.tobytes() == same.snr_db.tobytes()
    assert (one.gain_cdb != other.gain_cdb).mean() > 0.9


def test_a_seed_sequence_is_not_used_up(generate):
    seed_sequence = seeds()
    first, second = (generate(channel(), 2, 40, seed_sequence) for _ in range(2))
    assert (first.gain_cdb == second.gain_cdb).all()


def test_speeds_come_from_the_configuration_and_progress_is_reported(generate):
    seen = []
    config = channel(speed_kmh=Distribution(kind="uniform", values=(40.0, 50.0)))
    fading = generate(config, 20, 30, seeds(), lambda done, total: seen.append((done, total)))
    assert fading.speed_kmh.min() >= 40
    assert fading.speed_kmh.max() <= 50
    assert seen == [(row, 20) for row in range(1, 21)]


@pytest.mark.parametrize("speed_kmh", [10.0, 60.0])
def test_rayleigh_fading_forgets_as_fast_as_jakes_says(generate, recorded_gains, speed_kmh):
    special = pytest.importorskip("scipy.special")
    config = channel(speed_kmh=exactly(speed_kmh), delay_spread_ns=exactly(100.0))
    generate(config, 40, 1200, seeds())
    gain = np.stack([of_ue[0] for of_ue in recorded_gains])  # [ue, slot, prb]
    doppler_hz = speed_kmh / 3.6 / 299792458 * 3.5e9
    for turns in (0.1, 0.2, 0.38):
        lag = round(turns / doppler_hz / 0.5e-3)
        # Power of a Rayleigh channel: correlation J0 squared.
        centred = gain - gain.mean()
        correlation = (centred[:, lag:] * centred[:, :-lag]).mean() / (centred**2).mean()
        expected = special.j0(2 * np.pi * doppler_hz * lag * 0.5e-3) ** 2
        assert correlation == pytest.approx(expected, abs=0.08)


def test_tdl_gains_are_exponential_with_one_antenna_and_gamma_with_two(generate, recorded_gains):
    for rx in (1, 2):
        generate(channel(rx=rx, speed_kmh=exactly(100.0)), 30, 600, seeds())
    spread = [np.var(np.stack([of_ue[0] for of_ue in ues])) for ues in (recorded_gains[:30], recorded_gains[30:])]
    assert spread == pytest.approx([1.0, 0.5], rel=0.15)


def test_tdl_has_sionnas_delays_and_powers(ray_module):
    tr38901 = importlib.import_module("sionna.phy.channel.tr38901")
    for model in ("TDL-A", "TDL-D"):
        profile = tr38901.TDL(model[-1], delay_spread=1e-7, carrier_frequency=3.5e9, device="cpu")
        rays = ray_module.draw_rays(channel(model), np.full(3, 3.0), np.full(3, 100.0), np.random.default_rng(1))
        power = rays.amplitude.abs().square().numpy()[0, :, 0, 0]
        assert power.sum() == pytest.approx(float(profile.mean_powers.sum()), rel=1e-5)
        spread_s = lambda p, d: np.sqrt(np.average(d**2, weights=p) - np.average(d, weights=p) ** 2)  # noqa: E731
        theirs = spread_s(profile.mean_powers.numpy(), profile.delays.numpy())
        assert spread_s(power, rays.delay_s[0]) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("model", ["CDL-C", "CDL-D", "UMi", "RMa"])
def test_rays_add_up_to_sionnas_own_channel_at_every_time(ray_module, monkeypatch, model):
    config = channel(model, tx=4, rx=2, speed_kmh=exactly(60.0))
    speed_kmh, spread_ns = np.full(6, 60.0), np.full(6, 100.0)
    recorders = []
    record = ray_module._record
    monkeypatch.setattr(ray_module, "_record", lambda *a, **k: recorders.append(record(*a, **k)) or recorders[-1])
    importlib.import_module("sionna.phy").config.seed = 5
    rays = ray_module.draw_rays(config, speed_kmh, spread_ns, np.random.default_rng(1))
    (recorder,) = recorders
    slots, slot_s = 5, 0.5e-3
    coefficients, delays = recorder._generator(
        slots, 1 / slot_s, recorder._k_factor, recorder._given, recorder._topology, recorder._cluster_spread_s
    )
    path = coefficients[:, 0, 0].numpy()  # [row, path, rx, tx, slot]
    delay_s = delays[:, 0, 0].double().numpy() * (1e-7 if model.startswith("CDL") else 1.0)
    frequency_hz = ray_module.prb_offsets_hz(config)
    theirs = np.einsum("npxyt,npf->nfxyt", path, np.exp(-2j * np.pi * delay_s[..., None] * frequency_hz))
    time_s = np.arange(slots) * slot_s
    turn = np.exp(2j * np.pi * rays.doppler_hz[..., None] * time_s)
    tone = np.exp(-2j * np.pi * rays.delay_s[..., None] * frequency_hz)
    ours = np.einsum("npxy,npt,npf->nfxyt", rays.amplitude.numpy(), turn, tone)
    # Path loss and shadowing are in ours alone.
    scale = np.sqrt((np.abs(theirs) ** 2).mean((1, 2, 3, 4)) / (np.abs(ours) ** 2).mean((1, 2, 3, 4)))
    error = np.abs(ours * scale[:, None, None, None, None] - theirs).max((1, 2, 3, 4))
    # Single precision: a line of sight of a kilometre has gone through 10^5 radians.
    assert (error < 1e-2 * np.abs(theirs).max((1, 2, 3, 4))).all()


def test_many_antennas_harden_the_channel(generate):
    still = {"speed_kmh": exactly(30.0)}
    one = generate(channel("CDL-A", tx=1, rx=1, **still), 12, 400, seeds())
    many = generate(channel("CDL-A", tx=32, rx=4, **still), 12, 400, seeds())
    depth_db = [-np.quantile(fading.gain_cdb[:, 0, :, 6] / 100, 0.01) for fading in (one, many)]
    assert depth_db[1] < 0.75 * depth_db[0]


def test_zero_forcing_gains_are_those_of_the_inverse_gram_matrix(precoding):
    torch = importlib.import_module("torch")
    rng = np.random.default_rng(7)
    beams = (rng.standard_normal((2, 3, 4, 3)) + 1j * rng.standard_normal((2, 3, 4, 3))).astype(np.complex64)
    gains = precoding.layer_gains(torch.from_numpy(beams))
    for rank in (1, 2, 3):
        part = beams[..., :rank]
        inverse = np.linalg.inv(part.conj().swapaxes(-1, -2) @ part)
        expected = 1 / (rank * np.diagonal(inverse, axis1=-2, axis2=-1).real)
        assert gains[rank - 1].numpy() == pytest.approx(expected, rel=1e-3)


def test_a_layer_without_a_channel_of_its_own_has_next_to_no_gain(precoding):
    torch = importlib.import_module("torch")
    beams = torch.ones(1, 1, 2, 2, dtype=torch.complex64)
    _, two = precoding.layer_gains(beams)
    assert torch.isfinite(two).all()
    assert two.max() < 1e-9


def test_shadowing_drifts_with_the_way_and_not_on_average(channels):
    config = channel(shadowing_db=6.0, decorrelation_m=20.0)
    speed_kmh = np.repeat([3.0, 300.0], 50)
    drift_db = channels.shadowing_drift_db(config, speed_kmh, 40_000, np.random.default_rng(1))
    assert np.abs(drift_db.mean(axis=1)).max() < 1e-9
    walking, driving = drift_db[:50].std(axis=1).mean(), drift_db[50:].std(axis=1).mean()
    assert walking < 4.5  # 17 m in 20 s
    assert driving == pytest.approx(6.0, rel=0.05)
    lag = round(20 / (300 / 3.6) / 0.5e-3)
    fast = drift_db[50:]
    assert (fast[:, lag:] * fast[:, :-lag]).mean() / (fast**2).mean() == pytest.approx(np.exp(-1), abs=0.05)


def test_shadowing_is_part_of_the_gains(generate):
    calm, drifting = (generate(channel(shadowing_db=db, speed_kmh=exactly(80.0)), 4, 400, seeds()) for db in (0.0, 8.0))
    assert (calm.gain_cdb != drifting.gain_cdb).any()
    shift = np.ptp(drifting.gain_cdb.astype(int) - calm.gain_cdb, axis=2)
    assert shift.min() > 50


# --- drops ---


def test_drops_cover_the_cell_from_edge_to_centre(generate):
    fading = generate(channel("UMi", tx=4, rx=2), 64, 4, seeds())
    assert fading.snr_db.min() >= -8
    assert fading.snr_db.max() <= 32
    assert np.quantile(fading.snr_db, 0.1) < 6
    assert np.quantile(fading.snr_db, 0.9) > 18
    assert 5 < np.median(fading.snr_db) < 20


@pytest.mark.parametrize("model", ["TDL-A", "CDL-A"])
def test_models_without_geometry_have_no_link_budget(generate, model):
    assert np.isnan(generate(channel(model), 2, 10, seeds()).snr_db).all()


def test_more_antennas_reach_further(generate):
    few, many = (generate(channel("UMa", tx=tx, rx=2), 32, 4, seeds()).snr_db for tx in (2, 32))
    assert np.median(many) - np.median(few) > 6


def test_an_old_precoder_costs_a_fast_ue_more(generate):
    def loss_db(speed_kmh):
        drops = [
            generate(
                channel("UMa", tx=16, rx=2, speed_kmh=exactly(speed_kmh), antennas={"csi_delay_slots": delay}),
                *(24, 100, seeds()),
            )
            for delay in (0, 40)
        ]
        return np.mean(drops[0].snr_db - drops[1].snr_db)

    assert abs(loss_db(0.5)) < 0.1
    assert loss_db(60.0) > 0.4


def test_rma_above_its_carrier_range_is_rejected(generate):
    with pytest.raises(InputError, match=r"carrier_ghz = 28: RMa is defined up to 7 GHz"):
        generate(channel("RMa", carrier_ghz=28.0), 1, 1, seeds())


@pytest.mark.parametrize(("prbs", "count"), [(4, 4), (20, 8), (52, 13), (106, 26), (275, 26)])
def test_prbs_stand_for_all_evenly(ray_module, prbs, count):
    offsets_hz = ray_module.prb_offsets_hz(channel(prbs=prbs))
    assert offsets_hz.size == count
    assert offsets_hz.mean() == pytest.approx(0, abs=1e-6)
    assert np.ptp(offsets_hz) < prbs * 360e3

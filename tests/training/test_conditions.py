"""What happens to links whatever is decided: channel, interference, CQI, luck, allocations.

Most tests use a channel whose every gain is 0 dB, so that the effective SINR is the link's mean SNR whatever the MCS.
"""

import numpy as np
import pytest
import torch

from distila.training.sim import conditions as module
from distila.training.sim.bank import NODE_FIRST_DB, NODE_STEP_DB, NUM_NODES, FadingBank
from distila.training.sim.conditions import BLOCK_SLOTS, Banks, Conditions
from distila.training.sim.eesm import effective_gain_db, nodes_db
from distila.training.sim.scenario import Scenario, families
from distila.training.sim.split import Split
from distila.xapp.nr.bler import SmoothBler, tbler
from distila.xapp.nr.cqi import TARGET_BLER, cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.nr.mcs import NUM_MCS
from distila.xapp.nr.soft_combining import Carrier

pytest.importorskip("sionna")

EXACT_CQI = {"bias_db": 0, "error_db": 0}


def a_bank(config, gain_cdb, seed=0, split=Split.TEST):
    rows = len(gain_cdb)
    speed = np.full(rows, 3, np.float32)
    snr_db = np.linspace(-8, 32, rows).astype(np.float32)
    return FadingBank(config, seed, gain_cdb.astype(np.int16), speed, snr_db, split)


def flat(config, rows, slots, split, seed, *_):
    return a_bank(config, np.zeros((rows, config.antennas.max_rank, slots, NUM_NODES)), seed, split)


@pytest.fixture
def flat_bank(monkeypatch):
    monkeypatch.setattr(module, "fading_bank", flat)


def fading_gains(rows, slots, seed=0, prbs=26):
    """Rayleigh gains over PRBs, [row, slot, prb]."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(rows, slots, prbs))


@pytest.fixture
def fading(monkeypatch):
    gains = fading_gains(3, 256)

    def bank(config, rows, slots, split, seed, *_):
        table = np.round(100 * effective_gain_db(gains, nodes_db()))[:, None]
        return a_bank(config, np.repeat(table, config.antennas.max_rank, axis=1), seed, split)

    monkeypatch.setattr(module, "fading_bank", bank)
    return gains


def a_scenario(**settings):
    return Scenario.model_validate({"name": "made_up", "channels": [{"model": "TDL-A"}], **settings})


def conditions(num_links=10, num_slots=640, seed=0, split=Split.TEST, **settings):
    return Conditions(a_scenario(**settings), num_links, split, seed, num_slots, banks=Banks(rows=4, slots=128))


def through(given, slots, what):
    """Go through slots, and keep what ``what`` gives in each, [slot, ...]."""
    found = []
    for slot in range(slots):
        given.enter(slot)
        found.append(what(slot))
    return torch.stack(found)


def level_db(given, slots):
    """Effective SINR of every slot, of the first MCS."""
    beta = given.tables.beta_db[:1].expand(1, given.num_links)
    return through(given, slots, lambda slot: given.effective_sinr_db(slot, beta)[0].clone())


# --- channel ---


def test_flat_channel_gives_exactly_the_mean_snr_for_any_mcs(flat_bank):
    given = conditions(snr_db={"uniform": [-10, 40]})
    for beta_db in given.tables.beta_db:
        found = given.effective_sinr_db(0, beta_db.expand(BLOCK_SLOTS, 10))
        assert torch.equal(found, given.snr_db.expand(BLOCK_SLOTS, 10))


def test_flat_channel_after_the_first_block_too(flat_bank):
    given = conditions()
    assert torch.equal(level_db(given, 600), given.snr_db.expand(600, 10))


def test_snr_is_drawn_per_link(flat_bank):
    given = conditions(2000, snr_db={"uniform": [2, 28]})
    assert float(given.snr_db.min()) >= 2
    assert float(given.snr_db.max()) <= 28
    assert float(given.snr_db.mean()) == pytest.approx(15, abs=1)


def test_geometry_takes_the_snr_of_the_drop(flat_bank):
    given = conditions(200, channels=[{"model": "UMi"}], snr_db="geometry")
    assert set(given.snr_db.tolist()) == set(np.linspace(-8, 32, 4).astype(np.float32).tolist())


def node_values(gains):
    return np.round(100 * effective_gain_db(gains, nodes_db()))


def place_of(given, link, gains):
    """Row and slots of the bank, [slot], that a link meets in the first block: those that have its weakest gains."""
    length = gains.shape[1]
    there_and_back = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    lowest = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, given.num_links), -200.0))
    expected = 100 * (lowest - given.snr_db)[:, link].numpy()
    for row, values in enumerate(node_values(gains)[..., 0]):
        for begin in np.flatnonzero(np.abs(values[there_and_back] - expected[0]) < 1):
            slots = there_and_back[(begin + np.arange(BLOCK_SLOTS)) % (2 * length)]
            if np.abs(values[slots] - expected).max() < 1:
                return row, slots
    raise AssertionError("the link's gains are none of the bank's")


def test_effective_sinr_is_s_plus_e_of_beta_less_s_interpolated_between_nodes(fading):
    given = conditions(20, snr_db={"uniform": [-5, 30]})
    for link in range(20):
        row, slots = place_of(given, link, fading)
        nodes, snr_db = node_values(fading[row, slots]) / 100, float(given.snr_db[link])
        for mcs in (0, 9, 17, 28):
            beta_db = float(given.tables.beta_db[mcs])
            found = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, 20), beta_db))[:, link].numpy()
            position = np.clip((beta_db - snr_db - NODE_FIRST_DB) / NODE_STEP_DB, 0, NUM_NODES - 1)
            expected = [snr_db + np.interp(position, np.arange(NUM_NODES), values) for values in nodes]
            assert np.allclose(found, expected, atol=2e-3)


def test_effective_sinr_is_near_eesm_itself(fading):
    # 0.01 dB of the table, and what a straight line between nodes leaves.
    given = conditions(6, snr_db={"uniform": [0, 25]})
    for link in range(6):
        row, slots = place_of(given, link, fading)
        sinr = 10 ** (float(given.snr_db[link]) / 10) * fading[row, slots]
        for mcs in range(0, 29, 4):
            beta_db = float(given.tables.beta_db[mcs])
            beta = 10 ** (beta_db / 10)
            found = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, 6), beta_db))[:, link].numpy()
            exact = 10 * np.log10(-beta * np.log(np.exp(-sinr / beta).mean(axis=1)))
            assert np.abs(found - exact).max() < 0.35


def test_weakest_gain_and_mean_gain_bound_the_effective_sinr(fading):
    given = conditions(20, snr_db={"uniform": [-5, 30]})
    lowest = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, 20), -100.0))
    highest = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, 20), 100.0))
    for beta_db in (-20.0, 0.0, 2.0, 10.0, 25.0):
        found = given.effective_sinr_db(0, torch.full((BLOCK_SLOTS, 20), beta_db))
        assert (found >= lowest - 1e-3).all()
        assert (found <= highest + 1e-3).all()


def test_a_bank_is_read_forth_and_back(monkeypatch):
    slots = 100
    ramp = np.repeat(np.arange(slots)[None, None, :, None], NUM_NODES, axis=3)  # 0.01 dB more every slot
    monkeypatch.setattr(module, "fading_bank", lambda config, *_: a_bank(config, ramp))
    given = conditions(5, snr_db=0, num_slots=1000)
    found = np.round(level_db(given, 900).numpy() * 100).astype(int)
    begin = np.where(found[1] >= found[0], found[0], 2 * slots - 1 - found[0])  # on the way forth or back
    place = (begin[None, :] + np.arange(900)[:, None]) % (2 * slots)
    assert (found == np.where(place < slots, place, 2 * slots - 1 - place)).all()
    assert len(set(begin)) > 1


def test_channels_are_dealt_out_evenly(flat_bank):
    given = conditions(
        10, channels=[{"model": "TDL-A"}, {"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}]
    )
    assert given.layers.tolist() == [1, 2] * 5  # without any loss a second layer always pays


def test_a_batch_has_one_numerology(flat_bank):
    channels = [{"model": "TDL-A", "subcarrier_khz": khz} for khz in (15, 120)]
    assert {conditions(4, seed=seed, channels=channels).slot_us for seed in range(20)} == {1000, 125}


def test_layers_are_what_pays_at_the_links_snr(monkeypatch):
    gains = np.zeros((1, 2, 64, NUM_NODES))
    gains[:, 1] = -1000  # each of two layers 10 dB weaker: pays at a high SNR only
    monkeypatch.setattr(module, "fading_bank", lambda config, *_: a_bank(config, gains))
    channel = {"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}
    assert (conditions(20, channels=[channel], snr_db=0).layers == 1).all()
    assert (conditions(20, channels=[channel], snr_db=28).layers == 2).all()


# --- common random numbers ---


def everything(given, slots=200):
    rows = []
    for slot in range(slots):
        given.enter(slot)
        beta = given.tables.beta_db[:1].expand(1, given.num_links)
        rows.append(
            torch.cat(
                [
                    given.draws(slot, 1)[0],
                    given.effective_sinr_db(slot, beta)[0],
                    given.cqi.nan_to_num(-1),
                    given.cqi_slot.nan_to_num(-1),
                    given.allocated_prbs(slot),
                ]
            )
        )
    set_up = (given.snr_db, given.slope, given.shift_db, given.dtx, given.layers.float(), given.speed_kmh)
    return torch.cat([torch.stack(rows).reshape(-1), *set_up])


WILD = {
    "interference": {"share": 0.5},
    "link": {
        "prbs": {"choice": [52, 13, 26]},
        "prb_hold_slots": 20,
        "bler_shift_db": {"normal": [0, 1]},
        "dtx_probability": 0.01,
    },
    "cqi": {"period_slots": 10, "share": 0.5},
}


def test_same_split_and_seed_are_the_same_bit_for_bit(fading):
    assert torch.equal(everything(conditions(**WILD)), everything(conditions(**WILD)))


def test_other_seeds_and_splits_share_nothing(fading):
    draws = {
        (split, seed): conditions(split=split, seed=seed, **WILD).draws(0, BLOCK_SLOTS).flatten().tolist()
        for split in Split
        for seed in range(3)
    }
    keys = list(draws)
    for index, one in enumerate(keys):
        for other in keys[index + 1 :]:
            same = np.mean(np.array(draws[one]) == np.array(draws[other]))
            assert same < 0.01, (one, other)
    snr = {tuple(conditions(split=s, seed=n, **WILD).snr_db.tolist()) for s in Split for n in range(3)}
    assert len(snr) == 9


def test_banks_of_the_splits_differ(monkeypatch):
    asked = []

    def bank(config, rows, slots, split, seed, *rest):
        asked.append((split, seed))
        return flat(config, rows, slots, split, seed)

    monkeypatch.setattr(module, "fading_bank", bank)
    for split in Split:
        conditions(split=split)
    assert asked == [(Split.TRAIN, 0), (Split.VALIDATION, 0), (Split.TEST, 0)]


@pytest.mark.parametrize(
    "change",
    [
        {"interference": {"share": 1}},
        {"link": {"prbs": {"choice": [52, 13]}, "prb_hold_slots": 5}},
        {"link": {"dtx_probability": 0.3}},
        {"link": {"bler_slope": 2, "bler_shift_db": 1}},
        {"link": {"harq_rtt_slots": 12, "combining": "chase"}},
        {"e2": {"period_slots": 20, "delay_slots": 10}},
        {"cqi": {"period_slots": 3, "delay_slots": 0}},
        {"traffic": {"full_buffer_share": 0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_random_draws_depend_on_no_setting(flat_bank, change):
    plain, changed = conditions(**{"snr_db": 5}), conditions(**{"snr_db": 5, **change})
    of = [through(given, 200, lambda slot, given=given: given.draws(slot, 1)[0].clone()) for given in (plain, changed)]
    assert torch.equal(*of)


def test_random_draws_are_uniform(flat_bank):
    given = conditions(500)
    draws = through(given, 256, lambda slot: given.draws(slot, 1)[0].clone()).numpy()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.allclose(np.histogram(draws, 10, (0, 1))[0] / draws.size, 0.1, atol=0.003)
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01


def test_random_draws_are_independent_of_interference_and_allocations(flat_bank):
    link = {"prbs": {"choice": [52, 13]}, "prb_hold_slots": 10}
    given = conditions(400, link=link, interference={"share": 1, "burst_slots": 10, "gap_per_burst": 1})
    found = through(
        given,
        BLOCK_SLOTS * 4,
        lambda slot: torch.stack(
            [
                given.draws(slot, 1)[0],
                given.effective_sinr_db(slot, given.tables.beta_db[:1].expand(1, 400))[0] - given.snr_db,
                given.allocated_prbs(slot),
            ]
        ),
    )
    draws, other = found[:, 0], found[:, 1:]
    changed = (other[1:] - other[:-1]).abs() > 1e-3
    for what in range(2):
        for at in (draws[:-1], draws[1:]):
            assert float(at[changed[:, what]].mean()) == pytest.approx(0.5, abs=0.02)


def test_conditions_may_be_asked_for_many_slots_at_once(fading):
    given = conditions(**WILD)
    beta = given.tables.beta_db[5].expand(BLOCK_SLOTS, 10)
    draws, sinr_db, row = given.draws(0, BLOCK_SLOTS), given.effective_sinr_db(0, beta), given.first_row(0, BLOCK_SLOTS)
    for slot in (0, 1, 40, 63):
        assert torch.equal(given.draws(slot, 1)[0], draws[slot])
        assert torch.equal(given.effective_sinr_db(slot, beta[:1])[0], sinr_db[slot])
        assert torch.equal(given.first_row(slot, 1)[0], row[slot])


# --- interference ---


def on(given, slots):
    return (level_db(given, slots) < given.snr_db - 1e-3).numpy()


@pytest.mark.parametrize("gap_per_burst", [1, 3])
def test_interference_is_on_one_part_in_1_plus_gap_per_burst_from_the_first_slot_on(flat_bank, gap_per_burst):
    given = conditions(2000, interference={"share": 1, "burst_slots": 8, "gap_per_burst": gap_per_burst})
    states = on(given, 256)
    expected = 1 / (1 + gap_per_burst)
    assert states.mean() == pytest.approx(expected, rel=0.05)
    assert states[0].mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("burst", [1, 8, 50])
def test_bursts_have_their_mean_length(flat_bank, burst):
    given = conditions(
        500,
        num_slots=2000,
        snr_db=10,
        interference={"share": 1, "burst_slots": burst, "gap_per_burst": 2, "rise_db": 6},
    )
    states = on(given, 1500)
    # A burst per beginning.
    beginnings = (~states[:-1] & states[1:]).sum()
    assert states[1:].sum() / beginnings == pytest.approx(burst, rel=0.06)
    assert (~states[1:]).sum() / beginnings == pytest.approx(2 * burst, rel=0.06)


def test_interference_lowers_the_sinr_by_its_rise(flat_bank):
    given = conditions(200, snr_db=10, interference={"share": 1, "rise_db": 6})
    found = level_db(given, 128)
    assert torch.all(torch.isclose(found, torch.tensor(10.0)) | torch.isclose(found, torch.tensor(4.0)))


def test_rise_is_constant_per_link_and_in_range(flat_bank):
    given = conditions(200, snr_db=10, num_slots=1000, interference={"share": 1, "rise_db": {"uniform": [3, 9]}})
    found = level_db(given, 1000)
    for link in range(200):
        levels = found[:, link].unique()
        assert len(levels) <= 2
        assert 0.999 <= float(levels.min()) <= 10
    assert len(found.unique()) > 100


def test_share_of_the_links_suffers(flat_bank):
    given = conditions(1000, num_slots=1280, interference={"share": 0.33, "burst_slots": 10, "gap_per_burst": 1})
    assert on(given, 640).any(axis=0).mean() == pytest.approx(0.33, abs=0.05)
    assert not conditions(10).has_interference


# --- allocations ---


def test_one_allocation_for_all_is_no_row_at_all(flat_bank):
    given = conditions()
    assert given.first_row(0, 1) is None
    assert (given.allocated_prbs(0) == 52).all()


def test_without_a_hold_time_allocations_stay(flat_bank):
    given = conditions(200, link={"prbs": {"choice": [52, 13]}})
    found = through(given, 200, lambda slot: given.allocated_prbs(slot).clone())
    assert set(found[0].tolist()) == {52, 13}
    assert (found == found[0]).all()


def changes(given, slots):
    found = through(given, slots, lambda slot: given.allocated_prbs(slot).clone())
    return found, (found[1:] != found[:-1]).float().mean()


def test_with_a_hold_time_allocations_are_drawn_anew_evenly(flat_bank):
    given = conditions(1000, link={"prbs": {"choice": [52, 13, 26, 106]}, "prb_hold_slots": 20})
    found, share = changes(given, 500)
    values, counts = found.unique(return_counts=True)
    assert values.tolist() == [13, 26, 52, 106]
    assert np.allclose(counts / found.numel(), 0.25, atol=0.02)
    assert 0.7 / 20 < share < 1.05 / 20


def test_prb_hold_slots_is_the_mean_between_changes(flat_bank):
    given = conditions(1000, link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 20})
    assert 1 / changes(given, 500)[1] == pytest.approx(20, rel=0.05)


def test_row_is_allocation_and_layers(flat_bank):
    channels = [{"model": "TDL-A"}, {"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}]
    given = conditions(100, channels=channels, link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 5})
    row = given.first_row(0, BLOCK_SLOTS)
    assert (row % NUM_MCS == 0).all()
    for slot in (0, 30):
        for link in range(100):
            prbs, layers = given.tables.allocations[int(row[slot, link]) // NUM_MCS]
            assert prbs == given.allocated_prbs(slot)[link]
            assert layers == given.layers[link]


# --- CQI ---


def cqi_of(given, slots):
    """CQI and the slot that it is of, as known in every slot, [slot, link] each."""
    both = through(given, slots, lambda slot: torch.stack([given.cqi.clone(), given.cqi_slot.clone()]))
    return both[:, 0].numpy(), both[:, 1].numpy()


@pytest.mark.parametrize("table", [1, 2, 3])
def test_on_a_flat_channel_cqi_is_the_quantised_snr(flat_bank, table):
    given = conditions(500, snr_db={"uniform": [-15, 35]}, cqi={**EXACT_CQI, "table": table, "period_slots": 1})
    found, _ = cqi_of(given, 20)
    # TS 38.214 clause 5.2.2.1: the table for low spectral efficiency speaks of a BLER of 1e-5.
    thresholds = cqi_thresholds_db(table, SmoothBler.load(), target=1e-5 if table == 3 else 0.1)
    assert found[-1].tolist() == cqi_for_sinr_db(given.snr_db.numpy(), thresholds.astype(np.float32)).tolist()
    assert {0, 1, 15} <= set(found[-1])


@pytest.mark.parametrize("delay", [0, 1, 8, 70])
@pytest.mark.parametrize("period", [1, 7, 40, 100])
@pytest.mark.parametrize("num_links", [3, 100])
def test_cqi_period_phase_and_delay(flat_bank, period, delay, num_links):
    given = conditions(num_links, cqi={**EXACT_CQI, "period_slots": period, "delay_slots": delay})
    found, measured = cqi_of(given, 300)
    for slot in range(300):
        # The latest slot that is the link's turn and at least the delay ago.
        links = np.arange(num_links)
        latest = slot - delay - (slot - delay - links) % period
        expected = np.where(latest >= 0, latest, np.nan)
        assert np.array_equal(measured[slot], expected, equal_nan=True)
        assert np.array_equal(np.isnan(found[slot]), np.isnan(expected))


def test_cqi_speaks_of_the_slot_in_which_it_was_measured(monkeypatch):
    slots = 400
    ramp = np.repeat(np.arange(slots)[None, None, :, None] * 10, NUM_NODES, axis=3)  # 0.1 dB more every slot
    monkeypatch.setattr(module, "fading_bank", lambda config, *_: a_bank(config, ramp))
    given = conditions(8, snr_db=-10, num_slots=400, cqi={**EXACT_CQI, "period_slots": 10, "delay_slots": 25})
    sinr_db = level_db(given, 384).numpy()
    again = conditions(8, snr_db=-10, num_slots=400, cqi={**EXACT_CQI, "period_slots": 10, "delay_slots": 25})
    found, measured = cqi_of(again, 384)
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    for slot in range(40, 384):
        at = measured[slot].astype(int)
        assert found[slot].tolist() == cqi_for_sinr_db(sinr_db[at, np.arange(8)], thresholds).tolist()


def test_cqi_knows_of_interference(flat_bank):
    given = conditions(
        200,
        snr_db=20,
        interference={"share": 1, "rise_db": 20, "burst_slots": 20, "gap_per_burst": 1},
        cqi={**EXACT_CQI, "period_slots": 1, "delay_slots": 0},
    )
    thresholds = cqi_thresholds_db(1, SmoothBler.load())
    high, low = (int(cqi_for_sinr_db(snr, thresholds)) for snr in (20, 0))
    for slot in range(64):
        given.enter(slot)
        beta = given.tables.beta_db[:1].expand(1, 200)
        suffers = given.effective_sinr_db(slot, beta)[0] < 10
        assert torch.equal(given.cqi, torch.where(suffers, float(low), float(high)))


def test_cqi_of_a_frequency_selective_channel_takes_the_beta_that_fits_its_sinr(fading):
    given = conditions(300, snr_db={"uniform": [-5, 25]}, cqi={**EXACT_CQI, "period_slots": 1, "delay_slots": 0})
    given.enter(0)
    sinr_db = given.snr_db[None]
    for _ in range(50):
        beta = np.maximum(2.19 * np.exp(0.155 * sinr_db.numpy()), 1.6)
        sinr_db = given.effective_sinr_db(0, torch.as_tensor(10 * np.log10(beta)))
    thresholds = cqi_thresholds_db(1, SmoothBler.load())
    assert (given.cqi.numpy() >= cqi_for_sinr_db(sinr_db[0] - 0.01, thresholds)).all()
    assert (given.cqi.numpy() <= cqi_for_sinr_db(sinr_db[0] + 0.01, thresholds)).all()


def test_cqi_bias_is_constant_per_link_and_the_error_each_reports_own(flat_bank):
    steady = conditions(500, snr_db=10, cqi={"bias_db": {"normal": [0, 3]}, "error_db": 0, "period_slots": 1})
    found, _ = cqi_of(steady, 60)
    assert (found[20:] == found[20]).all()
    assert len(set(found[20])) >= 5
    noisy = conditions(500, snr_db=10, cqi={"bias_db": 0, "error_db": 3, "period_slots": 1})
    found, _ = cqi_of(noisy, 60)
    assert (found[20:].std(axis=0) > 0.5).all()
    assert found[20:].mean(axis=0).std() < 0.5


def test_bias_in_db(flat_bank):
    up = conditions(500, snr_db={"uniform": [-5, 25]}, cqi={"bias_db": 3, "error_db": 0, "period_slots": 1})
    up.enter(0)
    for slot in range(1, 10):
        up.enter(slot)
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    assert up.cqi.tolist() == cqi_for_sinr_db(up.snr_db.numpy() + np.float32(3), thresholds).tolist()


def test_a_worse_receiver_reports_a_lower_cqi(flat_bank):
    given = conditions(
        500,
        snr_db={"uniform": [-5, 25]},
        link={"bler_shift_db": 4},
        cqi={**EXACT_CQI, "period_slots": 1, "delay_slots": 0},
    )
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    given.enter(0)
    assert given.cqi.isnan().sum() == 0
    assert given.cqi.tolist() == cqi_for_sinr_db(given.snr_db.numpy() - np.float32(4), thresholds).tolist()


@pytest.mark.parametrize(("share", "low", "high"), [(0, 0, 0), (0.5, 0.42, 0.58), (1, 1, 1)])
def test_share_of_the_links_reports_cqi(flat_bank, share, low, high):
    given = conditions(500, cqi={"share": share, "period_slots": 4})
    found, _ = cqi_of(given, 40)
    assert low <= (~np.isnan(found[-1])).mean() <= high


def test_a_link_without_cqi_has_no_cqi_slot_either(flat_bank):
    found, measured = cqi_of(conditions(50, cqi={"share": 0.5, "period_slots": 4}), 40)
    assert np.array_equal(np.isnan(found), np.isnan(measured))


def test_cqi_of_the_mean_sinr_says_more_than_the_effective_one(fading):
    cqi = {**EXACT_CQI, "period_slots": 1, "delay_slots": 0}
    given = {
        kind: conditions(300, snr_db={"uniform": [-5, 25]}, cqi={**cqi, "kind": kind})
        for kind in ("effective_sinr", "mean_sinr")
    }
    for batch in given.values():
        batch.enter(0)
    mean = given["mean_sinr"]
    mean_db = mean.effective_sinr_db(0, torch.full((1, 300), 100.0))[0]
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    assert mean.cqi.tolist() == cqi_for_sinr_db(mean_db.numpy(), thresholds).tolist()
    assert (mean.cqi >= given["effective_sinr"].cqi).all()
    assert (mean.cqi - given["effective_sinr"].cqi).mean() > 0.3


def test_kind_of_cqi_may_be_drawn_for_the_whole_batch(flat_bank):
    kinds = {conditions(4, seed=seed, cqi={"kind": "drawn"})._csi_settings.kind for seed in range(12)}
    assert kinds == {"effective_sinr", "mean_sinr"}


@pytest.mark.parametrize(("mcs_table", "table", "found"), [(2, "same", 2), (3, "same", 3), (1, 2, 2), (2, 1, 1)])
def test_cqi_table_is_that_of_the_mcs_table_unless_another_is_named(flat_bank, mcs_table, table, found):
    snr_db = {"uniform": [-5, 35]}
    cqi = {**EXACT_CQI, "table": table, "period_slots": 1, "delay_slots": 0}
    given = conditions(200, snr_db=snr_db, link={"mcs_table": mcs_table}, cqi=cqi)
    given.enter(0)
    assert (given.mcs_table, given.cqi_table) == (mcs_table, found)
    assert (given.cell().mcs_table, given.cell().cqi_table) == (mcs_table, found)
    thresholds = cqi_thresholds_db(found, SmoothBler.load(), target=TARGET_BLER[found]).astype(np.float32)
    assert given.cqi.tolist() == cqi_for_sinr_db(given.snr_db.numpy(), thresholds).tolist()


def test_tables_are_drawn_in_pairs(flat_bank):
    batches = [conditions(2, seed=seed, link={"mcs_table": {"choice": [1, 2, 3]}}) for seed in range(20)]
    assert {(given.mcs_table, given.cqi_table) for given in batches} == {(1, 1), (2, 2), (3, 3)}


# --- CQI that stops ---

EVERY_SLOT = {**EXACT_CQI, "period_slots": 1, "delay_slots": 2}


def test_in_an_outage_the_du_keeps_an_ageing_cqi(fading):
    outages = {"outage_share": 1, "outage_slots": 20, "outage_gap_slots": 40}
    found, measured = cqi_of(conditions(50, snr_db=15, cqi={**EVERY_SLOT, **outages}), 600)
    steady, _ = cqi_of(conditions(50, snr_db=15, cqi=EVERY_SLOT), 600)
    age = np.arange(600)[:, None] - measured
    heard = age == 2
    assert np.array_equal(found[heard], steady[heard])  # outside outages nothing differs
    held = age[1:] > 2
    assert np.array_equal(found[1:][held], found[:-1][held], equal_nan=True)
    assert np.array_equal(age[1:][held], age[:-1][held] + 1, equal_nan=True)
    assert np.nanmax(age) > 40


@pytest.mark.parametrize(("length", "gap"), [(10, 30), (50, 50)])
def test_outages_have_their_mean_length_and_gap(flat_bank, length, gap):
    outages = {"outage_share": 1, "outage_slots": length, "outage_gap_slots": gap}
    _, measured = cqi_of(conditions(400, num_slots=2000, cqi={**EVERY_SLOT, **outages}), 2000)
    out = ~(np.arange(2000)[:, None] - measured == 2)[2:]
    begins = (~out[:-1] & out[1:]).sum()
    assert out[1:].sum() / begins == pytest.approx(length, rel=0.08)
    assert (~out[1:]).sum() / begins == pytest.approx(gap, rel=0.08)


def test_share_of_the_links_has_outages(flat_bank):
    outages = {"outage_share": 0.25, "outage_slots": 10, "outage_gap_slots": 10}
    _, measured = cqi_of(conditions(1000, num_slots=300, cqi={**EVERY_SLOT, **outages}), 300)
    out = ~(np.arange(300)[:, None] - measured == 2)[2:]
    assert out.any(axis=0).mean() == pytest.approx(0.25, abs=0.05)


def test_outages_change_no_other_draw(flat_bank):
    plain = conditions(40, **WILD)
    other = conditions(40, **{**WILD, "cqi": {**WILD["cqi"], "outage_share": 0.5, "kind": "drawn"}})
    for slot in range(200):
        plain.enter(slot)
        other.enter(slot)
        assert torch.equal(plain.draws(slot, 1), other.draws(slot, 1))
        assert torch.equal(plain.first_row(slot, 1), other.first_row(slot, 1))
    assert torch.equal(plain.snr_db, other.snr_db)


# --- rank ---

TWO_LAYERS = {"channels": [{"model": "UMi", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}]}


@pytest.fixture
def one_good_layer_in_turn(monkeypatch):
    """Two layers pay in every other 40 slots; in those between, each of two is 30 dB weaker than one."""
    gains = np.zeros((1, 2, 400, NUM_NODES))
    gains[:, 1, np.arange(400) // 40 % 2 == 1] = -3000
    monkeypatch.setattr(module, "fading_bank", lambda config, *_: a_bank(config, gains))


def ranks_of(given, slots):
    return through(given, slots, lambda slot: given.layers.clone()).numpy()


def test_rank_is_fixed_unless_it_is_reported(one_good_layer_in_turn):
    found = ranks_of(conditions(20, snr_db=20, **TWO_LAYERS), 300)
    assert (found == found[0]).all()


@pytest.mark.parametrize("delay", [0, 8])
@pytest.mark.parametrize("period", [1, 5, 20])
def test_du_follows_the_reported_rank(one_good_layer_in_turn, period, delay):
    cqi = {**EXACT_CQI, "ri_period_slots": period, "delay_slots": delay}
    given = conditions(20, snr_db=20, cqi=cqi, **TWO_LAYERS)
    assert given.rank_changes
    of_two = torch.full((1, 20), 10.0)
    slots = 320
    good = []  # in which slots two layers pay
    ranks = []
    rows = []
    for slot in range(slots):
        given.enter(slot)
        row = given.first_row(slot, 1)
        ranks.append(given.layers.numpy().copy())
        rows.append([given.tables.allocations[int(at) // NUM_MCS][1] for at in row[0]])
        two = torch.full((1, 20), NUM_MCS)  # the row of two layers
        good.append((given.effective_sinr_db(slot, of_two, two)[0] > 0).numpy())
        present = given.effective_sinr_db(slot, of_two, row)
        assert torch.equal(present, given.effective_sinr_db(slot, of_two))  # of new blocks
        assert given.ri.tolist() == given.layers.tolist()
    assert np.array_equal(ranks, rows)  # new blocks use the present rank
    for slot in range(period + delay, slots):
        for link in range(20):
            measured = slot - delay - (slot - delay - link) % period
            assert ranks[slot][link] == 1 + good[measured][link], (slot, link)


def test_cqi_is_that_of_the_rank_that_the_ue_reported(one_good_layer_in_turn):
    cqi = {**EXACT_CQI, "period_slots": 1, "ri_period_slots": 1, "delay_slots": 0}
    given = conditions(20, snr_db=20, cqi=cqi, **TWO_LAYERS)
    found, _ = cqi_of(given, 200)
    thresholds = cqi_thresholds_db(1, SmoothBler.load()).astype(np.float32)
    # Two layers where they have the full SNR, and one of full SNR where two are far worse.
    assert (found == cqi_for_sinr_db(20.0, thresholds)).all()


def test_a_link_without_csi_keeps_its_rank(one_good_layer_in_turn):
    absent = {"ri_period_slots": 5, "share": 0}
    found = ranks_of(conditions(20, snr_db=20, cqi=absent, **TWO_LAYERS), 200)
    assert (found == found[0]).all()


def test_rank_reports_change_no_other_draw(one_good_layer_in_turn):
    plain, other = (conditions(40, snr_db=20, **TWO_LAYERS, cqi=cqi) for cqi in ({}, {"ri_period_slots": 10}))
    for slot in range(200):
        plain.enter(slot)
        other.enter(slot)
        assert torch.equal(plain.draws(slot, 1), other.draws(slot, 1))


# --- what only a genie knows ---


def test_true_tbler_on_a_flat_channel_is_that_of_xapp_nr(flat_bank):
    given = conditions(50, snr_db={"uniform": [0, 25]}, link={"prbs": 26})
    rates, bits = given.true_tbler(0)
    mcs = np.arange(29)
    assert torch.equal(bits, given.tables.tbs_bits.expand(50, -1)[:, :29])
    exact = [
        tbler(SmoothBler.load(), 1, mcs, bits[0].numpy().astype(int), float(snr_db) + shift)
        for shift in (0.021, -0.021)
        for snr_db in given.snr_db
    ]
    assert (rates.numpy() >= np.array(exact[:50]) - 1e-3).all()
    assert (rates.numpy() <= np.array(exact[50:]) + 1e-3).all()


def test_true_tbler_is_what_a_transmission_meets(fading):
    given = conditions(20, **WILD)
    for slot in (0, 30, 63):
        rates, bits = given.true_tbler(slot)
        for mcs in (0, 10, 28):
            row = given.first_row(slot, 1) + mcs
            sinr_db = given.effective_sinr_db(slot, given.tables.beta_db[mcs].expand(1, 20))
            centre = given.tables.centre_db[row]
            sinr_db = centre + (sinr_db - given.shift_db - centre) * given.slope
            assert torch.allclose(rates[:, mcs], given.tables.tbler(row, sinr_db)[0])
            assert torch.equal(bits[:, mcs], given.tables.tbs_bits[row[0]])


def test_a_links_curve_holds_after_combining_too(flat_bank):
    """Slope and shift are the receiver's, whatever the effective SINR is made of."""
    link = {"combining": "ideal", "bler_slope": 0.7, "bler_shift_db": 2}
    given, better = conditions(26, link=link), conditions(26, link=link)
    snr_db = torch.linspace(-5, 20, 26)
    combined_db = 10 * torch.log10((1 + 10 ** (snr_db / 10)) ** 2 - 1)
    given._level_db, better._level_db = snr_db.expand(64, -1), combined_db.expand(64, -1)
    sinr_db, row = given.sinr_db_of_each_mcs(3), given.rows(3)
    store = given.combining.add(given.combining.first(sinr_db), 2, sinr_db)
    left = given.tbler_at(given.combining.effective_sinr_db(row, store, 2), row)
    assert torch.allclose(left, better.true_tbler(3)[0], atol=2e-3)


@pytest.mark.parametrize(
    ("link", "carrier"),
    [
        ({}, Carrier(52, 2, 6)),
        ({"mcs_table": 2}, Carrier(52, 2, 8)),
        ({"mcs_table": 3, "prbs": {"choice": [20, 106]}}, Carrier(106, 2, 6)),
        ({"carrier_prbs": 273, "carrier_layers": 4}, Carrier(273, 4, 6)),
    ],
)
def test_the_carrier_is_that_of_the_scenario_or_the_largest_block_that_it_can_send(flat_bank, link, carrier):
    channels = [{"model": "TDL-A"}, {"model": "TDL-A", "antennas": {"tx": 2, "rx": 2, "max_rank": 2}}]
    assert conditions(4, channels=channels, link=link).carrier == carrier


def test_true_tbler_moves_by_the_links_shift(flat_bank):
    plain = conditions(5, snr_db=12)
    worse = conditions(5, snr_db=15, link={"bler_shift_db": 3})
    assert torch.allclose(plain.true_tbler(0)[0], worse.true_tbler(0)[0], atol=0.1)
    assert not worse.plain_curves
    assert plain.plain_curves


# --- limits ---


@pytest.mark.parametrize(("links", "slots"), [(0, 10), (10, 0)])
def test_empty_conditions_are_rejected(flat_bank, links, slots):
    with pytest.raises(ValueError, match=f"num_links is {links}, num_slots {slots}; both must be at least 1"):
        conditions(links, slots)


def test_going_on_past_the_end_is_rejected(flat_bank):
    given = conditions(num_slots=100)
    with pytest.raises(ValueError, match="slot 128: these conditions were made for 100 slots"):
        through(given, 129, lambda slot: given.cqi)


def test_one_link_and_one_slot(flat_bank):
    given = conditions(1, 1, cqi={**EXACT_CQI, "period_slots": 1, "delay_slots": 0})
    given.enter(0)
    assert given.effective_sinr_db(0, given.tables.beta_db[:1, None]).shape == (1, 1)
    assert not given.cqi.isnan().any()


# --- real fading ---


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full_buffer_mimo", "high_mobility"])
def test_conditions_on_generated_fading(tmp_path, name):
    args = (families()[name], 12)
    banks = Banks(rows=2, slots=64, cache=tmp_path)
    one, same, other = (
        Conditions(*args, split, 0, 128, banks=banks) for split in (Split.TEST, Split.TEST, Split.VALIDATION)
    )
    assert len(list(tmp_path.iterdir())) == 2 * len(families()[name].channels)
    assert torch.equal(everything(one, 128), everything(same, 128))
    beta_db = torch.full((BLOCK_SLOTS, 12), 5.0)
    assert not torch.equal(
        one.effective_sinr_db(64, beta_db) - one.snr_db, other.effective_sinr_db(0, beta_db) - other.snr_db
    )
    sinr_db = level_db(Conditions(*args, Split.TEST, 0, 128, banks=banks), 128)
    assert torch.isfinite(sinr_db).all()
    assert float((sinr_db - one.snr_db).mean().abs()) < 12


def test_combining_may_be_drawn_for_the_whole_batch(flat_bank):
    kinds = {conditions(4, seed=seed, link={"combining": "drawn"}).combining.kind for seed in range(12)}
    assert kinds == {"chase", "ir"}


def test_efficiency_is_drawn_per_link_and_the_other_settings_of_harq_per_batch(flat_bank):
    link = {
        "processes": {"choice": [8, 16, 32]},
        "combining_efficiency": {"uniform": [0.2, 0.9]},
        "rlc": "um",
        "rlc_delay_ms": {"choice": [10, 50]},
    }
    batches = [conditions(40, seed=seed, link=link) for seed in range(12)]
    assert {batch.processes for batch in batches} == {8, 16, 32}
    assert {batch.rlc_delay_slots for batch in batches} == {20, 100}  # slots of 0.5 ms
    efficiency = torch.stack([batch.combining_efficiency for batch in batches])
    assert 0.2 <= float(efficiency.min()) < 0.25
    assert 0.85 < float(efficiency.max()) <= 0.9
    assert not batches[0].combines_fully
    plain = conditions(40)
    assert plain.combines_fully
    assert (plain.processes, plain.rlc, plain.rlc_delay_slots) == (16, "am", 80)


def test_settings_of_harq_change_no_other_draw(flat_bank):
    link = {"prbs": {"choice": [26, 52]}, "dtx_probability": {"uniform": [0, 0.1]}, "bler_shift_db": {"normal": [0, 1]}}
    plain = conditions(40, link=link)
    other = conditions(40, link={**link, "processes": {"choice": [8, 16]}, "combining_efficiency": {"uniform": [0, 1]}})
    assert torch.equal(everything(plain, 64), everything(other, 64))
    assert torch.equal(plain.dtx, other.dtx)
    assert torch.equal(plain.shift_db, other.shift_db)

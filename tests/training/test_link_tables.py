"""The link as look-up tables, against the exact functions of xapp.nr: TBS, error rates, combining, nominal curves."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.training.sim.eesm import eesm_beta
from distila.training.sim.link import Combining, LinkTables, steeper
from distila.xapp.nr.bler import SmoothBler, sinr_db_for_tbler, tbler
from distila.xapp.nr.cqi import cqi_thresholds_db
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

pytest.importorskip("sionna")

ALLOCATIONS = [(52, 1), (52, 2), (13, 1), (106, 2), (275, 4), (1, 1)]
BLER = SmoothBler.load()


@pytest.fixture(scope="module", params=[1, 2, 3])
def tables(request):
    return LinkTables(request.param, request.param, ALLOCATIONS, BLER, eesm_beta(request.param), torch.device("cpu"))


def exact_tbs(tables, allocation, mcs):
    table = MCS_TABLES[tables.mcs_table]
    prbs, layers = ALLOCATIONS[allocation]
    return int(transport_block_size_bits(num_re(prbs), table.code_rate[mcs], table.modulation_order[mcs], layers))


def random_points(tables, count=20_000):
    """Rows and SINRs about the middle of their curves, and the exact error rates there."""
    rng = np.random.default_rng(1)
    mcs = rng.integers(0, tables.max_mcs + 1, count)
    allocation = rng.integers(0, len(ALLOCATIONS), count)
    row = torch.as_tensor(allocation * NUM_MCS + mcs)
    size = tables.tbs_bits[row].numpy().astype(np.int64)
    sinr_db = (tables.centre_db[row].numpy() + rng.uniform(-2, 2, count)).astype(np.float32)
    exact = tbler(BLER, tables.mcs_table, mcs, size, sinr_db.astype(np.float64))
    return row, torch.as_tensor(sinr_db), exact


# --- sizes ---


def test_transport_block_sizes_are_those_of_the_standard(tables):
    for allocation in range(len(ALLOCATIONS)):
        for mcs in range(tables.max_mcs + 1):
            assert tables.tbs_bits[allocation * NUM_MCS + mcs] == exact_tbs(tables, allocation, mcs)
        assert (tables.tbs_bits[allocation * NUM_MCS + tables.max_mcs + 1 : (allocation + 1) * NUM_MCS] == 0).all()


def test_prbs_of_every_row(tables):
    for allocation, (prbs, _) in enumerate(ALLOCATIONS):
        assert (tables.prbs[allocation * NUM_MCS : (allocation + 1) * NUM_MCS] == prbs).all()


def test_highest_mcs(tables):
    assert tables.max_mcs == MCS_TABLES[tables.mcs_table].num_mcs - 1
    assert tables.curves.num_mcs == tables.max_mcs + 1


def test_beta_is_that_of_every_mcs_in_db(tables):
    expected = 10 * np.log10(eesm_beta(tables.mcs_table))
    assert np.allclose(tables.beta_db[: tables.max_mcs + 1].numpy(), expected, atol=1e-5)


# --- error rates ---


def test_tbler_is_within_002_of_the_exact_curve(tables):
    row, sinr_db, exact = random_points(tables)
    assert np.abs(tables.tbler(row, sinr_db).numpy() - exact).max() <= 0.02


def test_tbler_is_not_biased(tables):
    row, sinr_db, exact = random_points(tables, 100_000)
    error = tables.tbler(row, sinr_db).numpy() - exact
    assert abs(error.mean()) < 3 * error.std() / math.sqrt(len(error)) + 1e-4


def test_tbler_belongs_to_a_sinr_within_one_step(tables):
    row, sinr_db, _ = random_points(tables)
    found = tables.tbler(row, sinr_db).numpy()
    mcs, size = (row % NUM_MCS).numpy(), tables.tbs_bits[row].numpy().astype(np.int64)
    best, worst = (tbler(BLER, tables.mcs_table, mcs, size, sinr_db.numpy() + shift) for shift in (0.021, -0.021))
    assert (found >= best - 5e-4).all()
    assert (found <= worst + 5e-4).all()


def test_tbler_at_the_steps_themselves(tables):
    row = torch.arange(tables.max_mcs + 1)
    size = tables.tbs_bits[row].numpy().astype(np.int64)
    for step in (300, 1000, 1500, 2000, 2500):
        sinr_db = -20 + 0.02 * step
        found = tables.tbler(row, torch.full((len(row),), sinr_db + 1e-4)).numpy()  # float32 is not exact
        assert np.allclose(found, tbler(BLER, tables.mcs_table, row.numpy(), size, sinr_db), atol=2e-3)


def test_tbler_beyond_the_range_is_that_of_the_edge(tables):
    row = torch.arange(tables.max_mcs + 1)
    for sinr_db in (-1000.0, -60.0, -20.5):
        assert (tables.tbler(row, torch.full(row.shape, sinr_db)) > 0.999).all()
    for sinr_db in (46.0, 1000.0, math.inf):
        assert (tables.tbler(row, torch.full(row.shape, sinr_db)) < 1e-6).all()


def test_tbler_beyond_the_mcs_table_is_1(tables):
    beyond = torch.arange(tables.max_mcs + 1, NUM_MCS)
    assert (tables.tbler(beyond, torch.full(beyond.shape, 40.0)) == 1).all()


def test_tbler_takes_any_common_shape(tables):
    row = torch.randint(0, tables.max_mcs + 1, (3, 5))
    sinr_db = torch.rand(3, 5) * 30
    flat = tables.tbler(row.reshape(-1), sinr_db.reshape(-1))
    assert torch.equal(tables.tbler(row, sinr_db), flat.view(3, 5))
    one = torch.arange(5)
    assert tables.tbler(one.expand(3, 5), sinr_db).shape == (3, 5)


def test_tbler_leaves_its_arguments_alone(tables):
    row, sinr_db, _ = random_points(tables, 10)
    before = row.clone(), sinr_db.clone()
    tables.tbler(row, sinr_db)
    assert torch.equal(row, before[0])
    assert torch.equal(sinr_db, before[1])


def test_centre_is_where_half_the_blocks_fail(tables):
    for allocation, (prbs, layers) in enumerate(ALLOCATIONS):
        mcs = np.arange(tables.max_mcs + 1)
        size = np.array([exact_tbs(tables, allocation, m) for m in mcs])
        expected = sinr_db_for_tbler(BLER, tables.mcs_table, mcs, size, 0.5)
        found = tables.centre_db[allocation * NUM_MCS : allocation * NUM_MCS + len(mcs)].numpy()
        assert np.abs(found - expected).max() <= 0.021, (prbs, layers)


# --- nominal curves ---


@pytest.mark.parametrize("target", [0.01, 0.1, 0.5, 0.9])
def test_threshold_is_the_lowest_step_that_meets_the_target(tables, target):
    mcs = np.arange(tables.max_mcs + 1)
    size = np.array([exact_tbs(tables, 0, m) for m in mcs])
    exact = sinr_db_for_tbler(BLER, tables.mcs_table, mcs, size, target)
    found = tables.curves.threshold_db(target).numpy()
    assert (found >= exact - 1e-4).all()
    assert (found <= exact + tables.curves.step_db + 1e-4).all()


def test_threshold_of_a_target_that_is_never_met_is_the_end_of_the_range(tables):
    last = tables.curves.first_db + tables.curves.step_db * (tables.curves.tbler.shape[1] - 1)
    assert torch.allclose(tables.curves.threshold_db(-1.0), torch.tensor(last))


def test_curves_are_those_of_the_first_allocation_with_one_layer(tables):
    curves = tables.curves
    assert curves.tbler.dtype == torch.float32
    sizes = np.array([exact_tbs(tables, 0, m) for m in range(curves.num_mcs)])
    sinr_db = curves.first_db + curves.step_db * np.arange(curves.tbler.shape[1])
    mcs = np.arange(curves.num_mcs)[:, None]
    assert np.allclose(curves.tbler.numpy(), tbler(BLER, tables.mcs_table, mcs, sizes[:, None], sinr_db), atol=1e-5)
    assert np.allclose(curves.rate.numpy(), sizes / num_re(52))


def test_curves_of_a_mimo_cell_have_one_layer_too():
    two = LinkTables(1, 1, [(52, 2)], BLER, eesm_beta(1), torch.device("cpu"))
    one = LinkTables(1, 1, [(52, 1)], BLER, eesm_beta(1), torch.device("cpu"))
    assert torch.equal(two.curves.tbler, one.curves.tbler)
    assert torch.equal(two.curves.rate, one.curves.rate)


def test_index_is_the_nearest_step_within_the_range(tables):
    curves = tables.curves
    last = curves.tbler.shape[1] - 1
    sinr_db = torch.tensor([-100.0, -20.0, -19.96, -19.94, 0.04, 100.0])
    assert curves.index(sinr_db).tolist() == [0, 0, 0, 1, 200, last]


def test_cqi_thresholds_are_those_of_the_definition(tables):
    expected = cqi_thresholds_db(tables.cqi_table, BLER, target=1e-5 if tables.cqi_table == 3 else 0.1)
    assert np.allclose(tables.curves.cqi_threshold_db[1:].numpy(), expected[1:], atol=1e-5)


def test_cqi_0_lies_below_cqi_1_by_as_much_as_2_above_it(tables):
    t = tables.curves.cqi_threshold_db
    assert float(t[1] - t[0]) == pytest.approx(float(t[2] - t[1]), abs=1e-4)


# --- slope and shift ---


@given(st.floats(-20, 40), st.floats(-20, 40), st.floats(0.2, 5), st.floats(-5, 5))
def test_steeper_moves_the_centre_and_multiplies_the_distance_from_it(sinr_db, centre, slope, shift):
    where = steeper(*(torch.tensor(x, dtype=torch.float64) for x in (sinr_db, centre, slope, shift)))
    assert float(where) - centre == pytest.approx(slope * (sinr_db - (centre + shift)), abs=1e-9)


def test_steeper_by_1_and_0_changes_nothing():
    sinr_db, centre = torch.tensor([-3.0, 8.0]), torch.tensor([1.0, 5.0])
    assert torch.allclose(steeper(sinr_db, centre, torch.ones(2), torch.zeros(2)), sinr_db)


def test_a_steeper_curve_is_steeper_about_its_shifted_centre(tables):
    row = torch.full((3,), 10)
    at = tables.centre_db[row] + 1.0 + torch.tensor([-0.2, 0.0, 0.2])  # of a link 1 dB worse

    def rate(slope):
        return tables.tbler(row, steeper(at, tables.centre_db[row], torch.tensor(slope), torch.tensor(1.0)))

    assert float(rate(1.0)[1]) == pytest.approx(0.5, abs=0.1)
    assert rate(2.0)[0] > rate(1.0)[0] > rate(0.5)[0]
    assert rate(2.0)[2] < rate(1.0)[2] < rate(0.5)[2]


# --- combining ---

SINRS = st.lists(st.floats(-15, 30), min_size=1, max_size=8)


def combined_db(kind, sinrs_db):
    combining = Combining(kind)
    store = torch.zeros(1)
    for sinr_db in sinrs_db:
        store = store + combining.received(torch.tensor([sinr_db]))
    return float(combining.sinr_db(store))


@given(SINRS)
@settings(max_examples=60)
def test_chase_adds_up_the_energy(sinrs_db):
    expected = 10 * math.log10(sum(10 ** (s / 10) for s in sinrs_db))
    assert combined_db("chase", sinrs_db) == pytest.approx(expected, abs=1e-3)


@given(SINRS)
@settings(max_examples=60)
def test_ir_adds_up_the_mutual_information(sinrs_db):
    bits = sum(math.log2(1 + 10 ** (s / 10)) for s in sinrs_db)
    assert combined_db("ir", sinrs_db) == pytest.approx(10 * math.log10(2**bits - 1), abs=2e-3)


@given(SINRS)
@settings(max_examples=60)
def test_ir_is_never_worse_than_chase_and_equals_it_at_low_sinr(sinrs_db):
    assert combined_db("ir", sinrs_db) >= combined_db("chase", sinrs_db) - 1e-3
    low = [s - 45 for s in sinrs_db[:2]]
    assert combined_db("ir", low) == pytest.approx(combined_db("chase", low), abs=0.2)


@pytest.mark.parametrize("kind", ["chase", "ir"])
def test_one_transmission_is_its_own_sinr(kind):
    for sinr_db in (-15.0, -3.0, 0.0, 12.34, 30.0, 44.0):
        assert combined_db(kind, [sinr_db]) == pytest.approx(sinr_db, abs=1e-3)


@pytest.mark.parametrize("kind", ["chase", "ir"])
def test_nothing_received_is_minus_60_db(kind):
    assert float(Combining(kind).sinr_db(torch.zeros(1))) == pytest.approx(-60, abs=1e-3)


@pytest.mark.parametrize("kind", ["chase", "ir"])
def test_eight_transmissions_at_a_very_high_sinr_are_no_nan(kind):
    assert combined_db(kind, [60.0] * 8) > 45


def test_there_are_two_kinds():
    with pytest.raises(ValueError, match="combining is 'best'; must be chase, ir or ideal"):
        Combining("best")

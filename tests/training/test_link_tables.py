"""The link as look-up tables, against the exact functions of xapp.nr: TBS, error rates, combining, nominal curves."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distila.training.sim.eesm import eesm_beta
from distila.training.sim.link import Combining, LinkTables, link_combining, steeper
from distila.xapp.nr.bler import SmoothBler, sinr_db_for_tbler, tbler
from distila.xapp.nr.cqi import cqi_thresholds_db
from distila.xapp.nr.mcs import MCS_TABLES, NUM_MCS
from distila.xapp.nr.soft_combining import Carrier, SoftCombining
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

pytest.importorskip("sionna")

ALLOCATIONS = [(52, 1), (52, 2), (13, 1), (106, 2), (273, 4), (1, 1)]
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

CPU = torch.device("cpu")
KINDS = ["ir", "chase", "ideal"]


def rule_of(tables, kind, carrier=None):
    """The rule of the tables' rows as `distila.xapp.nr.soft_combining` has it."""
    carrier = carrier or Carrier(273, 4, 8 if tables.mcs_table == 2 else 6)
    mcs = np.tile(np.arange(NUM_MCS), len(tables.allocations))
    return SoftCombining.for_blocks(kind, tables.mcs_table, mcs, tables.tbs_bits.numpy().astype(np.int64), carrier)


def combined_db(combining, row, sinrs_db, efficiency=None):
    """Effective SINR of one block after transmissions of these SINRs, None: missed."""
    store = combining.first(torch.tensor([-math.inf if sinrs_db[0] is None else sinrs_db[0]]))
    given = None if efficiency is None else torch.tensor([efficiency])
    for number, sinr_db in enumerate(sinrs_db[1:], start=2):
        if sinr_db is not None:
            store = combining.add(store, number, torch.tensor([sinr_db]), given)
    return float(combining.effective_sinr_db(torch.tensor([row]), store, len(sinrs_db), given))


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule_on_a_device_is_that_of_the_runtime(tables, kind):
    """Blocks of all rows, with all numbers of transmissions, unequal SINRs, any efficiency."""
    rng = np.random.default_rng(2)
    count = 4000
    rule = rule_of(tables, kind)
    combining = Combining(rule, CPU)
    mcs, allocation = rng.integers(0, tables.max_mcs + 1, count), rng.integers(0, len(ALLOCATIONS), count)
    row = allocation * NUM_MCS + mcs
    efficiency = rng.choice([0.0, 0.5, 1.0, 0.37], count).astype(np.float32)
    first_db = rng.uniform(-15, 40, count).astype(np.float32)
    first_db[:400] = -np.inf
    expected = rule.add(np.zeros((4, count), np.float32), np.ones(count, np.int64), first_db)
    store = combining.first(torch.as_tensor(first_db))
    assert np.allclose(store.numpy().T, expected, rtol=1e-5)
    for number in range(2, 9):
        sinr_db = rng.uniform(-15, 40, count).astype(np.float32)
        sent = np.full(count, number)
        expected = rule.add(expected, sent, sinr_db, efficiency)
        store = combining.add(store, torch.as_tensor(sent), torch.as_tensor(sinr_db), torch.as_tensor(efficiency))
        assert np.allclose(store.numpy().T, expected, rtol=1e-5)
        found = combining.effective_sinr_db(
            torch.as_tensor(row), store, torch.as_tensor(sent), torch.as_tensor(efficiency)
        )
        assert found.dtype == torch.float32
        assert np.allclose(found.numpy(), rule.effective_sinr_db(row, expected, sent, efficiency), atol=1e-3)


def test_one_number_of_transmissions_for_all_is_the_same_as_one_for_each(tables):
    combining = Combining(rule_of(tables, "ir"), CPU)
    row, sinr_db = torch.arange(20), torch.linspace(0, 25, 20)
    one = each = combining.first(sinr_db)
    for number in range(2, 9):
        numbers = torch.full((20,), number)
        one, each = combining.add(one, number, sinr_db), combining.add(each, numbers, sinr_db)
        assert torch.equal(one, each)
        assert torch.equal(
            combining.effective_sinr_db(row, one, number), combining.effective_sinr_db(row, each, numbers)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_one_transmission_is_its_own_sinr(tables, kind):
    combining = Combining(rule_of(tables, kind), CPU)
    for sinr_db in (-15.0, -3.0, 0.0, 12.34, 30.0, 44.0):
        assert combined_db(combining, 10, [sinr_db]) == pytest.approx(sinr_db, abs=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_received_is_minus_60_db(tables, kind):
    assert combined_db(Combining(rule_of(tables, kind), CPU), 10, [None, None, None]) == -60


@pytest.mark.parametrize("kind", KINDS)
def test_eight_transmissions_at_a_very_high_sinr_are_no_nan(tables, kind):
    assert combined_db(Combining(rule_of(tables, kind), CPU), 20, [45.0] * 8) > 45


@pytest.mark.parametrize("mcs", [5, 13, 20, 27])
def test_a_second_transmission_gains_less_than_capacities_that_add_up_and_more_than_chase(tables, mcs):
    """At the SINR at which each of two transmissions alone fails: what a real LDPC decoder gains lies between them."""
    each_db = float(tables.centre_db[mcs]) - 5
    chase, ir, ideal = (
        combined_db(Combining(rule_of(tables, k), CPU), mcs, [each_db] * 2) for k in ("chase", "ir", "ideal")
    )
    assert each_db + 2.5 < chase <= each_db + 3.02
    assert chase - 0.05 <= ir
    assert ir < ideal - (0.35 if mcs >= 13 else -0.1)


def test_after_a_missed_first_grant_version_2_is_not_decoded_and_version_3_is(tables):
    mcs = tables.max_mcs - 4
    combining = Combining(rule_of(tables, "ir"), CPU)
    assert combined_db(combining, mcs, [None, 40.0]) == -60
    assert combined_db(combining, mcs, [None, None, 40.0]) > 30
    assert combined_db(combining, mcs, [None, 40.0, 40.0]) > 30
    # RV 1 is the fourth.
    assert combined_db(combining, tables.max_mcs, [None, 40.0, None, 40.0]) == -60
    assert combined_db(combining, mcs, [None, 40.0, None, 40.0, 10.0]) > 9


def test_at_a_low_code_rate_version_2_holds_the_blocks_own_bits_too(tables):
    assert 37 < combined_db(Combining(rule_of(tables, "ir"), CPU), 3, [None, 40.0]) < 40


def test_without_efficiency_each_transmission_stands_alone(tables):
    combining = Combining(rule_of(tables, "ir"), CPU)
    assert combined_db(combining, 20, [10.0, 40.0], efficiency=0.0) == -60
    assert combined_db(combining, 20, [10.0, 40.0, 12.0], efficiency=0.0) <= 12
    assert combined_db(combining, 20, [10.0, 40.0, 40.0, 40.0, 11.0], efficiency=0.0) == pytest.approx(11, abs=0.01)
    chase = Combining(rule_of(tables, "chase"), CPU)
    assert combined_db(chase, 20, [10.0, 12.0], efficiency=0.0) == pytest.approx(12, abs=0.01)


def test_half_the_efficiency_is_3_db_off_what_was_held(tables):
    combining = Combining(rule_of(tables, "ir"), CPU)
    half = combined_db(combining, 20, [13.0, 12.0], efficiency=0.5)
    assert half == pytest.approx(combined_db(combining, 20, [13.0 + 10 * math.log10(0.5), 12.0]), abs=1e-3)
    assert half < combined_db(combining, 20, [13.0, 12.0]) - 0.5


def test_a_carrier_no_larger_than_the_block_limits_the_buffer_and_the_gain():
    tables = LinkTables(2, 2, [(273, 4)], BLER, eesm_beta(2), CPU)
    full, wide = (
        rule_of(tables, "ir", Carrier(273, 4, 8)),
        rule_of(LinkTables(2, 2, [(13, 1)], BLER, eesm_beta(2), CPU), "ir"),
    )
    each_db = [float(tables.centre_db[27]) - 6] * 4
    assert combined_db(Combining(full, CPU), 27, each_db) < combined_db(Combining(wide, CPU), 27, each_db) - 0.7


def test_combining_is_made_once_for_the_same_link(tables):
    carrier = Carrier(273, 4, 8)
    assert link_combining("ir", tables, carrier) is link_combining("ir", tables, carrier)
    assert link_combining("chase", tables, carrier) is not link_combining("ir", tables, carrier)

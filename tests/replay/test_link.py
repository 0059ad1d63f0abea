"""The link of DU and UE: the frozen BLER table equals its model; a random draw depends on seed, UE and slot alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.link import Link, RandomDraws, load_bler
from distila.replay.trace import UeMeta
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler, tbler
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

BLER = SmoothBler.load()
KINDS = [(table, prbs, layers) for table in (1, 2, 3) for prbs, layers in ((1, 1), (52, 1), (106, 2), (275, 4))]
UES = [UeMeta(name=f"{kind}", mcs_table=kind[0], prbs=kind[1], layers=kind[2]) for kind in KINDS]
LINK = Link(UES, BLER)


def step_model(threshold_db):
    """Fails below a threshold of each MCS, succeeds above it; whatever the size."""

    class Step:
        def bler(self, mcs_table, mcs, code_block_size_bits, sinr_db):
            mcs, _, sinr_db = np.broadcast_arrays(mcs, code_block_size_bits, sinr_db)
            return np.where(sinr_db >= threshold_db(mcs), 0.0, 1.0)

    return Step()


@pytest.mark.parametrize("ue", range(len(KINDS)), ids=lambda u: "table {} prbs {} layers {}".format(*KINDS[u]))
def test_size_of_every_transport_block(ue):
    table, prbs, layers = KINDS[ue]
    mcs = MCS_TABLES[table]
    expected = transport_block_size_bits(num_re(prbs), mcs.code_rate, mcs.modulation_order, layers)
    assert LINK.max_mcs[ue] == mcs.num_mcs - 1
    np.testing.assert_array_equal(LINK.tbs_bits[ue, : mcs.num_mcs], expected)
    assert not LINK.tbs_bits[ue, mcs.num_mcs :].any(), "nothing beyond the UE's table"


def worst_difference(sinr_db):
    """Largest difference between table and model at these SINR, over every UE and MCS."""
    worst = 0.0
    for mcs in range(29):
        row = np.minimum(mcs, LINK.max_mcs)
        got = np.stack([LINK.tbler(row, np.full(len(UES), x, np.float32)) for x in sinr_db])
        for ue, (table, _, _) in enumerate(KINDS):
            model = tbler(BLER, table, row[ue], LINK.tbs_bits[ue, row[ue]], np.asarray(sinr_db, np.float32))
            worst = max(worst, float(np.abs(got[:, ue] - model).max()))
    return worst


def test_error_rate_is_that_of_the_model_over_the_range_where_it_matters():
    assert worst_difference(np.random.default_rng(0).uniform(-12, 35, 150)) < 0.006


def test_error_rate_is_the_model_s_within_a_twentieth_of_a_db():
    sinr_db = np.random.default_rng(0).uniform(-12, 35, 100)
    for ue, (table, _, _) in enumerate(KINDS):
        for mcs in range(0, LINK.max_mcs[ue] + 1, 3):
            rows = np.full(len(UES), mcs).clip(max=LINK.max_mcs)
            got = np.stack([LINK.tbler(rows, np.full(len(UES), x)) for x in sinr_db])[:, ue]
            at = [tbler(BLER, table, mcs, LINK.tbs_bits[ue, mcs], sinr_db + shift) for shift in (0.051, -0.051)]
            assert ((at[0] - 1e-6 <= got) & (got <= at[1] + 1e-6)).all()


def test_error_rate_is_that_of_the_model_at_the_extremes():
    assert worst_difference(np.array([-60, -30.01, -30, -29.99, 59.99, 60, 60.01, 80])) < 0.002


def test_no_sinr_no_block():
    for mcs in range(28):
        rate = LINK.tbler(np.full(len(UES), mcs), np.full(len(UES), np.nan, np.float32))
        np.testing.assert_array_equal(rate, 1.0)


def test_error_rate_falls_with_sinr_and_is_a_rate():
    for mcs in range(28):
        rate = np.stack([LINK.tbler(np.full(len(UES), mcs), np.full(len(UES), x)) for x in np.arange(-35, 65, 0.35)])
        assert (np.diff(rate, axis=0) <= 1e-6).all()
        assert rate.min() >= 0
        assert rate.max() <= 1


def test_the_model_can_be_swapped():
    link = Link(UES, step_model(lambda mcs: np.asarray(mcs, np.float64)))
    mcs = np.arange(len(UES)) * 2
    np.testing.assert_array_equal(link.tbler(mcs, mcs + 0.1), 0)
    np.testing.assert_array_equal(link.tbler(mcs, mcs - 0.1), 1)


def test_ues_do_not_mix():
    """One UE's MCS and SINR do not touch another's error rate."""
    rng = np.random.default_rng(1)
    mcs, sinr_db = rng.integers(0, 28, len(UES)), rng.uniform(-5, 30, len(UES)).astype(np.float32)
    together = LINK.tbler(mcs, sinr_db)
    alone = [Link([ue], BLER).tbler(mcs[i : i + 1], sinr_db[i : i + 1])[0] for i, ue in enumerate(UES)]
    np.testing.assert_array_equal(together, alone)


SLOTS = st.lists(st.integers(0, 2000), min_size=1, max_size=12)


@given(st.integers(0, 2**32), st.integers(1, 7), SLOTS)
def test_random_draws_do_not_depend_on_the_order_of_requests(seed, num_ues, slots):
    forward = RandomDraws(seed, num_ues)
    draws = {slot: forward.draw(slot).copy() for slot in sorted(slots)}
    other = RandomDraws(seed, num_ues)
    for slot in slots:
        np.testing.assert_array_equal(other.draw(slot), draws[slot])


def test_random_draws_are_the_same_in_order_and_at_random_over_block_borders():
    in_order = RandomDraws(3, 5)
    draws = np.stack([in_order.draw(slot).copy() for slot in range(3 * RandomDraws.BLOCK_SLOTS)])
    at_random = RandomDraws(3, 5)
    for slot in np.random.default_rng(0).permutation(len(draws))[:200]:
        np.testing.assert_array_equal(at_random.draw(int(slot)), draws[slot])


def test_another_seed_gives_other_random_draws():
    draws = [np.stack([RandomDraws(seed, 8).draw(slot) for slot in range(20)]) for seed in range(4)]
    for a in range(4):
        for b in range(a):
            assert not np.isin(draws[a], draws[b]).any()


def test_random_draws_are_uniform_and_independent_between_slots_and_ues():
    source = RandomDraws(11, 20)
    draws = np.stack([source.draw(slot).copy() for slot in range(10_000)]).astype(np.float64)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts, _ = np.histogram(draws, bins=50, range=(0, 1))
    # Chi-square with 49 degrees of freedom: beyond 100 once in about 20 000 seeds.
    assert ((counts - draws.size / 50) ** 2 / (draws.size / 50)).sum() < 100
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(draws[:, :-1].ravel(), draws[:, 1:].ravel())[0, 1]) < 0.01


def test_random_draws_of_a_ue_do_not_depend_on_other_ues():
    for slot in range(5):
        np.testing.assert_array_equal(RandomDraws(1, 2).draw(slot), RandomDraws(1, 6).draw(slot)[:2])


def test_a_bler_model_is_chosen_by_name():
    assert isinstance(load_bler("smooth"), SmoothBler)
    with pytest.raises(InputError, match=r"^rough: no such BLER model: there are sionna, smooth$"):
        load_bler("rough")


def test_the_model_of_sionna_can_be_plugged_into_a_link():
    pytest.importorskip("sionna", reason="reads the BLER tables of sionna-no-rt")
    link = Link([UeMeta(name="a", prbs=52)], load_bler("sionna"))
    rates = [float(link.tbler(np.array([10]), np.array([x]))[0]) for x in (0.0, 20.0)]
    assert rates == [1.0, pytest.approx(0.0, abs=1e-3)]
    assert link.tbler(np.array([0]), np.array([20.0]))[0] == 1, "it has no curve for MCS 0"


def test_copies_of_ues_have_the_draws_of_the_ues_that_they_copy():
    once, twice = RandomDraws(5, 3), RandomDraws(5, 6, copies=2)
    for slot in (0, 1, RandomDraws.BLOCK_SLOTS + 7):
        np.testing.assert_array_equal(twice.draw(slot), np.tile(once.draw(slot), 2))

"""The combining rule: information of bits, and the SINR that several transmissions of a block need."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.xapp.nr.bit_information import GRID_DB, level_information, level_sinr_db, pam_amplitudes
from distila.xapp.nr.bler import SmoothBler, sinr_db_for_tbler
from distila.xapp.nr.harq import Transmissions
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.rate_matching import RV_ORDER, CodeBlock, base_graph

ORDERS = [2, 4, 6, 8]


def sent(mcs, bits=1056, versions=(0,), table=1, limited=None):
    order = int(MCS_TABLES[table].modulation_order[mcs])
    rate = float(MCS_TABLES[table].code_rate[mcs])
    num_bits = int(np.ceil(bits / rate / order)) * order
    return Transmissions(CodeBlock(base_graph(bits - 16, rate), bits, limited), num_bits, order, tuple(versions))


def needed_db(transmissions):
    """SINR of each of equal transmissions at 10 % block errors."""
    many, sinr_db = len(transmissions.redundancy_versions), 5.0
    for _ in range(3):  # a margin is at most 16 dB
        sinr_db -= float(transmissions.margin_db(np.full(many, sinr_db)))
    return sinr_db


@pytest.mark.parametrize("order", ORDERS)
def test_amplitudes_have_mean_power_one_half_and_gray_labels(order):
    amplitude = pam_amplitudes(order // 2)
    assert np.mean(amplitude**2) == pytest.approx(0.5)
    labels = np.argsort(amplitude)
    assert all(bin(int(one) ^ int(other)).count("1") == 1 for one, other in itertools.pairwise(labels))
    assert amplitude[0] > 0, "bit 0 is the positive side"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sinr_db", [0.0, 8.0, 16.0])
def test_information_of_a_level_is_what_its_log_likelihood_ratios_carry(order, sinr_db):
    """Against a simulation: I = 1 - E[log2(1 + exp(-LLR))] of the bit that was sent."""
    rng = np.random.default_rng(7)
    half = order // 2
    amplitude, labels = pam_amplitudes(half), np.arange(2**half)
    variance = 0.5 * 10 ** (-sinr_db / 10)
    label = rng.integers(0, 2**half, 40_000)
    received = amplitude[label] + np.sqrt(variance) * rng.standard_normal(len(label))
    metric = -((received[:, None] - amplitude) ** 2) / (2 * variance)
    expected = level_information(order)[:, np.flatnonzero(sinr_db == GRID_DB)[0]]
    for level in range(half):
        one = labels >> (half - 1 - level) & 1 == 1
        llr = np.logaddexp.reduce(metric[:, ~one], -1) - np.logaddexp.reduce(metric[:, one], -1)
        llr = np.where(one[label], -llr, llr)
        assert 1 - np.logaddexp(0, -llr).mean() / np.log(2) == pytest.approx(expected[level], abs=0.01)


@pytest.mark.parametrize("order", ORDERS)
def test_information_rises_with_the_sinr_and_the_first_level_is_the_best(order):
    information = level_information(order)
    assert (np.diff(information, axis=1) >= 0).all()
    assert (information[:-1] >= information[1:] - 1e-9).all()
    assert (np.diff(level_sinr_db(order), axis=1) >= 0).all()


@pytest.mark.parametrize("mcs", [0, 4, 9, 10, 13, 16, 20, 24, 28])
def test_one_transmission_needs_what_the_shipped_error_rate_curves_say(mcs):
    """Other decoders and code block sizes: within half a dB."""
    curve = sinr_db_for_tbler(SmoothBler.load(), mcs_table=1, mcs=mcs, tbs_bits=1032, tbler=0.1)
    assert needed_db(sent(mcs)) == pytest.approx(float(curve), abs=0.5)


@pytest.mark.parametrize(
    ("table", "mcs", "versions", "limited", "gain_db"),
    [
        (1, 16, (0, 2), None, 5.0),
        (1, 20, (0, 2), None, 5.7),
        (1, 24, (0, 2), None, 7.0),
        (1, 28, (0, 2), None, 8.9),
        (2, 27, (0, 2), None, 10.3),
        (1, 24, RV_ORDER, None, 11.6),
        (1, 28, RV_ORDER, None, 14.1),
        (1, 24, (0, 2), 1584, 5.5),
        (1, 20, (0, 0), None, 2.5),
    ],
)
def test_retransmissions_gain_what_was_measured_elsewhere(table, mcs, versions, limited, gain_db):
    """A smaller measurement with another decoder (15 iterations, 60 to 100 blocks a point): within 0.6 dB."""
    alone = needed_db(sent(mcs, table=table, limited=limited))
    assert alone - needed_db(sent(mcs, versions=versions, table=table, limited=limited)) == pytest.approx(
        gain_db, abs=0.6
    )


def test_a_repeated_version_at_two_sinrs_is_one_at_their_sum():
    once, twice = sent(16), sent(16, versions=(0, 0))
    low = once.bit_information(np.array([10 * np.log10(10**0.5 + 10**0.2)]))
    assert twice.bit_information(np.array([5.0, 2.0])) == pytest.approx(low)


@settings(max_examples=60, deadline=None)
@given(
    mcs=st.integers(0, 28),
    bits=st.sampled_from([320, 1056, 2400, 3840]),
    sinr_db=st.lists(st.floats(-5, 25), min_size=1, max_size=4),
    more_db=st.floats(0.5, 6),
    which=st.integers(0, 3),
)
def test_a_better_transmission_never_lowers_the_margin(mcs, bits, sinr_db, more_db, which):
    transmissions = sent(mcs, bits, RV_ORDER[: len(sinr_db)])
    better = list(sinr_db)
    better[which % len(better)] += more_db
    before, after = transmissions.margin_db(np.array([sinr_db, better]))
    assert after >= before - 0.3, "the fit may bend a little where transmissions are very unequal"


def test_margins_of_many_blocks_come_at_once():
    transmissions = sent(20, versions=(0, 2))
    sinr_db = np.random.default_rng(1).uniform(0, 12, (5, 3, 2))
    together = transmissions.margin_db(sinr_db)
    assert together.shape == (5, 3)
    assert together[4, 2] == pytest.approx(float(transmissions.margin_db(sinr_db[4, 2])))

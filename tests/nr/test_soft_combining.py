"""Soft combining at run time: stores of HARQ processes, tables of the fitted rule, and what cannot be decoded."""

import numpy as np
import pytest

from distila.xapp.errors import InputError
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.soft_combining import NOTHING_DB, Carrier, SoftCombining
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

FULL_CARRIER = Carrier(prbs=273, max_layers=4, max_modulation_order=8)


def combining(kind="ir", table=1, mcs=(16,), prbs=24, layers=1, carrier=FULL_CARRIER):
    mcs = np.array(mcs)
    rows = MCS_TABLES[table]
    size = transport_block_size_bits(num_re(prbs), rows.code_rate[mcs], rows.modulation_order[mcs], layers)
    return SoftCombining.for_blocks(kind, table, mcs, size, carrier)


def effective_db(soft, sinr_db, efficiency=1.0, row=0):
    """After each of these transmissions of one block; -inf: not received."""
    store, found = np.zeros((4, 1), np.float32), []
    for number, one in enumerate(sinr_db, start=1):
        transmission = np.array([number])
        store = soft.add(store, transmission, np.array([one], np.float32), efficiency)
        found.append(float(soft.effective_sinr_db(np.array([row]), store, transmission, efficiency)[0]))
    return found


@pytest.mark.parametrize("kind", ["ir", "chase", "ideal"])
def test_one_transmission_counts_as_it_is(kind):
    for sinr_db in (-20.0, 3.0, 40.0):
        assert effective_db(combining(kind), [sinr_db]) == pytest.approx([sinr_db], abs=1e-4)


def test_the_buffer_of_lbrm_is_made_for_the_largest_block_of_the_carrier():
    assert Carrier(273, 4, 8).lbrm_tbs_bits == 1_277_992
    assert Carrier(51, 1, 6).lbrm_tbs_bits == Carrier(66, 1, 6).lbrm_tbs_bits


@pytest.mark.parametrize(
    ("table", "mcs", "prbs", "layers", "gain_db"),
    [
        (1, 16, 8, 1, (5.0, 8.4)),
        (1, 20, 6, 1, (5.7, 9.4)),
        (1, 24, 4, 1, (7.0, 11.6)),
        (1, 28, 3, 1, (8.9, 14.1)),
        (2, 27, 2, 1, (10.3, 17.1)),
        (1, 4, 32, 1, (2.8, 5.9)),
    ],
)
def test_retransmissions_gain_what_was_measured_elsewhere(table, mcs, prbs, layers, gain_db):
    """Two and four transmissions with RVs 0, 2, 3, 1; a smaller measurement with another decoder: within 0.7 dB."""
    found = effective_db(combining("ir", table, (mcs,), prbs, layers), [10.0] * 4)
    assert found[1] - 10 == pytest.approx(gain_db[0], abs=0.7)
    assert found[3] - 10 == pytest.approx(gain_db[1], abs=0.7)


def test_a_block_larger_than_the_carriers_largest_is_an_input_error():
    with pytest.raises(InputError, match=r"MCS 28 of table 1 has \d+ bits; .* 24 PRBs, 1 layers"):
        combining(mcs=(28,), prbs=100, carrier=Carrier(24, 1, 6))


def test_version_2_alone_is_not_decoded():
    soft = combining(mcs=(20,))
    assert effective_db(soft, [-np.inf, 40.0])[1] == NOTHING_DB
    assert effective_db(soft, [-np.inf, 20.0, 20.0])[2] > 15

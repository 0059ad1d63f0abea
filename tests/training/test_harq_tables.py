"""The shipped tables of soft combining: made again, and compared with the rule that they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distila.training.harq_fit.tabulate import classes, exact_gain_db, gain_table, repeat_loss_db
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.soft_combining import BUFFER_NODES, NODES_DB, SoftCombining

# Modulation order, code rate, base graph, buffer over block, block length.
SOME = [
    (2, 308 / 1024, 1, 3.0, 1760),
    (4, 490 / 1024, 2, 5.0, 1280),
    (6, 772 / 1024, 1, 3.0, 1760),
    (6, 948 / 1024, 1, 1.5, 8448),
    (8, 948 / 1024, 1, 2.0, 352),
    (2, 120 / 1024, 2, 5.0, 320),
]


def combining(order, rate, graph, buffer, bits):
    limited = np.inf if buffer == BUFFER_NODES[graph][-1] else int(buffer * bits)
    one = [np.array([value]) for value in (order, rate, graph, bits, limited)]
    return SoftCombining.for_code_blocks("ir", *one)


def test_every_mcs_of_every_table_has_a_class():
    pairs = {each[:2] for graph in (1, 2) for each in classes(graph)}
    for table in MCS_TABLES.values():
        assert set(zip(table.modulation_order.tolist(), table.code_rate.tolist(), strict=True)) <= pairs


@pytest.mark.parametrize("one", SOME[:4])
def test_a_shipped_table_is_what_the_rule_makes_again(one):
    soft = combining(*one)
    error = np.abs(soft.gain_db[0] - gain_table(*one))
    near = NODES_DB <= 12
    assert np.quantile(error[np.ix_(near, near, near)], 0.99) < 0.12
    assert soft.gain_db[0, 0, 0, 0] == 0.0
    assert soft.repeat_db[0] == pytest.approx(repeat_loss_db(*one), abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(one=st.sampled_from(SOME), sinr_db=st.lists(st.floats(0, 16), min_size=2, max_size=4))
def test_effective_sinrs_are_those_of_the_rule(one, sinr_db):
    """Within 0.1 dB; SINRs up to 16 dB apart."""
    soft, store = combining(*one), np.zeros((4, 1), np.float32)
    for number, sinr in enumerate(sinr_db, start=1):
        store = soft.add(store, np.array([number]), np.array([sinr], np.float32))
    found = soft.effective_sinr_db(np.array([0]), store, np.array([len(sinr_db)]))[0]
    difference = [sinr - sinr_db[0] for sinr in sinr_db[1:]] + [-np.inf] * (4 - len(sinr_db))
    exact = exact_gain_db(*one, tuple(np.array(value) for value in difference))
    assert found - sinr_db[0] == pytest.approx(float(exact), abs=0.1)

"""What the meter counts from reports, against what the DU really did; and who is exposed to what."""

import numpy as np
import pytest

from distila.replay import closed_loop
from distila.replay.du_config import DuConfig
from distila.replay.link import load_bler
from distila.replay.rollouts.kpi_library import Paced
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.mcs import MCS_TABLES
from distila.xapp.nr.tbs import num_re, transport_block_size_bits
from distila.xapp.policy.arm import Arm, Lineup
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig
from distila.xapp.rollout.exposure import Exposed, Exposure
from distila.xapp.rollout.kpi import SUMS, KpiMeter, tbs_table

OLLA = load_bundle("olla")
AT = {name: index for index, name in enumerate(SUMS)}


def metered(reports, by_cell=False, cells=(), budget_us=1e9, lineup=None):
    loop = DecisionLoop(OLLA, guard_config=GuardConfig(deadline_us=None))
    if lineup is not None:
        loop.deploy(lineup(loop))
    loop.meter = KpiMeter(frozenset(cells), by_cell, budget_us)
    for one in reports:
        loop.decide(one)
    return loop.meter


def test_goodput_and_bler_are_what_the_du_really_did():
    trace, slots = ChannelTrace.load(bundled_trace()), 3000
    loop = DecisionLoop(OLLA, guard_config=GuardConfig(deadline_us=None))
    loop.meter = meter = KpiMeter(frozenset(), False, 1e9)
    parts = []
    record, _ = closed_loop.run(
        trace,
        load_bler("smooth"),
        DuConfig(period_slots=20, decision_delay_slots=8),
        seed=1,
        controller=Paced(loop, 500, lambda _: parts.append(meter.drain()[2])),
        max_slots=slots,
    )
    sums = np.concatenate([*parts, meter.drain()[2]]).sum(axis=0)
    prbs = np.array([ue.prbs for ue in trace.meta.ues])
    truth = record.bits.sum() / (record.slots.sum(axis=1) * prbs).sum()
    assert sums[AT["bits"]] / sums[AT["prbs"]] == pytest.approx(truth, rel=0.01)
    assert sums[AT["first_failed"]] / sums[AT["first_tx"]] == pytest.approx(
        record.first_fail.sum() / record.first_tx.sum(), rel=0.02
    )
    assert sums[AT["slots"]] == len(trace.meta.ues) * slots


def test_block_sizes_are_those_of_the_standard():
    for table, layers, prbs, mcs in ((1, 1, 52, 17), (2, 2, 273, 27), (3, 4, 1, 0)):
        rates = MCS_TABLES[table]
        expected = transport_block_size_bits(num_re(prbs), rates.code_rate[mcs], rates.modulation_order[mcs], layers)
        assert tbs_table()[table - 1, layers - 1, prbs, mcs] == expected
    assert not tbs_table()[1, :, :, 28].any(), "table 2 ends at 27"


def test_each_unit_and_arm_has_its_own_sums(make_report):
    def odd(one):
        return one.rnti % 2

    meter = metered(
        [make_report(n, [4, 5], ack=8, nack=[2, 4]) for n in (1, 2, 3)],
        lineup=lambda loop: Lineup((loop.lineup.arms[0], Arm("new", None)), odd),
    )
    units, arms, sums = meter.drain()
    assert len(set(units.tolist())) == 2
    assert sorted(arms.tolist()) == [0, 1]
    order = np.argsort(arms)
    assert sums[order, AT["first_tx"]].tolist() == [30, 36]
    assert sums[order, AT["first_failed"]].tolist() == [6, 12]
    assert sums[order, AT["slots"]].tolist() == [60, 60]
    assert sums[order, AT["prbs"]].tolist() == [50 * 36, 50 * 48], "each failure costs another transmission"
    assert len(meter.drain()[0]) == 0


def test_values_that_are_not_measured_are_counted_and_add_nothing(make_report):
    meter = metered([make_report(1, [4, 5, 6], ack=9, prbs=[np.nan, 50, 50], cqi=[9, np.nan, 9])])
    sums = meter.drain()[2]
    assert np.isfinite(sums).all()
    assert meter.noticed == {"kpi_missing_prbs": 1}
    assert sorted((sums[:, AT["prbs"]] > 0).tolist()) == [False, True, True]


def test_cells_out_of_scope_are_not_counted(make_report):
    assert len(metered([make_report(1, [4], ack=1)], cells=["other"]).drain()[0]) == 0


def test_by_cell_the_ues_of_a_cell_are_one_unit(make_report):
    units, _, sums = metered(
        [make_report(1, [4, 5], ack=3), make_report(1, [4], cell="b", ack=3)], by_cell=True
    ).drain()
    assert len(units) == 2
    assert sorted(sums[:, AT["first_tx"]].tolist()) == [3, 6]


def test_late_decisions_and_those_the_guard_withheld_are_counted(make_report):
    meter = metered(
        [make_report(1, [4, 5], ack=3, cqi=[9, np.nan]), make_report(2, [4, 5], cqi=[9, np.nan])], budget_us=0
    )
    sums = meter.drain()[2]
    assert sums[:, AT["late"]].tolist() == [2, 2]
    assert sorted(sums[:, AT["withheld"]].tolist()) == [0, 1], "without HARQ and CQI the second report says nothing"


# --- exposure ---


def values(count, first_tx=100.0, failed=10.0, bits=4000.0):
    sums = np.zeros((count, len(SUMS)))
    for name, value in {
        "slots": 500,
        "decisions": 25,
        "first_tx": first_tx,
        "first_failed": failed,
        "prbs": 10,
        "bits": bits,
        "expected_bits": 5000,
    }.items():
        sums[:, AT[name]] = value
    return sums


def test_the_interval_of_joining_is_not_counted():
    exposure, units = Exposure(["champion", "control", "new"], 1), np.arange(20)
    for arms in (0, 1, 1, 1):
        exposure.add(units, np.full(20, arms), values(20))
        exposure.close_interval(None)
    exposed = exposure.exposed()
    assert exposed.exposure == {"control": 40, "new": 0}
    moments = exposed.moments["control"]["first_tx_failure_rate"]
    assert moments.units == 20
    assert moments.sums[:2].tolist() == [20 * 20, 20 * 200]
    assert moments.sums[2] == pytest.approx(20 * 200 * 0.1), "the past of each unit: its BLER before it joined"


def test_units_that_leave_keep_their_place_in_the_account():
    exposure = Exposure(["champion", "control", "new"], 0)
    for number in range(100):
        # Each unit is here for two intervals only.
        exposure.add(np.array([number, number + 1]), np.array([1, 1]), values(2))
        exposure.close_interval(None)
    exposed = exposure.exposed()
    assert exposed.moments["control"]["first_tx_failure_rate"].units == 101
    assert exposed.moments["control"]["first_tx_failure_rate"].sums[1] == 200 * 100
    assert exposed.exposure["control"] == 200
    assert len(exposure._row) < 40, "and yet they are forgotten"


def test_units_in_the_stage_are_counted_once_in_each():
    exposure, units = Exposure(["champion", "control", "new"], 0), np.arange(10)
    for stage in (0, 0, 1, 1):
        exposure.begin_stage(stage)
        exposure.add(units, np.full(10, 2), values(10))
        exposure.close_interval(None)
    assert exposure.exposed().units_in_stage == {"control": 0, "new": 10}


def test_a_value_that_is_not_finite_spoils_nothing():
    exposure = Exposure(["champion", "control", "new"], 0)
    broken = values(10)
    broken[3, AT["bits"]] = np.nan
    exposure.add(np.arange(10), np.full(10, 1), broken)
    exposure.close_interval(1.0)
    assert np.isfinite(exposure.exposed().moments["control"]["goodput_per_prb"].matrix).all()


def test_replicas_add_up_and_come_back_from_json():
    parts = []
    for first in (0, 100):
        exposure = Exposure(["champion", "control", "new"], 0)
        exposure.add(np.arange(first, first + 10), np.full(10, 2), values(10))
        exposure.close_interval(3.0)
        parts.append(Exposed.model_validate_json(exposure.exposed().model_dump_json()))
    both = Exposed.together(parts, 0)
    assert both.moments["new"]["goodput_per_prb"].units == 20
    assert both.exposure["new"] == 20
    assert both.units_in_stage["new"] == 20
    assert Exposed.together(parts, 1).units_in_stage == {}, "they are not in that stage yet"


def test_the_worst_5_percent_are_those_of_the_threshold():
    rng = np.random.default_rng(1)
    exposure, bits = Exposure(["champion", "control", "new"], 0), rng.lognormal(8, 0.6, 4000)
    sums = values(4000)
    sums[:, AT["bits"]] = bits
    for threshold in (None, 500.0):
        exposure.add(np.arange(4000), np.full(4000, 1), sums)
        exposure.close_interval(threshold)
        if threshold is None:
            tail = exposure.exposed().tail_below
            assert tail == pytest.approx(np.quantile(bits / 500, 0.05))
    exposure = Exposure(["champion", "control", "new"], 0)
    exposure.add(np.arange(4000), np.full(4000, 1), sums)
    exposure.close_interval(tail)
    moments = exposure.exposed().moments["control"]["worst5_throughput"]
    worst = np.sort(bits / 500)[:200].mean()
    assert moments.sums[0] / moments.sums[1] == pytest.approx(worst, rel=0.01)

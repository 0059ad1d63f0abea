"""Who belongs to which arm: the same everywhere and always, and a ramp only adds."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.xapp.rollout.assignment import Assignment, arm_of_bucket
from distila.xapp.rollout.plan import BUCKETS, Plan


def arms(plan, stage, report, **given):
    return Assignment(plan, stage, **given)(report)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20), st.floats(0.1, 30)), min_size=1, max_size=5))
def test_a_ramp_only_adds_units_and_gives_each_arm_its_share(steps):
    steps = np.maximum.accumulate(np.round(steps, 2), axis=0).tolist()
    plan = Plan.model_validate(
        {
            "name": "p",
            "challengers": [{"name": "a", "policy": "olla"}, {"name": "b", "policy": "native"}],
            "stages": [
                {"name": str(n), "share_pct": {"a": a, "b": b}, "control_pct": c} for n, (a, b, c) in enumerate(steps)
            ],
        },
    )
    before = np.zeros(BUCKETS, int)
    for stage, (a, b, control) in enumerate(steps):
        table = arm_of_bucket(plan, stage)
        assert (table[before > 0] == before[before > 0]).all()
        assert np.bincount(table, minlength=4)[1:].tolist() == [round(100 * share) for share in (control, a, b)]
        before = table


def test_shares_are_met_among_units(make_plan, make_report):
    plan = make_plan(stages=[{"name": "a", "share_pct": {"new": 10}, "control_pct": 30}])
    found = arms(plan, 0, make_report(1, np.arange(1, 50_001)))
    assert np.bincount(found, minlength=3) / 50_000 == pytest.approx([0.6, 0.3, 0.1], abs=0.006)


def test_every_replica_draws_the_same_in_every_process(make_plan, make_report):
    plan = make_plan()
    here = arms(plan, 2, make_report(1, np.arange(1, 400)))
    code = f"""
import numpy as np
from types import SimpleNamespace
from distila.xapp.rollout.assignment import Assignment
from distila.xapp.rollout.plan import Plan
report = SimpleNamespace(cell_id="cell", rnti=np.arange(1, 400), ue_id=np.full(399, -1), num_ues=399)
print(Assignment(Plan.model_validate_json('''{plan.model_dump_json()}'''), 2)(report).tolist())
"""
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here.tolist())


def test_another_salt_is_another_draw_and_cells_draw_apart(make_plan, make_report):
    report = make_report(1, np.arange(1, 2001))
    one, other = (arms(make_plan(salt=salt), 2, report) for salt in ("a", "b"))
    elsewhere = arms(make_plan(salt="a"), 2, replace(report, cell_id="other"))
    assert 0.4 < (one == other).mean() < 0.6
    assert 0.4 < (one == elsewhere).mean() < 0.6


def test_a_stable_id_keeps_its_arm_in_every_cell_and_on_every_rnti(make_plan, make_report):
    plan, ids = make_plan(), np.arange(1, 301)
    here = arms(plan, 2, make_report(1, np.arange(1, 301), ue_id=ids))
    there = arms(plan, 2, make_report(1, np.arange(5001, 5301), ue_id=ids, cell="other"))
    assert here.tolist() == there.tolist()


def test_without_one_the_next_ue_on_an_rnti_is_drawn_alike(make_plan, make_report):
    plan = make_plan()
    assert arms(plan, 2, make_report(1, [7, 8])).tolist() == arms(plan, 2, make_report(9, [7, 8])).tolist()


def test_cells_out_of_scope_and_withdrawn_challengers_are_the_champions(make_plan, make_report):
    plan, report = make_plan(scope={"cells": ["other"]}), make_report(1, np.arange(1, 200))
    assert not arms(plan, 2, report).any()
    assert arms(plan, 2, replace(report, cell_id="other")).any()
    assert set(arms(make_plan(), 2, report, withdrawn=["new"]).tolist()) == {0, 1}


def test_a_cell_is_in_one_arm_as_a_whole(make_plan, make_report):
    plan = make_plan(unit="cell")
    seen = {cell: set(arms(plan, 2, make_report(1, [1, 2, 3], cell=cell)).tolist()) for cell in map(str, range(60))}
    assert all(len(found) == 1 for found in seen.values())
    assert {min(found) for found in seen.values()} == {1, 2}


def test_a_switchback_gives_each_cell_both_arms_in_every_pair_of_periods_in_random_order(make_plan, make_report):
    plan = make_plan(unit="cell", switchback_intervals=4, settle_intervals=1)
    orders = set()
    for cell in map(str, range(20)):
        for pair in range(10):
            periods = (2 * pair, 2 * pair + 1)
            both = [int(arms(plan, 2, make_report(1, [1], cell=cell), period=period)[0]) for period in periods]
            assert sorted(both) == [1, 2]
            orders.add(tuple(both))
    assert orders == {(1, 2), (2, 1)}

"""Rollouts offline: the plans that ship end as they say, runs repeat, and the studies count what they say."""

import numpy as np
import pytest

from distila.replay.du_config import DuConfig
from distila.replay.rollouts.kpi_library import KpiLibrary, gaussian_library, record_library
from distila.replay.rollouts.population import Effect, Population, planned_exposure, simulate
from distila.replay.rollouts.simulation import SIMULATION_PLANS, simulate_rollout
from distila.replay.rollouts.studies import aa_study, clopper_pearson, power_study
from distila.replay.trace import ChannelTrace, bundled_trace
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.rollout.audit import replayed
from distila.xapp.rollout.kpi import SUMS
from distila.xapp.rollout.plan import load_plan

NEAR_RT = DuConfig(period_slots=20, decision_delay_slots=8)
QUIET = lambda done, total: None  # noqa: E731


@pytest.fixture(scope="module")
def trace():
    return ChannelTrace.load(bundled_trace())


@pytest.fixture(scope="module")
def library(trace):
    return record_library(trace, load_bundle("olla"), NEAR_RT, interval_slots=500, passes=1, seed=1)


def run(name, trace, **given):
    return simulate_rollout(
        load_plan(name, SIMULATION_PLANS), trace, NEAR_RT, **{"ues": 300, "interval_slots": 500, "seed": 1, **given}
    )


@pytest.mark.slow
def test_a_challenger_with_more_goodput_is_promoted(trace):
    result = run("healthy", trace)
    assert (result.status.status, result.status.promoted) == ("promoted", "olla")
    assert [one.what for _, one in result.transitions] == ["start", "advance", "advance", "advance", "promote"]
    assert all(one.recorded == one.now for one in replayed(result.entries))


@pytest.mark.slow
def test_the_student_is_held_because_the_guard_takes_decisions_away_from_it(trace):
    """It lets so many first transmissions fail that the guard's breaker trips: more goodput, but control failures."""
    result = run("student", trace)
    assert (result.status.status, result.status.promoted) == ("held", None)
    assert [one.what for _, one in result.transitions] == ["start", "advance", "advance", "advance", "hold"]
    findings = {one.metric: one.state for one in result.entries[-1].evaluation.verdict.findings}
    assert findings["goodput_per_prb"] == "gain"
    assert findings["control_failures"] == "open"


@pytest.mark.slow
def test_the_harmful_challenger_is_rolled_back_and_sends_nothing_more(trace):
    result = run("harmful", trace)
    assert (result.status.status, result.status.withdrawn) == ("rolled_back", ["greedy"])
    assert result.after_rollback == 0
    assert result.status.stage_name in ("five", "fifth")
    again = run("harmful", trace)

    def verdicts(one):
        return [entry.evaluation for entry in one.entries]

    assert verdicts(again) == verdicts(result), "a run repeats exactly"


@pytest.mark.slow
def test_the_twin_is_held(trace):
    assert run("aa", trace).status.status == "held"


def test_settings_that_cannot_be_simulated_are_named(trace, make_plan):
    with pytest.raises(InputError, match="6000 slots, fewer than an interval of 9000"):
        run("aa", trace, interval_slots=9000)
    with pytest.raises(InputError, match="distila ships aa, harmful, healthy, challenger, student"):
        load_plan("nothing", SIMULATION_PLANS)
    with pytest.raises(InputError, match="champion is a bundle"):
        simulate_rollout(
            make_plan(champion={"name": "c", "policy": "native"}), trace, NEAR_RT, ues=10, interval_slots=500, seed=1
        )


def test_a_library_keeps_the_kpis_of_each_ue(library):
    assert library.num_ues == 64
    assert set(library.length.tolist()) == {10}, "of twelve intervals the first is left out, and the last is not over"
    bler = library.values[:, SUMS.index("first_failed")].sum() / library.values[:, SUMS.index("first_tx")].sum()
    assert bler == pytest.approx(0.14, abs=0.02)
    row = library.rows(np.array([3]), np.array([12]))
    assert row.tolist() == library.values[3 * 10 + 2][None].tolist(), "round and round"
    both = KpiLibrary.join([library, library])
    assert both.rows(np.array([67]), np.array([2])).tolist() == row.tolist()


def test_gaussian_kpis_have_the_same_means_and_no_memory(library):
    drawn = gaussian_library(library, np.random.default_rng(1))
    bits = SUMS.index("bits")
    assert drawn.values[:, bits].mean() == pytest.approx(library.values[:, bits].mean(), rel=0.02)


def test_an_effect_does_what_it_says(library):
    rng = np.random.default_rng(1)
    values = library.values.copy()
    Effect(goodput=0.95, bler=2.0).apply(values, rng)
    total, before = values.sum(axis=0), library.values.sum(axis=0)
    assert total[SUMS.index("bits")] / before[SUMS.index("bits")] == pytest.approx(0.95)
    assert total[SUMS.index("first_failed")] / before[SUMS.index("first_failed")] == pytest.approx(2, abs=0.02)
    assert (values[:, SUMS.index("first_failed")] <= values[:, SUMS.index("first_tx")]).all()


def test_exact_intervals_of_shares():
    assert clopper_pearson(0, 100) == pytest.approx((0, 0.03622), abs=1e-4)
    assert clopper_pearson(5, 100) == pytest.approx((0.01643, 0.11284), abs=1e-4)
    assert clopper_pearson(100, 100) == pytest.approx((0.96378, 1), abs=1e-4)


@pytest.mark.slow
def test_the_studies_count_what_they_say_and_repeat(library):
    plan, population = load_plan("challenger"), Population(library, 500)
    found = aa_study(plan, population, 12, 1, 1, QUIET)
    assert found == aa_study(plan, population, 12, 1, 2, QUIET), "whatever the number of processes"
    assert found.runs == 12
    assert found.false_alarms == found.rolled_back + found.promoted <= 1
    power = power_study(plan, population, 6, 1, 1, QUIET)
    assert (power.harmful_runs, power.rolled_back, power.good_runs) == (12, 12, 6)
    assert power.promoted >= 5
    assert 0 < power.median_exposure_pct < 10


def test_planned_exposure_is_that_of_the_whole_way(library):
    plan = load_plan("challenger")
    assert planned_exposure(plan, 1000) == 50 * 5 + 200 * 8 + 500 * 60
    outcome = simulate(plan, Population(library, 300), Effect(), np.random.default_rng(1))
    assert outcome.state.status in ("held", "promoted", "rolled_back")
    assert outcome.exposure == pytest.approx(planned_exposure(plan, 300), rel=0.1)

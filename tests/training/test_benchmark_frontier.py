"""Gain at equal BLER: between OLLA's targets by straight lines, beyond them against the nearest, never extrapolated."""

import numpy as np
import pytest
from benchmark_episodes import an_episode

from distila.training.benchmark.comparison import TEXTBOOK, Compared, columns_at
from distila.training.benchmark.frontier import EQUAL_WITHIN, Frontier, gain_kind, interpolated
from distila.training.benchmark.policies import parse_policy
from distila.training.sim.scenario import families
from distila.xapp.result_file import Estimate

LINKS = 40


def run_of(goodput, bler, blocks=1000.0, spread=None):
    """A run whose links have this goodput on average, and this share of NACKs."""
    nack = np.full(LINKS, blocks * bler)
    return [
        an_episode(goodput * (np.ones(LINKS) if spread is None else spread), first_ack=blocks - nack, first_nack=nack)
    ]


def frontier(*points, **given):
    runs = [run_of(goodput, bler, **given) for bler, goodput in points]
    return Frontier(runs, np.ones(LINKS, np.bool_), (0, 1))


OLLA = ((0.01, 2.0), (0.10, 3.0), (0.30, 3.5))


# --- the reference ---


def test_between_two_targets_the_reference_is_on_the_straight_line():
    bler, goodput = np.array([[0.01, 0.10, 0.30]] * 4), np.array([[2.0, 3.0, 3.5]] * 4)
    found = interpolated(bler, goodput, np.array([0.01, 0.055, 0.10, 0.20]))
    assert found == pytest.approx([2.0, 2.5, 3.0, 3.25])


def test_beyond_the_targets_the_reference_is_the_nearest_one():
    bler, goodput = np.array([[0.01, 0.10, 0.30]] * 2), np.array([[2.0, 3.0, 3.5]] * 2)
    assert interpolated(bler, goodput, np.array([0.001, 0.9])) == pytest.approx([2.0, 3.5])


def test_a_target_without_a_bler_is_no_point_and_without_points_there_is_no_reference():
    bler = np.array([[0.10, 0.30, np.nan], [np.nan] * 3])
    goodput = np.array([[3.0, 3.5, 9.0], [3.0, 3.5, 9.0]])
    found = interpolated(bler, goodput, np.array([0.5, 0.1]))
    assert found[0] == 3.5
    assert np.isnan(found[1])


def test_two_targets_that_reach_the_same_bler_do_not_divide_by_zero():
    found = interpolated(np.array([[0.1, 0.1, 0.2]]), np.array([[2.0, 3.0, 4.0]]), np.array([0.1]))
    assert 2.0 <= found[0] <= 3.0


def test_one_target_is_a_frontier_too():
    gain, _ = frontier((0.10, 3.0)).gain(run_of(3.3, 0.10))
    assert gain.mean == pytest.approx(10)
    assert (gain.kind, gain.beyond_targets, gain.reference_bler) == ("better", False, 0.1)


# --- the gain ---


def test_olla_gains_nothing_over_its_own_frontier():
    for bler, goodput in OLLA:
        gain, _ = frontier(*OLLA).gain(run_of(goodput, bler))
        assert gain.mean == pytest.approx(0)
        assert (gain.kind, gain.beyond_targets) == ("no_difference", False)


def test_the_gain_is_over_the_frontier_at_the_policys_bler():
    gain, _ = frontier(*OLLA).gain(run_of(3.25 * 1.04, 0.20))
    assert gain.mean == pytest.approx(4)
    assert (gain.kind, gain.beyond_targets, gain.reference_bler) == ("better", False, 0.2)
    assert gain.bler_vs_reference.mean == 0


def test_a_gain_at_a_bler_that_no_target_comes_to_is_bought():
    gain, _ = frontier(*OLLA).gain(run_of(4.2, 0.60))
    assert gain.mean == pytest.approx(20), "against the target of 30 %, not against a line that goes on"
    assert (gain.kind, gain.beyond_targets, gain.reference_bler) == ("bought_with_bler", True, 0.3)
    assert gain.bler_vs_reference.mean == pytest.approx(0.3)


def test_less_goodput_at_a_higher_bler_is_just_less():
    gain, _ = frontier(*OLLA).gain(run_of(3.0, 0.60))
    assert (gain.kind, gain.beyond_targets) == ("worse", True)


def test_a_gain_below_the_lowest_target_is_a_gain():
    gain, _ = frontier(*OLLA).gain(run_of(2.2, 0.001))
    assert gain.mean == pytest.approx(10)
    assert (gain.kind, gain.beyond_targets, gain.reference_bler) == ("better", True, 0.01)


@pytest.mark.parametrize(("bler", "beyond"), [(0.30 * (1 + EQUAL_WITHIN) - 1e-3, False), (0.35, True)])
def test_blers_within_a_tenth_of_each_other_are_equal(bler, beyond):
    gain, _ = frontier(*OLLA).gain(run_of(3.6, bler))
    assert gain.beyond_targets is beyond
    assert gain.kind == ("bought_with_bler" if beyond else "better")


@pytest.mark.parametrize(
    ("bler", "coarse"),
    [
        (0.01, False),  # OLLA's own points
        (0.0105, False),
        (0.02, True),
        (0.10, False),
        (0.15, True),
        (0.30, False),
        (0.50, False),  # beyond them there is no line
        (0.001, False),
    ],
)
def test_a_line_between_far_points_is_a_coarse_reference(bler, coarse):
    assert frontier(*OLLA).gain(run_of(3.0, bler))[0].coarse_reference is coarse


def test_between_near_points_the_reference_is_not_coarse():
    near = frontier((0.05, 2.8), (0.10, 3.0), (0.20, 3.3))
    assert not any(near.gain(run_of(3.0, bler))[0].coarse_reference for bler in (0.07, 0.15))


def test_the_textbooks_olla_is_a_point_of_the_frontier_whatever_the_targets():
    reached = {0.05: (2.9, 0.05), 0.10: (3.2, 0.10), 0.20: (3.1, 0.20), None: (3.2, 0.10)}
    compared = Compared.of([parse_policy("olla"), parse_policy("illa")], (0.05, 0.20), globally_tuned=False)
    scenarios = [families()[name] for name in ("no_harq", "qam256")]
    at_targets, _ = compared.results(scenarios, lambda _, spec: run_of(*reached[spec.target_bler]))
    for comparison in at_targets.values():
        for family in comparison.families.values():
            gain = family.policies[TEXTBOOK].equal_bler_gain
            assert (gain.mean, gain.ci95, gain.kind) == (0, (0, 0), "no_difference")
            assert gain.coarse_reference is False
            assert family.policies["illa"].equal_bler_gain.mean == 0, "at 10 % the reference is OLLA at 10 %"


def test_the_order_in_which_targets_are_given_does_not_matter():
    policy = run_of(3.4, 0.15)
    assert frontier(*OLLA).gain(policy)[0] == frontier(*reversed(OLLA)).gain(policy)[0]


def test_the_interval_is_paired():
    spread = np.random.default_rng(1).uniform(0.1, 5, LINKS)
    gain, resamples = frontier(*OLLA, spread=spread).gain(run_of(3.3, 0.10, spread=spread))
    assert gain.ci95 == pytest.approx((10, 10)), "what links have in common cancels out"
    assert resamples == pytest.approx(np.full(len(resamples), 10))


def test_where_nothing_was_decided_nothing_can_be_said():
    gain, resamples = frontier(*OLLA).gain(run_of(3.0, 0.1, blocks=0.0))
    assert (gain.mean, gain.ci95, gain.kind, gain.beyond_targets) == (None, (None, None), "nothing_decided", False)
    assert np.isnan(resamples).all()
    gain, _ = frontier((0.1, 3.0), blocks=0.0).gain(run_of(3.0, 0.1))
    assert (gain.mean, gain.reference_bler, gain.kind) == (None, None, "nothing_decided")


def estimate(mean, half=0.1):
    return Estimate(mean=mean, ci95=(mean - half, mean + half))


@pytest.mark.parametrize(
    ("gain", "excess", "kind"),
    [
        (5.0, 0.0, "better"),
        (5.0, 0.05, "bought_with_bler"),
        (5.0, 0.009, "better"),
        (5.0, -0.05, "better"),
        (0.05, 0.05, "no_difference"),
        (-5.0, 0.05, "worse"),
    ],
)
def test_only_a_significant_gain_at_a_higher_bler_is_bought(gain, excess, kind):
    assert gain_kind(estimate(gain), estimate(excess, 0.001), 0.1) == kind


def test_an_excess_of_bler_that_may_be_chance_buys_nothing():
    assert gain_kind(estimate(5.0), estimate(0.05, half=0.06), 0.1) == "better"


# --- what is compared ---


def names_and_targets(columns):
    return {name: spec.target_bler for name, spec in columns.items()}


def test_at_a_target_all_that_take_one_have_it_and_the_textbooks_olla_keeps_its_own():
    policies = [parse_policy(name) for name in ("salad", "illa", "genie", "thompson@20%")]
    assert names_and_targets(columns_at(policies, 0.05, textbook=True)) == {
        "olla": 0.05,
        "olla@10%": 0.1,
        "salad": 0.05,
        "illa": None,
        "genie": None,
        "thompson@20%": 0.2,
    }


def test_without_a_target_all_have_the_settings_that_are_best_for_goodput():
    policies = [parse_policy(name) for name in ("olla", "salad")]
    assert names_and_targets(columns_at(policies, None, textbook=True)) == {
        "olla": None,
        "olla@10%": 0.1,
        "salad": None,
    }
    assert list(columns_at(policies, None, textbook=False)) == ["olla", "salad"]


def test_nothing_runs_twice():
    policies = [parse_policy(name) for name in ("olla", "salad", "illa", TEXTBOOK)]
    compared = Compared.of(policies, (0.3, 0.1), globally_tuned=True)
    assert list(compared.at_targets) == [0.1, 0.3]
    runs = sorted((spec.name, spec.target_bler or 0) for spec in compared.specs)
    assert runs == [
        ("illa", 0),
        ("olla", 0),
        ("olla", 0.1),
        ("olla", 0.3),
        ("salad", 0),
        ("salad", 0.1),
        ("salad", 0.3),
    ]

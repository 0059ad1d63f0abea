"""Mean gains over families: which families, what mean, and an interval of families that know nothing of each other."""

import numpy as np
import pytest

from distila.training.benchmark.averages import FIVE, average_gains, distinct, family_groups
from distila.training.benchmark.results import GroupAverages
from distila.training.benchmark.view import BenchmarkView
from distila.training.sim.scenario import families
from distila.xapp.result_file import Estimate


@pytest.fixture
def a_view(policy_figures, family_results, benchmark_results):
    """Families with gains by policy, [%]."""

    def made(gains, unseen=(), slow=(), drawn=()):
        families = {}
        for name, policies in gains.items():
            figures = {
                policy: policy_figures(base=policy, gain_vs_olla_pct={"mean": mean, "ci95": [mean, mean]})
                for policy, mean in policies.items()
            }
            period_ms = None if name in drawn else 20.0 if name in slow else 0.5
            families[name] = family_results(figures, unseen=name in unseen, e2_period_ms=period_ms)
        return BenchmarkView.globally_tuned(benchmark_results(families))

    return made


def one_policy(*names):
    return {name: {"mine": 1.0} for name in names}


def test_the_five_are_families_that_ship():
    assert tuple(families())[:5] == FIVE
    assert not any(families()[name].unseen for name in FIVE)


def test_groups_have_one_pace_of_e2_and_are_seen_or_unseen(a_view):
    names = ["a", "b", "c", "d", "e", "f", "g", "h"]
    bench = a_view(one_policy(*names), unseen=("e", "f", "h"), slow=("c", "d", "h"))
    assert family_groups(bench) == {
        "seen_real_time": ("a", "b", "g"),
        "unseen_real_time": ("e", "f"),
        "seen_slow": ("c", "d"),
    }


def test_the_five_are_a_group_where_all_are_there(a_view):
    shuffled = ["more", *reversed(FIVE)]
    assert family_groups(a_view(one_policy(*shuffled)))["five"] == FIVE
    assert "five" not in family_groups(a_view(one_policy(*shuffled[:-1])))


def test_one_family_is_no_group_and_what_varies_is_one_of_its_own(a_view):
    assert family_groups(a_view(one_policy("a"))) == {}
    assert family_groups(a_view(one_policy("a", "b", "c"), drawn=("b", "c"))) == {"seen_mixed": ("b", "c")}


def test_all_that_ships_makes_four_groups(a_view):
    period = {name: scenario.e2.period_slots.values[0] for name, scenario in families().items()}
    bench = a_view(
        one_policy(*families()),
        unseen=[name for name, scenario in families().items() if scenario.unseen],
        slow=[name for name in period if period[name] > 2],
    )
    sizes = {group: len(names) for group, names in family_groups(bench).items()}
    assert sizes == {"five": 5, "seen_real_time": 13, "seen_slow": 3, "unseen_real_time": 6}


def test_the_mean_is_plain_and_the_interval_that_of_independent_families(a_view):
    rng = np.random.default_rng(1)
    bench = a_view({"a": {"mine": 2.0}, "b": {"mine": 8.0}})
    resamples = {"a": {"mine": rng.normal(2, 1, 4000)}, "b": {"mine": rng.normal(8, 3, 4000)}}
    found = average_gains(bench, resamples)["seen_real_time"]
    assert found.families == ("a", "b")
    assert found.policies["mine"].mean == 5
    half_width = 1.96 * np.hypot(1, 3) / 2
    assert found.policies["mine"].ci95 == pytest.approx([5 - half_width, 5 + half_width], abs=0.15)


def test_a_figure_that_is_unknown_in_one_case_has_no_mean(a_view):
    bench = a_view({"a": {"olla": 0.0, "mine": 2.0}, "b": {"olla": 0.0, "mine": None}})
    resamples = {name: {"olla": np.zeros(9), "mine": np.full(9, np.nan)} for name in "ab"}
    found = average_gains(bench, resamples)["seen_real_time"].policies
    assert found == {"olla": Estimate(mean=0, ci95=(0, 0)), "mine": Estimate(mean=None, ci95=(None, None))}


def test_families_in_which_a_policy_decided_nothing_are_left_out(policy_figures, family_results, benchmark_results):
    # In b and c the gain is that of the DU's OLLA.
    made = {"a": (8.0, 1.0, 0.4), "b": (0.1, 0.0, 0.2), "c": (0.1, 0.0, 0.2)}
    families = {
        name: family_results(
            {
                policy: policy_figures(
                    gain_vs_olla_pct={"mean": gain, "ci95": [gain, gain]}, decided_share=share, first_tx_bler=bler
                )
                for policy, share in (("mine", decided), ("never", 0.0))
            }
        )
        for name, (gain, decided, bler) in made.items()
    }
    resamples = {name: dict.fromkeys(("mine", "never"), np.full(9, gain)) for name, (gain, _, _) in made.items()}
    found = average_gains(BenchmarkView.globally_tuned(benchmark_results(families)), resamples)["seen_real_time"]
    assert found.policies["mine"] == Estimate(mean=8, ci95=(8, 8))
    assert (found.figures["mine"].decided_in, found.figures["mine"].first_tx_bler) == (1, 0.4)
    assert found.policies["never"] == Estimate(mean=None, ci95=(None, None))
    assert (found.figures["never"].decided_in, found.figures["never"].first_tx_bler) == (0, None)


def test_a_resample_without_a_gain_is_left_out(a_view):
    bench = a_view({"a": {"mine": 2.0}, "b": {"mine": 4.0}})
    resamples = {"a": {"mine": np.array([2.0, np.nan, 2.0])}, "b": {"mine": np.array([4.0, 9.0, 4.0])}}
    assert average_gains(bench, resamples)["seen_real_time"].policies["mine"] == Estimate(mean=3, ci95=(3, 3))


def test_the_same_families_are_shown_once():
    names = {"five": ("a", "b"), "seen_real_time": ("b", "a"), "seen_slow": ("c", "d")}
    averages = {group: GroupAverages(families=families, policies={}) for group, families in names.items()}
    assert list(distinct(averages)) == ["five", "seen_slow"]

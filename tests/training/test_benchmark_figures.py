"""Figures of a benchmark: gains are paired and clustered, and what is undefined is null."""

from dataclasses import replace

import numpy as np
import pytest
from benchmark_episodes import an_episode

from distila.training.benchmark.figures import gain_resamples, policy_figures, used_links, with_genie_share
from distila.training.benchmark.policies import parse_policy
from distila.xapp.result_file import Estimate

UNDEFINED = Estimate(mean=None, ci95=(None, None))


def figures_of(policies, references):
    used = used_links([policies, references])
    return policy_figures(parse_policy("illa:default"), "embb", policies, references, used, 0)


def figures(policy, reference):
    return figures_of([policy], [reference])


def gain(policy, reference):
    found = figures(policy, reference).gain_vs_olla_pct
    return found.mean, *found.ci95


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    reference = rng.uniform(1, 5, 60)
    return an_episode(reference * rng.uniform(0.9, 1.3, 60)), an_episode(reference)


# --- gain ---


def test_the_gain_is_that_of_the_mean_over_links():
    mean, low, high = gain(an_episode([1.2, 2.0, 3.4]), an_episode([1.0, 2.0, 3.0]))
    assert mean == pytest.approx(100 * (6.6 / 6.0 - 1), abs=1e-3)
    assert low <= mean <= high


def test_a_policy_against_itself_gains_exactly_nothing(noisy):
    assert gain(noisy[0], noisy[0]) == (0, 0, 0)


def test_the_interval_holds_the_gain_and_not_everything(noisy):
    mean, low, high = gain(*noisy)
    assert mean == pytest.approx(100 * (noisy[0].goodput.mean() / noisy[1].goodput.mean() - 1), abs=1e-3)
    assert 0 < low < mean < high < 20


def test_the_same_results_have_the_same_interval(noisy):
    assert gain(*noisy) == gain(*noisy)


def test_links_that_share_fading_do_not_count_as_independent():
    rng = np.random.default_rng(2)
    rows = np.repeat(np.arange(12), 8)
    ratio = rng.uniform(0.8, 1.4, 12)[rows]  # what a UE's fading does to all its links
    alone = an_episode(ratio), an_episode(np.ones(96))
    together = tuple(replace(episode, fading_row=rows.astype(np.float64)) for episode in alone)
    _, low, high = gain(*alone)
    _, clustered_low, clustered_high = gain(*together)
    assert gain(*alone)[0] == gain(*together)[0]
    assert clustered_high - clustered_low > 2 * (high - low)


def test_rows_of_two_seeds_are_different_ues():
    rng = np.random.default_rng(3)
    ours, theirs = rng.uniform(1, 2, (2, 20)), rng.uniform(1, 2, (2, 20))
    one_by_one = figures_of([an_episode(x) for x in ours], [an_episode(x) for x in theirs])
    at_once = figures_of([an_episode(ours.ravel())], [an_episode(theirs.ravel())])
    assert one_by_one.gain_vs_olla_pct == at_once.gain_vs_olla_pct


def test_links_with_nothing_to_send_count_nowhere(noisy):
    idle = [
        an_episode(np.append(e.goodput, 0), np.append(e.resource, 0), mean_mcs=np.append(e.mean_mcs, np.nan))
        for e in noisy
    ]
    assert figures(*idle) == figures(*noisy)


def test_a_link_that_sends_in_vain_counts_as_nothing_delivered():
    reference, policy = an_episode([1, 2, 3, 0]), an_episode([1, 2, 3, 0.2])
    assert figures(reference, reference).goodput == 1.5
    assert figures(policy, reference).goodput == 1.55
    assert gain(policy, reference)[0] == pytest.approx(100 * (6.2 / 6 - 1), abs=1e-3)


def test_who_is_done_before_the_warm_ups_end_is_not_punished():
    reference, policy = an_episode([2, 2, 2]), an_episode([2, 2, 0], resource=[1e4, 1e4, 0])
    assert figures(policy, reference).goodput == 2
    assert gain(policy, reference)[0] == 0


def test_gains_by_speed_need_enough_links():
    speed = np.concatenate([np.full(7, 5.0), np.full(9, 40.0), np.full(8, 120.0)])
    reference = an_episode(np.full(24, 2.0), speed_kmh=speed)
    policy = an_episode(np.where(speed > 100, 3.0, 2.2), speed_kmh=speed)
    found = figures(policy, reference).gain_by_speed
    assert [(entry.speed_kmh, entry.links) for entry in found] == [((30, 60), 9), ((120, 500), 8)]
    assert [entry.mean for entry in found] == [10, 50]


def test_resamples_are_those_of_the_interval_and_each_familys_own(noisy):
    used = used_links([[noisy[0]], [noisy[1]]])
    one, same, other = (gain_resamples([noisy[0]], [noisy[1]], used, seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert np.array_equal(one, same)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    _, low, high = gain(*noisy)
    assert np.percentile(one, [2.5, 97.5]) == pytest.approx([low, high], abs=0.3)


# --- residual BLER ---


def residual(policy, reference):
    found = figures(policy, reference).residual_vs_olla
    return found.mean, *found.ci95


def test_the_difference_is_that_of_the_residual_blers():
    ours = an_episode(np.ones(4), residual=np.array([3.0, 0, 1, 0]))
    theirs = an_episode(np.ones(4), first_ack=np.full(4, 80.0), first_dtx=np.full(4, 10.0), residual=np.zeros(4) + 2)
    found = figures(ours, theirs)
    assert found.residual_bler == 0.01
    assert residual(ours, theirs)[0] == pytest.approx(4 / 400 - 8 / 400)
    assert residual(theirs, ours)[0] == pytest.approx(-residual(ours, theirs)[0])


def test_against_itself_there_is_exactly_no_difference():
    policy = an_episode(np.ones(30), residual=np.random.default_rng(4).poisson(1, 30))
    assert residual(policy, policy) == (0, 0, 0)


def test_the_interval_is_paired():
    rng = np.random.default_rng(5)
    fate = rng.poisson(2, 80)  # of the link, whoever decides
    ours, theirs = an_episode(np.ones(80), residual=fate + 0.5), an_episode(np.ones(80), residual=fate + 0.0)
    mean, low, high = residual(ours, theirs)
    assert low <= mean <= high
    assert (low, mean, high) == pytest.approx((0.005, 0.005, 0.005))


def test_a_few_lost_blocks_are_not_significant_and_many_are():
    few, many, none = (an_episode(np.ones(80), residual=np.arange(80) < count) for count in (2, 20, 0))
    assert residual(few, none)[1] == 0 < residual(few, none)[0]
    assert residual(many, none)[1] > 0
    assert residual(none, many)[2] < 0


def test_blocks_of_links_that_share_fading_do_not_count_as_independent():
    bad = np.repeat(np.arange(12) < 4, 8).astype(np.float64)
    clean = np.zeros(96)
    alone = residual(an_episode(np.ones(96), residual=bad), an_episode(np.ones(96), residual=clean))
    rows = np.repeat(np.arange(12), 8)
    together = residual(
        an_episode(np.ones(96), rows=rows, residual=bad), an_episode(np.ones(96), rows=rows, residual=clean)
    )
    assert together[0] == alone[0]
    assert together[2] - together[1] > 2 * (alone[2] - alone[1])


def test_links_that_sent_nothing_lose_nothing():
    blank = np.zeros(3)
    nothing = an_episode(blank, 0, first_ack=blank, first_nack=blank, mean_mcs=blank + np.nan)
    assert figures(nothing, nothing).residual_vs_olla == UNDEFINED
    one_idle = an_episode([1.0, 1, 0], first_ack=np.array([90.0, 90, 0]), first_nack=np.array([10.0, 10, 0]))
    assert residual(one_idle, one_idle) == (0, 0, 0)


# --- other figures ---


def test_a_nack_is_an_error_and_a_missed_grant_is_not():
    blank = np.zeros(4)
    policy = an_episode(
        np.ones(4), first_ack=blank + 70, first_nack=blank + 10, first_dtx=blank + 20, residual=blank + 1
    )
    found = figures(policy, policy)
    assert found.first_tx_bler == 0.125
    assert found.residual_bler == 0.01


def test_goodput_has_its_mean_its_worst_links_and_its_distribution():
    found = figures(an_episode(np.arange(101.0)), an_episode(np.ones(101)))
    assert (found.goodput, found.goodput_p5) == (50, 5)
    assert found.goodput_percentiles == tuple(range(0, 101, 5))


def test_delays_of_files_are_of_all_links_and_seeds():
    delays = [np.arange(1.0, 51), np.arange(51.0, 102)]
    episodes = [an_episode([1.0], file_delay_ms=delay) for delay in delays]
    found = figures_of(episodes, episodes).file_delay_ms
    assert found.model_dump() == {"p50": 51, "p95": 96, "p99": 100, "files": 101}


def test_block_delays_are_of_the_blocks_of_all_seeds():
    fast, slow = (
        an_episode([1.0], block_delay_ms=np.array(ms), delayed_blocks=np.array(blocks))
        for ms, blocks in (([0.5], [90.0]), ([4.5, 44.5], [8.0, 2.0]))
    )
    found = figures_of([fast, slow], [fast, slow]).block_delay_ms
    assert (found.p50, found.p95, found.p99) == (0.5, 4.5, 44.5)


def test_a_delay_of_blocks_that_are_never_delivered_is_null():
    lost = an_episode([1.0], block_delay_ms=np.array([0.5, np.inf]), delayed_blocks=np.array([97.0, 3.0]))
    found = figures_of([lost], [lost]).block_delay_ms
    assert (found.p50, found.p95, found.p99) == (0.5, 0.5, None)


def test_retransmissions_and_stalled_slots_are_shares():
    again = {"retransmissions": np.array([25.0]), "slots": 200, "stalled_slots": 30}
    found = figures(an_episode([1.0], **again), an_episode([1.0]))
    assert (found.transmissions_per_block, found.retransmission_share, found.stalled_slot_share) == (1.25, 0.2, 0.15)


def test_a_bler_above_the_references_is_a_difference_and_buys_the_gain():
    more = an_episode(np.full(40, 2.2), first_ack=np.full(40, 70.0), first_nack=np.full(40, 30.0))
    found = figures(more, an_episode(np.full(40, 2.0)))
    assert (found.gain_vs_olla_pct.mean, found.bler_vs_olla.mean, found.gain_kind) == (10, 0.2, "bought_with_bler")
    assert figures(an_episode(np.full(40, 2.2)), an_episode(np.full(40, 2.0))).gain_kind == "better"


def test_time_is_summed_over_seeds():
    assert figures_of([an_episode([1.0])] * 3, [an_episode([1.0])] * 3).elapsed_s == 3.75


# --- the genie ---


@pytest.fixture
def shares(noisy):
    """Share of the genie's gain of policies with this goodput and base."""

    def of(**policies):
        blank = figures(*noisy)
        given = {
            name: blank.model_copy(update={"goodput": goodput, "base": base})
            for name, (goodput, base) in policies.items()
        }
        return {name: found.genie_share_pct for name, found in with_genie_share(given).items()}

    return of


def test_the_share_is_how_far_a_policy_gets_from_olla_to_the_genie(shares):
    found = shares(olla=(2.0, "olla"), mine=(2.3, "x"), worse=(1.5, "illa"), genie=(3.0, "genie"))
    assert found == {"olla": 0, "mine": 30, "worse": -50, "genie": 100}


def test_without_a_genie_or_where_it_is_no_better_there_is_no_share(shares):
    assert shares(olla=(2.0, "olla"), mine=(2.3, "x")) == {"olla": None, "mine": None}
    assert set(shares(olla=(2.0, "olla"), genie=(2.0, "genie")).values()) == {None}
    assert set(shares(olla=(None, "olla"), genie=(None, "genie")).values()) == {None}
    found = shares(olla=(2.0, "olla"), mine=(None, "x"), genie=(3.0, "genie"))
    assert found == {"olla": 0, "mine": None, "genie": 100}


# --- what is undefined ---


def test_where_nothing_was_sent_everything_is_null():
    blank = np.zeros(3)
    nothing_delivered = {"block_delay_ms": np.empty(0), "delayed_blocks": np.empty(0), "slots": 0}
    idle = an_episode(blank, 0, first_ack=blank, first_nack=blank, mean_mcs=blank + np.nan, **nothing_delivered)
    found = figures(idle, idle)
    undefined = {name for name, value in found.model_dump().items() if value is None}
    nothing = {"goodput", "goodput_p5", "first_tx_bler", "residual_bler", "mean_mcs", "file_delay_ms"}
    nothing |= {"transmissions_per_block", "retransmission_share", "stalled_slot_share", "block_delay_ms"}
    assert undefined == nothing | {"genie_share_pct", "equal_bler_gain", "target_bler", "undecided_because"}
    assert found.gain_vs_olla_pct == found.bler_vs_olla == UNDEFINED
    assert found.gain_kind == "nothing_decided"
    assert found.goodput_percentiles == found.gain_by_speed == ()


def test_against_nothing_no_gain_is_defined():
    found = figures(an_episode([1.0, 2.0]), an_episode([0.0, 0.0]))
    assert found.gain_vs_olla_pct == UNDEFINED


def test_figures_say_which_policy_they_are_of(noisy):
    used = used_links([[noisy[0]], [noisy[1]]])
    found = policy_figures(parse_policy("salad@xapp"), "embb", [noisy[0]], [noisy[1]], used, 0)
    assert (found.base, found.seat) == ("salad", "xapp")
    assert found.settings == parse_policy("salad").settings("embb")

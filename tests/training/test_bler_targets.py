"""BLER targets in the simulator: tuned outer loops reach them on channels that stay, whatever the HARQ round trip."""

import pytest

pytest.importorskip("sionna")

from distila.training.baselines import tuned_settings
from distila.training.benchmark.episode import EpisodePlan, run_episode
from distila.training.benchmark.policies import PolicySpec
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.scenario import Scenario
from distila.training.sim.split import Split

SIZES = Sizes(links=16, duration_ms=1800, warmup_ms=500, bank_rows=16, bank_slots=1024)


def a_still_cell(harq_rtt_slots):
    return Scenario.model_validate(
        {
            "name": "still",
            "channels": [{"model": "TDL-A", "speed_kmh": 0.5}],
            "snr_db": {"uniform": [8, 16]},
            "link": {"harq_rtt_slots": harq_rtt_slots},
        }
    )


def reached(policy, target, harq_rtt_slots, cache):
    spec = PolicySpec.trial(policy, tuned_settings(policy, target=target))
    episode = run_episode(EpisodePlan(a_still_cell(harq_rtt_slots), spec, Split.TEST, 0, SIZES, cache))
    nack, ack = episode.first_nack.sum(), episode.first_ack.sum()
    return nack / (nack + ack)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("banks")


@pytest.mark.parametrize("rtt", [1, 4, 8, 16])
@pytest.mark.parametrize("target", [0.01, 0.05, 0.1, 0.2, 0.3])
def test_tuned_olla_reaches_every_target_within_a_point_at_every_round_trip(cache, target, rtt):
    assert reached("olla", target, rtt, cache) == pytest.approx(target, abs=min(0.01, target / 2))


@pytest.mark.parametrize("target", [0.01, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("policy", ["srsran-olla", "thompson"])
def test_other_outer_loops_reach_it_as_well(cache, policy, target):
    assert reached(policy, target, 16, cache) == pytest.approx(target, abs=min(0.01, target / 2))


@pytest.mark.parametrize("target", [0.01, 0.05, 0.1, 0.3])
def test_salad_reaches_it_within_a_point_at_a_short_round_trip_and_three_at_a_long_one(cache, target):
    assert reached("salad", target, 1, cache) == pytest.approx(target, abs=min(0.01, target / 2))
    assert reached("salad", target, 16, cache) == pytest.approx(target, abs=min(0.03, target))

"""The Gymnasium front of the simulator does what the docstring of `LinkAdaptationEnv` says."""

import math
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics

import distila.training  # noqa: F401  # registers
from distila.training.gym_env import DEFAULT_COLUMNS, LinkAdaptationEnv, LinkAdaptationVectorEnv
from distila.training.sim.conditions import Banks
from distila.training.sim.report import NONE
from distila.training.sim.scenario import Scenario
from distila.xapp.errors import InputError
from distila.xapp.kpi.observations import UNITS
from distila.xapp.nr.mcs import mcs_table
from distila.xapp.nr.tbs import num_re, transport_block_size_bits

ID = "distila/LinkAdaptation-v0"
WALK = {"model": "TDL-A", "speed_kmh": 3, "delay_spread_ns": 100}
DRIVE = WALK | {"speed_kmh": 100}


def scenario(snr_db=15, channels=(WALK,), **sections):
    return Scenario.model_validate({"name": "small", "channels": channels, "snr_db": snr_db, **sections})


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    return Banks(rows=4, slots=256, cache=tmp_path_factory.mktemp("banks"))


@pytest.fixture(scope="module")
def one(banks):
    def make(given=None, **arguments):
        return LinkAdaptationEnv(given or scenario(), **{"episode_slots": 100, "banks": banks} | arguments)

    return make


@pytest.fixture(scope="module")
def many(banks):
    def make(num_envs, given=None, **arguments):
        return LinkAdaptationVectorEnv(
            num_envs, given or scenario(), **{"episode_slots": 100, "banks": banks} | arguments
        )

    return make


def entry(env, observation, name):
    return observation[..., env.observation_names.index(name)]


def steps(env, actions, seed=1):
    """Everything that a run returns: the reset's pair, then the step's fives."""
    return [env.reset(seed=seed), *(env.step(action) for action in actions)]


def episode(env, policy, seed=1):
    """Observations, rewards and infos of the steps of one episode of a vector environment."""
    observation, info = env.reset(seed=seed)
    rows = []
    while not rows or not rows[-1][3].any():
        rows.append(env.step(policy(observation, info)))
        observation, info = rows[-1][0], rows[-1][4]
    return [row[0] for row in rows], np.array([row[1] for row in rows]), [row[4] for row in rows]


def constant(env, action):
    return lambda observation, info: np.full(env.num_envs, action)


class TestGymnasium:
    @pytest.mark.parametrize("action", ["mcs", "mcs_offset"])
    @pytest.mark.parametrize("reward", ["goodput", "goodput_bler"])
    def test_check_env_finds_nothing(self, banks, action, reward):
        arguments = {"action": action, "reward": reward, "episode_slots": 100, "banks": banks}
        check_env(gymnasium.make(ID, scenario=scenario(), **arguments).unwrapped)

    def test_make_and_make_vec_find_the_environments_by_id(self, banks):
        env = gymnasium.make(ID, scenario=scenario(), banks=banks)
        assert isinstance(env.unwrapped, LinkAdaptationEnv)
        assert env.reset(seed=1)[0] in env.observation_space
        for mode in (None, "vector_entry_point"):
            envs = gymnasium.make_vec(ID, num_envs=3, vectorization_mode=mode, scenario=scenario(), banks=banks)
            assert isinstance(envs.unwrapped, LinkAdaptationVectorEnv)
            assert envs.reset(seed=1)[0] in envs.observation_space
        sync = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", scenario=scenario(), banks=banks)
        assert sync.reset(seed=1)[0].shape == (2, *env.observation_space.shape)

    def test_registration_needs_neither_torch_nor_gymnasium(self):
        light = f"import distila.training, gymnasium; gymnasium.spec('{ID}'); assert 'torch' not in sys.modules"
        for line in (light, "sys.modules['gymnasium'] = None; import distila.training"):
            code = f"import sys; {line}; print('imported')"
            assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout == b"imported\n"

    def test_spaces_of_a_batch_are_those_of_a_link_batched(self, many):
        env = many(5, action="mcs_offset", max_offset=3)
        assert env.single_action_space.n == 7
        assert env.action_space.shape == (5,)
        assert env.observation_space.shape == (5, *env.single_observation_space.shape)
        assert len(env.observation_names) == env.single_observation_space.shape[0]
        assert np.isfinite(env.observation_space.low).all()
        assert np.isfinite(env.observation_space.high).all()

    def test_results_of_a_batch_have_one_row_per_link(self, many):
        env = many(5)
        env.action_space.seed(1)
        _, info = env.reset(seed=1)
        observation, reward, terminated, truncated, later = env.step(env.action_space.sample())
        assert observation.shape == env.observation_space.shape
        assert observation.dtype == np.float32
        assert reward.shape == terminated.shape == truncated.shape == (5,)
        assert terminated.dtype == truncated.dtype == np.bool_
        assert info.keys() == later.keys()
        assert {values.shape for values in later.values()} == {(5,)}

    def test_a_batch_of_one_is_the_scalar_environment(self, one, many):
        actions = np.random.default_rng(1).integers(0, 29, 30)
        for alone, batch in zip(steps(one(), actions), steps(many(1), actions[:, None]), strict=True):
            np.testing.assert_array_equal(alone[0], batch[0][0])
            assert list(alone[1:-1]) == [values[0] for values in batch[1:-1]]
            assert alone[-1] == {name: values[0] for name, values in batch[-1].items()}

    def test_wrappers_for_vector_environments_work(self, many):
        env = DictInfoToList(RecordEpisodeStatistics(many(3, episode_slots=20)))
        env.reset(seed=1)
        total = sum(env.step(np.full(3, 4))[1] for _ in range(19))
        _, reward, _, truncated, info = env.step(np.full(3, 4))
        assert truncated.all()
        assert [row["episode"]["l"] for row in info] == [20] * 3
        np.testing.assert_allclose([row["episode"]["r"] for row in info], total + reward, rtol=1e-5)
        assert all(row["slot"] == 20 for row in info)


class TestSeeds:
    def test_the_same_seed_and_actions_give_the_same_numbers(self, many):
        actions = np.random.default_rng(1).integers(0, 29, (150, 4))  # into the second episode
        first, again, other = (steps(many(4), actions, seed) for seed in (7, 7, 8))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_equal(a, b)
        assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))
        assert any((a[1] != b[1]).any() for a, b in zip(first[1:], other[1:], strict=True))

    def test_episodes_without_a_seed_follow_from_the_latest_one(self, one):
        env = one(scenario(snr_db={"uniform": [0, 30]}))
        snr = []
        for seed in (5, None, None, 5, None, None):
            env.reset(seed=seed)
            snr.append(float(env.simulator.conditions.snr_db))
        assert snr[:3] == snr[3:]
        assert len(set(snr[:3])) == 3

    def test_single_links_meet_all_channels_of_the_scenario(self, one):
        env = one(scenario(channels=(WALK, DRIVE)))
        speeds = []
        for seed in range(12):
            env.reset(seed=seed)
            speeds.append(float(env.simulator.conditions.speed_kmh))
        assert set(speeds) == {3.0, 100.0}


class TestEpisodes:
    def test_a_batch_autoresets_in_the_step_after_the_end(self, many):
        env = many(3, episode_slots=10)
        assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
        rows = steps(env, [np.full(3, 9)] * 25)[1:]
        assert [row[3].tolist() for row in rows] == [[index % 11 == 9] * 3 for index in range(25)]
        assert not any(row[2].any() for row in rows)
        assert [int(row[4]["slot"][0]) for row in rows] == [*range(1, 11), *range(0, 11), *range(0, 4)]
        assert (rows[10][1] == 0).all()
        assert (rows[9][1] > 0).any()
        # Its actions are ignored.
        assert (entry(env, rows[10][0], "pending_1") == 0).all()
        assert (entry(env, rows[11][0], "pending_2") == 0).all()

    def test_reset_ends_an_episode_early(self, many):
        env = many(2, episode_slots=10)
        for _ in range(2):
            _, info = env.reset(seed=1)
            assert (info["slot"] == 0).all()
            rows = [env.step(np.zeros(2, int)) for _ in range(10)]
            assert rows[-1][3].all()

    def test_steps_are_as_many_as_periods_begin_within_the_episode(self, many):
        env = many(2, scenario(e2={"period_slots": 40, "delay_slots": 10}), episode_slots=100)
        _, _, infos = episode(env, constant(env, 5))
        assert [int(info["slot"][0]) for info in infos] == [40, 80, 120]

    def test_a_step_needs_a_reset(self, one, many):
        for env, action in ((one(episode_slots=1), 0), (many(2), np.zeros(2, int))):
            with pytest.raises(ResetNeeded):
                env.step(action)
        env = one(episode_slots=1)
        env.reset(seed=1)
        assert env.step(0)[3] is True
        with pytest.raises(ResetNeeded):
            env.step(0)


class TestObservations:
    def test_they_lie_in_the_space_and_are_never_nan(self, many):
        given = scenario(
            link={"prbs": {"choice": [52, 13]}, "prb_hold_slots": 5, "dtx_probability": 0.1, "mcs_table": 2},
            cqi={"share": 0.5},
            e2={"period_slots": {"choice": [1, 7]}},
            traffic={"full_buffer_share": 0.5, "files_per_s": 200},
        )
        env = many(16, given, columns=list(UNITS), episode_slots=60)
        env.action_space.seed(1)
        observation, _ = env.reset(seed=1)
        for _ in range(100):
            assert observation in env.observation_space
            observation, reward, *_ = env.step(env.action_space.sample())
            assert np.isfinite(reward).all()

    @pytest.mark.parametrize(("share", "seen"), [(0, 0), (1, 1)])
    def test_the_flag_says_whether_there_is_a_cqi(self, many, share, seen):
        env = many(64, scenario(cqi={"share": share, "period_slots": 10, "delay_slots": 4}))
        observation, _ = env.reset(seed=1)
        assert (entry(env, observation, "cqi_measured") == 0).all()
        assert (entry(env, observation, "cqi") == 0).all()
        for _ in range(30):
            observation = env.step(np.zeros(64, int))[0]
        assert (entry(env, observation, "cqi_measured") == seen).all()
        assert (entry(env, observation, "cqi_age_slots_measured") == seen).all()
        assert (entry(env, observation, "cqi").any()) == seen
        # Measured once in 10 slots, known 4 later.
        assert (entry(env, observation, "cqi_age_slots") <= 14 * seen).all()
        assert (entry(env, observation, "cqi_age_slots") >= 4 * seen).all()

    def test_a_flag_belongs_to_its_link(self, many):
        env = many(32, scenario(traffic={"full_buffer_share": 0.5, "files_per_s": 100}))
        observation, _ = env.reset(seed=1)
        bursty = env.simulator.traffic.bursty.numpy()
        assert 0 < bursty.sum() < 32
        np.testing.assert_array_equal(entry(env, observation, "dl_buffer_bytes_measured"), bursty)

    def test_columns_come_as_asked_for_then_flags_then_pending_actions(self, one):
        env = one(columns=["prbs", "sinr_db", "harq_ack_mcs_3"], pending=2)
        assert env.observation_names == (
            *("prbs", "sinr_db", "harq_ack_mcs_3", "sinr_db_measured"),
            *("pending_1", "pending_2"),
        )
        observation = steps(env, [3] * 9)[-1][0]
        np.testing.assert_allclose(observation, [52, 0, 1, 0, 4 / 29, 4 / 29])

    def test_the_default_columns_leave_out_what_is_never_measured(self):
        assert "sinr_db" not in DEFAULT_COLUMNS
        assert {"cqi", "native_mcs", "harq_nack", "dl_buffer_bytes"} <= set(DEFAULT_COLUMNS)

    @pytest.mark.parametrize(
        ("rtt", "delay", "period", "count"),
        [(8, 0, 1, 8), (8, 10, 1, 18), (8, 3, 5, 3), (8, 10, 100, 1), (32, 8, 1, 32)],
    )
    def test_as_many_actions_are_pending_as_the_delays_cover(self, one, rtt, delay, period, count):
        env = one(scenario(link={"harq_rtt_slots": rtt}, e2={"delay_slots": delay, "period_slots": period}))
        assert sum(name.startswith("pending_") for name in env.observation_names) == count

    @pytest.mark.parametrize("kind", ["mcs", "mcs_offset"])
    def test_pending_actions_are_the_latest_newest_first(self, one, kind):
        env = one(action=kind, max_offset=10, pending=3)
        scaled = [(a + 1) / 29 if kind == "mcs" else (a - 10) / 10 for a in (3, 17, 8, 20)]
        for taken, row in enumerate(steps(env, [3, 17, 8, 20])):
            expected = [*scaled[:taken][::-1], 0, 0, 0][:3]
            found = [entry(env, row[0], f"pending_{place}") for place in (1, 2, 3)]
            np.testing.assert_allclose(found, expected, rtol=1e-6)


class TestActions:
    def test_an_mcs_is_what_is_sent(self, many):
        env = many(4, columns=[f"harq_{kind}_mcs_{m}" for kind in ("ack", "nack") for m in (6, 7)])
        observations, _, _ = episode(env, constant(env, 7))
        received = np.sum(observations, axis=0)
        assert (received[:, [0, 2]] == 0).all()
        assert (received[:, [1, 3]].sum(axis=1) > 0).all()

    def test_an_offset_is_relative_to_what_the_du_would_use(self, many):
        env = many(8, scenario(snr_db={"uniform": [0, 35]}), action="mcs_offset", max_offset=4)
        rtt = 8
        _, info = env.reset(seed=1)
        native, compared = [info["native_mcs"]], 0
        for slot in range(1, 90):
            info = env.step(np.full(8, 4 + 3))[4]
            native.append(info["native_mcs"])
            report = env.simulator.report
            first = report.outcome[0].numpy() != NONE
            if slot >= rtt:
                expected = np.minimum(native[slot - rtt] + 3, 28)
                np.testing.assert_array_equal(report.mcs[0].numpy()[first], expected[first])
                compared += first.sum()
        assert compared > 400
        assert len(np.unique(native)) > 5

    def test_offset_0_leaves_the_du_alone(self, many):
        middle = many(4, action="mcs_offset", max_offset=4)
        _, _, infos = episode(middle, constant(middle, 4))
        absolute = many(4)
        _, _, same = episode(absolute, lambda observation, info: info["native_mcs"])
        np.testing.assert_equal(infos, same)

    def test_an_action_acts_after_the_delay(self, many):
        env = many(4, scenario(snr_db=40, e2={"delay_slots": 3}))
        size = transport_block_size_bits(num_re(52), mcs_table(1).code_rate, mcs_table(1).modulation_order)
        _, _, infos = episode(env, constant(env, 0))
        for slot, info in enumerate(infos[:20]):
            if slot < 3:
                assert (info["delivered_bits"] != size[0]).all()
            else:
                np.testing.assert_array_equal(info["delivered_bits"], size[0])

    def test_an_mcs_beyond_the_table_is_its_highest(self, many):
        given = scenario(snr_db=60, link={"mcs_table": {"choice": [1, 2]}})
        env = many(4, given)
        assert env.single_action_space.n == 29
        for seed in range(8):
            env.reset(seed=seed)
            highest = mcs_table(env.simulator.tables.mcs_table).num_mcs - 1
            for _ in range(9):
                env.step(np.full(4, 28))
            assert (env.simulator.report.mcs == highest).all()

    @pytest.mark.parametrize("wrong", [np.array([0, 29]), np.array([-1, 0]), np.zeros(3, int), np.zeros(2)])
    def test_others_are_rejected(self, many, wrong):
        env = many(2)
        env.reset(seed=1)
        with pytest.raises(InvalidAction, match="actions"):
            env.step(wrong)


class TestRewards:
    def test_goodput_is_the_block_size_over_its_resource_elements(self, many):
        """At this SINR MCS 0 never fails, so that a block arrives in each of the 5 slots."""
        env = many(4, scenario(snr_db=40, e2={"period_slots": 5}))
        _, rewards, infos = episode(env, constant(env, 0))
        size = transport_block_size_bits(num_re(52), mcs_table(1).code_rate[0], mcs_table(1).modulation_order[0])
        np.testing.assert_allclose(rewards, float(size) / (52 * 12 * 14), rtol=1e-6)
        assert all((info["delivered_bits"] == 5 * size).all() for info in infos)
        assert all((info["first_ack"] == 5).all() for info in infos)

    def test_rewards_of_an_episode_add_up_to_the_counters(self, many):
        env = many(8, scenario(snr_db=8))
        _, rewards, infos = episode(env, lambda observation, info: np.full(8, 12))
        counters = env.simulator.counters
        for name, total in (("delivered_bits", counters.bits), ("first_nack", counters.first_nack)):
            np.testing.assert_array_equal(np.sum([info[name] for info in infos], axis=0), total)
        assert counters.first_nack.sum() > 0
        # One slot per step, always 52 PRBs.
        np.testing.assert_allclose(rewards.mean(axis=0), counters.goodput)
        np.testing.assert_allclose([info["goodput"] for info in infos], rewards)

    def test_a_period_without_transmission_has_value_0(self, many):
        given = scenario(snr_db=20, traffic={"full_buffer_share": 0, "file_bytes": 2000, "files_per_s": 100})
        for reward in ("goodput", "goodput_bler"):
            env = many(8, given, reward=reward)
            _, rewards, infos = episode(env, constant(env, 28))
            silent = np.array([info["resource_elements"] == 0 for info in infos])
            too_many = np.array([info["bler"] > 0.1 for info in infos])
            assert (silent & too_many).any()
            assert (rewards[silent] == 0).all()
            assert (rewards[~silent] != 0).any()

    def test_excess_bler_is_charged(self, many):
        target, weight, window = 0.2, 3.0, 50.0
        arguments = {"bler_target": target, "bler_weight": weight, "bler_window_slots": window}
        given = scenario(snr_db=10, e2={"period_slots": 2})
        env = many(8, given, reward="goodput_bler", **arguments)
        _, rewards, infos = episode(env, constant(env, 17))
        ack, nack = np.full(8, (1 - target) * window), np.full(8, target * window)
        excess = []
        for reward, info in zip(rewards, infos, strict=True):
            ack = math.exp(-2 / window) * ack + info["first_ack"]
            nack = math.exp(-2 / window) * nack + info["first_nack"]
            bler = nack / (ack + nack)
            np.testing.assert_allclose(info["bler"], bler)
            excess.append(np.maximum(0, bler - target))
            np.testing.assert_allclose(reward, info["goodput"] - weight * excess[-1])
        assert (np.array(excess) > 0).any()
        assert (np.array(excess) == 0).any()

    def test_within_the_target_both_rewards_are_the_same(self, many):
        plain, constrained = many(4, scenario(snr_db=40)), many(4, scenario(snr_db=40), reward="goodput_bler")
        np.testing.assert_array_equal(
            episode(plain, constant(plain, 3))[1], episode(constrained, constant(constrained, 3))[1]
        )

    def test_random_actions_are_worse_than_the_du_alone(self, many):
        rng = np.random.default_rng(1)
        given = scenario(snr_db={"uniform": [0, 28]})
        arguments = {"episode_slots": 300, "max_offset": 10}
        du = many(32, given, action="mcs_offset", **arguments)
        native = episode(du, constant(du, 10))[1].mean()
        for kind, count in (("mcs", 29), ("mcs_offset", 21)):
            env = many(32, given, action=kind, **arguments)
            chance = episode(env, lambda observation, info, n=count: rng.integers(0, n, 32))[1].mean()
            assert chance < 0.9 * native


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "moon"}, "moon: no such scenario"),
        ({"columns": ["cqi", "weather"]}, "column 'weather' is unknown"),
        ({"columns": ["cqi", "cqi"]}, "column 'cqi' is named twice"),
        ({"reward": "money"}, "reward 'money' is unknown; must be goodput or goodput_bler"),
        ({"action": "prbs"}, "action 'prbs' is unknown; must be mcs or mcs_offset"),
        ({"native": "none"}, "baseline 'none' is unknown"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"episode_slots": 0}, "episode_slots is 0"),
        ({"pending": 0}, "pending is 0"),
        ({"bler_target": 1.0}, "bler_target is 1;"),
        ({"bler_weight": -1.0}, "bler_weight is -1;"),
        ({"bler_window_slots": math.nan}, "bler_window_slots is nan;"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, message):
    with pytest.raises(InputError, match=f"^{message}[^\n]*$"):
        LinkAdaptationVectorEnv(**{"scenario": "high_mobility"} | arguments)

"""The DQN teacher: what blocks brought, the environment, the dueling fold, training, resuming, refusals, the command.

Learning is tried on channels without fading: links differ in SNR, receivers in their BLER curves, and CQI has an error
that only HARQ feedback can tell.
"""

import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import command_line
import pytest
import torch
import yaml

pytest.importorskip("sionna")
pytest.importorskip("torchrl")

from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.envs import check_env_specs

from distila.training.baselines import baseline
from distila.training.learning.checkpoint import CHECKPOINT_FILE
from distila.training.learning.log import read_log
from distila.training.learning.rollout import RolloutPlan
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.policy import NetworkPolicy
from distila.training.network.store import load_network
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import Decision
from distila.training.sim.simulator import Sent, Simulator
from distila.training.sim.split import Split
from distila.training.teachers.dqn import DqnLearner, dueling, folded, train_dqn
from distila.training.teachers.dqn_config import TEACHER_HIDDEN, DqnConfig, load_dqn
from distila.training.teachers.dqn_env import LinkEnv, blocks_of
from distila.xapp.errors import InputError

pytestmark = pytest.mark.usefixtures("no_fading", "workplace")

BANKS = Banks(rows=2, slots=64)
TINY = {
    "scenarios": ["steady.yaml"],
    "links": 16,
    "slots": 50,
    "episodes": 4,
    "checkpoint_every": 1,
    "bank_rows": 2,
    "bank_slots": 64,
    "batch_size": 64,
    "buffer_size": 1000,
    "evaluate_every": 1200,
    "evaluation_links": 4,
    "evaluation_slots": 40,
    "device": "cpu",
    "network": {"hidden": [16, 16]},
}


def tiny(**settings):
    return DqnConfig.model_validate({**TINY, **settings})


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what a block brought ---


def made_up(outcomes, bits=100.0, resource=50.0, **timing):
    """One link; per slot N or n: a new block or a block sent again fails, X: given up, Y or y: it is decoded."""
    column = {
        "first": [letter in "NY" for letter in outcomes],
        "failed": [letter in "NnX" for letter in outcomes],
        "lost": [letter == "X" for letter in outcomes],
    }
    facts = {name: torch.tensor(values)[:, None] for name, values in column.items()}
    bits, resource = torch.full((len(outcomes), 1), bits), torch.full((len(outcomes), 1), resource)
    half = len(outcomes) // 2
    sent = [
        Sent(at, *(fact[part] for fact in facts.values()), bits[part], resource[part])
        for at, part in ((0, slice(0, half)), (half, slice(half, None)))
    ]
    given = {"harq_rtt_slots": 2, "max_transmissions": 3, "decision_delay_slots": 0, "report_period_slots": 1, **timing}
    tables = SimpleNamespace(curves=SimpleNamespace(rate=torch.tensor([0.1])))
    return sent, SimpleNamespace(**given, tables=tables)


def rollout_of(steps):
    """Decisions whose action and observation are their step's number."""
    number = torch.arange(steps)
    return TensorDict({"action": number[None], "observation": number[None, :, None].float()}, [1, steps])


def credited(blocks):
    """Of every block: step, step of the next block, reward, whether it is its trajectory's last."""
    found = blocks[blocks["valid"]]
    names = ("action", ("next", "observation"), ("next", "reward"), ("next", "done"))
    assert not found["next", "terminated"].any()
    return [tuple(row) for row in zip(*(found[name].flatten().tolist() for name in names), strict=True)]


def test_a_block_is_credited_with_all_that_it_brought_and_cost():
    # Process 0: fails, arrives; arrives; fails, fails, given up. Process 1: fails, fails, given up; arrives thrice.
    outcomes = ["?"] * 12
    outcomes[0::2] = ["N", "y", "Y", "N", "n", "X"]
    outcomes[1::2] = ["N", "n", "X", "Y", "Y", "Y"]
    blocks = blocks_of(rollout_of(12), *made_up(outcomes), latency_price=0.25, residual_price=3.0)
    # 5 blocks arrive in 12 transmissions, so one that arrives brings 12 / 5 average slots.
    assert credited(blocks) == [
        (0, 4, pytest.approx(2.4 - 1 - 0.25), False),
        (4, 6, pytest.approx(2.4), True),
        (1, 7, pytest.approx(-2 - 0.25 - 3), False),
        (7, 9, pytest.approx(2.4), False),
        (9, 11, pytest.approx(2.4), True),
    ]


def test_a_block_belongs_to_the_decision_that_was_in_force():
    outcomes = ["Y"] * 12
    blocks = blocks_of(rollout_of(4), *made_up(outcomes, report_period_slots=3, decision_delay_slots=1))
    # Until slot 1 the DU decides; slots 1 to 3 are the first answer's, 4 to 6 the second's...
    assert [row[:2] for row in credited(blocks)] == [
        (0, 1),
        (1, 1),
        (1, 2),
        (2, 3),
        (0, 0),
        (0, 1),
        (1, 2),
        (2, 2),
        (2, 3),
    ]


def test_a_link_that_delivers_nothing_has_rewards_that_are_no_larger_than_its_lowest_rate_makes_them():
    blocks = blocks_of(rollout_of(6), *made_up(list("NNnnXX"), bits=1.0))
    assert credited(blocks) == []
    blocks = blocks_of(rollout_of(8), *made_up(list("NNnnXXNN"), bits=1.0))
    assert [row[2] for row in credited(blocks)] == [-2, -2]


def test_nothing_sent_is_nothing_to_learn_from():
    blocks = blocks_of(rollout_of(6), *made_up(list("??????")))
    assert not blocks["valid"].any()
    config = tiny()
    learner = DqnLearner(config, PolicyNetwork(config.network), torch.device("cpu"))
    assert learner.remember(blocks) == 0
    assert not learner.ready()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"link": {"dtx_probability": 0.1, "max_transmissions": 2}},
        {"link": {"prbs": {"choice": [10, 52]}, "prb_hold_slots": 20}},
        {"traffic": {"full_buffer_share": 0.5}},
        {"e2": {"period_slots": 10, "delay_slots": 5}},
    ],
)
def test_transmissions_add_up_to_the_counters(scenario, more):
    conditions = Conditions(scenario(**more), 8, Split.TRAIN, 0, 420, banks=BANKS)
    sent = []
    simulator = Simulator(conditions, baseline("olla"), sent.append)
    while simulator.slot < 400:
        simulator.step(Decision.absolute(torch.full((8,), 14)))
    assert [window.slot for window in sent] == torch.tensor([0, *(len(w.first) for w in sent)]).cumsum(0)[:-1].tolist()
    counters = simulator.counters

    def total(values):
        return sum(part.sum(dim=0, dtype=torch.float64) for part in values)

    assert torch.allclose(total(window.bits * ~window.failed for window in sent), counters.bits)
    assert torch.allclose(total(window.resource * (window.bits > 0) for window in sent), counters.resource)
    assert torch.equal(total(window.lost for window in sent), counters.residual)
    failed = counters.first_nack + counters.first_dtx
    assert torch.equal(total(window.first & window.failed for window in sent), failed)
    assert torch.equal(total(window.first for window in sent), failed + counters.first_ack)


# --- the environment ---


def an_env(scenario, network=None, slots=60, algorithm=None, **plan):
    network = network or PolicyNetwork(NetworkConfig(hidden=(8,)))
    return LinkEnv(RolloutPlan(scenario, 4, slots, 7, BANKS, **plan), network, algorithm)


def answering(choose):
    return TensorDictModule(choose, in_keys=["observation"], out_keys=["action"])


@pytest.mark.parametrize("e2", [{"period_slots": 1, "delay_slots": 0}, {"period_slots": 10, "delay_slots": 5}])
def test_it_is_an_environment_as_torchrl_wants_it(scenario, e2):
    check_env_specs(an_env(scenario(e2=e2)))
    check_env_specs(an_env(scenario(e2=e2), algorithm=baseline("salad")))


def test_observations_are_what_the_networks_layers_see_and_rewards_what_was_delivered(scenario):
    network = PolicyNetwork(NetworkConfig(hidden=(8,)))
    env = an_env(scenario(), network)
    rollout = env.rollout(100, answering(lambda x: torch.full((4,), 9)))
    assert rollout.shape == (4, 60)
    assert rollout["next", "done"][:, -1].all()
    assert not rollout["next", "done"][:, :-1].any()
    delivered = rollout["next", "reward"].sum(dim=1)[:, 0].double() / 60
    assert torch.allclose(delivered, env.simulator.counters.goodput)
    # A policy hears the same and remembers the same.
    policy = NetworkPolicy(network)
    simulator = Simulator(Conditions(scenario(), 4, Split.TRAIN, 7, 61, banks=BANKS), baseline("olla"))
    policy.start(simulator.conditions.cell(), torch.Generator())
    for step in range(20):
        policy.decide(simulator.report)
        seen = network.features(policy.report, policy.state)[0]
        assert torch.equal(rollout["observation"][:, step], seen)
        assert torch.equal(rollout["next", "observation"][:, step], rollout["observation"][:, step + 1])
        simulator.step(Decision.absolute(torch.full((4,), 9)))
    again = env.rollout(100, answering(lambda x: torch.full((4,), 9)))
    assert torch.equal(again["observation"], rollout["observation"])


# --- the network ---


def test_the_teacher_has_the_familys_size():
    config = NetworkConfig(hidden=TEACHER_HIDDEN)
    weights = sum(weight.numel() for weight in PolicyNetwork(config).parameters())
    assert len(TEACHER_HIDDEN) == 8
    assert weights == pytest.approx(115_000, rel=0.02)


@pytest.mark.parametrize("hidden", [(8,), TEACHER_HIDDEN])
def test_the_fold_is_exact(hidden):
    network = PolicyNetwork(NetworkConfig(hidden=hidden, actions="both"))
    net = dueling(network)
    for layer in (net.advantage, net.value):
        torch.nn.init.normal_(layer[0].bias)
    network = folded(net, network)
    x = torch.randn(500, len(network.feature_names))
    with torch.no_grad():
        expected, found = net(x), network.mlp(x)
        exact = net.double()(x.double())
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    best = exact.max(dim=1).values - exact.gather(1, found.argmax(dim=1, keepdim=True))[:, 0]
    assert best.max() < 1e-5


# --- training ---


def goodput(policy, scenario, slots=600):
    conditions = Conditions(scenario, 128, Split.TEST, 3, slots + 1, banks=BANKS)
    simulator = Simulator(conditions, baseline("olla"))
    policy.start(conditions.cell(), conditions.generator("policy"))
    while simulator.slot < slots:
        simulator.step(policy.decide(simulator.report))
    return float(simulator.counters.goodput.mean())


class AtRandom:
    name = "random"

    def start(self, cell, generator):
        self._cell, self._generator = cell, generator

    def decide(self, report):
        return Decision.absolute(torch.randint(0, 29, (self._cell.num_links,), generator=self._generator))


@pytest.mark.slow
def test_a_short_training_beats_chance_and_the_inner_loop(scenario):
    config = tiny(
        links=128, slots=160, episodes=24, batch_size=256, buffer_size=60_000, network={"hidden": [64]}, epochs=2
    )
    network = train_dqn(config, Path("out"))
    ours = goodput(NetworkPolicy(network), scenario())
    assert ours > goodput(baseline("illa"), scenario())
    assert ours > 1.3 * goodput(AtRandom(), scenario())


@pytest.mark.parametrize(
    "settings", [{"scenarios": ["reported.yaml"]}, {"network": {"actions": "both", "hidden": [8]}}]
)
def test_slow_e2_and_offsets_are_learnt_too(settings):
    network = train_dqn(tiny(**settings, n_steps=2), Path("out"))
    assert len(network.actions) in (29, 38)
    assert all(line["loss"] is not None for line in read_log(Path("out")))


def test_the_algorithm_pulls_towards_its_choice(scenario):
    def distance(**term):
        """Mean number of MCS from what inner-loop link adaptation would answer."""
        network = train_dqn(tiny(slots=120, episodes=4, epochs=3, buffer_size=8000, **term), Path(f"out{bool(term)}"))
        env = an_env(scenario(), network, slots=120, algorithm=baseline("illa"))
        with torch.no_grad():
            rollout = env.rollout(120, answering(lambda x: network.mlp(x).argmax(dim=1)))
        return float((rollout["action"] - rollout["algorithm_choice"]).abs().float().mean())

    term = {"algorithm": "illa", "beta": 10.0, "schedule": "fixed"}
    assert distance(algorithm=term) < 0.5 * distance()


def test_same_seed_same_weights_and_another_seed_others():
    one, again, other = (
        train_dqn(tiny(seed=seed, episodes=2), Path(name)) for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert same(one, again)
    assert not same(one, other)


def test_the_log_has_what_sample_efficiency_is_measured_with():
    train_dqn(tiny(), Path("out"))
    lines = read_log(Path("out"))
    assert [line["environment_steps"] for line in lines] == [800, 1600, 2400, 3200]
    assert [line["epsilon"] for line in lines] == pytest.approx([1.0, 0.01, 0.01, 0.01])
    validated = [line["episode"] for line in lines if "validation_goodput" in line]
    assert validated == [1, 2, 3]  # from 1200 and 2400 steps on, and the end
    for line in lines:
        assert {"loss", "goodput", "first_tx_bler", "first_tx_failure_rate", "residual_bler"} <= line.keys()
        assert line["goodput"] > 0


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "settings",
    [{}, {"episodes_per_round": 2, "checkpoint_every": 1}, {"algorithm": {"algorithm": "salad"}, "n_steps": 3}],
)
def test_resumed_weights_are_those_of_an_uninterrupted_training(settings):
    # The replay buffer is full, and writes over its beginning, before the kill.
    config = tiny(**{"episodes": 6, "checkpoint_every": 2, **settings})
    whole = train_dqn(config, Path("whole"))

    def kill(done, total):
        assert total == 6 * 50
        if done >= 5 * 50:
            raise Killed

    with pytest.raises(Killed):
        train_dqn(config, Path("parts"), progress=kill)
    begun = []
    resumed = train_dqn(config, Path("parts"), resume=True, progress=lambda done, total: begun.append(done))
    assert begun[0] == 4 * 50
    assert same(resumed, whole)
    one, other = ([{**line, "seconds": 0} for line in read_log(Path(name))] for name in ("whole", "parts"))
    assert one == other
    assert same(train_dqn(config, Path("parts"), resume=True), whole)


def test_a_checkpoint_of_another_training_is_rejected():
    train_dqn(tiny(episodes=1), Path("out"))
    with pytest.raises(InputError, match=r"configuration\.residual_price was 3\.0, now it is 7\.0"):
        train_dqn(tiny(episodes=1, residual_price=7.0), Path("out"), resume=True)
    with pytest.raises(InputError, match="there is a training already"):
        train_dqn(tiny(episodes=1), Path("out"))


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(monkeypatch):
    train_dqn(tiny(episodes=1), Path("out"))
    before = Path("out", CHECKPOINT_FILE).read_bytes()
    Path("other").mkdir()
    Path("other", CHECKPOINT_FILE).write_bytes(before)
    monkeypatch.setattr(DqnLearner, "learn", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(InputError, match=r"the loss is nan in episode 0, scenario steady; an lr below 0\.002 may help"):
        train_dqn(tiny(episodes=1), Path("third"))
    assert not Path("third", CHECKPOINT_FILE).exists()


def test_epsilon_falls_linearly_and_stays():
    config = tiny(epsilon=0.9, final_epsilon=0.1, epsilon_fraction=0.5)
    assert [config.epsilon_at(progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([0.9, 0.5, 0.1, 0.1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scenarios: [a]\nlinks: 0\n", "links"),
        ("scenarios: [a]\nnetwork: {head: value}\n", "network.head is 'value': Q values need 'logit'"),
        ("scenarios: [a]\nnetwork: {hidden: []}\n", "network.hidden is empty"),
        ("scenarios: [a]\nnetwork: {memory: gru}\n", "network.memory is 'gru'"),
        ("scenarios: [a]\nepsilon: 0.1\nfinal_epsilon: 0.2\n", "final_epsilon = 0.2 is above epsilon = 0.1"),
        ("scenarios: [a]\nbuffer_size: 100\n", "buffer_size = 100 is below batch_size"),
        ("scenarios: [a]\nalgorithm: {}\nnetwork: {actions: mcs_offset}\n", "algorithm: it chooses an MCS"),
        ("scenarios: [a]\ngamma: 1\n", "gamma"),
        ("scenarios: [a]\ndevice: tpu\n", "device"),
        ("scenarios: [a]\nprice: 1\n", "price"),
    ],
)
def test_a_bad_configuration_is_one_line(text, says):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_dqn("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: ")
    assert "\n" not in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scenarios": ["unseen_channel"]}, "unseen_channel is unseen"),
        ({"slots": 5}, "slots = 5"),
        pytest.param(
            {"device": "cuda"},
            "device = cuda: torch finds none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_does_not_fit_is_rejected_before_anything_is_run(settings, says):
    with pytest.raises(InputError, match=says):
        train_dqn(tiny(**settings), Path("out"))
    assert not Path("out", CHECKPOINT_FILE).exists()


def test_the_shipped_network_is_the_teacher():
    config = load_dqn("dqn")
    assert config.network.hidden == TEACHER_HIDDEN


# --- the command ---


@pytest.fixture
def distila():
    """`distila train dqn`, in a folder with a configuration."""
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))
    return partial(command_line.distila, "train", "dqn")


def test_the_command_trains_resumes_and_prints_json(distila):
    first = distila("--config", "tiny.yaml", "--out", "made", "--episodes", 2)
    assert (first.status, first.err) == (0, "")
    failed = distila("--config", "tiny.yaml", "--out", "made", "--scenario", "reported.yaml", "--resume")
    assert (failed.status, failed.out) == (2, "")
    done = distila("--config", "tiny.yaml", "--out", "made", "--episodes", 2, "--resume", "--json")
    assert (done.status, done.err) == (0, "")
    summary = json.loads(done.out)
    assert summary["episodes"] == 2
    for name in ("checkpoint", "log", "network", "bundle"):
        assert Path(summary[name]).exists()
    network, training = load_network(Path(summary["network"]))
    assert network.config.hidden == (16, 16)
    assert training["kind"] == "DQN teacher"


def test_workers_without_ray_are_rejected(distila, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = distila("--config", "tiny.yaml", "--out", "made", "--workers", 2)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: 2 workers need Ray: ")


def test_bad_input_is_one_line_and_status_2(distila):
    done = distila("--config", "missing")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1

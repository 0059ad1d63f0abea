"""The privileged teacher: what an MCS is worth, training, resuming, refusals, `distila train privileged`.

The channels have no fading: links differ in SNR, receivers in their BLER curves, and CQI has an error that only HARQ
feedback can tell.
"""

import configparser
import contextlib
import io
import json
import sys
from collections import defaultdict
from importlib.metadata import EntryPoint
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from training.baselines import baseline
from training.network.network import NetworkConfig
from training.network.policy import NetworkPolicy
from training.sim import conditions as conditions_module
from training.sim import scenario as scenario_module
from training.sim.bank import NUM_NODES, FadingBank
from training.sim.conditions import Banks, Conditions
from training.sim.report import MCS, MCS_OFFSET, Cell, Decision
from training.sim.scenario import Scenario
from training.sim.simulator import RE_PER_PRB_SLOT, Simulator
from training.sim.split import Split
from training.teachers import privileged
from training.teachers.efficiency import efficiency
from training.teachers.privileged import PrivilegedConfig, Truths, load_privileged, read_log, train
from xapp import cli
from xapp.errors import InputError
from xapp.policy.bundle import load_bundle

pytest.importorskip("sionna")

ROOT = Path(str(files("training"))).parent
NET = {"hidden": [16]}
STEADY = """\
name: steady
channels: [{model: TDL-A}]
snr_db: {uniform: [0, 28]}
link: {bler_shift_db: {normal: [0, 1]}}
cqi: {bias_db: {normal: [0, 3]}, period_slots: 10, delay_slots: 4}
"""
REPORTED = STEADY.replace("steady", "reported") + "e2: {period_slots: 10, delay_slots: 5}\n"


def flat(config, rows, slots, split, seed, *_):
    gain_cdb = np.zeros((rows, config.antennas.max_rank, slots, NUM_NODES), np.int16)
    return FadingBank(config, seed, gain_cdb, np.full(rows, 3, np.float32), np.zeros(rows, np.float32), split)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with scenarios, channels without fading, one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conditions_module, "fading_bank", flat)
    monkeypatch.setattr(privileged, "fading_bank", flat)
    Path("steady.yaml").write_text(STEADY)
    Path("reported.yaml").write_text(REPORTED)
    return tmp_path


def tiny(**settings):
    given = {"scenarios": ["steady.yaml"], "links": 16, "slots": 40, "episodes": 4, "checkpoint_every": 1}
    given |= {"bank_rows": 2, "bank_slots": 64, "network": NET}
    return PrivilegedConfig.model_validate({**given, **settings})


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what an MCS is worth ---


def a_cell(*left, links=3):
    """A cell with 29 MCS whose error rates after 1, 2... transmissions are the same for all of them."""
    tables = Conditions(Scenario.model_validate(yaml.safe_load(STEADY)), 2, Split.TRAIN, 0, 64).tables

    def true_tbler(slot, transmissions=1):
        return torch.full((links, 29), left[transmissions - 1]), torch.ones((links, 29))

    return Cell(links, torch.device("cpu"), 500.0, 1, 1, tables.curves, true_tbler, max_transmissions=len(left))


@pytest.mark.parametrize(
    ("left", "price", "expected"),
    [
        ((0.5, 0.25, 0.1, 0.05), 0.0, 0.95 / 1.85),
        ((0.5, 0.25, 0.1, 0.05), 0.1, 0.95 / 1.85 - 0.05),
        ((0.3, 0.0), 0.0, 1 / 1.3),
        ((0.3,), 0.0, 0.7),
        ((0.0, 0.0, 0.0, 0.0), 0.5, 1.0),
        ((1.0, 1.0, 1.0, 1.0), 0.0, 0.0),
        ((1.0, 1.0, 0.9, 0.9), 0.5, 0.0),
    ],
)
def test_efficiency_by_hand(left, price, expected):
    found = efficiency(a_cell(*left), 0, price)
    assert found.shape == (3, 29)
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected, abs=1e-6)


def test_true_rates_are_left_as_they_were():
    cell = a_cell(0.5, 0.2)
    rates = torch.full((3, 29), 0.5)
    first = Cell(**{**vars(cell), "true_tbler": lambda slot, transmissions=1: (rates, rates)})
    efficiency(first, 0, 0.1)
    assert (rates == 0.5).all()


@pytest.mark.parametrize("combining", ["chase", "ir"])
@pytest.mark.parametrize("mcs", [6, 12, 16])
def test_efficiency_is_the_goodput_that_a_constant_mcs_has_on_a_steady_channel(combining, mcs):
    data = yaml.safe_load(STEADY) | {"snr_db": 6, "link": {"combining": combining, "max_transmissions": 3}}
    scenario = Scenario.model_validate(data)

    def given():
        return Conditions(scenario, 400, Split.TRAIN, 0, 640, banks=Banks(rows=2, slots=64))

    expected = float(efficiency(given().cell(), 0, 0.0)[0, mcs])
    constant = SimpleNamespace(
        name="constant",
        start=lambda cell, generator: None,
        decide=lambda report: Decision.absolute(torch.full((400,), mcs)),
    )
    simulator = Simulator(given(), native=constant)
    simulator.run(640)
    bits = simulator.tables.tbs_bits[mcs] / simulator.tables.prbs[mcs] / RE_PER_PRB_SLOT
    assert float(simulator.counters.goodput.mean() / bits) == pytest.approx(expected, rel=0.01, abs=1e-3)
    assert 0 <= expected <= 1


# --- what an xApp's decision is worth ---


def truths_of(monkeypatch, period, delay, every=1, **settings):
    """Truths of made-up conditions, where an MCS is worth its index plus 100 times the slot."""
    monkeypatch.setattr(
        privileged, "efficiency", lambda cell, slot, price: 100.0 * slot + torch.arange(29.0).expand(2, -1)
    )
    timing = SimpleNamespace(report_period_slots=period, decision_delay_slots=delay)
    native = SimpleNamespace(
        name="native",
        start=lambda cell, generator: None,
        decide=lambda report: Decision.absolute(torch.tensor([2, 20 + report.slot % 2])),
    )
    truths = Truths(native, timing, tiny(seat="xapp", **settings), every)
    truths.start(SimpleNamespace(max_mcs=28, curves=SimpleNamespace(rate=torch.arange(1.0, 30))), torch.Generator())
    return truths


@pytest.mark.parametrize(
    ("period", "delay", "most", "answered", "slots"),
    [
        (1, 0, 8, 3, [3]),
        (1, 4, 8, 3, [7]),
        (4, 3, 8, 4, [7, 8, 9, 10]),
        (4, 0, 8, 8, [8, 9, 10, 11]),
        (4, 9, 8, 4, [13, 14, 15, 16]),
        (6, 1, 2, 6, [8, 11]),
        (7, 0, 3, 0, [1, 4]),
    ],
)
def test_an_answer_is_worth_the_mean_over_the_slots_in_which_it_is_in_force(
    monkeypatch, period, delay, most, answered, slots
):
    truths = truths_of(monkeypatch, period, delay, truths_per_decision=most)
    for slot in range(answered + delay + period):
        assert not truths.known(answered)
        truths.decide(SimpleNamespace(slot=slot))
    assert truths.known(answered)
    assert truths.take(answered)[0].tolist() == pytest.approx([100 * np.mean(slots) + mcs for mcs in range(29)])
    assert truths.take(answered) is None


def test_an_offset_is_worth_what_it_makes_of_the_dus_own_choice(monkeypatch):
    network = {**NET, "actions": "mcs_offset", "max_offset": 3}
    truths = truths_of(monkeypatch, 2, 0, network=network)
    for slot in range(2):
        truths.decide(SimpleNamespace(slot=slot))
    # The first link's own choice is 2, the other's 20 and then 21; nothing is below MCS 0. An MCS has the rate 1 + its
    # index here, so the best one is the highest.

    def brings(*used):
        return sum((1 + mcs) * (100 * slot + mcs) for slot, mcs in enumerate(used)) / sum(
            29 * (28, 128)[s] for s in (0, 1)
        )

    expected = [[brings(mcs, mcs) for mcs in (0, 0, 1, 2, 3, 4, 5)], [brings(20 + o, 21 + o) for o in range(-3, 4)]]
    assert truths.take(0).numpy() == pytest.approx(np.array(expected), rel=1e-5)


@pytest.mark.parametrize("snr_db", [-40, 12, 40])
def test_offsets_are_worth_a_share(snr_db):
    data = yaml.safe_load(STEADY) | {"snr_db": snr_db, "e2": {"period_slots": 4}, "cqi": {"share": 0}}
    given = Conditions(Scenario.model_validate(data), 5, Split.TRAIN, 0, 64, banks=Banks(rows=2, slots=64))
    truths = Truths(baseline("illa"), given, tiny(network={"actions": "mcs_offset", "max_offset": 28}), every=1)
    Simulator(given, native=truths).run(8)
    share = truths.take(4)
    assert share.shape == (5, 57)
    assert ((share >= 0) & (share <= 1 + 1e-6)).all()
    assert share.amax(dim=1).numpy() == pytest.approx(0 if snr_db < -20 else 1, abs=1e-5)


def test_some_answers_only_are_learnt_from(monkeypatch):
    truths = truths_of(monkeypatch, 1, 0, every=3)
    for slot in range(7):
        truths.decide(SimpleNamespace(slot=slot))
    assert [truths.take(slot) is not None for slot in range(7)] == [True, False, False] * 2 + [True]


@pytest.mark.parametrize(("period", "delay"), [(1, 0), (1, 3), (4, 0), (4, 3), (4, 9)])
def test_truths_and_the_simulator_agree_on_when_an_answer_is_in_force(monkeypatch, period, delay):
    data = yaml.safe_load(STEADY) | {"e2": {"period_slots": period, "delay_slots": delay}}
    given = Conditions(Scenario.model_validate(data), 2, Split.TRAIN, 0, 64, banks=Banks(rows=2, slots=64))
    used, noted = {}, defaultdict(list)
    config = tiny(seat="xapp", truths_per_decision=99)
    truths = Truths(baseline("illa"), given, config, every=1)
    monkeypatch.setattr(truths, "_worth", lambda slot, native: torch.tensor([float(slot)]))
    chosen = Simulator._chosen

    class Watched(Simulator):
        def _chosen(self):
            found = chosen(self)
            if self._in_force is not None:
                used[len(slots)] = int(found[0])
            slots.append(0)
            return found

    slots = []
    simulator = Watched(given, native=truths)
    while simulator.slot < 24:
        answer = simulator.slot // period
        simulator.step(Decision(MCS, torch.full((2,), answer)))
    for answered, worth in truths._noted.items():
        noted[answered // period] = [int(slot) for slot in torch.cat(worth) if int(slot) in used]
    for answer, its_slots in noted.items():
        assert its_slots == [slot for slot, value in used.items() if value == answer]
    assert len(noted) > 3


# --- training ---


class AtRandom:
    name = "random"

    def start(self, cell, generator):
        self.links, self.luck = cell.num_links, torch.Generator().manual_seed(0)

    def decide(self, report):
        return Decision.absolute(torch.randint(0, 29, (self.links,), generator=self.luck))


def goodput(policy, scenario=STEADY, slots=1200):
    given = Conditions(
        Scenario.model_validate(yaml.safe_load(scenario)),
        200,
        Split.VALIDATION,
        0,
        slots,
        banks=Banks(rows=2, slots=64),
    )
    simulator = Simulator(given, native=policy)
    simulator.run(slots)
    return float(simulator.counters.goodput.mean())


def test_a_short_training_beats_chance_and_the_inner_loop(tmp_path):
    network = train(tiny(links=128, slots=300, episodes=12, network={"hidden": [48]}), tmp_path / "out")
    found = goodput(NetworkPolicy(network))
    assert found > 1.5 * goodput(AtRandom())
    assert found > 1.05 * goodput(baseline("illa"))
    losses = [line["loss"] for line in read_log(tmp_path / "out")]
    assert losses[-1] < 0.85 * losses[0]


@pytest.mark.parametrize(
    ("actions", "kind"), [({"actions": "mcs"}, MCS), ({"actions": "mcs_offset", "max_offset": 4}, MCS_OFFSET)]
)
def test_an_xapp_learns_too(tmp_path, monkeypatch, actions, kind):
    monkeypatch.setattr(privileged, "tuned_settings", lambda name: {})
    kinds = set()
    step = Simulator.step
    monkeypatch.setattr(Simulator, "step", lambda self, decision: (kinds.add(decision.kind), step(self, decision))[1])
    settings = {"scenarios": ["reported.yaml"], "seat": "xapp", "links": 64, "slots": 400, "episodes": 6}
    train(tiny(**settings, network={"hidden": [32], **actions}), tmp_path / "out")
    losses = [line["loss"] for line in read_log(tmp_path / "out")]
    assert losses[-1] < 0.95 * losses[0]
    assert kinds == {kind}


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    before = torch.random.get_rng_state()
    one, same_seed, other = (weights(train(tiny(seed=s), tmp_path / n)) for s, n in ((3, "a"), (3, "b"), (4, "c")))
    assert same(one, same_seed)
    assert not same(one, other)
    assert torch.equal(before, torch.random.get_rng_state()), "the caller's random numbers are its own"


def test_scenarios_take_turns_and_every_episode_has_its_own_links(tmp_path, monkeypatch):
    seen, real = [], privileged.Conditions

    def spy(scenario, links, split, seed, *args, **kwargs):
        seen.append((scenario.name, links, split, seed))
        return real(scenario, links, split, seed, *args, **kwargs)

    monkeypatch.setattr(privileged, "Conditions", spy)
    train(tiny(scenarios=["steady.yaml", "reported.yaml"], episodes=3), tmp_path / "out")
    assert seen == [(n, 16, Split.TRAIN, i) for i, n in enumerate(("steady", "reported", "steady"))]


def test_the_learning_rate_falls_linearly(tmp_path):
    train(tiny(learning_rate=0.01, final_learning_rate_share=0.2), tmp_path / "out")
    rates = [line["learning_rate"] for line in read_log(tmp_path / "out")]
    assert rates == pytest.approx([0.01, 0.008, 0.006, 0.004])


def test_the_log_has_a_line_of_figures_for_each_episode(tmp_path):
    train(tiny(), tmp_path / "out")
    lines = read_log(tmp_path / "out")
    assert [line["episode"] for line in lines] == [0, 1, 2, 3]
    for line in lines:
        assert line["scenario"] == "steady"
        assert 0 < line["loss"] < 1
        assert 0 <= line["bler"] <= 1
        assert line["goodput"] >= 0
        assert line["seconds"] > 0


def test_tensorboard_gets_its_files_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    train(tiny(episodes=1), tmp_path / "out")
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))


def test_without_tensorboard_there_are_the_lines(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(tiny(episodes=1), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoint.pt", "train.jsonl"}


def test_progress_is_told_in_slots(tmp_path):
    told = []
    train(tiny(episodes=2), tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    done = [slots for slots, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 80)
    assert {total for _, total in told} == {80}


# --- resuming ---


def killed_at(config, out, slots):
    """A training that ends, as if killed, once so many slots are done."""

    def progress(done, total):
        if done >= slots:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, out, progress=progress)


@pytest.mark.parametrize(("seat", "scenario"), [("du", "steady.yaml"), ("xapp", "reported.yaml")])
@pytest.mark.parametrize(("every", "killed_after"), [(1, 2.5), (2, 2.5), (2, 3.5), (100, 2.5)])
def test_resumed_weights_are_those_of_an_uninterrupted_training(
    tmp_path, monkeypatch, seat, scenario, every, killed_after
):
    monkeypatch.setattr(privileged, "tuned_settings", lambda name: {})
    config = tiny(seat=seat, scenarios=[scenario], checkpoint_every=every)
    whole = train(config, tmp_path / "whole")
    killed_at(config, tmp_path / "killed", killed_after * config.slots)
    told = []
    resumed = train(config, tmp_path / "killed", resume=True, progress=lambda done, total: told.append(done))
    assert same(weights(whole), weights(resumed))
    assert told[0] == int(killed_after) // every * every * config.slots
    one, other = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(tmp_path / name)]
        for name in ("whole", "killed")
    )
    assert one == other


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path):
    killed_at(tiny(), tmp_path / "out", 100)
    with (tmp_path / "out" / "train.jsonl").open("a") as file:
        file.write('{"episode": 2, "sc')
    train(tiny(), tmp_path / "out", resume=True)
    assert [line["episode"] for line in read_log(tmp_path / "out")] == [0, 1, 2, 3]


def test_a_finished_training_is_not_run_again(tmp_path):
    done = train(tiny(), tmp_path / "out")
    before = (tmp_path / "out" / "train.jsonl").read_text()
    again = train(tiny(checkpoint_every=7), tmp_path / "out", resume=True)
    assert same(weights(done), weights(again))
    assert (tmp_path / "out" / "train.jsonl").read_text() == before


def test_resuming_what_never_began_begins(tmp_path):
    train(tiny(episodes=1), tmp_path / "out", resume=True)
    assert len(read_log(tmp_path / "out")) == 1


# --- refusals ---


def refused(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        train(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": {"hidden": [16, 16]}}, "network.hidden was [16], now it is [16, 16]"),
        ({"episodes": 5}, "episodes was 4, now it is 5"),
        ({"latency_price": 0.5}, "latency_price was 0.1, now it is 0.5"),
        ({"scenarios": ["./steady.yaml"]}, 'scenarios was ["steady.yaml"]'),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, says):
    train(tiny(), tmp_path / "out")
    text = refused(tiny(**change), tmp_path / "out", resume=True)
    assert "checkpoint.pt" in text
    assert says in text


def test_a_checkpoint_of_another_mcs_table_is_refused(tmp_path):
    Path("other.yaml").write_text(STEADY.replace("link: {", "link: {mcs_table: 2, "))
    train(tiny(), tmp_path / "out")
    path = tmp_path / "out" / "checkpoint.pt"
    checkpoint = privileged.Checkpoint(path, tiny(network={**NET, "mcs_table": 2}), [])
    with pytest.raises(InputError, match=r"network\.mcs_table was 1, now it is 2"):
        checkpoint.load(None, None)
    config = tiny(scenarios=["other.yaml"], network={**NET, "mcs_table": 2})
    assert "of another training" in refused(config, tmp_path / "out", resume=True)


def test_a_checkpoint_of_a_scenario_that_was_changed_is_refused(tmp_path):
    train(tiny(episodes=1), tmp_path / "out")
    Path("steady.yaml").write_text(STEADY.replace("period_slots: 10", "period_slots: 20"))
    text = refused(tiny(episodes=1), tmp_path / "out", resume=True)
    assert "scenario.steady.cqi.period_slots" in text


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"hello"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    train(tiny(episodes=1), tmp_path / "out")
    path = tmp_path / "out" / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    assert "checkpoint.pt: no checkpoint" in refused(tiny(episodes=1), tmp_path / "out", resume=True)


def test_a_checkpoint_in_the_way_is_not_overwritten(tmp_path):
    train(tiny(episodes=1), tmp_path / "out")
    assert "--resume" in refused(tiny(episodes=1), tmp_path / "out")


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    good = weights(train(tiny(episodes=2), tmp_path / "good"))
    real = privileged.efficiency
    calls = []

    def worth(cell, slot, price):
        calls.append(slot)
        return real(cell, slot, price) * (torch.nan if len(calls) > 50 else 1)

    monkeypatch.setattr(privileged, "efficiency", worth)
    text = refused(tiny(), tmp_path / "out")
    assert "nan in episode 2, scenario steady" in text
    found = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert found["episodes"] == 2
    assert all(torch.isfinite(value).all() for value in found["model"].values())
    assert found["model"].keys() == good.keys()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"scenarios": ["unseen_carrier"]}, "unseen_carrier is unseen"),
        ({"scenarios": ["nowhere"]}, "'nowhere'"),
        ({"network": {**NET, "mcs_table": 2}}, "network.mcs_table = 2: scenario steady has 1"),
        ({"network": {**NET, "cqi_table": 3}}, "network.cqi_table = 3: scenario steady has 1"),
        ({"network": {**NET, "actions": "mcs_offset"}}, "in the DU there is no choice to shift"),
        ({"scenarios": ["reported.yaml"], "seat": "xapp", "slots": 20}, "slots = 20: scenario reported needs 21"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_run(tmp_path, settings, says):
    assert says in refused(tiny(**settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_so_many_slots_are_enough_for_a_decision(tmp_path, monkeypatch):
    monkeypatch.setattr(privileged, "tuned_settings", lambda name: {})
    train(tiny(scenarios=["reported.yaml"], seat="xapp", slots=21, episodes=1), tmp_path / "out")
    assert read_log(tmp_path / "out")[0]["loss"] is not None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scenarios: [domain]\ncolour: red", "colour: no such field"),
        ("scenarios: []", "scenarios"),
        ("scenarios: [domain]\nlearning_rate: .inf", "learning_rate"),
        ("scenarios: [domain]\nnetwork: {hidden: 3}", "network.hidden"),
        ("{", "not YAML"),
        ("", "scenarios"),
    ],
)
def test_a_bad_configuration_is_one_line(text, says):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_privileged("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_ships_fits():
    config = load_privileged("real_time")
    assert config.seat == "du"
    assert privileged._scenarios(config)
    assert isinstance(config.network, NetworkConfig)
    seen = {n for n, s in scenario_module.families().items() if not s.unseen and s.e2.period_slots.bounds == (1, 1)}
    assert set(config.scenarios) == seen


def test_the_training_domain_is_a_scenario():
    assert [scenario.name for scenario in privileged._scenarios(tiny(scenarios=["domain"]))] == ["domain"]


# --- command ---


@pytest.fixture
def distila(monkeypatch):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["distila.commands"].splitlines()
    value = next(line.split("=")[1].strip() for line in lines if line.startswith("train ="))
    monkeypatch.setattr(cli, "entry_points", lambda group: [EntryPoint("train", value, group)])

    def run(*arguments):
        out, err, status = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(["train", *map(str, arguments)])
            except SystemExit as stop:
                status = stop.code or 0
        return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())

    Path("wide.yaml").write_text(yaml.safe_dump(tiny(network={"hidden": [512, 512]}).model_dump(mode="json")))
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny().model_dump(mode="json")))
    return run


def test_the_command_writes_what_it_says(distila):
    done = distila("privileged", "--config", "tiny.yaml", "--out", "made", "--episodes", 3)
    assert (done.status, done.err) == (0, "")
    assert done.out.rstrip().endswith("bundle: made/bundle")
    assert {"checkpoint.pt", "train.jsonl", "bundle"} <= {path.name for path in Path("made").iterdir()}
    assert len(read_log(Path("made"))) == 3
    manifest = load_bundle(Path("made/bundle")).manifest
    assert manifest.name == "privileged"
    assert len(manifest.actions) == 29
    assert manifest.training["config"]["episodes"] == 3
    assert manifest.training["latest_episodes"]["steady"]["episode"] == 2


def test_the_command_resumes_and_prints_json(distila):
    distila("privileged", "--config", "tiny.yaml", "--out", "made")
    again = distila("privileged", "--config", "tiny.yaml", "--out", "made", "--resume", "--json")
    assert (again.status, again.err) == (0, "")
    summary = json.loads(again.out)
    assert summary["episodes"] == 4
    for name in ("checkpoint", "log", "bundle"):
        assert Path(summary[name]).exists()
    assert summary["scenarios"]["steady"]["episode"] == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--config", "missing"), "missing"),
        (("--config", "tiny.yaml", "--out", "tiny.yaml"), "--out tiny.yaml"),
        (("--config", "wide.yaml"), "network.hidden = [512, 512]: a graph of "),
    ],
)
def test_bad_input_is_one_line_and_status_2(distila, arguments, says):
    done = distila("privileged", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert says in done.err

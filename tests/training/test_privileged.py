"""The privileged teacher: its loss, that it learns, its configurations, `distila train privileged`.

The channels have no fading: links differ in SNR, receivers in their BLER curves, and CQI has an error that only HARQ
feedback can tell.
"""

import inspect
import json
import sys
from functools import partial
from pathlib import Path

import command_line
import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from torch.nn import functional as F

from distila.training.baselines import baseline, tuned_settings
from distila.training.commands import train as command
from distila.training.learning import episodes, trainer
from distila.training.learning.log import read_log
from distila.training.learning.rollout import RolloutPlan
from distila.training.network.network import SHARE_HIGH, SHARE_LOW
from distila.training.network.policy import NetworkPolicy
from distila.training.network.store import load_network
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.report import MCS, MCS_OFFSET, Decision
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective, load_privileged
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import load_bundle

pytest.importorskip("sionna")

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "training/teachers/configs/privileged").glob("*.yaml"))


# --- what is learnt ---


def labels_for(links=40, actions=29, seed=0):
    generator = torch.Generator().manual_seed(seed)
    share = SHARE_LOW + (SHARE_HIGH - SHARE_LOW) * torch.rand((links, actions), generator=generator)
    residual = torch.rand((links, actions), generator=generator) ** 3
    failure = torch.rand((links, actions), generator=generator)
    return {
        "share": share,
        "failure": failure,
        "residual": residual,
        "algorithm_choice": torch.randint(0, actions, (links,), generator=generator),
    }


def test_the_loss_is_least_where_the_expected_values_are_the_mean(tiny):
    """Where links cannot be told apart by their reports, the mean of their labels should be expected."""
    config, labels = tiny(), labels_for()
    network, objective = trainer.new_network(config), PrivilegedObjective(config)
    share, *chances = (labels[name].mean(dim=0) for name in ("share", "failure", "residual"))
    best = torch.logit(torch.cat([(share - SHARE_LOW) / (SHARE_HIGH - SHARE_LOW), *chances]))[None].requires_grad_()
    for found, mean in zip(network.expected(best), (share, *chances), strict=True):
        assert torch.allclose(found[0], mean, atol=1e-5)
    least = objective.loss(network, best.expand(40, -1), labels, 0.0)
    least.backward()
    assert float(best.grad.abs().max()) < 1e-6
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        other = best.detach() + 0.1 * torch.randn(best.shape, generator=generator)
        assert float(objective.loss(network, other.expand(40, -1), labels, 0.0)) > float(least.detach())


def test_the_loss_is_no_greater_for_a_batch_of_more(tiny):
    config, labels = tiny(), labels_for()
    output = torch.randn(40, 87, generator=torch.Generator().manual_seed(1))
    objective, twice = PrivilegedObjective(config), {name: torch.cat([label, label]) for name, label in labels.items()}
    one, two = objective.loss(None, output, labels, 0.5), objective.loss(None, output.repeat(2, 1), twice, 0.5)
    assert one.shape == ()
    assert float(one) == pytest.approx(float(two))


@pytest.mark.parametrize("actions", ["mcs", "both"])
@pytest.mark.parametrize(("progress", "weight"), [(0.0, 3.0), (0.5, 1.5), (1.0, 0.0)])
def test_the_distance_to_an_algorithm_is_added(tiny, progress, weight, actions):
    """Its logits are the expected values relative to the best action's."""
    network_settings = {"residual_price": 2.0, "failure_price": 0.5, "actions": actions}
    network = trainer.new_network(tiny(network=network_settings))
    labels, generator = labels_for(actions=len(network.actions)), torch.Generator().manual_seed(1)
    labels["algorithm_choice"] %= 29
    output = torch.randn(40, 3 * len(network.actions), generator=generator)
    alone, both = (
        PrivilegedObjective(tiny(network=network_settings, algorithm=algorithm)).loss(network, output, labels, progress)
        for algorithm in (None, {"algorithm": "salad", "beta": 3.0, "temperature": 0.2})
    )
    share, failure, residual = network.expected(output)
    score = (network.rate * (share - 0.5 * failure - 2.0 * residual)[:, :29]).numpy()
    best = np.maximum(score.max(axis=1, keepdims=True), 1e-3)
    logits = torch.from_numpy((score - score.max(axis=1, keepdims=True)) / best / 0.2)
    distance = F.cross_entropy(logits, labels["algorithm_choice"])
    assert float(both) == pytest.approx(float(alone + weight * distance), rel=1e-4)


def test_the_algorithm_decides_in_the_rollout(no_fading, tiny, train):
    train(tiny(episodes=1, algorithm={"algorithm": "illa", "beta": 100, "schedule": "fixed"}))
    assert read_log(Path("out"))[0]["loss"] > 50


# --- that it learns ---


class AtRandom:
    name = "random"

    def start(self, cell, generator):
        self.links, self.generator = cell.num_links, torch.Generator().manual_seed(0)

    def decide(self, report):
        return Decision.absolute(torch.randint(0, 29, (self.links,), generator=self.generator))


def goodput(policy, scenario, slots=800):
    """Of a policy that answers E2 reports, with the DU's tuned OLLA beneath."""
    given = Conditions(scenario, 200, Split.VALIDATION, 0, slots + 10, banks=Banks(rows=2, slots=64))
    simulator = Simulator(given, native=baseline("olla", **tuned_settings("olla")))
    policy.start(given.cell(), given.generator("policy"))
    while simulator.slot < slots:
        simulator.step(policy.decide(simulator.report))
    return float(simulator.counters.goodput.mean())


@pytest.mark.slow
def test_a_short_training_beats_chance_and_the_inner_loop(no_fading, tiny, train, scenario):
    network = train(tiny(links=96, slots=200, episodes=14, batch_size=48, epochs=2, lr=4e-3, network={"hidden": [48]}))
    found, chance, illa = (goodput(p, scenario()) for p in (NetworkPolicy(network), AtRandom(), baseline("illa")))
    assert found > 1.5 * chance
    assert found > 1.05 * illa


SLOW_E2 = {"period_slots": 10, "delay_slots": 5}


@pytest.mark.parametrize(
    ("actions", "kinds"),
    [
        ("mcs", {MCS}),
        ("mcs_offset", {MCS_OFFSET}),
        ("both", {MCS, MCS_OFFSET}),
    ],
)
def test_it_learns_the_values_of_actions_of_every_kind(no_fading, tiny, train, scenario, monkeypatch, actions, kinds):
    used = set()
    step = Simulator.step

    def watched(self, decision):
        used.update(torch.as_tensor(decision.kind).flatten().tolist())
        return step(self, decision)

    monkeypatch.setattr(Simulator, "step", watched)
    settings = {"scenarios": ["reported.yaml"], "links": 48, "slots": 200, "episodes": 6, "batch_size": 48}
    config = tiny(**settings, network={"hidden": [32], "actions": actions})
    learnt = train(config)
    assert used == kinds
    objective = PrivilegedObjective(config)
    plan = RolloutPlan(scenario(e2=SLOW_E2), 64, 200, 99, Banks(rows=2, slots=64))
    met = objective.collect(plan, learnt, lambda slot: None)
    labels = {name: label.flatten(0, 1) for name, label in met.labels.items()}

    def loss(network):
        ((picked, output),) = network.batches(met.rows, met.steps, 10**6, torch.Generator())
        batch = {name: label[picked] for name, label in labels.items()}
        return float(objective.loss(network, output.detach(), batch, 1.0))

    assert loss(learnt) < 0.8 * loss(trainer.new_network(config))


# --- configurations ---


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_fits(name):
    config = load_privileged(name)
    scenarios = episodes.checked_scenarios(config)
    assert len(scenarios) == len(config.scenarios)
    assert config.network.head == "value"


def test_the_commands_own_configuration_ships():
    assert inspect.signature(command.privileged).parameters["config"].default in SHIPPED


def test_a_file_goes_before_what_ships(workplace):
    Path(SHIPPED[0]).write_text("scenarios: [domain]\nepisodes: 7\nnetwork: {head: value}\n")
    assert load_privileged(SHIPPED[0]).episodes == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scenarios: [domain]\nnetwork: {head: value}\ncolour: red", "colour: no such field"),
        ("scenarios: []", "scenarios"),
        ("scenarios: [domain]\nlr: .inf", "lr = inf"),
        ("scenarios: [domain]\nnetwork: {hidden: 3}", "network.hidden"),
        ("scenarios: [domain]\nnetwork: {head: value}\nalgorithm: {beta: -1}", "algorithm.beta"),
        ("scenarios: [domain]\nnetwork: {hidden: [8]}", "network.head is 'logit': a privileged teacher needs 'value'"),
        ("{", "not YAML"),
        ("", "scenarios"),
    ],
)
def test_a_bad_configuration_is_one_line(workplace, text, says):
    Path("bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_privileged("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_must_expect_values(tiny):
    with pytest.raises(ValidationError, match=r"network\.head is 'logit'"):
        tiny(network={"head": "logit"})
    with pytest.raises(ValidationError, match=r"network\.head is 'logit'"):
        PrivilegedConfig(scenarios=("domain",))


def test_an_algorithm_beside_offsets_alone_is_rejected(tiny):
    with pytest.raises(
        ValidationError, match=r"algorithm: it chooses an MCS, and network\.actions = mcs_offset has none"
    ):
        tiny(network={"actions": "mcs_offset"}, algorithm={})


# --- command ---


@pytest.fixture
def distila(tiny):
    """`distila train`, in a folder with two configurations."""
    for name, settings in (("wide", {"network": {"hidden": [512, 512]}}), ("tiny", {})):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(tiny(**settings).model_dump(mode="json")))
    return partial(command_line.distila, "train")


def test_the_command_writes_what_it_says(no_fading, distila):
    done = distila("privileged", "--config", "tiny.yaml", "--out", "made", "--episodes", 3)
    assert (done.status, done.err) == (0, "")
    assert done.out.rstrip().endswith("bundle: made/bundle")
    assert {"checkpoint.pt", "train.jsonl", "network.pt", "bundle"} <= {path.name for path in Path("made").iterdir()}
    assert len(read_log(Path("made"))) == 3
    manifest = load_bundle(Path("made/bundle")).manifest
    assert manifest.name == "privileged"
    assert len(manifest.actions) == 29
    assert manifest.training["config"]["episodes"] == 3
    assert manifest.training["latest_episodes"]["steady"]["episode"] == 2


def test_a_network_that_is_too_large_for_a_bundle_is_kept_as_a_network(no_fading, distila):
    done = distila("privileged", "--config", "wide.yaml", "--out", "made", "--episodes", 1)
    assert (done.status, done.err) == (0, "")
    assert "no bundle: its graph would have " in done.out
    assert load_network(Path("made/network.pt"))[0].config.hidden == (512, 512)
    assert not Path("made/bundle").exists()
    again = distila("privileged", "--config", "wide.yaml", "--out", "made", "--episodes", 1, "--resume", "--json")
    summary = json.loads(again.out)
    assert "bundle" not in summary
    assert summary["graph_bytes"] > 125_000


def test_the_command_resumes_and_prints_json(no_fading, distila):
    distila("privileged", "--config", "tiny.yaml", "--out", "made")
    again = distila("privileged", "--config", "tiny.yaml", "--out", "made", "--resume", "--json")
    assert (again.status, again.err) == (0, "")
    summary = json.loads(again.out)
    assert summary["episodes"] == 4
    for name in ("checkpoint", "log", "network", "bundle"):
        assert Path(summary[name]).exists()
    assert summary["scenarios"]["steady"]["episode"] == 3


def test_workers_without_ray_are_rejected(no_fading, distila, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    done = distila("privileged", "--config", "tiny.yaml", "--workers", 2, "--out", tmp_path / "made")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: 2 workers need Ray: ")
    assert done.err.count("\n") == 1


@pytest.mark.slow
def test_the_command_trains_the_same_on_two_workers(distila, ray):
    """On channels of Sionna's, from a cache: workers know nothing of channels without fading."""
    arguments = ("privileged", "--config", "tiny.yaml", "--episodes", 2, "--cache", "banks", "--json")
    one, two = (distila(*arguments, "--workers", count, "--out", f"made{count}") for count in (1, 2))
    assert (one.status, one.err, two.status, two.err) == (0, "", 0, "")
    one, two = (json.loads(done.out)["scenarios"]["steady"] for done in (one, two))
    assert one == two
    assert Path("made1/bundle/policy.onnx").read_bytes() == Path("made2/bundle/policy.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--config", "missing"), "missing"),
        (("--config", "tiny.yaml", "--out", "tiny.yaml"), "--out tiny.yaml"),
    ],
)
def test_bad_input_is_one_line_and_status_2(distila, arguments, says):
    done = distila("privileged", *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert says in done.err

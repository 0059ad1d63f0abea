"""Distillation: losses, who teaches where, that the student becomes as good as its teacher, `distila distill`."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distila.training.baselines import baseline, tuned_settings
from distila.training.distill.distill import DistillationObjective, DistillConfig, Teachers, load_distill
from distila.training.distill.losses import LossConfig, distillation_loss, kl, mse, nll
from distila.training.learning import episodes, rollout, trainer
from distila.training.learning.log import read_log
from distila.training.learning.rollout import RolloutPlan
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.network import relative
from distila.training.network.policy import NetworkPolicy
from distila.training.network.store import load_network, save_network
from distila.training.sim.conditions import Banks, Conditions
from distila.training.sim.simulator import Simulator
from distila.training.sim.split import Split
from distila.training.teachers.privileged import PrivilegedConfig, PrivilegedObjective
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import load_bundle

pytest.importorskip("sionna")
pytestmark = pytest.mark.usefixtures("no_fading_in_this_module")


# --- losses ---

SCORE = torch.tensor([[1.0, 2.0, 1.8], [0.2, 0.1, -0.5], [3.0, 2.9, 3.1]])
TARGET = relative(SCORE)


def test_scores_are_taken_relative_to_the_best():
    assert TARGET[0].tolist() == pytest.approx([-0.5, 0, -0.1])
    assert TARGET[1].tolist() == pytest.approx([0, -0.5, -3.5])


@pytest.mark.parametrize("temperature", [0.03, 0.5])
def test_kl_is_least_and_0_where_the_student_has_the_teachers_distribution(temperature):
    student = (TARGET / temperature + torch.tensor([[1.0], [0.0], [-4.0]])).requires_grad_()
    least = kl(student, TARGET, temperature)
    assert float(least.detach()) == pytest.approx(0, abs=1e-6)
    least.backward()
    assert float(student.grad.abs().max()) < 1e-6
    assert float(kl(TARGET / temperature / 2, TARGET, temperature)) > 0


def test_kl_by_hand():
    """One action is worse by a temperature, and counts 1/e; the student has no preference."""
    target = torch.softmax(torch.tensor([0.0, -1.0]), dim=0)
    expected = sum(float(p * (p.log() - torch.tensor(0.5).log())) for p in target)
    assert float(kl(torch.zeros(4, 2), torch.tensor([[0.0, -0.1]]).expand(4, -1), 0.1)) == pytest.approx(expected)


def test_a_lower_temperature_asks_for_the_best_action_alone():
    student = torch.zeros(3, 3)
    hot, cold = (float(kl(student, TARGET, temperature)) for temperature in (100.0, 1e-4))
    assert hot == pytest.approx(0, abs=1e-3)
    assert cold == pytest.approx(float(nll(student, TARGET)), rel=1e-4)


def test_mse_is_0_where_the_student_has_the_scores_none_below_bringing_nothing():
    assert float(mse(TARGET.clamp(min=-1), TARGET)) == 0
    assert float(mse(TARGET.clamp(min=-1) + 0.5, TARGET)) == pytest.approx(0.25)


def test_nll_is_that_of_the_teachers_choice():
    student = torch.log(torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    expected = -torch.log(torch.tensor([0.7, 0.5, 0.8])).mean()
    assert float(nll(student, TARGET)) == pytest.approx(float(expected))
    assert float(nll(100 * TARGET, TARGET)) < float(nll(TARGET, TARGET))


@given(st.floats(0, 3), st.floats(0, 3), st.floats(0.1, 3), st.floats(0.01, 1))
def test_a_mix_is_the_weighted_sum(first, second, third, temperature):
    student = torch.tensor([[0.3, -0.2, 0.9], [0.0, 1.0, 0.1], [2.0, 0.0, 1.0]])
    found = distillation_loss(LossConfig(kl=first, mse=second, nll=third, temperature=temperature), student, SCORE)
    parts = (kl(student, TARGET, temperature), mse(student, TARGET), nll(student, TARGET))
    expected = sum(weight * float(part) for weight, part in zip((first, second, third), parts, strict=True))
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(st.floats(0.1, 10))
def test_one_temperature_does_for_links_of_any_rate(scale):
    student = torch.tensor([[0.3, -0.2, 0.9], [0.0, 1.0, 0.1], [2.0, 0.0, 1.0]])
    one, other = (float(distillation_loss(LossConfig(), student, score)) for score in (SCORE, scale * SCORE))
    assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kl": 0}, "kl, mse and nll are all 0: nothing would be learnt"),
        ({"kl": -1}, "kl"),
        ({"temperature": 0}, "temperature"),
        ({"mse": float("nan")}, "mse"),
        ({"l1": 1}, "l1"),
    ],
)
def test_senseless_losses_are_rejected(wrong, says):
    with pytest.raises(ValidationError, match=says):
        LossConfig(**wrong)


# --- who teaches where ---


def a_network(seed=0, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PolicyNetwork(NetworkConfig(**{"hidden": (8,), "head": "value", **settings}))


@pytest.fixture
def kept(workplace):
    """Files of untrained networks by name."""

    def make(name, **settings):
        save_network(a_network(**settings), Path(name), {"kind": "made up"})
        return Path(name)

    return make


@pytest.fixture
def student(workplace):
    given = {"scenarios": ["steady.yaml"], "links": 16, "slots": 40, "episodes": 3, "checkpoint_every": 1}
    given |= {"bank_rows": 2, "bank_slots": 64}

    def make(network=None, **settings):
        return DistillConfig.model_validate({**given, "network": {"hidden": [16], **(network or {})}, **settings})

    return make


def test_a_specialist_teaches_in_its_scenario_and_another_everywhere_else(kept, student):
    paths = {"steady": kept("a.pt", seed=1), "": kept("b.pt", seed=2)}
    teachers = Teachers(paths, student(scenarios=["steady.yaml", "reported.yaml"], slots=60))
    for scenario, seed in (("steady", 1), ("reported", 2), ("domain_table1", 2)):
        ours, expected = teachers.of(scenario).state_dict(), a_network(seed).state_dict()
        assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert teachers.identity.keys() == {"steady", ""}
    assert len(set(teachers.identity.values())) == 2


@pytest.mark.parametrize(
    ("settings", "network", "says"),
    [
        ({"mcs_table": 2}, {}, "the teacher is for mcs_table 2, the student for 1"),
        ({"cqi_table": 3}, {}, "the teacher is for cqi_table 3, the student for 1"),
        ({"actions": "both"}, {}, "the teacher has 38 actions (both), the student has 29 (mcs)"),
        ({}, {"actions": "mcs_offset"}, "the teacher has 29 actions (mcs), the student has 9 (mcs_offset)"),
        (
            {"actions": "both"},
            {"actions": "both", "max_offset": 2},
            "the teacher has 38 actions (both), the student has 34",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_line(kept, student, settings, network, says):
    with pytest.raises(InputError) as caught:
        Teachers({"": kept("a.pt", **settings)}, student(network=network))
    assert str(caught.value).startswith("a.pt: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scenario_without_a_teacher_is_one_line(kept, student):
    with pytest.raises(InputError) as caught:
        Teachers(
            {"steady": kept("a.pt")}, student(scenarios=["steady.yaml", "reported.yaml", "domain_table1"], slots=2000)
        )
    assert (
        str(caught.value)
        == "no teacher for reported, domain_table1: give one for each, or one without a scenario for all others"
    )


def test_a_student_has_logits(student):
    with pytest.raises(ValidationError, match=r"network\.head is 'value': a student needs 'logit'"):
        student(network={"head": "value"})


@pytest.mark.parametrize("name", ["student", "smoke"])
def test_what_ships_fits(name):
    config = load_distill(name)
    assert len(episodes.checked_scenarios(config)) == len(config.scenarios)
    assert config.network.head == "logit"


def a_plan(scenario, **changes):
    return RolloutPlan(scenario(**changes), 8, 40, 5, Banks(rows=2, slots=64))


@pytest.mark.parametrize("driver", ["student", "teacher"])
def test_who_drives(kept, student, scenario, monkeypatch, driver):
    """Either way the labels are the teacher's, and the columns are the student's."""
    drivers = []
    collect = rollout.collect
    monkeypatch.setattr(
        "distila.training.distill.distill.collect",
        lambda plan, who, **settings: (drivers.append(who), collect(plan, who, **settings))[1],
    )
    config = student(driver=driver)
    teachers, network = Teachers({"": kept("a.pt", seed=3)}, config), trainer.new_network(config)
    found = DistillationObjective(config, teachers).collect(a_plan(scenario), network, lambda slot: None)
    teacher = teachers.of("steady")
    assert drivers == [network if driver == "student" else teacher]
    assert found.rows.shape == (40, 8, len(network.columns))
    state, scores = teacher.zero_state(8), []
    for row in found.rows:
        with torch.no_grad():
            score, state = teacher(row, state)
        scores.append(score)
    assert torch.equal(found.labels["teacher_score"], torch.stack(scores)[found.steps])


# --- that it learns ---

SETTINGS = {"links": 96, "slots": 200, "bank_rows": 2, "bank_slots": 64, "batch_size": 96, "epochs": 2}
SETTINGS |= {"lr": 4e-3, "episodes": 10}


@pytest.fixture(scope="module")
def teacher(no_fading_in_this_module, steady, tmp_path_factory):
    """File of a network that a short training of its own made sensible."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "steady.yaml").write_text(steady)
    given = {"scenarios": [str(folder / "steady.yaml")], "network": {"hidden": [48], "head": "value"}}
    config = PrivilegedConfig.model_validate({**SETTINGS, **given})
    network = trainer.train(config, PrivilegedObjective(config), folder / "out")
    save_network(network, folder / "network.pt", {"kind": "privileged teacher"})
    return folder / "network.pt"


def goodput(network, scenario, slots=300):
    """In the simulator, with the DU's tuned OLLA beneath."""
    given = Conditions(scenario, 200, Split.VALIDATION, 0, slots + 10, banks=Banks(rows=2, slots=64))
    simulator = Simulator(given, native=baseline("olla", **tuned_settings("olla")))
    policy = NetworkPolicy(network)
    policy.start(given.cell(), given.generator("policy"))
    while simulator.slot < slots:
        simulator.step(policy.decide(simulator.report))
    return float(simulator.counters.goodput.mean())


@pytest.mark.parametrize(
    "settings",
    [{"driver": "student"}, {"driver": "teacher"}, {"driver": "student", "loss": {"kl": 0, "mse": 1, "nll": 0.1}}],
    ids=["online", "off-policy", "mix"],
)
def test_the_student_becomes_as_good_as_its_teacher(student, train, scenario, teacher, settings):
    config = student(**SETTINGS, network={"hidden": [24]}, **settings)
    learnt = train(config, objective=DistillationObjective(config, Teachers({"": teacher}, config)))
    best, found, before = (
        goodput(network, scenario()) for network in (load_network(teacher)[0], learnt, trainer.new_network(config))
    )
    assert found > 0.95 * best
    assert before < 0.9 * best
    losses = [line["loss"] for line in read_log(Path("out"))]
    assert losses[-1] < losses[0]


def test_two_specialists_are_put_into_one_student(student, train, scenario):
    """Each prefers one MCS of its own; the student tells by the reports' periods which one is to be followed."""
    paths = {}
    for name, favourite in (("steady", 5), ("reported", 20)):
        network = a_network(head="logit")
        with torch.no_grad():
            network.mlp[-1].weight.zero_()
            network.mlp[-1].bias.zero_()
            network.mlp[-1].bias[favourite] = 10
        save_network(network, Path(f"{name}.pt"), {"kind": "made up"})
        paths[name] = Path(f"{name}.pt")
    e2 = {"period_slots": 10, "delay_slots": 5}
    scenarios = {"steady": scenario(), "reported": scenario(name="reported", e2=e2)}
    config = student(
        scenarios=["steady.yaml", "reported.yaml"],
        slots=120,
        episodes=60,
        batch_size=16,
        lr=0.004,
        epochs=2,
        label_every_slots=10,
    )
    teachers = Teachers(paths, config)
    learnt = train(config, objective=DistillationObjective(config, teachers))
    for name, favourite in (("steady", 5), ("reported", 20)):
        met = DistillationObjective(config, teachers).collect(
            a_plan(lambda n=name: scenarios[n]), learnt, lambda slot: None
        )
        # The first report comes before anything was sent, in either.
        ((_, output),) = learnt.batches(met.rows, met.steps[1:], 10**6, torch.Generator())
        assert float((output.argmax(dim=1) == favourite).float().mean()) > 0.8


# --- command ---


@pytest.fixture
def files(kept, student):
    kept("teacher.pt", seed=1)
    kept("other.pt", seed=2)
    Path("tiny.yaml").write_text(yaml.safe_dump(student().model_dump(mode="json")))
    two = student(scenarios=["steady.yaml", "reported.yaml"], slots=60)
    Path("two.yaml").write_text(yaml.safe_dump(two.model_dump(mode="json")))


def test_the_command_from_teacher_to_bundle(files, distila):
    arguments = ("distill", "--teacher", "teacher.pt", "--config", "tiny.yaml", "--out", "made", "--episodes", 2)
    done = distila(*arguments, "--json")
    assert (done.status, done.err) == (0, "")
    summary = json.loads(done.out)
    assert summary["episodes"] == 2
    for name in ("checkpoint", "log", "network", "bundle"):
        assert Path(summary[name]).exists()
    manifest = load_bundle(Path("made/bundle")).manifest
    assert manifest.name == "student"
    assert manifest.training["kind"] == "distilled student"
    assert manifest.training["teachers"].keys() == {""}
    assert load_network(Path("made/network.pt"))[0].config.head == "logit"
    again = distila(*arguments, "--resume")
    assert (again.status, again.err) == (0, "")
    assert again.out.rstrip().endswith("bundle: made/bundle")
    other = distila(*(argument if argument != "teacher.pt" else "other.pt" for argument in arguments), "--resume")
    assert other.status == 2
    assert "of another training: teachers" in other.err


def test_the_command_has_a_teacher_for_each_scenario(files, distila):
    both = ("--teacher", "steady=teacher.pt", "--teacher", "reported=other.pt")
    done = distila("distill", *both, "--config", "two.yaml", "--out", "made", "--json")
    assert (done.status, done.err) == (0, "")
    assert json.loads(done.out)["scenarios"].keys() == {"steady", "reported"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--teacher is missing"),
        (
            ("--teacher", "teacher.pt", "--teacher", "other.pt"),
            "--teacher other.pt: a teacher for all scenarios was given already",
        ),
        (
            ("--teacher", "steady=teacher.pt", "--teacher", "steady=other.pt"),
            "--teacher steady=other.pt: a teacher for steady was given already",
        ),
        (("--teacher", "nowhere"), "nowhere: no such network"),
        (
            ("--teacher", "reported=teacher.pt"),
            "a teacher for reported, which is not a scenario of this training; there are steady",
        ),
        (("--teacher", "teacher.pt", "--config", "missing"), "missing"),
        (("--teacher", "teacher.pt", "--workers", "0"), "workers"),
    ],
)
def test_bad_input_is_status_2(files, distila, arguments, says):
    config = () if "--config" in arguments else ("--config", "tiny.yaml")
    done = distila("distill", *config, *arguments, "--out", "made")
    assert (done.status, done.out) == (2, "")
    assert says in done.err
    assert not Path("made/checkpoint.pt").exists()

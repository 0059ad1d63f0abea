"""Training of students: what the loss is, that it learns, stops and resumes, and repeats."""

import pytest
import torch

from distila.training.learning.algorithm import BetaSchedule, distance_to_power
from distila.training.resource import training
from distila.training.resource.algorithms import apply
from distila.training.resource.algorithms.wmmse import all_ones
from distila.training.resource.critic import make_critic
from distila.training.resource.instances import Batch, PoolJob, draw, pool_of
from distila.training.resource.problems import SETTINGS, rayleigh_amplitude, sum_rate
from distila.training.resource.store import STUDENT_FILE, load_students, save_students
from distila.training.resource.store import STUDENTS as SHIPPED_STUDENTS
from distila.training.resource.students import MessageGnnConfig, allocate, make_student
from distila.training.resource.train_config import ResourceTerm, TrainConfig, load_train_config
from distila.training.resource.training import train
from distila.xapp.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


SMALL = {"setting": "seed", "links": [5], "samples": 64, "steps": 30, "batch_size": 16, "checkpoint_every": 10}
STUDENTS = {
    "mlp": {"kind": "mlp", "links": 5, "hidden": [16]},
    "message-gnn": {"kind": "message-gnn", "hidden": 4, "rounds": 2},
    "unrolled-gnn": {"kind": "unrolled-gnn", "hidden": 8, "rounds": 2, "memory": 2},
}


def config(student="mlp", **settings):
    return TrainConfig.model_validate({**SMALL, "student": STUDENTS[student], **settings})


def rate(student, setting="seed", links=5):
    given = SETTINGS[setting](300, links, generator(99))
    with torch.no_grad():
        return sum_rate(given, allocate(student, given, all_ones(given))).mean().item()


# --- one loss for both seeds ---


def test_the_term_is_the_one_of_link_adaptation():
    assert issubclass(ResourceTerm, BetaSchedule)
    assert ResourceTerm(beta=2.0, schedule="decreasing").added(torch.tensor(1.0), torch.tensor(3.0), 0.5) == 1 + 1.0 * 3


def test_distance_is_not_squared():
    power, choice = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert distance_to_power(power, choice).item() == pytest.approx(2.5)


def test_beta_falls_and_rises_with_the_training(monkeypatch):
    seen = {}
    for schedule in ("fixed", "decreasing", "increasing"):
        betas = seen.setdefault(schedule, [])

        def added(self, objective, distance, progress, betas=betas):
            betas.append(self.at(progress))
            return objective + self.at(progress) * distance

        monkeypatch.setattr(ResourceTerm, "added", added)
        train(config(algorithm={"beta": 2.0, "schedule": schedule}), 0)
    assert seen["fixed"] == [2.0] * 30
    assert seen["decreasing"][0] == 2.0
    assert seen["decreasing"] == sorted(seen["decreasing"], reverse=True)
    assert seen["increasing"][0] == 0.0
    assert seen["increasing"] == sorted(seen["increasing"])


@pytest.mark.parametrize("teacher", ["fplinq", "fplinq-scheduled", "wmmse-best-of-100", "brute-force", "greedy"])
def test_any_teacher(teacher):
    pulled = train(config(algorithm={"teacher": teacher, "beta": 20.0, "schedule": "fixed"}, steps=200), 0)
    given = rayleigh_amplitude(64, 5, generator(7))
    taught = apply(teacher, given, generator(1)).squeeze(1)
    with torch.no_grad():
        near = distance_to_power(allocate(pulled, given, all_ones(given)).squeeze(1), taught)
        far = distance_to_power(torch.ones(64, 5), taught)
    assert near < 0.8 * far


# --- learning ---


@pytest.mark.parametrize("student", list(STUDENTS))
def test_unsupervised_training_raises_the_sum_rate(student):
    settings = {"steps": 300, "samples": None, "lr": 0.01}
    if student == "mlp":
        settings["student"] = {**STUDENTS["mlp"], "batch_norm": True}
    if student == "unrolled-gnn":  # from full power alone, it stays there
        settings["starts"] = 4
    learnt = TrainConfig.model_validate({**SMALL, "student": STUDENTS[student], **settings})
    torch.manual_seed(0)
    before = rate(make_student(learnt.student).eval())
    assert rate(train(learnt, 0)) > before + 0.05


def test_a_student_that_sees_weights_learns_with_them():
    seeing = {**STUDENTS["unrolled-gnn"], "weighted": True}
    settings = {**SMALL, "setting": "rayleigh-10db-weighted", "samples": None, "starts": 4, "lr": 0.01}
    rates = []
    for steps in (1, 300):
        student = train(TrainConfig.model_validate({**settings, "student": seeing, "steps": steps}), 0)
        rates.append(rate(student, "rayleigh-10db-weighted"))
    assert rates[1] > rates[0] + 0.1


def test_supervised_training_comes_near_its_teacher():
    distances = []
    given = rayleigh_amplitude(200, 5, generator(7))
    taught = apply("fplinq", given, generator()).squeeze(1)
    for steps in (1, 400):
        student = train(config("message-gnn", objective="supervised", steps=steps, samples=None), 0)
        with torch.no_grad():
            distances.append(distance_to_power(allocate(student, given, all_ones(given)).squeeze(1), taught).item())
    assert distances[1] < 0.9 * distances[0]


@pytest.mark.parametrize("student", ["mlp", "message-gnn"])
def test_a_critic_learns_the_sum_rate_of_powers(student):
    """Only rewards go in; what it then expects of powers that it has not seen is near what they bring."""
    critic = make_critic(config(student).student, 16)
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(critic.parameters(), 3e-3)
    errors = []
    for step in range(600):
        given = rayleigh_amplitude(64, 5, generator(step))
        power = torch.rand(64, 1, 5, generator=generator(1000 + step))
        loss = (critic(given.snr, power.squeeze(1)) - sum_rate(given, power).squeeze(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    spread = sum_rate(given, power).var().item()
    assert sum(errors[-20:]) / 20 < 0.6 * spread


def test_reinforcement_moves_the_student_by_the_critic_alone():
    """The sum rate has no way to the student's weights but through the critic."""
    learning = config("message-gnn", objective="reinforcement", samples=None)
    torch.manual_seed(0)
    student, critic = make_student(MessageGnnConfig(hidden=4)), make_critic(MessageGnnConfig(), 4)
    for parameter in critic.parameters():
        torch.nn.init.zeros_(parameter)
    learner = torch.nn.ModuleDict({"student": student, "critic": critic})
    batch = Batch(rayleigh_amplitude(8, 5, generator()), None, None, generator(1))
    training._loss(learning, learner, batch, 0.0).backward()
    assert all(parameter.grad is None or bool((parameter.grad == 0).all()) for parameter in student.parameters())
    assert any(bool((parameter.grad != 0).any()) for parameter in critic.parameters() if parameter.grad is not None)


def test_reinforcement_with_an_algorithm_learns():
    settings = {"objective": "reinforcement", "samples": None, "steps": 200, "algorithm": {"beta": 2.0}}
    assert rate(train(config("message-gnn", **settings), 0)) > rate(train(config("message-gnn", steps=1), 0)) + 0.05


# --- repeating, stopping, resuming ---


@pytest.mark.parametrize("settings", [{}, {"samples": None}, {"samples": None, "algorithm": {"beta": 1.0}}])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, same_weights, settings):
    whole = train(config("unrolled-gnn", **settings), 3)

    class KilledError(Exception):
        pass

    def kill(step, _):
        if step == 17:
            raise KilledError

    with pytest.raises(KilledError):
        train(config("unrolled-gnn", **settings), 3, tmp_path, on_step=kill)
    steps = []
    resumed = train(
        config("unrolled-gnn", **settings), 3, tmp_path, resume=True, on_step=lambda step, _: steps.append(step)
    )
    assert steps == [10, *range(11, 31)]
    assert same_weights(whole, resumed)


def test_seeds_differ(same_weights):
    assert same_weights(train(config(), 1), train(config(), 1))
    assert not same_weights(train(config(), 1), train(config(), 2))


def test_a_training_is_not_overwritten(tmp_path):
    train(config(), 0, tmp_path)
    with pytest.raises(InputError, match="there is a training already"):
        train(config(), 0, tmp_path)
    with pytest.raises(InputError, match="of another training: batch_size was 16, now it is 8"):
        train(config(batch_size=8), 0, tmp_path, resume=True)


def test_every_sample_is_met_once_an_epoch():
    samples = draw(PoolJob(config(), 0, 0))
    epoch = torch.cat([samples.batch(step).channels.snr[:, 0, 0] for step in range(4)])
    following = torch.cat([samples.batch(step).channels.snr[:, 0, 0] for step in range(4, 8)])
    assert len(epoch.unique()) == 64
    assert torch.equal(epoch.sort().values, following.sort().values)
    assert not torch.equal(epoch, following)


def test_new_instances_are_labelled_by_their_algorithm():
    learning = config(samples=None, algorithm={"beta": 1.0})
    for step in (0, 5, 40):
        batch = draw(PoolJob(learning, 0, pool_of(learning, step))).batch(step)
        expected = apply("fplinq", batch.channels, generator()).squeeze(1)
        assert torch.allclose(batch.algorithm, expected, atol=1e-3)


# --- configurations ---


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("setting: moon\n", "setting = 'moon'"),
        ("links: [6]\n", "links: a perceptron for K = 5 works for no other K"),
        ("links: []\n", "links"),
        ("starts: 4\n", "starts: a mlp has one candidate"),
        ("samples: 8\n", "batch_size: 16 is more than 8 samples"),
        ("teacher: all-on\n", "teacher = 'all-on'"),
        ("algorithm: {teacher: magic}\n", "algorithm.teacher = 'magic'"),
        ("algorithm: {beta: -1}\n", "algorithm.beta"),
        ("width: 3\n", "width: no such field"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, settings, says):
    given = {"setting": "seed", "links": "[5]", "student": "{kind: mlp, links: 5}", "batch_size": "16"}
    given.pop(settings.split(":")[0], None)
    path = tmp_path / "mine.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in given.items()) + settings)
    with pytest.raises(InputError) as caught:
        load_train_config(str(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unrolled_student_has_no_use_for_a_critic():
    with pytest.raises(ValueError, match="reinforcement learning is for mlp and message-gnn"):
        config("unrolled-gnn", objective="reinforcement")


# --- files ---


def test_students_survive_their_file(tmp_path, same_weights):
    students = {seed: train(config("unrolled-gnn"), seed) for seed in (0, 4)}
    save_students(students, config("unrolled-gnn"), tmp_path / STUDENT_FILE)
    found, about = load_students(SHIPPED_STUDENTS.find(str(tmp_path)))
    assert about == config("unrolled-gnn")
    assert list(found) == [0, 4]
    assert all(same_weights(found[seed], students[seed]) for seed in students)


def test_an_invalid_student_is_rejected(tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"noise.pt: not a student"):
        load_students(tmp_path / "noise.pt")
    with pytest.raises(InputError, match="no such student"):
        load_students(tmp_path / "none.pt")
    with pytest.raises(InputError, match="no such student"):
        SHIPPED_STUDENTS.find("nobody")
    data = {"format": "distila-resource-student/1", "config": config().model_dump_json(), "weights": {0: {}}}
    torch.save(data, tmp_path / "empty.pt")
    with pytest.raises(InputError, match="of another architecture"):
        load_students(tmp_path / "empty.pt")

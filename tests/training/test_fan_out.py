"""One function over many items: order, laziness, Ray and its absence."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from distila.training.learning.fan_out import fan_out
from distila.training.sim.conditions import Banks
from distila.xapp.errors import InputError


class FakeRay:
    """Ray in this process: a task runs when its result is asked for."""

    def __init__(self):
        self.submitted, self.done, self.most_at_once = [], 0, 0

    def is_initialized(self):
        return True

    def remote(self, function):
        def submit(item):
            self.submitted.append(item)
            self.most_at_once = max(self.most_at_once, len(self.submitted) - self.done)
            return function, item

        return SimpleNamespace(remote=submit)

    def get(self, task):
        self.done += 1
        return task[0](task[1])


@pytest.fixture
def fake(monkeypatch):
    module = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", module)
    return module


# --- here ---


@pytest.mark.parametrize("workers", [0, 1])
def test_one_worker_is_this_process(monkeypatch, workers):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(fan_out(lambda x: x * x, [3, 1, 2], workers)) == [9, 1, 4]
    assert list(fan_out(lambda x: x, [], workers)) == []


def test_nothing_is_done_before_it_is_asked_for():
    done = []
    results = fan_out(lambda x: done.append(x) or x, [1, 2, 3], 1)
    assert done == []
    assert next(results) == 1
    assert done == [1]


# --- several workers ---


def test_results_have_the_order_of_the_items(fake):
    assert list(fan_out(lambda x: x * x, [3, 1, 2, 5], 3)) == [9, 1, 4, 25]
    assert list(fan_out(lambda x: x, [], 3)) == []


def test_no_more_than_the_workers_are_at_it_at_once(fake):
    results = fan_out(lambda x: x, list(range(7)), 3)
    assert next(results) == 0
    assert fake.submitted == [0, 1, 2]
    assert next(results) == 1
    assert fake.submitted == [0, 1, 2, 3]
    assert list(results) == [2, 3, 4, 5, 6]
    assert fake.most_at_once == 3


def test_more_workers_than_items(fake):
    assert list(fan_out(lambda x: -x, [1, 2], 8)) == [-1, -2]
    assert fake.submitted == [1, 2]


def test_a_worker_has_one_torch_thread(fake):
    torch.set_num_threads(2)
    try:
        assert list(fan_out(lambda x: torch.get_num_threads(), [1, 2], 2)) == [1, 1]
    finally:
        torch.set_num_threads(1)


def test_without_ray_several_workers_are_rejected(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError) as caught:
        list(fan_out(abs, [1], 2))
    assert str(caught.value) == "2 workers need Ray: pip install 'distila[scale]', or take 1 worker"


# --- with Ray itself ---


@pytest.mark.slow
def test_ray_gives_what_one_worker_gives(ray):
    def work(x):
        return x * x, torch.get_num_threads()

    assert list(fan_out(work, list(range(5)), 2)) == [(x * x, 1) for x in range(5)]


@pytest.mark.slow
def test_an_error_on_a_worker_is_one_line(ray):
    def fail(x):
        raise InputError("steady.yaml: no such file")

    with pytest.raises(InputError) as caught:
        list(fan_out(fail, [1], 2))
    assert str(caught.value) == "steady.yaml: no such file"


def test_a_cache_that_is_given_by_a_relative_path_is_the_same_folder_on_every_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Banks(cache=Path("banks")).cache == tmp_path / "banks"


@pytest.mark.slow
def test_two_workers_train_the_same_weights_as_one(ray, tiny, train, same_weights, tmp_path):
    """The channels are Sionna's, from a cache: what this process knows without it, workers do not."""
    pytest.importorskip("sionna")
    config = tiny(episodes=3, episodes_per_round=2)
    one, two = (train(config, f"{workers}", workers=workers, cache=tmp_path / "banks") for workers in (1, 2))
    assert same_weights(one, two)


@pytest.mark.slow
def test_the_command_trains_the_same_q_network_on_two_workers(ray, workplace, distila):
    pytest.importorskip("sionna")
    pytest.importorskip("torchrl")
    sizes = {"links": 16, "slots": 50, "batch_size": 64, "buffer_size": 1000, "bank_rows": 2, "bank_slots": 64}
    sizes |= {"evaluation_links": 4, "evaluation_slots": 40, "episodes": 3, "episodes_per_round": 2}
    config = {**sizes, "scenarios": ["steady.yaml"], "device": "cpu", "network": {"hidden": [16]}, "algorithm": {}}
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    for workers in (1, 2):
        arguments = ("--config", "tiny.yaml", "--cache", "banks", "--workers", workers, "--out", f"made{workers}")
        done = distila("train", "dqn", *arguments)
        assert (done.status, done.err) == (0, "")
    assert Path("made1/bundle/policy.onnx").read_bytes() == Path("made2/bundle/policy.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 64},
        {"starts": 2, "links": [4, 5]},
        {"objective": "supervised", "teacher": "wmmse-best-of-100", "algorithm": {"beta": 1.0}},
    ],
)
def test_two_workers_train_the_same_powers_as_one(ray, same_weights, settings):
    from distila.training.resource.train_config import TrainConfig
    from distila.training.resource.training import train

    student = {"kind": "unrolled-gnn", "hidden": 8, "rounds": 2}
    config = TrainConfig.model_validate(
        {"setting": "seed", "links": [5], "student": student, "steps": 70, "batch_size": 8, **settings}
    )
    assert same_weights(*(train(config, 3, workers=workers) for workers in (1, 2)))

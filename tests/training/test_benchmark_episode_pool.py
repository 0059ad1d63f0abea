"""All episodes of a benchmark: each is run once, kept in a file, and never run again; however many processes do it."""

import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distila.training import baselines
from distila.training.baselines import BASELINES
from distila.training.benchmark import episode_pool
from distila.training.benchmark.episode import Episode, EpisodePlan
from distila.training.benchmark.episode_pool import banks_of, code_digest, episode_path, known_device, run_all
from distila.training.benchmark.policies import GENIES, parse_policy
from distila.training.benchmark.sizes import Sizes
from distila.training.sim.scenario import Scenario
from distila.training.sim.split import Split
from distila.xapp.errors import InputError

pytest.importorskip("sionna")

ROOT = Path(__file__).resolve().parents[2]
SIZES = Sizes(links=8, duration_ms=60, warmup_ms=10, bank_rows=4, bank_slots=256)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(autouse=True)
def tuned(monkeypatch):
    untuned = {name: {"global": {}, "families": {}} for name in BASELINES if name not in GENIES}
    monkeypatch.setattr(baselines, "_tuned", lambda: untuned)


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def a_plan(policy, cache, seed=0, sizes=SIZES, **settings):
    scenario = Scenario.model_validate({"name": "made_up", "channels": [{"model": "TDL-A"}], **settings})
    return EpisodePlan(scenario, parse_policy(policy), Split.TEST, seed, sizes, cache)


@pytest.fixture
def plans(cache):
    return [a_plan(policy, cache, seed) for policy in ("illa:default", "olla:default", "genie") for seed in (0, 1)]


@pytest.fixture
def ran(monkeypatch):
    """Names of the policies that were run, in order."""
    names, real = [], episode_pool.run_episode

    def run_episode(plan):
        names.append(plan.policy.name)
        return real(plan)

    monkeypatch.setattr(episode_pool, "run_episode", run_episode)
    return names


def assert_same(ones, others, *but):
    for one, other in zip(ones, others, strict=True):
        for field in fields(Episode):
            if field.name not in but:
                ours, theirs = getattr(one, field.name), getattr(other, field.name)
                assert np.array_equal(ours, theirs, equal_nan=True), field.name


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# --- what a result is of ---


@pytest.mark.parametrize(
    "source",
    [
        "training/sim/simulator.py",
        "training/baselines/olla.py",
        "training/network/network.py",
        "training/benchmark/episode.py",
        "training/benchmark/policies.py",
        "xapp/nr/bler.py",
        "xapp/policy/olla.py",
        "xapp/kpi/report.py",
    ],
)
def test_a_change_of_code_that_decides_a_result_changes_the_digest(monkeypatch, source):
    before, real = code_digest.__wrapped__(), Path.read_bytes
    changed = ROOT / "distila" / source
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + (b"\nX = 1" if path == changed else b""))
    assert code_digest.__wrapped__() != before


def test_a_change_of_comments_and_docstrings_does_not(monkeypatch):
    before, real = code_digest.__wrapped__(), Path.read_bytes
    reworded = ROOT / "distila" / "training/sim/split.py"

    def read(path):
        source = real(path)
        if path != reworded:
            return source
        assert b'"""The entropy of' in source
        return b"# another remark\n" + source.replace(b'"""The entropy of', b'"""Another wording of')

    monkeypatch.setattr(Path, "read_bytes", read)
    assert code_digest.__wrapped__() == before


def test_so_does_another_error_rate_model(monkeypatch):
    before, real = code_digest.__wrapped__(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + (b"#" if path.suffix == ".npz" else b""))
    assert code_digest.__wrapped__() != before


def test_code_that_only_shows_results_does_not_change_the_digest(monkeypatch):
    before, real = code_digest.__wrapped__(), Path.read_bytes
    shown = ROOT / "distila/training/benchmark/global_page.py"
    assert shown.is_file()
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + (b"\nX = 1" if path == shown else b""))
    assert code_digest.__wrapped__() == before


def test_every_plan_has_a_file_of_its_own(plans, cache):
    others = [replace(plans[0], sizes=SIZES.model_copy(update={"links": 9})), a_plan("illa@xapp", cache)]
    paths = [episode_path(Path("x"), plan, code) for plan in [*plans, *others] for code in ("this", "that")]
    assert len(set(paths)) == len(paths)


def test_names_of_files_are_plain_whatever_the_policy_is_called(cache):
    bundle = a_plan(str(ROOT / "xapp" / "policy" / "bundles" / "olla"), cache)
    for plan in (bundle, a_plan("olla:default@xapp", cache)):
        name = episode_path(Path("x"), plan, "code").name
        assert name.startswith("made_up-")
        assert not set(name) & set('/\\:*?"<>| ')
        assert len(name) < 150


# --- banks ---


def test_policies_share_banks_and_seeds_do_not(plans, cache):
    assert [(bank.seed, bank.channel.model) for bank in banks_of(plans)] == [(0, "TDL-A"), (1, "TDL-A")]
    both = a_plan("illa", cache, channels=[{"model": "TDL-A"}, {"model": "TDL-C"}])
    assert [bank.channel.model for bank in banks_of([both, plans[0]])] == ["TDL-A", "TDL-C"]
    assert {(bank.rows, bank.slots, bank.split, bank.cache) for bank in banks_of(plans)} == {
        (4, 256, Split.TEST, cache)
    }


def test_banks_are_there_before_the_first_episode(tmp_path, monkeypatch):
    def run_episode(plan):
        raise InputError(f"{len(list((tmp_path / 'cache').iterdir()))} banks")

    monkeypatch.setattr(episode_pool, "run_episode", run_episode)
    with pytest.raises(InputError, match="2 banks"):
        run_all([a_plan("illa", tmp_path / "cache", seed) for seed in (0, 1)], tmp_path / "out", 1)


# --- running, and going on ---


def test_results_come_in_the_order_of_the_plans(plans, tmp_path):
    found = run_all(plans, tmp_path, 1)
    assert_same(found, [episode_pool.run_episode(plan) for plan in plans], "elapsed_s")
    assert len(stamps(tmp_path)) == len(plans)


def test_progress_counts_banks_then_episodes(plans, tmp_path):
    banks, episodes = [], []
    run_all(plans, tmp_path, 1, lambda *x: banks.append(x), lambda *x: episodes.append(x))
    assert banks == [(0, 2), (1, 2), (2, 2)]
    assert episodes == [(done, 6) for done in range(7)]


def test_a_second_run_runs_nothing(plans, tmp_path, ran):
    first = run_all(plans, tmp_path, 1)
    before, banks, episodes = stamps(tmp_path), [], []
    ran.clear()
    second = run_all(plans, tmp_path, 1, lambda *x: banks.append(x), lambda *x: episodes.append(x))
    assert (ran, banks, episodes) == ([], [(0, 0)], [(6, 6)])
    assert stamps(tmp_path) == before
    assert_same(first, second)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_goes_on_with_what_is_missing(plans, tmp_path, ran, stop):
    def interrupt(done, total):
        if done == 2:
            raise stop

    with pytest.raises(stop):
        run_all(plans, tmp_path / "stopped", 1, on_episode=interrupt)
    before = stamps(tmp_path / "stopped")
    assert len(before) == 2
    done = ran.copy()
    found = run_all(plans, tmp_path / "stopped", 1)
    assert sorted(ran) == sorted(plan.policy.name for plan in plans)
    assert ran[:2] == done
    assert before.items() <= stamps(tmp_path / "stopped").items()
    assert_same(found, run_all(plans, tmp_path / "whole", 1), "elapsed_s")


def test_a_run_that_dies_leaves_no_half_result(plans, tmp_path, monkeypatch):
    def savez(file, **data):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", savez)
        with pytest.raises(KeyboardInterrupt):
            run_all(plans[:1], tmp_path, 1)
    assert stamps(tmp_path) == {}
    assert len(run_all(plans[:1], tmp_path, 1)) == 1


def test_other_settings_and_other_code_are_other_results(plans, tmp_path, ran, monkeypatch):
    run_all(plans[:1], tmp_path, 1)
    run_all([replace(plans[0], sizes=SIZES.model_copy(update={"links": 9}))], tmp_path, 1)
    monkeypatch.setattr(episode_pool, "code_digest", lambda: "changed")
    run_all(plans[:1], tmp_path, 1)
    assert len(ran) == len(stamps(tmp_path)) == 3


def test_code_that_changes_meanwhile_does_not_divide_a_run_in_two(plans, tmp_path, monkeypatch):
    digests = iter(str(number) for number in range(100))
    monkeypatch.setattr(episode_pool, "code_digest", lambda: next(digests))
    assert len(run_all(plans, tmp_path, 1)) == len(plans)


def test_a_case_requested_twice_is_run_once(plans, tmp_path, ran):
    counts = []
    found = run_all([*plans[:2], *plans[:2]], tmp_path, 1, on_episode=lambda *x: counts.append(x))
    assert len(ran) == 2
    assert counts[-1] == (2, 2)
    assert_same(found[:2], found[2:])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_damaged_result_is_named_and_not_replaced(plans, tmp_path, ran):
    run_all(plans, tmp_path, 1)
    path = episode_path(tmp_path, plans[0], code_digest())
    path.write_bytes(b"damage")
    with pytest.raises(InputError, match=path.name):
        run_all(plans, tmp_path, 1)
    assert path.read_bytes() == b"damage"
    path.unlink()
    ran.clear()
    assert len(run_all(plans, tmp_path, 1)) == len(plans)
    assert len(ran) == 1


@pytest.mark.slow
def test_two_processes_do_the_very_same(cache, tmp_path, monkeypatch):
    monkeypatch.undo()  # the processes have the settings that ship
    if not baselines._tuned():
        pytest.skip("no settings ship yet")
    policies = ("salad:default", "thompson:default", "bler-window:default", "genie")
    plans = [
        a_plan(policy, cache, seed, SIZES.model_copy(update={"duration_ms": 100}))
        for policy in policies
        for seed in (0, 1)
    ]
    counts = []
    both = run_all(plans, tmp_path / "two", 2, on_episode=lambda *x: counts.append(x))
    assert counts[0] == (0, 8)
    assert counts[-1] == (8, 8)
    assert_same(both, run_all(plans, tmp_path / "one", 1), "elapsed_s")
    assert stamps(tmp_path / "two").keys() == stamps(tmp_path / "one").keys()
    counts.clear()
    assert_same(both, run_all(plans, tmp_path / "two", 2, on_episode=lambda *x: counts.append(x)))
    assert counts == [(8, 8)]


SLEEPERS = """
import time
from distila.training.benchmark.episode_pool import _for_each
if __name__ == "__main__":
    _for_each(time.sleep, [1.0] * 2 + [300.0] * 5, 2, lambda done, total: print(done, flush=True), 0, 7)
"""


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_episodes(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    child = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with child:
        while child.stdout.readline() != b"2\n":  # both processes are at work
            assert child.poll() is None
        os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            pytest.fail("still waiting")


# --- devices ---


def test_a_device_that_is_not_there_is_rejected(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert known_device("cpu") == "cpu"
    with pytest.raises(InputError, match="--device cuda"):
        known_device("cuda")

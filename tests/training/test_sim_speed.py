"""`distila bench sim`: what it reports, how it refuses, and that the simulator is much faster than Sionna's loop."""

import json
from contextlib import contextmanager

import pytest

pytest.importorskip("torch", reason="needs the extra `training`", exc_type=ImportError)
pytest.importorskip("sionna.sys", reason="needs the extra `training`", exc_type=ImportError)

from distila.replay.commands import bench
from distila.training.benchmark import sim_speed
from distila.training.sim.conditions import Banks
from distila.xapp.errors import InputError

KEYS = {
    "kind",
    "version",
    "links",
    "device",
    "threads",
    "report_period_slots",
    "rounds",
    "ue_slots_per_s",
    "sionna_ue_slots_per_s",
    "ratio",
    "ratio_min",
    "ratio_max",
    "every_slot_ue_slots_per_s",
    "bare_link_ue_slots_per_s",
    "cuda",
}


@pytest.fixture
def small_bank(monkeypatch, tmp_path):
    monkeypatch.setattr(sim_speed, "_BANKS", Banks(rows=4, slots=100, cache=tmp_path))


def stages():
    """Progress bars that write down what they are told."""
    shown = []

    @contextmanager
    def stage(description, unit):
        shown.append(description)
        yield lambda done, total: shown.append((done, total))

    return stage, shown


def test_measures_both_in_the_same_rounds(small_bank):
    stage, shown = stages()
    result = sim_speed.bench_sim(links=20, slots=45, seconds=0, device="cpu", stage=stage)
    assert (result.links, result.device, result.rounds) == (20, "cpu", sim_speed.LEAST_ROUNDS)
    assert 0 < result.ratio_min <= result.ratio <= result.ratio_max
    assert min(value for key, value in result.model_dump().items() if key.endswith("slots_per_s")) > 0
    assert "measuring" in shown


def test_a_gpu_that_is_not_there_is_rejected(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="device 'cuda': torch finds no usable GPU"):
        sim_speed.bench_sim(links=1, slots=1, seconds=0, device="cuda", stage=stages()[0])
    with pytest.raises(InputError, match="device 'tpu' must be cpu or cuda"):
        sim_speed.bench_sim(links=1, slots=1, seconds=0, device="tpu", stage=stages()[0])


@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_prints_json_or_a_table(small_bank, monkeypatch, capsys, as_json):
    monkeypatch.setattr(bench, "_benchmark", lambda name: sim_speed.bench_sim)
    bench.sim(links=10, slots=40, seconds=0, device="cpu", json=as_json)
    printed = capsys.readouterr().out
    if as_json:
        assert set(json.loads(printed)) == KEYS
    else:
        assert "Sionna: OuterLoopLinkAdaptation" in printed
        assert "times as fast as Sionna" in printed


def test_the_benchmark_is_found_by_its_entry_point_and_a_missing_package_is_named(monkeypatch):
    class Entry:
        def load(self):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(bench, "entry_points", lambda **_: (Entry(),))
    with pytest.raises(InputError, match=r"^bench sim needs the package 'torch': pip install 'distila\[training\]'$"):
        bench._benchmark("sim")
    monkeypatch.setattr(bench, "entry_points", lambda **_: ())
    with pytest.raises(InputError, match="bench sim is not part of this installation"):
        bench._benchmark("sim")


@pytest.mark.slow
def test_far_faster_than_sionna():
    # 50 is what it is measured against on a quiet machine; a busy one slows the two down unevenly.
    result = sim_speed.bench_sim(links=10_000, slots=320, seconds=5, device="cpu", stage=stages()[0])
    assert result.ratio_max > 20

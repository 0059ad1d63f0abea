"""The benchmark, the study and the command line."""

import json

import numpy as np
import pytest
import torch
import yaml

from distila.training.resource import study as study_module
from distila.training.resource.algorithms.wmmse import all_ones, wmmse
from distila.training.resource.charts import (
    family,
    figure_table,
    markdown,
    write_figure,
    write_quality_time,
    write_times,
)
from distila.training.resource.contest import ContestRow, MlpTime, Point, WmmseShare, _bound, load_bench, run_bench
from distila.training.resource.problems import rayleigh, sum_rate
from distila.training.resource.seed_paper import FIGURES, METHODS
from distila.training.resource.store import STUDENTS, load_students
from distila.training.resource.students import UnrolledGnnConfig, make_student
from distila.training.resource.study import STRONG, RunResult, StudyConfig, find_figure, load_study, reproduce
from distila.training.resource.train_config import load_train_config
from distila.xapp.commands.terminal import progress_bar
from distila.xapp.errors import InputError

TINY_STUDY = {
    "seeds": 2,
    "instances": 20,
    "mlp": {"steps": 4, "reinforcement_steps": 4, "batch_size": 16, "student": {"hidden": [8]}},
    "gnn": {"steps": 4, "reinforcement_steps": 4, "batch_size": 16, "student": {"hidden": 4, "rounds": 1}},
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def student():
    torch.manual_seed(0)
    return make_student(UnrolledGnnConfig(rounds=2, hidden=8)).eval()


# --- a student as it is used ---


def test_more_candidates_and_flips_are_no_worse(student):
    given = rayleigh(50, 8, 10.0, generator())

    def rate(point):
        return sum_rate(given, point.power(student, given, generator(1))).squeeze(1)

    one = rate(Point())
    assert bool((rate(Point(starts=8)) >= one - 1e-5).all())
    scheduled = rate(Point(starts=8, scheduled=True))
    assert bool((rate(Point(starts=8, scheduled=True, flips=8)) >= scheduled - 1e-4).all())


def test_a_point_gives_one_power_and_on_off_is_on_off(student):
    given = rayleigh(6, 5, 10.0, generator())
    assert Point(starts=4).power(student, given, generator()).shape == (6, 1, 5)
    assert set(Point(starts=4, scheduled=True).power(student, given, generator()).unique().tolist()) <= {0.0, 1.0}
    assert [Point().name, Point(starts=16, scheduled=True, flips=3).name] == ["x1", "x16 on-off +3"]


def test_an_exported_student_is_as_good_as_the_one_in_pytorch(student):
    given = rayleigh(40, 7, 10.0, generator())
    for starts in (1, 4):
        powers = [_bound(Point(starts=starts, onnx=onnx), student)(given, generator(2)) for onnx in (False, True)]
        rates = [sum_rate(given, power).squeeze(1) for power in powers]
        assert powers[1].shape == (40, 1, 7)
        assert torch.allclose(*rates, atol=1e-3)


# --- the benchmark ---


def test_rows_have_the_documented_columns(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "links_tested: 400\nfewest_instances: 40\ntimed_s: 0.01\nmlp_times: [4]\n"
        "contests:\n  - setting: rayleigh-10db\n    links: [5, 8]\n    methods: [all-on, brute-force, wmmse-5]\n"
    )
    found = run_bench(load_bench(str(path)), lambda done, total: None)
    rows = {(row.k, row.method): row for row in found.rows}
    assert set(rows) == {(k, method) for k in (5, 8) for method in ("wmmse", "all-on", "brute-force", "wmmse-5")}
    given = rayleigh(80, 5, 10.0, generator(2_308_075_110 + 5))
    reference = sum_rate(given, wmmse(given, all_ones(given))).mean().item()
    assert rows[5, "wmmse"].sum_rate == pytest.approx(reference, abs=1e-3)
    assert rows[5, "wmmse"].pct_of_wmmse.mean == 100
    assert rows[5, "all-on"].pct_of_wmmse.mean < 90
    assert rows[5, "brute-force"].pct_of_wmmse.min > 100
    assert all(row.us_per_instance > 0 for row in found.rows)
    assert found.mlp_times[0].wmmse_over_mlp > 1
    assert json.loads(found.json_text())["kind"] == "resource-bench"


def test_charts_of_the_benchmark(tmp_path):
    rows = [
        ContestRow(
            setting="rayleigh-10db", k=k, method=method, sum_rate=1.0, us_per_instance=us, times_wmmse=us / 20,
            pct_of_wmmse=WmmseShare(mean=pct, min=pct, ci95=None, values=(pct,)), instances=100, seeds=1,
        )
        for k in (10, 30)
        for method, us, pct in (("wmmse", 20.0, 100.0), ("wmmse-10", 2.0, 97.0), ("wmmse-best-of-100", 600.0, 105.0),
                                ("rayleigh-10db x4", 6.0, 103.0), ("rayleigh-10db x8 on-off +3", 9.0, 104.0))
    ]  # fmt: skip
    write_quality_time(tmp_path / "curve.png", rows, "rayleigh-10db")
    write_times(tmp_path / "times.png", [MlpTime(k=10, wmmse_us=20.0, mlp_us=0.3, wmmse_over_mlp=66.7)])
    for name in ("curve", "times"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert family("wmmse-10") == family("wmmse")
    assert family("rayleigh-10db x4") != family("rayleigh-10db x8 on-off +3")


@pytest.mark.parametrize("name", ["full", "quick"])
def test_benchmarks_that_ship_load_and_have_their_students(name):
    for contest in load_bench(name).contests:
        for student_name in contest.students:
            students, config = load_students(STUDENTS.paths()[student_name])
            assert len(students) == 5
            assert config == load_train_config(student_name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"setting": "moon"}, "setting 'moon'"),
        ({"methods": ["magic"]}, "method 'magic'"),
        ({"methods": ["brute-force"], "links": [10, 40]}, "brute force: 40 links"),
        ({"links": []}, "links"),
        ({"students": {"rayleigh-10db": [{"flips": 2}]}}, "flips: needs scheduled: true"),
        ({"students": {"rayleigh-10db": [{"onnx": True, "scheduled": True}]}}, "onnx: the graph returns"),
    ],
)
def test_a_wrong_benchmark_is_one_line(tmp_path, change, says):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"contests": [{"setting": "seed", "links": [5], **change}]}))
    with pytest.raises(InputError) as caught:
        load_bench(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- students that ship: what docs/resource.md says of them, on fewer instances ---


@pytest.mark.parametrize(("name", "links", "at_least"), [("rayleigh-10db", 10, 104.3), ("rayleigh-0db", 10, 101.3)])
def test_every_seed_of_a_shipped_student_beats_wmmse_and_none_collapsed(name, links, at_least):
    config = load_train_config(name)
    students, _ = load_students(STUDENTS.paths()[name])
    given = rayleigh(1000, links, 10.0 if "10db" in name else 0.0, generator(4))
    reference = sum_rate(given, wmmse(given, all_ones(given))).mean()
    assert len(students) == 5
    assert config.links[0] == links
    for student in students.values():
        rate = sum_rate(given, Point(starts=16).power(student, given, generator(1))).mean()
        assert 100 * rate / reference > at_least


def test_shipped_students_are_small():
    assert sum(path.stat().st_size for path in STUDENTS.paths().values()) < 1_000_000


# --- the study ---


def study(**settings):
    return StudyConfig.model_validate({**TINY_STUDY, **settings})


@pytest.mark.parametrize("name", ["6", "5"])
def test_a_figure_has_every_method_beside_the_papers_value(tmp_path, name):
    found = reproduce(study(), name, tmp_path, progress_bar)
    figure = FIGURES[name]
    assert [(row.at, row.method) for row in found.rows] == [
        (at, method) for at in figure.values for method in (*METHODS, *STRONG)
    ]
    for row in found.rows:
        assert len(row.sum_rate.values) == 2
        expected = dict(zip(METHODS, figure.values[row.at], strict=True)).get(row.method)
        assert row.seed_paper == expected
    columns, rows = figure_table(found)
    page = markdown(columns, rows)
    assert page.count("\n") == len(found.rows) + 2
    write_figure(tmp_path / "figure.png", found)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(found.json_text())["kind"] == "resource-figure"


def test_a_study_goes_on_where_it_was_and_figures_share_trainings(tmp_path, monkeypatch):
    trained = []
    train = study_module.train
    monkeypatch.setattr(study_module, "train", lambda *args, **kwargs: trained.append(args) or train(*args, **kwargs))
    first = reproduce(study(seeds=1), "5", tmp_path, progress_bar)
    assert len(trained) == 7
    again = reproduce(study(seeds=1), "5", tmp_path, progress_bar)
    assert len(trained) == 7
    assert again == first
    reproduce(study(), "5", tmp_path, progress_bar)  # a second seed
    assert len(trained) == 14
    with pytest.raises(InputError, match="of another study; take another --out"):
        reproduce(study(instances=30), "5", tmp_path, progress_bar)


def test_each_method_is_trained_as_it_says(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(study_module, "_train", lambda run: seen.setdefault(run.method, run))
    monkeypatch.setattr(
        study_module,
        "_result",
        lambda run: RunResult(config=run.config, instances=20, sum_rate=1, sum_rate_scheduled=1, curve=[]),
    )
    for name, plain in (("4a", "unsupervised"), ("7", "reinforcement")):
        seen.clear()
        reproduce(study(), name, tmp_path / name, progress_bar)
        assert {method: run.config.objective for method, run in seen.items()} == {
            **dict.fromkeys((*METHODS, *STRONG), plain),
            "supervised": "supervised",
        }
        schedules = {method: run.config.algorithm and run.config.algorithm.schedule for method, run in seen.items()}
        assert schedules == {
            "ad-decreasing": "decreasing",
            "ad-fixed": "fixed",
            "ad-increasing": "increasing",
            "supervised": None,
            "plain": None,
            "plain-bn": None,
            "ad-decreasing-bn": "decreasing",
        }
        assert {method for method, run in seen.items() if run.config.student.batch_norm} == set(STRONG)


@pytest.mark.parametrize("name", ["full", "quick"])
def test_studies_that_ship_load(name):
    assert load_study(name).seeds == (5 if name == "full" else 2)


def test_an_unknown_figure_is_rejected():
    with pytest.raises(InputError, match="figure '9': there are 3a, 3b"):
        find_figure("9")


def test_the_papers_values_are_those_of_its_figures():
    """A spot check: GNN of 40 links from 1000 samples; the same from rewards, beta fixed; MLP of 20 links."""
    assert FIGURES["4b"].values[40][0] == 2.316
    assert FIGURES["8"].values[40][1] == 2.458
    assert FIGURES["3b"].values[20][0] == 1.858


# --- the command line ---


@pytest.fixture
def channel(tmp_path):
    path = tmp_path / "channel.npy"
    np.save(path, np.random.default_rng(0).exponential(10, (3, 6, 6)))
    return path


def test_solving_channels_of_ones_own(distila, channel, tmp_path):
    rates = {}
    for method in ("wmmse", "brute-force", "all-on"):
        result = distila("resource", "solve", "--channel", channel, "--method", method, "--json")
        assert result.status == 0, result.err
        rates[method] = json.loads(result.out)["sum_rate"]
    assert all(best >= other for best, other in zip(rates["brute-force"], rates["all-on"], strict=True))
    table = tmp_path / "one.csv"
    table.write_text("4, 1\n0, 9\n")
    result = distila("resource", "solve", "--channel", table, "--method", "all-on")
    assert "4.907" in result.out  # log2(1 + 4 / 2) + log2(1 + 9)


def test_weights_count(distila, tmp_path):
    """Two links that cannot share: the weight decides which of them is on."""
    np.save(tmp_path / "two.npy", np.array([[10.0, 90.0], [90.0, 9.0]]))
    np.save(tmp_path / "weights.npy", np.array([0.1, 1.0]))
    given = ("resource", "solve", "--channel", tmp_path / "two.npy", "--method", "brute-force", "--json")
    assert json.loads(distila(*given).out)["power"] == [[1.0, 0.0]]
    assert json.loads(distila(*given, "--weights", tmp_path / "weights.npy").out)["power"] == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("values", "method", "says"),
    [
        (np.ones((2, 3)), "wmmse", "1x2x3; must be square"),
        (-np.ones((2, 2)), "wmmse", "[0, 0, 0] is -1"),
        (np.full((2, 2), np.nan), "wmmse", "[0, 0, 0] is nan"),
        (np.ones((0, 2, 2)), "wmmse", "there is no link in it"),
        (np.ones((17, 17)), "brute-force", "it goes up to K = 16"),
        (np.ones((2, 2)), "magic", "method 'magic'"),
        (np.ones((4, 4)), "mlp-rayleigh-10db", "a perceptron for K = 10; the channel has 4 links"),
        (np.array(["x"]), "wmmse", "neither .npy nor .csv with numbers"),
    ],
)
def test_an_unsolvable_problem_is_one_line(distila, tmp_path, values, method, says):
    np.save(tmp_path / "mine.npy", values)
    result = distila("resource", "solve", "--channel", tmp_path / "mine.npy", "--method", method)
    assert result.status == 2
    assert says in result.err
    assert result.err.count("\n") == 1


def test_a_file_that_is_not_there(distila, tmp_path):
    result = distila("resource", "solve", "--channel", tmp_path / "none.npy")
    assert result.status == 2
    assert "none.npy: No such file" in result.err


def test_training_exporting_and_solving_with_what_came_out(distila, channel, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "setting: rayleigh-10db\nlinks: [4, 6]\nstudent: {kind: unrolled-gnn, rounds: 1, hidden: 4}\nsteps: 8\n"
        "batch_size: 8\nstarts: 2\n"
    )
    out = tmp_path / "student"
    result = distila("resource", "train", "--config", config, "--out", out, "--json")
    assert result.status == 0, result.err
    assert set(json.loads(result.out)["tests"]) == {"4", "6"}
    again = distila("resource", "train", "--config", config, "--out", out)
    assert again.status == 2
    assert "there is a training already" in again.err
    assert distila("resource", "export", "--student", out, "--out", tmp_path / "a.onnx").status == 0
    rejected = distila("resource", "export", "--student", out, "--seed", 3, "--out", tmp_path / "a.onnx")
    assert "--seed 3" in rejected.err
    solved = distila("resource", "solve", "--channel", channel, "--method", out, "--json")
    assert len(json.loads(solved.out)["power"]) == 3


def test_building_several_seeds_goes_on_where_it_was(distila, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(
        "setting: seed\nlinks: [4]\nstudent: {kind: mlp, links: 4, hidden: [4]}\nsteps: 3\nbatch_size: 8\n"
    )
    for seeds in (1, 2):
        result = distila("resource", "build", "--students", config, "--seeds", seeds, "--out", tmp_path / "built")
        assert result.status == 0, result.err
    students, _ = load_students(tmp_path / "built" / "mine.pt")
    assert list(students) == [0, 1]


def test_bench_and_reproduce_write_what_they_print(distila, tmp_path, monkeypatch):
    bench = tmp_path / "bench.yaml"
    bench.write_text(
        "links_tested: 200\nfewest_instances: 20\ntimed_s: 0.01\ncontests: [{setting: seed, links: [4]}]\n"
    )
    result = distila("resource", "bench", "--config", bench, "--out", tmp_path / "bench", "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out) == json.loads((tmp_path / "bench" / "bench.json").read_text())
    assert (tmp_path / "bench" / "seed.png").is_file()
    assert "wmmse" in distila("resource", "bench", "--config", bench, "--out", tmp_path / "bench").out
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(TINY_STUDY))
    out = tmp_path / "study"
    result = distila("resource", "reproduce", "--figure", "4a", "--config", config, "--out", out)
    assert result.status == 0, result.err
    assert "2.316" in result.out
    assert (out / "figure-4a.png").is_file()
    assert "| 2.316 |" in (out / "figure-4a.md").read_text()
    rejected = distila("resource", "reproduce", "--figure", "9", "--config", config, "--out", out)
    assert rejected.status == 2
    assert "figure '9'" in rejected.err
    both = distila("resource", "bench", "--quick", "--config", "full")
    assert "--quick is --config quick" in both.err

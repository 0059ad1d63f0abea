"""The student that ships: its gates by hand, recipes, and `distila student build` from nothing to a bundle."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from distila.training.benchmark import episode_pool
from distila.training.benchmark.results import BenchmarkResults
from distila.training.commands import student as command
from distila.training.distill.distill import load_distill
from distila.training.learning import trainer
from distila.training.network.store import load_network
from distila.training.sim.scenario import find_scenario
from distila.training.student.gates import failures
from distila.training.student.recipe import Gates, Recipe, load_recipe
from distila.training.teachers.privileged import load_privileged
from distila.xapp.errors import InputError
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.result_file import read_result

pytest.importorskip("sionna")


# --- gates ---


@pytest.fixture
def results(policy_figures, family_results, benchmark_results):
    """A benchmark of one family: interval of the gain; mean and interval of the difference in residual BLER."""

    def made(gain=(1.0, 3.0), residual=(0.0, (-1e-4, 1e-4)), **settings):
        mean, interval = residual
        student = policy_figures(
            gain_vs_olla_pct={"mean": 0.0, "ci95": gain}, residual_vs_olla={"mean": mean, "ci95": interval}
        )
        loses = policy_figures(gain_vs_olla_pct={"mean": -9.0, "ci95": [-10.0, -8.0]})
        families = {"embb": family_results({"student": student, "salad": loses})}
        known = {"links": 64, "duration_ms": 2000.0, "seeds": [0], "split": "test"}
        return benchmark_results(families, settings={**known, **settings})

    return made


@pytest.fixture
def failed(results):
    """Gates that a student with these figures does not pass."""

    def made(bytes_=1000, gates=None, **figures):
        return failures(Gates(**(gates or {})), bytes_, [results(**figures)], "student")

    return made


def test_a_good_student_passes(failed):
    assert failed() == []


@pytest.mark.parametrize("gain", [(-2.0, 0.5), (-2.0, 0.0), (None, None), (0.1, 0.2)])
def test_less_goodput_counts_only_where_it_is_significant(gain, failed):
    assert failed(gain=gain) == []


def test_significantly_less_goodput_does_not_pass_unless_it_is_let(failed):
    (line,) = failed(gain=(-2.0, -0.5))
    assert line == "each family's own E2 timing, embb: less goodput than OLLA: -2.0 to -0.5 %"
    assert failed(gain=(-2.0, -0.5), gates={"never_below": False}) == []


@pytest.mark.parametrize(
    ("mean", "interval", "passes"),
    [
        (2e-3, (1e-3, 3e-3), False),
        (2e-3, (-1e-3, 5e-3), True),
        (9e-4, (1e-4, 2e-3), True),
        (1e-3, (1e-4, 2e-3), True),
        (-2e-3, (-3e-3, -1e-3), True),
        (None, (None, None), True),
        (2e-3, (None, None), True),
    ],
)
def test_residual_bler_counts_where_it_is_much_higher_and_that_is_significant(mean, interval, passes, failed):
    found = failed(residual=(mean, interval))
    assert found == (
        []
        if passes
        else ["each family's own E2 timing, embb: residual BLER is 2.0e-03 above OLLA's; at most 1.0e-03 is allowed"]
    )


def test_a_graph_has_at_most_a_megabit(failed):
    assert failed(125_000) == []
    assert failed(125_001) == ["the graph has 125001 bytes; at most 125000 are allowed"]
    assert failed(1001, gates={"graph_bytes": 1000}) != []


def test_every_run_and_family_is_checked(results):
    one = results(gain=(-2.0, -1.0))
    other = results(gain=(-4.0, -3.0), residual=(0.1, (0.05, 0.2)), e2_period_ms=10, e2_delay_ms=5)
    both = {**other.against_tuned.families, "mixed": one.against_tuned.families["embb"]}
    tuned = other.against_tuned.model_copy(update={"families": both})
    found = failures(Gates(), 200_000, [one, other.model_copy(update={"globally_tuned": tuned})], "student")
    timing = "E2 period 10 ms, delay 5 ms"
    assert [line.split(":")[0] for line in found[1:]] == [
        "each family's own E2 timing, embb", f"{timing}, embb", f"{timing}, embb", f"{timing}, mixed",
    ]  # fmt: skip


# --- recipes ---


@pytest.mark.parametrize("name", ["student", "smoke"])
def test_a_shipped_recipe_is_consistent(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    teacher, student = load_privileged(recipe.teacher), load_distill(recipe.student)
    assert set(student.scenarios) <= set(teacher.scenarios)
    assert teacher.network.actions == student.network.actions
    if recipe.benchmark.scenarios != "all":
        assert [find_scenario(family).name for family in recipe.benchmark.scenarios]


def test_the_recipe_of_what_ships_keeps_every_gate():
    recipe = load_recipe("student")
    assert recipe.gates == Gates()
    assert recipe.benchmark.scenarios == "all"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "../up"}, "name"),
        ({"colour": "red"}, "colour: no such field"),
        ({"gates": {"residual_excess": -1}}, "gates.residual_excess"),
        ({"benchmark": {"links": 2}}, "benchmark.links"),
    ],
)
def test_a_bad_recipe_is_one_line(workplace, change, says):
    good = {"name": "a", "version": "1", "description": "", "teacher": "t", "student": "s"}
    Recipe.model_validate(good)
    with pytest.raises(ValidationError):
        Recipe.model_validate({**good, **change})
    Path("bad.yaml").write_text(yaml.safe_dump({**good, **change}))
    with pytest.raises(InputError) as caught:
        load_recipe("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- from nothing to a bundle ---

LOOP = {"scenarios": ["steady.yaml"], "links": 48, "slots": 120, "episodes": 4, "bank_rows": 2, "bank_slots": 64}
LOOP |= {"batch_size": 48, "lr": 4e-3}
RECIPE = {
    "name": "small",
    "version": "3",
    "description": "A student of nearly nothing.",
    "teacher": "teacher.yaml",
    "student": "student.yaml",
    "benchmark": {
        "scenarios": ["steady.yaml", "five.yaml"],
        "links": 8,
        "duration_ms": 280,
        "seeds": 2,
        "bank_rows": 2,
        "bank_slots": 64,
        "peers": ["illa"],
        "near_rt_periods_ms": [10],
    },
    "gates": {"never_below": False, "residual_excess": 1},
}
OWN, NEAR_RT = "own_e2_timing", "e2_period_10_ms"


@pytest.fixture
def build(no_fading, workplace, steady, distila, monkeypatch):
    """`distila student build` of a recipe with other settings, into ``made``; installed in ``site``."""
    # One of the five families, which are run at other E2 periods, too.
    Path("five.yaml").write_text(steady.replace("name: steady", "name: embb"))
    for name, network in (("teacher", {"hidden": [24], "head": "value"}), ("student", {"hidden": [12]})):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**LOOP, "network": network}))
    monkeypatch.setattr(command, "package_folder", lambda package, folder: workplace / "site" / package / folder)
    (workplace / "site" / "distila.training.network").mkdir(parents=True)

    def run(*arguments, **settings):
        Path("recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **settings}))
        return distila("student", "build", "--recipe", "recipe.yaml", "--out", "made", "--jobs", 1, *arguments)

    return run


def watched(monkeypatch):
    """Names of the policies that a benchmark simulates from now on, each time."""
    simulated, run_episode = [], episode_pool.run_episode
    monkeypatch.setattr(
        episode_pool, "run_episode", lambda plan: (simulated.append(plan.policy.name), run_episode(plan))[1]
    )
    return simulated


def installed():
    return sorted(str(path.relative_to("site")) for path in Path("site").rglob("*") if path.is_file())


def test_from_a_recipe_to_an_installed_bundle_and_not_twice(build, monkeypatch):
    exported, to_onnx = [], torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **more: (exported.append(1), to_onnx(*given, **more)))
    done = build("--install", "--json")
    assert (done.status, done.err) == (0, "")
    assert len(exported) == 1, "the graph is serialised once"
    printed = json.loads(done.out)
    assert (printed["bundle"], printed["failures"], printed["installed"]) == ("made/bundle", [], True)
    assert printed["benchmark"].keys() == {OWN, NEAR_RT}

    manifest = load_bundle(Path("made/bundle")).manifest
    assert (manifest.name, manifest.version) == ("small", "3")
    assert manifest.model_dump(mode="json")["benchmark"] == printed["benchmark"]
    assert manifest.benchmark[OWN].families.keys() == {"steady", "embb"}
    near_rt = manifest.benchmark[NEAR_RT]
    assert (near_rt.links, near_rt.duration_ms, near_rt.seeds, near_rt.split) == (8, 280, (0, 1), "test")
    assert (near_rt.e2_period_ms, near_rt.e2_delay_ms) == (10, 5)
    results = read_result(BenchmarkResults, Path("made/benchmark") / NEAR_RT / "results.json")
    (family,) = near_rt.families
    figures = results.against_tuned.families[family].policies["student"]
    assert near_rt.families[family].gain_vs_olla_pct == figures.gain_vs_olla_pct
    assert near_rt.families[family].first_tx_bler == figures.first_tx_bler
    assert near_rt.families[family].residual_bler == figures.residual_bler
    assert manifest.training["recipe"]["teacher"] == "teacher.yaml"
    assert load_network(Path("made/teacher/network.pt"))[0].config.hidden == (24,)
    assert load_network(Path("made/student/network.pt"))[0].config.hidden == (12,)

    card = Path("made/bundle/card.md").read_text()
    for text in (
        "# small 3",
        "A student of nearly nothing.",
        "The policy passed its benchmark.",
        manifest_digest(),
        "29 absolute MCS",
    ):
        assert text in card
    for text in (
        "### Each family's own E2 timing (8 links of 0.28 s, 2 seeds)",
        "| family | student | teacher | illa | student at equal BLER |",
        "| `steady` |",
    ):
        assert text in card
    assert "| a fresh, higher CQI never lowers the MCS |" in card
    assert "| with columns unknown, at most 5 % below OLLA |" in card
    near_rt_table = card.split("### E2 period 10 ms, delay 5 ms")[1].split("## How")[0]
    assert "| family | student | teacher | student at equal BLER | first-tx BLER" in near_rt_table
    assert "`steady`" not in near_rt_table

    assert "distila.training.network/shipped/teacher.pt" in installed()
    target = Path("site/distila.xapp.policy/bundles/small")
    assert load_bundle(target).digest == load_bundle(Path("made/bundle")).digest
    assert (target / "card.md").read_text() == card

    # Once more: nothing is trained or simulated again, and what comes out is the same.
    def again(*_):
        raise AssertionError

    simulated = watched(monkeypatch)
    monkeypatch.setattr(trainer._RolloutTraining, "collect", again)
    resumed = build()
    assert (resumed.status, resumed.err) == (0, "")
    assert "bundle: made/bundle" in resumed.out
    assert "card: made/bundle/card.md" in resumed.out
    assert load_bundle(Path("made/bundle")).digest == load_bundle(target).digest

    assert simulated == []

    # Other gates do not make it train again either, and what does not pass them is not installed.
    before = installed()
    (target / "card.md").write_text("the old one")
    failed = build("--install", "--json", gates={**RECIPE["gates"], "graph_bytes": 10})
    assert failed.status == 1
    assert failed.err.startswith("did not pass: the graph has ")
    assert failed.err.count("\n") == 1
    printed = json.loads(failed.out)
    assert len(printed["failures"]) == 1
    assert installed() == before
    assert (target / "card.md").read_text() == "the old one"
    assert "**The policy did not pass its benchmark and must not ship:**" in Path("made/bundle/card.md").read_text()
    assert printed["installed"] is False


def manifest_digest():
    return load_bundle(Path("made/bundle")).digest


def test_another_teacher_is_not_taken_for_the_one_before(build):
    short = {**RECIPE["benchmark"], "scenarios": ["steady.yaml"], "peers": [], "seeds": 1}
    assert build(benchmark=short).status == 0
    Path("teacher.yaml").write_text(Path("teacher.yaml").read_text().replace("episodes: 4", "episodes: 5"))
    done = build(benchmark=short)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert "made/teacher/checkpoint.pt: of another training: " in done.err


def test_missing_names_are_rejected(build):
    done = build(student="missing")
    assert (done.status, done.out) == (2, "")
    assert "missing" in done.err
    assert not Path("made").exists(), "nothing was trained"


@pytest.mark.parametrize("wrong", [{"scenarios": ["nope"]}, {"peers": ["nope"]}])
def test_a_recipes_benchmark_is_checked_before_any_training(build, wrong):
    done = build(benchmark=wrong)
    assert (done.status, done.out) == (2, "")
    assert "nope" in done.err
    assert not Path("made").exists()


@pytest.fixture
def searched(no_fading, workplace, steady, distila):
    """`distila student search` over sizes with a teacher and a configuration of a steady channel."""
    for name, network in (("teacher", {"hidden": [24], "head": "value"}), ("student", {"hidden": [12]})):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({**LOOP, "network": network}))
    assert distila("train", "privileged", "--config", "teacher.yaml", "--out", "taught").status == 0

    def run(*arguments):
        given = ("--teacher", "taught", "--config", "student.yaml", "--episodes", 2, "--links", 8, "--duration-ms", 300)
        return distila("student", "search", *given, "--jobs", 1, "--out", "found", *arguments)

    return run


def test_a_search_puts_the_best_size_that_fits_first_and_goes_on_where_it_was(searched):
    done = searched("--sizes", "8,160x160,16", "--json", "--most-us", 10_000)
    assert done.status == 0
    found = json.loads(done.out)["candidates"]
    assert [each["hidden"] for each in found][-1] == [160, 160], "over 20 kB"
    assert [each["fits"] for each in found] == [True, True, False]
    assert found[0]["gain_pct"] >= found[1]["gain_pct"]
    for each in found:
        bundle = load_bundle(Path("found/bundles") / "x".join(map(str, each["hidden"])))
        assert bundle.graph_bytes == each["graph_bytes"]
        assert bundle.manifest.latency_us["100_ue_p50"] == each["hundred_ues_us"]
    assert json.loads(Path("found/search.json").read_text())["candidates"] == found
    again = json.loads(searched("--sizes", "8,160x160,16", "--json", "--most-us", 10_000).out)["candidates"]
    assert [(each["hidden"], each["gain_pct"]) for each in again] == [
        (each["hidden"], each["gain_pct"]) for each in found
    ]


@pytest.mark.parametrize("sizes", ["", "8,", "8x", "0", "8x-1", "wide", "8,8"])
def test_a_size_that_is_none_is_one_line(searched, sizes):
    done = searched("--sizes", sizes)
    assert (done.status, done.out) == (2, "")
    assert "--sizes" in done.err


def test_an_unknown_family_is_refused_before_any_training(searched):
    done = searched("--sizes", "8", "--families", "nope")
    assert (done.status, done.out) == (2, "")
    assert "nope: no such" in done.err
    assert not Path("found").exists()


def test_where_no_size_fits_the_answer_is_no(searched):
    done = searched("--sizes", "8", "--most-bytes", 100)
    assert done.status == 1
    assert "no size is within 100 bytes" in done.err

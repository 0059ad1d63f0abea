"""`distila benchmark` and `distila benchmark tune`, through the command line: files, output, refusals."""

import html
import io
import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import command_line
import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from distila.training import baselines
from distila.training.baselines import BASELINES, baseline
from distila.training.baselines.targets import TAKE_TARGET
from distila.training.benchmark import episode_pool, suite
from distila.training.benchmark import tune as tuner
from distila.training.benchmark.averages import FIVE
from distila.training.benchmark.policies import GENIES
from distila.training.benchmark.sizes import Sizes
from distila.training.benchmark.suite import named_scenarios, with_e2_timing
from distila.training.benchmark.tune import (
    GRIDS,
    TARGET_GRIDS,
    TUNABLE,
    TUNABLE_AT_TARGETS,
    TuningRun,
    best_at_target,
    combinations,
    settings_at,
)
from distila.training.benchmark.tuned_file import TUNED_FILE, read_tuning
from distila.training.commands import benchmark as command
from distila.training.network.config import NetworkConfig
from distila.training.network.filters import PolicyNetwork
from distila.training.network.store import NETWORK_FILE, save_network
from distila.training.sim.distribution import Distribution
from distila.training.sim.scenario import Scenario, families
from distila.training.sim.split import Split
from distila.xapp.commands import terminal
from distila.xapp.result_file import Estimate

pytest.importorskip("sionna")

ROOT = Path(__file__).resolve().parents[2]
OLLA_BUNDLE = ROOT / "xapp" / "policy" / "bundles" / "olla"
SIZES = Sizes(links=12, duration_ms=300, warmup_ms=50, bank_rows=4, bank_slots=256)
TUNED = {name: {"global": {}, "families": {}} for name in BASELINES if name not in GENIES}
BURSTY = """\
name: bursty
description: files over one TDL channel
unseen: true
channels: [{model: TDL-A}]
traffic: {full_buffer_share: 0.5, file_bytes: 20000, files_per_s: 20}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Quick runs that are quick indeed, in a folder with scenarios."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "bursty.yaml").write_text(BURSTY)
    (folder / "other.yaml").write_text(BURSTY.replace("bursty", "other"))
    two_slots = "channels: [{model: TDL-A}, {model: TDL-A, subcarrier_khz: 60}]"
    (folder / "two_slots.yaml").write_text(BURSTY.replace("channels: [{model: TDL-A}]", two_slots))
    (folder / "unknown_key.yaml").write_text(BURSTY + "colour: red\n")
    (folder / "empty.yaml").write_text("")
    (folder / "broken.yaml").write_text("{")
    (folder / "file").write_text("in the way")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "QUICK", SIZES)
        patch.setattr(command, "QUICK_SWEEP_PERIODS_MS", (0.5, 10.0))
        patch.setattr(baselines, "_tuned", lambda: TUNED)
        patch.chdir(folder)
        threads = torch.get_num_threads()
        yield folder
        torch.set_num_threads(threads)


distila = partial(command_line.distila, "benchmark")


def error_line(*arguments):
    done = distila(*arguments)
    assert (done.status, done.out) == (2, ""), done
    assert done.err.startswith("error: "), done.err
    assert done.err.count("\n") == 1, done.err
    return done.err


POLICIES = f"illa,genie,{OLLA_BUNDLE},srsran-olla:default@xapp"
RUN = ("--quick", "--policies", POLICIES, "--scenarios", "bursty.yaml,slow_e2_10ms", "--seeds", 2, "--jobs", 1)


@pytest.fixture(scope="module")
def ran(small):
    done = distila(*RUN, "--out", "bench", "--cache", "cache")
    assert done.status == 0, done.err
    return SimpleNamespace(folder=small / "bench", output=done)


@pytest.fixture(scope="module")
def results(ran):
    return json.loads((ran.folder / "results.json").read_text())


# --- a whole benchmark ---


def test_it_writes_results_report_and_charts(ran):
    names = {path.name for path in ran.folder.iterdir()}
    charts = {"gain.png", "frontier.png", "frontier_delay.png", "e2_sweep.png"}
    assert names == {"results.json", "report.html", "global.html", "episodes"} | charts
    for name in charts:
        assert (ran.folder / name).read_bytes().startswith(b"\x89PNG")
    page = (ran.folder / "report.html").read_text()
    assert "bursty" in page
    assert "slow_e2_10ms" in page


def test_it_prints_a_table_for_each_family_and_where_the_report_is(ran):
    assert ran.output.err == ""
    for text in ("bursty, unseen in training: 24 links", "slow_e2_10ms: 24 links, E2 period 10 ms, delay 5 ms"):
        assert text in " ".join(ran.output.out.split())
    assert ran.output.out.rstrip().endswith("report: bench/report.html")


def test_families_say_what_they_are(results):
    bursty, slow = (
        results["globally_tuned"]["families"]["bursty"],
        results["globally_tuned"]["families"]["slow_e2_10ms"],
    )
    assert list(results["globally_tuned"]["families"]) == ["bursty", "slow_e2_10ms"]
    assert (bursty["unseen"], slow["unseen"]) == (True, False)
    assert bursty["description"] == "files over one TDL channel"
    assert [(f["e2_period_ms"], f["e2_delay_ms"], f["slot_us"]) for f in (bursty, slow)] == [
        (0.5, 0, 500),
        (10, 5, 500),
    ]
    assert 0 < bursty["bursty_share"] < 1
    assert slow["bursty_share"] == 0
    assert results["settings"]["seeds"] == [0, 1]
    assert (results["settings"]["split"], results["settings"]["reference"]) == ("test", "olla")
    assert results["quick"] is True


def test_every_policy_has_its_figures_in_every_family(results):
    for family in results["globally_tuned"]["families"].values():
        assert list(family["policies"]) == ["olla", "olla@10%", *POLICIES.split(",")], "both come unasked"
        seats = [figures["seat"] for figures in family["policies"].values()]
        assert seats == ["du", "du", "du", "du", "xapp", "xapp"]
        for figures in family["policies"].values():
            mean, (low, high) = (figures["gain_vs_olla_pct"][key] for key in ("mean", "ci95"))
            assert low <= mean <= high
            assert figures["goodput"] > 0
            assert 0 <= figures["residual_bler"] <= figures["first_tx_bler"] < 1
        assert family["policies"]["olla"]["gain_vs_olla_pct"] == {"mean": 0, "ci95": [0, 0]}
        assert family["policies"]["olla"]["genie_share_pct"] == 0
        assert family["policies"]["genie"]["genie_share_pct"] == 100


def test_the_bundle_of_olla_is_the_baseline_that_it_was_made_from(results):
    policies = results["globally_tuned"]["families"]["bursty"]["policies"]  # reports every slot, no delay
    bundle, same = (dict(policies[name]) for name in (str(OLLA_BUNDLE), "srsran-olla:default@xapp"))
    for figures in (bundle, same):
        del figures["elapsed_s"], figures["base"], figures["takes_target"]
    assert bundle == same


def test_files_are_delayed_only_where_there_are_files(results):
    bursty, slow = (
        results["globally_tuned"]["families"][name]["policies"].values() for name in ("bursty", "slow_e2_10ms")
    )
    assert len({figures["file_delay_ms"]["files"] for figures in bursty}) == 1
    assert all(0 < f["file_delay_ms"]["p50"] <= f["file_delay_ms"]["p95"] <= f["file_delay_ms"]["p99"] for f in bursty)
    assert {figures["file_delay_ms"] for figures in slow} == {None}


def test_the_sweep_is_over_periods_and_over_what_sits_in_the_xapp(results):
    sweep = results["e2_sweep"]
    assert sweep["scenario"] == "slow_e2_10ms"
    assert list(sweep["policies"]) == [str(OLLA_BUNDLE), "srsran-olla:default@xapp"]
    for name, points in sweep["policies"].items():
        assert [(point["period_ms"], point["delay_ms"]) for point in points] == [(0.5, 5), (10, 5)]
        gain = results["globally_tuned"]["families"]["slow_e2_10ms"]["policies"][name]["gain_vs_olla_pct"]
        assert {key: points[1][key] for key in ("mean", "ci95")} == gain, "the same runs"


def test_families_of_different_kinds_have_no_mean(results, ran):
    assert results["globally_tuned"]["averages"] == {}, "one is unseen, the other is slow"
    assert "mean gain" not in ran.output.out


def test_json_is_what_the_file_has_and_nothing_is_run_again(ran, monkeypatch):
    before = (ran.folder / "results.json").read_text()
    monkeypatch.setattr(episode_pool, "run_episode", lambda plan: pytest.fail("run again"))
    done = distila(*RUN, "--out", "bench", "--cache", "cache", "--json")
    assert done.status == 0
    reused = len(list((ran.folder / "episodes").iterdir()))
    assert done.err == f"{reused} of {reused} episodes reused from bench/episodes\n", "without a terminal, too"
    assert done.out == (ran.folder / "results.json").read_text() == before


# --- networks, and another E2 timing ---


@pytest.fixture(scope="module")
def timed(small):
    torch.manual_seed(0)
    save_network(PolicyNetwork(NetworkConfig(hidden=(8,))), small / "trained" / NETWORK_FILE, {})
    args = ("--quick", "--policies", "illa@xapp,trained", "--scenarios", "bursty.yaml,other.yaml", "--jobs", 1)
    args += ("--e2-period-ms", 10, "--e2-delay-ms", 5.1, "--no-sweep", "--out", "timed", "--cache", "cache")
    done = distila(*args)
    assert (done.status, done.err) == (0, "")
    results = json.loads((small / "timed" / "results.json").read_text())
    return SimpleNamespace(args=args, output=done, results=results, folder=small / "timed")


def test_every_family_has_the_timing_that_was_asked_for_and_its_own_name(timed):
    found = {
        name: (f["e2_period_ms"], f["e2_delay_ms"]) for name, f in timed.results["globally_tuned"]["families"].items()
    }
    assert found == {"bursty": (10, 5), "other": (10, 5)}
    settings = timed.results["settings"]
    assert (settings["e2_period_ms"], settings["e2_delay_ms"]) == (10, 5.1)
    assert "bursty, unseen in training: 12 links, E2 period 10 ms, delay 5 ms" in " ".join(timed.output.out.split())
    page = (timed.folder / "report.html").read_text()
    assert "All families were run with an E2 period of 10 ms and an E2 delay of 5.1 ms instead of their own." in page


def test_a_network_is_a_policy_in_the_xapp(timed):
    for family in timed.results["globally_tuned"]["families"].values():
        figures = family["policies"]["trained"]
        assert (figures["base"], figures["seat"]) == ("trained/network.pt", "xapp")
        assert figures["goodput"] > 0


def test_means_are_over_the_families_that_were_run(timed):
    assert list(timed.results["globally_tuned"]["averages"]) == ["unseen_slow"]
    average = timed.results["globally_tuned"]["averages"]["unseen_slow"]
    assert average["families"] == ["bursty", "other"]
    assert list(average["policies"]) == ["olla", "olla@10%", "illa@xapp", "trained"]
    for name, found in average["policies"].items():
        gains = [
            f["policies"][name]["gain_vs_olla_pct"]["mean"]
            for f in timed.results["globally_tuned"]["families"].values()
        ]
        assert found["mean"] == pytest.approx(np.mean(gains), abs=1e-3)
        assert found["ci95"][0] <= found["mean"] <= found["ci95"][1]
    assert "mean gain at equal BLER, unseen families, slow E2 (2), target 10 %" in " ".join(timed.output.out.split())


def test_results_of_a_network_are_found_again_for_the_very_file(timed, monkeypatch):
    monkeypatch.setattr(episode_pool, "run_episode", lambda plan: pytest.fail("run again"))
    assert distila(*timed.args).status == 0
    network, path = PolicyNetwork(NetworkConfig(hidden=(8,))), timed.folder.parent / "trained" / NETWORK_FILE
    before, asked = path.read_bytes(), []

    def run_episode(plan):
        asked.append((plan.policy.name, plan.scenario.name))
        raise KeyboardInterrupt

    monkeypatch.setattr(episode_pool, "run_episode", run_episode)
    try:
        save_network(network, path, {})
        assert distila(*timed.args).status == 130
    finally:
        path.write_bytes(before)
    assert [policy for policy, _ in asked] == ["trained"]


def test_a_residual_bler_that_differs_significantly_has_a_sign():
    def shown(low, high):
        return command._residual(2e-4, Estimate(mean=0, ci95=(low, high)))

    assert [shown(1e-5, 1e-4), shown(-1e-4, -1e-5)] == ["2e-04+", "2e-04-"]
    assert {shown(-1e-5, 1e-4), shown(0, 0), shown(None, None)} == {"2e-04 "}


NAMES = ("student", "olla", "genie-target", "out/my-run/student-48x48/bundle")


@pytest.fixture
def printed(monkeypatch, policy_figures, family_results, benchmark_results):
    """What `distila benchmark` prints of four policies on a terminal of so many columns."""

    def of(width, groups=4, names=NAMES, decided_in=2):
        entry = {"mean": -12.34, "ci95": [-13.45, -11.23]}
        delays = {"p50": 10.0, "p95": 41.5, "p99": 120.25, "files": 1234}
        figures = policy_figures(gain_vs_olla_pct=entry, genie_share_pct=-48.0, file_delay_ms=delays)
        group_names = ("five", "seen_real_time", "seen_slow", "unseen_real_time")[:groups]
        means = {"first_tx_bler": 0.1, "residual_bler": 1e-3, "block_delay_p95_ms": 4.5, "bought_with_bler": 0}
        means["decided_in"] = decided_in
        averages = {
            group: {
                "families": [f"{group}_{n}" for n in range(2)],
                "policies": dict.fromkeys(names, entry),
                "figures": dict.fromkeys(names, means),
            }
            for group in group_names
        }
        families = {
            name: family_results(dict.fromkeys(names, figures))
            for group in averages.values()
            for name in group["families"]
        }
        results = benchmark_results(families, averages=averages)
        out = io.StringIO()
        monkeypatch.setattr(terminal, "stdout", Console(file=out, width=width, highlight=False, markup=False))
        monkeypatch.setattr(command, "stdout", terminal.stdout)
        command._show(results, Path("out"), json=False)
        return out.getvalue()

    return of


def test_a_mean_that_leaves_out_families_says_over_how_many_it_is(printed):
    assert "decided" not in printed(80)
    assert "means of student: over the one family in which it decided" in printed(80, decided_in=1)
    assert "student decided nothing in any of them" in printed(80, decided_in=0)


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_and_no_figure_is_cut_on_a_narrow_terminal(printed, width, groups):
    text = printed(width, groups)
    for name in NAMES:
        assert len(re.findall(rf"^ *{re.escape(name)}( |$)", text, re.MULTILINE)) >= 3 * groups, (
            "one line in each table"
        )
    words = " ".join(text.split())
    assert words.count("(-13.4, -11.2)") == words.count("-12.3") == len(NAMES) * 3 * groups
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= width


def test_short_names_stay_in_a_table_of_80_columns(printed):
    text = printed(80, names=("student", "olla@xapp", "bler-window"))
    for name in ("student", "olla@xapp", "bler-window"):
        row = rf"^ *{name} +-12\.3 \(-13\.4, -11\.2\) +2/0/0 +10\.0 +4\.5 +1e-03 *$"
        assert re.search(row, text, re.MULTILINE), "a row of means"


def test_the_page_is_written_again_from_the_results(ran, monkeypatch, tmp_path):
    monkeypatch.setattr(episode_pool, "run_episode", lambda plan: pytest.fail("run again"))
    results = (ran.folder / "results.json").read_text()
    (tmp_path / "results.json").write_text(results)
    done = distila("report", "--out", tmp_path, "--json")
    assert (done.status, done.err, done.out) == (0, "", results)
    charts = {"gain.png", "frontier.png", "frontier_delay.png", "e2_sweep.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "report.html", "global.html"} | charts
    for name in ("report.html", "global.html", "gain.png", "frontier.png"):
        assert (tmp_path / name).read_bytes() == (ran.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("{", "not JSON"),
        (
            '{"kind": "benchmark", "version": 2}',
            "version 2 of the result file 'benchmark'; this distila reads version 3",
        ),
        ('{"kind": "ablation", "version": 1}', "a result file of kind 'ablation'; expected kind 'benchmark'"),
        ("[]", "not a result file of distila, it has no kind and version"),
        ('{"kind": "benchmark", "version": 3, "distila": "1", "quick": true}', "settings: Field required"),
    ],
)
def test_a_file_that_holds_no_results_is_one_line(small, tmp_path, content, says):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert says in error_line("report", "--out", tmp_path)


def test_without_sweep_there_is_none(small):
    args = ("--quick", "--policies", "illa@xapp", "--scenarios", "bursty.yaml", "--jobs", 1, "--cache", "cache")
    done = distila(*args, "--out", "no_sweep", "--no-sweep", "--json")
    assert json.loads(done.out)["e2_sweep"] is None
    assert not (small / "no_sweep" / "e2_sweep.png").exists()


def test_no_chart_of_an_earlier_run_stays(ran):
    args = ("--quick", "--policies", "illa", "--scenarios", "bursty.yaml", "--jobs", 1, "--cache", "cache")
    stale = ran.folder.parent / "stale" / "e2_sweep.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    assert distila(*args, "--out", "stale").status == 0
    assert not stale.exists()


def test_the_reference_alone_is_a_benchmark_too(small):
    args = ("--quick", "--policies", "olla", "--scenarios", "bursty.yaml", "--jobs", 1, "--cache", "cache")
    done = distila(*args, "--out", "alone", "--split", "validation", "--links", 8, "--json")
    found = json.loads(done.out)
    assert list(found["globally_tuned"]["families"]["bursty"]["policies"]) == ["olla", "olla@10%"]
    assert found["globally_tuned"]["families"]["bursty"]["policies"]["olla"]["genie_share_pct"] is None
    assert (found["settings"]["split"], found["settings"]["links"]) == ("validation", 8)
    assert found["e2_sweep"] is None


# --- BLER targets ---


TARGETS = ("--quick", "--policies", "salad,illa", "--targets", "20,1", "--scenarios", "bursty.yaml", "--jobs", 1)


@pytest.fixture(scope="module")
def targeted(small):
    done = distila(*TARGETS, "--out", "targets", "--cache", "cache")
    assert (done.status, done.err) == (0, "")
    results = json.loads((small / "targets" / "results.json").read_text())
    return SimpleNamespace(output=done, results=results, folder=small / "targets")


def test_every_target_has_its_comparison_under_its_percentage(targeted):
    assert list(targeted.results["targets"]) == ["1", "20"], "in ascending order"
    assert targeted.results["settings"]["targets_pct"] == [1, 20]
    for key, comparison in targeted.results["targets"].items():
        policies = comparison["families"]["bursty"]["policies"]
        assert list(policies) == ["olla", "olla@10%", "salad", "illa"]
        ran_with = {name: (figures["takes_target"], figures["target_bler"]) for name, figures in policies.items()}
        target = float(key) / 100
        assert ran_with == {
            "olla": (True, target),
            "olla@10%": (True, 0.1),
            "salad": (True, target),
            "illa": (False, None),
        }
        assert policies["olla"]["gain_vs_olla_pct"]["mean"] == 0
        assert policies["olla"]["equal_bler_gain"]["mean"] == pytest.approx(0, abs=1e-3)
        assert all(figures["block_delay_ms"]["p50"] > 0 for figures in policies.values())


def test_a_policy_without_a_target_is_the_same_run_under_each(targeted):
    low, high = (targeted.results["targets"][key]["families"]["bursty"]["policies"]["illa"] for key in ("1", "20"))
    ours = ("goodput", "first_tx_bler", "equal_bler_gain", "elapsed_s")
    assert {name: low[name] for name in ours} == {name: high[name] for name in ours}
    assert low["gain_vs_olla_pct"] != high["gain_vs_olla_pct"], "the reference is another"


def test_a_lower_target_is_a_lower_bler(targeted):
    blers = [c["families"]["bursty"]["policies"]["olla"]["first_tx_bler"] for c in targeted.results["targets"].values()]
    assert blers[0] < blers[1]


def test_with_several_targets_there_is_no_sweep_unless_asked_for(targeted):
    assert targeted.results["e2_sweep"] is None


def test_more_targets_run_only_what_is_missing(targeted, monkeypatch):
    ran, run_episode = [], episode_pool.run_episode

    def watched(plan):
        ran.append((plan.policy.name, plan.policy.target_bler))
        return run_episode(plan)

    monkeypatch.setattr(episode_pool, "run_episode", watched)
    more = [text if text != "20,1" else "20,1,5" for text in TARGETS]
    assert distila(*more, "--out", "targets", "--cache", "cache").status == 0
    assert sorted(ran) == [("olla", 0.05), ("salad", 0.05)]


def test_an_interrupted_benchmark_says_so(small, monkeypatch):
    def run_all(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "run_all", run_all)
    done = distila("--quick", "--policies", "illa", "--scenarios", "bursty.yaml", "--out", "interrupted")
    assert (done.status, done.out, done.err) == (130, "", "interrupted\n")


# --- which scenarios ---


@pytest.mark.parametrize(("text", "unseen"), [("all", {False, True}), ("seen", {False}), ("unseen", {True})])
def test_groups_of_families(text, unseen):
    found = named_scenarios([text])
    assert found == tuple(scenario for scenario in families().values() if scenario.unseen in unseen)
    assert {scenario.unseen for scenario in found} == unseen


def test_the_five_come_in_their_order():
    assert [scenario.name for scenario in named_scenarios(["five"])] == list(FIVE)


@pytest.mark.parametrize(
    ("period_ms", "delay_ms", "slots"),
    [
        (10, 5, {15: (10, 5), 30: (20, 10), 120: (80, 40)}),
        (0.5, 0, {15: (1, 0), 30: (1, 0), 120: (4, 0)}),
        (0.01, 0.01, {15: (1, 0), 30: (1, 0), 120: (1, 0)}),
        (0, 0.3, {15: (1, 0), 30: (1, 1), 120: (1, 2)}),
    ],
)
def test_timing_is_rounded_to_the_slots_of_the_family(period_ms, delay_ms, slots):
    for scenario in families().values():
        found = with_e2_timing(scenario, period_ms, delay_ms)
        period, delay = slots[scenario.channels[0].subcarrier_khz]
        assert found.e2.period_slots == Distribution(kind="constant", values=(period,))
        assert found.e2.delay_slots == Distribution(kind="constant", values=(delay,))
        assert found.model_copy(update={"e2": scenario.e2}) == scenario


def test_settings_that_are_not_given_stay_unchanged():
    slow = families()["slow_e2_20ms"]
    assert with_e2_timing(slow, None, None) == slow
    assert with_e2_timing(slow, 20, 5) == slow
    assert with_e2_timing(slow, 10, None) == slow.model_copy(update={"e2": families()["slow_e2_10ms"].e2})
    assert with_e2_timing(slow, None, 0).e2.period_slots == slow.e2.period_slots
    mixed = Scenario.model_validate(yaml.safe_load(BURSTY) | {"channels": [{"model": "TDL-A"}, {"model": "TDL-C"}]})
    assert with_e2_timing(mixed, 10, None).e2.period_slots.values == (20,)


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--scenarios", "nowhere"), ["nowhere", "high_mobility"]),
        (("--scenarios", "missing.yaml"), ["missing.yaml"]),
        (("--scenarios", "unknown_key.yaml"), ["unknown_key.yaml", "colour"]),
        (("--scenarios", "empty.yaml"), ["empty.yaml"]),
        (("--scenarios", "broken.yaml"), ["broken.yaml", "not YAML"]),
        (("--scenarios", "bursty.yaml,bursty.yaml"), ["bursty.yaml", "twice"]),
        (("--scenarios", "bursty.yaml,./bursty.yaml"), ["--scenarios", "same name"]),
        (("--scenarios", ","), ["--scenarios ','", "at least one name"]),
        (("--policies", "ola"), ["'ola'", "salad"]),
        (("--policies", "gone/network.pt"), ["gone/network.pt", "no such baseline, bundle or network"]),
        (("--policies", "bursty.yaml"), ["bursty.yaml: not a network"]),
        (("--policies", "olla:best"), ["'best'"]),
        (("--targets", "ten"), ["--targets ten", "'ten'", "percentage"]),
        (("--targets", "1,60"), ["--targets 1,60", "'60'", "0.5 to 49"]),
        (("--targets", "10,10"), ["--targets 10,10: 10 is named twice"]),
        (("--targets", ","), ["--targets ','", "at least one name"]),
        (("--policies", "olla@ru"), ["'ru'"]),
        (("--policies", "genie@xapp"), ["genie@xapp"]),
        (("--policies", "illa,olla,illa"), ["--policies illa,olla,illa: illa is named twice"]),
        (("--policies", ""), ["--policies ''", "at least one name"]),
        (("--policies", "illa:family", "--scenarios", "bursty.yaml"), ["illa", "not tuned", "bursty"]),
        (("--duration-ms", "50"), ["--duration-ms 50: must be more than 50", "warm-up"]),
        (("--duration-ms", "-5"), ["--duration-ms -5: must be more than 50", "warm-up"]),
        (("--duration-ms", "0"), ["--duration-ms 0: must be more than 50"]),
        (("--duration-ms", "nan"), ["--duration-ms nan"]),
        (("--duration-ms", "inf"), ["--duration-ms inf"]),
        (("--e2-period-ms", "-1"), ["--e2-period-ms -1"]),
        (("--e2-delay-ms", "-0.1"), ["--e2-delay-ms -0.1"]),
        (("--e2-period-ms", "nan"), ["--e2-period-ms nan"]),
        (("--e2-period-ms", "inf"), ["--e2-period-ms inf"]),
        (("--e2-delay-ms", "251"), ["--e2-delay-ms 251", "only 250 ms"]),
        (("--e2-delay-ms", "5", "--scenarios", "two_slots.yaml"), ["scenario bursty", "250 and 500 us"]),
        (("--out", "file"), ["--out file"]),
        (("--out", "file/below"), ["--out file"]),
        (("--policies", "illa:default", "--scenarios", "bursty.yaml", "--cache", "file/x"), ["file/x"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(small, arguments, says):
    given = {"--out": "refused", "--jobs": "1", "--policies": "illa", "--scenarios": "bursty.yaml"}
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    line = error_line("--quick", *(part for pair in given.items() for part in pair))
    for word in says:
        assert word in line


def test_no_cuda_is_one_line(small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--device cuda" in error_line("--quick", "--device", "cuda", "--out", "refused")


@pytest.mark.parametrize("option", ["--links=7", "--duration-ms=1", "--seeds=0", "--jobs=0", "--split=train"])
def test_values_out_of_range_are_rejected_by_option(small, option):
    done = distila("--quick", "--out", "refused", option)
    assert (done.status, done.out) == (2, "")
    assert option.split("=")[0] in done.err


def test_a_policy_that_knows_another_table_is_said_first_to_decide_nothing(small):
    picky = small / "picky"
    picky.mkdir()
    manifest = json.loads((OLLA_BUNDLE / "manifest.json").read_text()) | {"mcs_tables": [2]}
    (picky / "manifest.json").write_text(json.dumps(manifest))
    (picky / "policy.onnx").write_bytes((OLLA_BUNDLE / "policy.onnx").read_bytes())
    args = ("--quick", "--scenarios", "bursty.yaml", "--jobs", 1, "--cache", "cache", "--no-sweep", "--no-tuned")
    done = distila(*args, "--policies", "picky", "--out", "picky_out")
    assert done.status == 0
    said = (
        "picky decided nothing in bursty: it does not know their MCS table, 1. Every MCS there was the DU's own choice"
    )
    assert said in " ".join(done.out.split())
    results = json.loads((small / "picky_out" / "results.json").read_text())
    figures = results["targets"]["10"]["families"]["bursty"]["policies"]["picky"]
    assert (figures["decided_share"], figures["undecided_because"]) == (0, "mcs_table")
    assert results["globally_tuned"] is None
    page = (small / "picky_out" / "report.html").read_text()
    headline = page.split('<h1 class="verdict">')[1].split("</h1>")[0]
    assert said in html.unescape(headline)
    assert "picky: made for MCS table 2" in error_line(*args, "--policies", "picky@du", "--out", "picky_du_out")


# --- tuning ---


def test_every_baseline_with_tunable_settings_is_tuned():
    assert set(TUNABLE) == set(BASELINES) - set(GENIES)


@pytest.mark.parametrize("name", TUNABLE)
def test_every_try_is_a_policy(name):
    tries = combinations(GRIDS[name])
    assert len(tries) == np.prod([len(values) for values in GRIDS[name].values()])
    for settings in tries:
        assert baseline(name, **settings).name == name


def test_every_baseline_that_takes_a_target_is_tuned_at_targets():
    assert {*TUNABLE_AT_TARGETS, "genie-target"} == set(TAKE_TARGET)


@pytest.mark.parametrize("target", [0.005, 0.01, 0.3, 0.49])
@pytest.mark.parametrize("name", TUNABLE_AT_TARGETS)
def test_every_try_at_a_target_is_a_policy_with_that_target(name, target):
    for tried in combinations(TARGET_GRIDS[name]):
        settings = baseline(name, **settings_at(name, tried, target)).settings
        if name == "bler-window":
            assert (settings.lower, settings.upper) == pytest.approx((tried["lower"] * target, tried["upper"] * target))
        else:
            assert settings.target == target


@pytest.fixture
def tiny_grid(small, monkeypatch):
    monkeypatch.setattr(tuner, "GRIDS", {"illa": {"target": (0.1, 0.3), "cqi_position": (0.0,)}})
    monkeypatch.setattr(tuner, "TARGET_GRIDS", {"olla": {"step_on_nack_db": (0.1, 0.5)}})
    one = families()["slow_e2_10ms"]
    unseen = families()["unseen_carrier"]
    monkeypatch.setattr(tuner, "families", lambda: {"slow_e2_10ms": one, "unseen_carrier": unseen})
    return small


def test_tuning_writes_the_best_of_what_was_tried(tiny_grid, monkeypatch):
    plans, real = [], tuner.run_all

    def run_all(given, *rest):
        plans.extend(given)
        return real(given, *rest)

    monkeypatch.setattr(tuner, "run_all", run_all)
    args = ("tune", "--policies", "illa", "--links", 8, "--duration-ms", 300, "--jobs", 1, "--cache", "cache")
    done = distila(*args, "--out", "tuned")
    assert (done.status, done.err) == (0, "")
    found = yaml.safe_load((tiny_grid / "tuned" / "tuned.yaml").read_text())
    illa = found["policies"]["illa"]
    before = yaml.safe_load(TUNED_FILE.read_text())["policies"]
    assert {**found["policies"], "illa": None} == {**before, "illa": None}, "what was not tuned stays"
    assert list(illa["families"]) == ["slow_e2_10ms"], "what is unseen is not looked at"
    assert illa["global"] == illa["families"]["slow_e2_10ms"]
    assert illa["global"] in combinations(tuner.GRIDS["illa"])
    assert illa["tried"] == {"target": [0.1, 0.3], "cqi_position": [0.0]}
    assert illa["worst_loss_of_global_pct"] == 0
    assert {plan.split for plan in plans} == {Split.VALIDATION}
    assert {plan.policy.seat for plan in plans} == {"du"}
    assert illa["how"]["split"] == "validation"
    assert (illa["how"]["links"], illa["how"]["duration_ms"]) == (8, 300)
    assert illa["how"]["code"] == episode_pool.code_digest()
    assert done.out.rstrip().endswith("written: tuned/tuned.yaml")


def test_global_settings_weigh_every_family_the_same(small, monkeypatch):
    monkeypatch.setattr(tuner, "GRIDS", {"illa": {"target": (0.1, 0.2, 0.3)}})
    seen = [scenario for scenario in families().values() if not scenario.unseen][:2]
    monkeypatch.setattr(tuner, "families", lambda: {scenario.name: scenario for scenario in seen})
    # Goodput of each try in a family of high and in one of low SNR: 0.1 has the highest mean, 0.2 the best compromise.
    goodput = {0.1: (10.0, 0.5), 0.2: (9.5, 0.98), 0.3: (2.0, 1.0)}

    def run_all(plans, *_):
        places = [[scenario.name for scenario in seen].index(plan.scenario.name) for plan in plans]
        targets = [plan.policy.settings("")["target"] for plan in plans]
        return [SimpleNamespace(goodput=np.full(3, goodput[t][p])) for t, p in zip(targets, places, strict=True)]

    monkeypatch.setattr(tuner, "run_all", run_all)
    silent = (lambda done, total: None,) * 2
    run = TuningRun(SIZES, small / "by_hand", 1, None, *silent)
    found = tuner.tune(["illa"], run).policies["illa"]
    assert found.overall == {"target": 0.2}
    assert found.families == {seen[0].name: {"target": 0.1}, seen[1].name: {"target": 0.3}}
    assert found.worst_loss_of_global_pct == 5


def test_tuning_at_targets_writes_the_best_that_holds_each(tiny_grid):
    args = (
        "tune",
        "--policies",
        "olla",
        "--targets",
        "10, 0.5",
        "--links",
        8,
        "--duration-ms",
        300,
        "--jobs",
        1,
        "--cache",
        "cache",
    )
    done = distila(*args, "--out", "at_targets")
    assert (done.status, done.err) == (0, "")
    found = read_tuning(tiny_grid / "at_targets" / "tuned.yaml").policies
    olla, before = found["olla"], read_tuning(TUNED_FILE).policies
    assert olla.targets is not None
    assert list(olla.targets.by_target) == ["0.5", "10"]
    assert olla.targets.tried == {"step_on_nack_db": (0.1, 0.5)}
    for key, best in olla.targets.by_target.items():
        assert best.settings["target"] == float(key) / 100
        assert best.settings["step_on_nack_db"] in (0.1, 0.5)
        assert list(best.families) == ["slow_e2_10ms"]
        assert best.reached_bler == best.families["slow_e2_10ms"]
        assert best.distance == pytest.approx(abs(best.reached_bler - float(key) / 100), abs=1e-4)
    assert olla.model_copy(update={"targets": None}) == before["olla"].model_copy(update={"targets": None})
    assert {**found, "olla": None} == {**before, "olla": None}
    assert done.out.rstrip().endswith("written: at_targets/tuned.yaml")


def test_at_a_target_the_highest_goodput_counts_among_settings_that_hold_it():
    goodput = np.array([[1.0, 10.0], [1.2, 12.0], [2.0, 20.0]])
    holds, holds_too, far = [0.1, 0.104], [0.095, 0.105], [0.2, 0.3]
    assert best_at_target(goodput, np.array([holds, holds_too, far]), 0.1) == 1
    assert best_at_target(goodput, np.array([[0.13, 0.13], [0.14, 0.14], far]), 0.1) == 0, "none does: the closest"


def test_a_family_where_no_setting_holds_the_target_does_not_decide():
    goodput = np.array([[1.0, 1.0, 1.0], [1.1, 1.1, 1.1]])
    assert best_at_target(goodput, np.array([[0.1, 0.1, 0.2], [0.1, 0.1, 0.9]]), 0.1) == 1
    assert best_at_target(goodput, np.array([[0.1, 0.1, np.nan], [0.1, 0.1, np.nan]]), 0.1) == 1


def test_at_low_targets_less_than_a_point_is_allowed():
    goodput = np.array([[1.0], [2.0]])
    assert best_at_target(goodput, np.array([[0.012], [0.019]]), 0.01) == 0
    assert best_at_target(goodput, np.array([[0.102], [0.109]]), 0.1) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--policies", "genie"), "genie"),
        (("--policies", "ola"), "ola"),
        (("--policies", "illa,illa"), "twice"),
        (("--policies", "illa", "--out", "file"), "--out file"),
        (("--targets", "10,60"), "--targets: BLER target '60': expected a percentage from 0.5 to 49"),
        (("--targets", "10%"), "BLER target '10%'"),
        (("--targets", "5,5"), "5 is named twice"),
        (("--targets", "10", "--policies", "illa"), "illa: has nothing to tune at a BLER target"),
    ],
)
def test_tuning_rejects_in_one_line(tiny_grid, arguments, says):
    assert says in error_line("tune", *arguments)

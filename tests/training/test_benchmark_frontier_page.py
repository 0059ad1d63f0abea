"""The benchmark's headline page: gains at equal BLER, frontiers, and what was bought with BLER, said in words."""

import html
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from distila.training.benchmark.averages import average_gains
from distila.training.benchmark.frontier_charts import frontiers, points, x_axis
from distila.training.benchmark.pages import write_pages
from distila.training.benchmark.png_charts import write_pngs
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.verdict import caveats, verdicts
from distila.training.benchmark.view import BenchmarkView
from distila.training.commands import benchmark as command

TARGETS = ("1", "10", "30")
OLLA = {"1": (2.0, 0.01), "10": (3.0, 0.10), "30": (3.4, 0.28)}
"""Goodput and BLER that OLLA reaches at each target."""


def estimate(mean, half=0.5):
    return {"mean": mean, "ci95": [mean - half, mean + half]}


@pytest.fixture
def at_target(policy_figures):
    """Figures of one policy at a target: goodput, BLER, gain at equal BLER and what that shows."""

    def made(reached, bler, gain=0.0, kind="no_difference", reference_bler=None, beyond=False, takes=True, **changes):
        equal = {
            **estimate(gain),
            "reference_bler": bler if reference_bler is None else reference_bler,
            "bler_vs_reference": estimate(0.0, 0.0),
            "beyond_targets": beyond,
            "kind": kind,
        }
        figures = {"goodput": reached, "first_tx_bler": bler, "equal_bler_gain": equal, "takes_target": takes}
        return policy_figures(**figures | {"gain_vs_olla_pct": estimate(gain), "gain_kind": kind} | changes)

    return made


@pytest.fixture
def family(at_target, family_results):
    """A family at a target: OLLA, SALAD two percent better, and the student, which takes no target."""

    def made(target, student=(4.0, 0.60, 17.6, "bought_with_bler"), student_changes=None, **changes):
        goodput, bler = OLLA[target]
        student_goodput, student_bler, gain, kind = student
        beyond = {"reference_bler": 0.28, "beyond": True} if kind == "bought_with_bler" else {}
        policies = {
            "olla": at_target(goodput, bler, base="olla"),
            "olla@10%": at_target(3.0, 0.10, takes=False, base="olla"),
            "salad": at_target(1.02 * goodput, bler, 2.0, "better"),
            "student": at_target(
                student_goodput,
                student_bler,
                gain,
                kind,
                takes=False,
                seat="xapp",
                base="out/student",
                **beyond,
                **(student_changes or {}),
            ),
        }
        return family_results(policies, **changes)

    return made


@pytest.fixture
def results(family, benchmark_results):
    """A benchmark at three targets; families by name with what is special about them."""

    def made(**families):
        targets = {t: {"families": {name: family(t, **special) for name, special in families.items()}} for t in TARGETS}
        return benchmark_results({}, targets=targets, globally_tuned=None)

    return made


def said(results):
    """The verdicts and caveats, one text."""
    bench = BenchmarkView.headline(results)
    return " ".join([*(line.text for line in verdicts(bench)), *caveats(results, bench)])


GAINS = {"student": (3.3, 0.15, 4.0, "better")}


# --- verdicts ---


def test_the_verdicts_are_about_the_textbooks_target(results):
    assert BenchmarkView.headline(results(a={})).target == "10"


def test_a_gain_at_equal_bler_is_said_to_be_one(results):
    text = said(results(a=GAINS, b=GAINS))
    assert (
        "student (xApp, real-time E2) has significantly more goodput than olla at equal BLER in 2 of 2 families."
        in text
    )
    assert "salad (in the DU) has significantly more goodput than olla at equal BLER in 2 of 2 families." in text
    assert "bought" not in text


def test_a_gain_at_a_bler_beyond_the_targets_is_said_to_be_bought(results):
    found = results(a={}, b={}, c=GAINS)
    line = verdicts(BenchmarkView.headline(found))[0]
    assert line.kind == "bought-with-bler"
    assert line.label == "\u25b3 bought with BLER"
    assert (
        "student (xApp, real-time E2) has significantly more goodput than olla at equal BLER in 1 of 3 families. It is"
        " not significantly worse in any of them. In 2 its gain is bought with a higher first-transmission BLER:"
        " 60.0 % against 28.0 %." in line.sentence
    )
    assert "No target of olla comes to the BLER of student in a, b: 60.0 % against 28.0 %." in said(found)


def test_in_one_family_too(results):
    text = said(results(a={}))
    assert (
        "has 17.6 % more goodput than olla in a, bought with a higher first-transmission BLER: 60.0 % against" in text
    )


def test_a_policy_that_decided_nothing_is_named_first(results):
    nothing = {
        "mcs_table": 2,
        "student": (3.0, 0.10, 0.0, "no_difference"),
        "student_changes": {"decided_share": 0.0, "undecided_because": "mcs_table"},
    }
    sentence = "student decided nothing in a, b: it does not know their MCS table, 2."
    lines = verdicts(BenchmarkView.headline(results(a=nothing, b=nothing, c=GAINS)))
    assert lines[0].sentence.startswith(sentence)
    assert lines[0].kind == "nothing-decided"
    # Where it decided in most families that comes first among the caveats.
    few = results(a=nothing, b=GAINS, c=GAINS)
    bench = BenchmarkView.headline(few)
    assert verdicts(bench)[0].sentence.startswith(
        "student (xApp, real-time E2) decided nothing in 1 of 3 families, whose MCS table it does not know. It has"
        " significantly more goodput than olla at equal BLER in 2 of the others."
    )
    assert caveats(few, bench)[0].startswith("student decided nothing in a: it does not know their MCS table, 2.")


UNDECIDED = {
    "mcs_table": 2,
    "student": (3.0, 0.23, 0.1, "bought_with_bler"),
    "student_changes": {"decided_share": 0.0, "undecided_because": "mcs_table"},
}


def with_averages(found):
    """The results with means over their families, as a benchmark writes them."""
    for target, view in views(found).items():
        resamples = {
            f: {policy: np.full(9, view.equal_bler_gain(f, policy).mean) for policy in view.policies}
            for f in view.families
        }
        averages = average_gains(view, resamples, resamples)
        found.targets[target] = found.targets[target].model_copy(update={"averages": averages})
    return found


def test_the_mean_is_over_the_families_in_which_the_policy_decided(results):
    found = with_averages(results(a=UNDECIDED, b=GAINS, c=GAINS))
    text = said(found)
    assert "Its mean gain at equal BLER over the 2 families in which it decided is +4.0 %." in text
    assert found.targets["10"].averages["seen_real_time"].figures["student"].first_tx_bler == 0.15
    everywhere = said(with_averages(results(a=GAINS, b=GAINS)))
    assert "Its mean gain at equal BLER over these families is +4.0 %." in everywhere


def test_what_no_target_comes_to_is_the_policys_own_bler(results):
    text = said(results(a=UNDECIDED, b={}, c={}))
    assert "No target of olla comes to the BLER of student in b, c: 60.0 % against 28.0 %." in text


def test_a_coarse_reference_is_said_to_be_one(results):
    assert "coarse" not in said(results(a={}, b=GAINS))
    found = results(a={}, b=GAINS).model_dump(mode="json")
    for comparison in found["targets"].values():
        comparison["families"]["b"]["policies"]["student"]["equal_bler_gain"]["coarse_reference"] = True
    found["targets"]["1"]["families"]["a"]["policies"]["salad"]["equal_bler_gain"]["coarse_reference"] = True
    text = said(BenchmarkResults.model_validate(found))
    assert "The reference of student at equal BLER is coarse in b: it lies on a straight line between two BLERs" in text
    assert text.count("coarse in") == 1
    assert "The reference of salad is as coarse at a target of 1 % (families: 1)." in text


def test_the_headline_is_about_10_percent_or_else_the_middle_target(results, family, benchmark_results):
    def headline(*targets):
        found = {target: results(a={}).targets["10"] for target in targets}
        return BenchmarkView.headline(results(a={}).model_copy(update={"targets": found})).target

    assert headline("1", "5", "10") == "10"
    assert headline("5", "20", "30") == "20"
    assert headline("5", "20") == "5"


def test_the_terminal_names_the_target_of_its_tables_and_where_the_others_are(results, capsys):
    command._show(results(a={}, b=GAINS), Path("out"), json=False)
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("tables: target 10 %; those of 1, 30 % are in report.html and results.json")
    one = results(a={}).model_copy(update={"targets": {"10": results(a={}).targets["10"]}})
    command._show(one, Path("out"), json=False)
    assert "tables:" not in capsys.readouterr().out


def test_both_pages_say_decided_nothing_in_the_same_words(results, tmp_path):
    found = with_averages(results(a=UNDECIDED, b=GAINS, c=GAINS))
    write_pages(tmp_path, found.model_copy(update={"globally_tuned": found.targets["10"]}))
    for name in ("report.html", "global.html"):
        source = html.unescape((tmp_path / name).read_text("utf-8").split("<script")[0])
        text = " ".join(re.sub(r"<[^>]+>", " ", source).split())
        assert "decided nothing the DU's OLLA" in text, name
        assert "over the 2 families in which it decided" in text, name


# --- the page ---


@pytest.fixture
def page(results, tmp_path):
    write_pages(tmp_path, results(a={}, b=GAINS, c={"unseen": True}))
    return html.unescape(" ".join((tmp_path / "report.html").read_text("utf-8").split("<script")[0].split()))


def test_every_gain_stands_beside_the_bler_that_was_reached(page):
    text = re.sub(r"<[^>]+>", " ", page)
    text = " ".join(text.split())
    assert "\u25b3 +17.6 % +17.1 to +18.1 BLER 60.0 %" in text
    assert "\u25b2 +4.0 % +3.5 to +4.5 BLER 15.0 %" in text
    assert "3.000 bit/s/Hz BLER 10.0 %" in text


def test_the_second_page_is_linked_where_there_is_one(results, family, tmp_path):
    write_pages(tmp_path, results(a={}))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    both = results(a={}).model_copy(update={"globally_tuned": results(a={}).targets["10"]})
    write_pages(tmp_path, both)
    assert 'href="global.html"' in (tmp_path / "report.html").read_text()
    assert 'href="report.html"' in (tmp_path / "global.html").read_text()
    write_pages(tmp_path, results(a={}))
    assert not (tmp_path / "global.html").exists(), "of an earlier run"


def test_without_targets_the_only_page_is_the_one_against_tuned_olla(results, tmp_path):
    found = results(a={})
    write_pages(tmp_path, found.model_copy(update={"targets": {}, "globally_tuned": found.targets["10"]}))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "whatever BLER" not in (tmp_path / "report.html").read_text()


# --- the frontier ---


def views(results):
    return BenchmarkView.at_targets(results)


def test_a_policy_with_targets_is_a_line_and_one_without_a_point(results):
    found = views(results(a={}))
    line = [(point.target, point.cost, point.goodput) for point in points(found, "a", "olla", "bler")]
    assert line == [("1", 1.0, 2.0), ("10", 10.0, 3.0), ("30", pytest.approx(28.0), 3.4)]
    assert [(p.target, p.cost, p.goodput) for p in points(found, "a", "student", "bler")] == [(None, 60.0, 4.0)]


def test_over_delay_the_cost_is_the_95th_percentile(results):
    assert {point.cost for point in points(views(results(a={})), "a", "salad", "delay")} == {4.5}


def test_there_is_a_panel_for_each_family_and_an_entry_of_the_legend_for_each_policy(results):
    names = [f"family_{place}" for place in range(21)]
    bler, delay = frontiers(views(results(**{name: {} for name in names})))
    assert (bler.key, delay.key) == ("frontier", "frontier-delay")
    for chart in (bler, delay):
        assert [note.text for note in chart.figure.layout.annotations][: len(names)] == names
        assert [trace.name for trace in chart.figure.data if trace.showlegend] == [
            "olla",
            "olla@10%",
            "salad",
            "student",
        ]
        assert len(chart.figure.data) == 4 * len(names)
    assert bler.figure.layout.xaxis.range == bler.figure.layout.xaxis21.range, "panels can be compared"


def test_what_is_null_is_no_point(results):
    lost = {"student_changes": {"goodput": None}}
    assert points(views(results(a=lost)), "a", "student", "bler") == []
    lost = {"student_changes": {"block_delay_ms": None}}
    assert points(views(results(a=lost)), "a", "student", "delay") == []


def test_genies_are_left_out(results, at_target):
    found = results(a={}).model_dump(mode="json")
    for comparison in found["targets"].values():
        comparison["families"]["a"]["policies"]["genie"] = at_target(9.0, 0.2, base="genie")
    chart = frontiers(views(BenchmarkResults.model_validate(found)))[0]
    assert "genie" not in {trace.name for trace in chart.figure.data}


def test_a_bler_of_zero_stands_at_the_end_of_the_axis(results):
    none = {"student": (3.0, 0.0, 0.0, "no_difference")}
    assert points(views(results(a=none)), "a", "student", "bler")[0].cost == 0.5


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.6), (1, 9), (0.2, 900)])
def test_every_axis_has_a_few_ticks(low, high):
    about = x_axis([low, high], "delay")
    assert about.range[0] < low < high < about.range[1]
    assert 1 <= len(about.ticks) <= 8


def test_the_pngs_are_there_with_targets_only(results, tmp_path):
    names = {path.name for path in write_pngs(tmp_path, results(a={}, b={}, c={}))}
    assert names == {"gain.png", "frontier.png", "frontier_delay.png"}
    without = results(a={}).model_copy(update={"targets": {}, "globally_tuned": results(a={}).targets["10"]})
    write_pngs(tmp_path, without)
    assert {path.name for path in tmp_path.iterdir()} == {"gain.png"}, "nothing of an earlier run stays"

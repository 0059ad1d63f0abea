"""The benchmark's second page, against globally tuned OLLA.

Every family and policy, no claim that an interval does not carry, nothing where null is.
"""

import copy
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib")

from distila.training.benchmark import charts
from distila.training.benchmark.global_page import write_global_page
from distila.training.benchmark.png_charts import write_pngs as write_png_charts
from distila.training.benchmark.results import BenchmarkResults
from distila.training.benchmark.view import BenchmarkView, difference
from distila.xapp.result_file import Estimate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MARKUP = '<script>alert("x")</script><b>&$'
POLICIES = {"olla": "du", "salad": "du", "genie": "du", "student": "xapp"}
KINDS = {kind: kind.replace("-", "_") for kind in ("better", "worse", "no-difference", "nothing-decided")}
NOT_A_FIGURE = re.compile(r"\b(None|nan|NaN|inf|Infinity)\b")


class Page(HTMLParser):
    """The page as a browser would take it: text beside scripts, cells of the headline by family, options, charts."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.shown, self.charts, self.options, self.scripts, self.headline = [], [], [], 0, []
        self._in = self._table = None
        self.feed(self.source)
        self.text = " ".join(" ".join(self.shown).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.scripts += tag == "script"
        if tag == "table":
            self._table = attrs.get("id")
        if self._table == "headline" and tag == "tr":
            self.headline.append([])
        if self._table == "headline" and tag == "td":
            self.headline[-1].append("")
        if "mark" in attrs.get("class", "").split() and self._table == "headline":
            self.headline[-1][-1] = attrs["class"].split()[1] + ":"
        if attrs.get("class") == "chart":
            self.charts.append(attrs["id"])
        if tag == "option":
            self.options.append("")
        self._in = tag

    def handle_endtag(self, tag):
        if tag == "table":
            self._table = None
        self._in = None

    def handle_data(self, data):
        if self._in in ("script", "style"):
            return
        self.shown.append(data)
        if self._in == "option":
            self.options[-1] += data
        if self._table == "headline" and self.headline and self.headline[-1]:
            self.headline[-1][-1] += data.strip()


def policy(name, seat, mean, low, high, bursty=False):
    return {
        "base": "out/student" if name == "student" else name,
        "seat": seat,
        "settings": {"target": 0.1, "memory": None},
        "takes_target": False,
        "decided_share": 1.0,
        "goodput": 2 + mean / 50,
        "goodput_p5": 0.5,
        "gain_vs_olla_pct": {"mean": mean, "ci95": [low, high]},
        "gain_kind": KINDS[difference(Estimate(mean=mean, ci95=(low, high))).kind],
        "first_tx_bler": 0.0977,
        "bler_vs_olla": {"mean": 0.0, "ci95": [0.0, 0.0]},
        "transmissions_per_block": 1.1,
        "retransmission_share": 0.09,
        "stalled_slot_share": 0.0,
        "block_delay_ms": None,
        "residual_bler": 0.0002,
        "residual_vs_olla": {"mean": 0.0, "ci95": [0.0, 0.0]},
        "genie_share_pct": 4 * mean,
        "mean_mcs": 14.25,
        "file_delay_ms": {"p50": 10.0, "p95": 41.5, "p99": 120.25, "files": 1234} if bursty else None,
        "goodput_percentiles": [0.1 * (place + 1) * (1 + mean / 100) for place in range(21)],
        "gain_by_speed": [
            {"speed_kmh": [0, 10], "links": 40, "mean": mean, "ci95": [low, high]},
            {"speed_kmh": [10, 30], "links": 50, "mean": mean, "ci95": [None, None]},
        ],
        "elapsed_s": 1.5,
    }


def family(salad=(1.0, -0.5, 2.5), student=(5.0, 4.0, 6.0), unseen=False, bursty=False, e2_period_ms=1.0):
    gains = {"olla": (0.0, 0.0, 0.0), "salad": salad, "genie": (25.0, 23.0, 27.0), "student": student}
    return {
        "description": "Made up for the test",
        "unseen": unseen,
        "slot_us": 500.0,
        "e2_period_ms": e2_period_ms,
        "e2_delay_ms": 5.0,
        "links": 256,
        "bursty_share": 0.5 if bursty else 0.0,
        "policies": {name: policy(name, seat, *gains[name], bursty) for name, seat in POLICIES.items()},
    }


@pytest.fixture
def results():
    return {
        "distila": "0.1.0",
        "quick": True,
        "settings": {"links": 256, "duration_ms": 2000.0, "seeds": [0, 1], "split": "test", "reference": "olla"},
        "families": {
            "high_mobility": family(),
            "files": family(salad=(-3.0, -4.0, -2.0), bursty=True),
            "new_carrier": family(student=(-0.1, -1.0, 0.8), unseen=True),
        },
        "e2_sweep": {
            "scenario": "slow_e2_10ms",
            "policies": {
                "student": [
                    {"period_ms": 10.0, "delay_ms": 5.0, "mean": 9.0, "ci95": [8.0, 10.0]},
                    {"period_ms": 0.5, "delay_ms": 5.0, "mean": 14.0, "ci95": [13.0, 15.0]},
                    {"period_ms": 20.0, "delay_ms": 5.0, "mean": None, "ci95": [None, None]},
                ]
            },
        },
    }


UNDEFINED = {"mean": None, "ci95": [None, None]}


def emptied(family):
    """The same family with every figure undefined that may be."""
    empty = {
        **dict.fromkeys(("goodput", "goodput_p5", "first_tx_bler", "residual_bler", "genie_share_pct", "mean_mcs")),
        **dict.fromkeys(("gain_vs_olla_pct", "residual_vs_olla", "bler_vs_olla"), UNDEFINED),
        **dict.fromkeys(("transmissions_per_block", "retransmission_share", "stalled_slot_share")),
        "gain_kind": "nothing_decided",
        "file_delay_ms": None,
        "goodput_percentiles": [None] * 21,
        "elapsed_s": None,
    }
    policies = {}
    for name, figures in family["policies"].items():
        speeds = [{**entry, **UNDEFINED} for entry in figures["gain_by_speed"]]
        policies[name] = {**figures, **empty, "gain_by_speed": speeds}
    return {**family, "slot_us": None, "e2_period_ms": None, "e2_delay_ms": None, "policies": policies}


def page_of(results, tmp_path):
    write_global_page(tmp_path / "report.html", made(results))
    return Page(tmp_path / "report.html")


def made(results):
    """The results of a benchmark without BLER targets."""
    facts = {name: value for name, value in results.items() if name not in ("families", "averages")}
    tuned = {"families": results["families"], "averages": results.get("averages", {})}
    return BenchmarkResults.model_validate({**facts, "targets": {}, "globally_tuned": tuned})


def write_pngs(folder, results):
    return write_png_charts(folder, made(results))


def view(results):
    return BenchmarkView.globally_tuned(made(results))


def chart(charts_of_page, key):
    return next(chart for chart in charts_of_page if chart.key == key).figure


# The page


def test_shows_every_family_and_policy_and_loads_nothing(results, tmp_path):
    page = page_of(results, tmp_path)
    for name in (*results["families"], *POLICIES):
        assert name in page.text
    assert page.charts == [
        f"chart-{key}"
        for key in ("gain", "goodput", "bler", "p5", "genie", "delay", "sweep", "distribution", "quantiles", "speed")
    ]
    outside = page.source.replace("http://www.w3.org", "")
    assert not re.search(r'(src|href)="(?!data:)', re.sub(r"<script>.*?</script>", "", outside, flags=re.DOTALL))


def test_headline_says_what_the_intervals_say(results, tmp_path):
    page = page_of(results, tmp_path)
    # Genies last, the reference first with its goodput.
    assert [[cell.split(":")[0] for cell in row] for row in page.headline[1:4]] == [
        ["2.000bit/s/Hz", "no-difference", "better", "better"],
        ["2.000bit/s/Hz", "worse", "better", "better"],
        ["2.000bit/s/Hz", "no-difference", "no-difference", "better"],
    ]
    assert page.headline[2][1] == "worse:\u25bc \u22123.0 %\u22124.0 to \u22122.0"
    assert page.headline[4][1:] == ["0 · 0 · 1 · 2", "2 · 0 · 0 · 1", "3 · 0 · 0 · 0"]


@pytest.mark.parametrize(
    ("ci95", "verdict"),
    [
        ([0.01, 2.0], "better"),
        ([-2.0, -0.01], "worse"),
        ([-1.0, 1.0], "no-difference"),
        ([0.0, 1.0], "no-difference"),
        ([-1.0, 0.0], "no-difference"),
        ([0.0, 0.0], "no-difference"),
        ([None, 1.0], "nothing-decided"),
        (None, "nothing-decided"),
    ],
)
def test_better_or_worse_only_where_the_interval_stays_clear_of_zero(ci95, verdict):
    estimate = None if ci95 is None else Estimate(mean=0.5, ci95=ci95)
    assert difference(estimate).kind == verdict


def test_an_interval_clear_of_zero_does_not_look_as_if_it_ended_there(results, tmp_path):
    results["families"]["high_mobility"] = family(student=(0.7, 0.02, 1.4))
    assert "+0.02 to +1.40" in page_of(results, tmp_path).headline[1][2]


def test_first_sentence_counts_families_and_leaves_genies_out(results, tmp_path):
    page = page_of(results, tmp_path)
    assert (
        "student (xApp, real-time E2) has significantly more goodput than olla in 2 of 3 families. "
        "It is not significantly worse in any of them. In 1 the difference is not significant." in page.text
    )
    assert (
        "salad (in the DU) has significantly more goodput than olla in none of 3 families and significantly less in 1."
        in page.text
    )
    assert "genie (in the DU) has" not in page.text
    assert "256 links of 2 s" in page.text


def averages(names, student):
    gains = {"olla": (0.0, 0.0, 0.0), "salad": (-0.5, -1.5, 0.5), "genie": (25.0, 24.0, 26.0), "student": student}
    policies = {name: {"mean": mean, "ci95": [low, high]} for name, (mean, low, high) in gains.items()}
    return {"families": list(names), "policies": policies}


def test_means_over_families_stand_below_them_each_group_once(results, tmp_path):
    plain, names = page_of(results, tmp_path), list(results["families"])
    results["averages"] = {
        "five": averages(names[:2], (5.0, 4.5, 5.5)),
        "seen_real_time": averages(names[:2], (5.0, 4.5, 5.5)),
        "unseen_slow": averages(names[1:], (None, None, None)),
    }
    page = page_of(results, tmp_path)
    assert len(page.headline) == len(plain.headline) + 2
    assert "mean over the five families 2" in page.text
    assert "mean over unseen families, slow E2 2" in page.text
    assert page.headline[4] == [
        "",
        "no-difference:\u22120.5 %\u22121.5 to +0.5",
        "better:\u25b2 +5.0 %+4.5 to +5.5",
        "better:\u25b2 +25.0 %+24.0 to +26.0",
    ]
    assert page.headline[5][2] == "nothing-decided:not definednot defined"


def test_the_verdict_has_the_mean_over_the_very_families_that_it_is_about(results, tmp_path):
    names = list(results["families"])
    results["averages"] = {"five": averages(names[:2], (9.0, 8.0, 10.0))}
    assert "mean gain over" not in page_of(results, tmp_path).text
    results["averages"]["seen_real_time"] = averages(reversed(names), (3.3, 2.7, 3.9))
    text = page_of(results, tmp_path).text
    assert "not significant. Its mean gain over these families is +3.3 %. 95 % interval +2.7 to +3.9 %" in text
    assert "Its mean gain over these families is \u22120.5 %. 95 % interval \u22121.5 to +0.5 %" in text


@pytest.mark.parametrize(
    ("mean", "ci95", "shown"),
    [
        (4e-5, [1e-5, 7e-5], '<span class="mark worse">\u25bc +0.004</span><span class="note">+0.001 to +0.007'),
        (-4e-5, [-7e-5, -1e-5], '<span class="mark better">\u25b2 \u22120.004</span><span class="note">'),
        (4e-5, [-1e-5, 7e-5], '<span class="mark no-difference">+0.004</span>'),
        (4e-6, [1e-6, 7e-6], '<span class="note">+0.0001 to +0.0007</span>'),
        (
            None,
            [None, None],
            '<span class="mark nothing-decided">not defined</span><span class="note">not defined</span>',
        ),
    ],
)
def test_residual_bler_is_marked_where_it_is_surely_another(results, tmp_path, mean, ci95, shown):
    results["families"] = {"one": family()}
    results["families"]["one"]["policies"]["student"]["residual_vs_olla"] = {"mean": mean, "ci95": ci95}
    page = page_of(results, tmp_path)
    assert shown in re.sub(r">\s+<", "><", page.source)
    worse = "student has a significantly higher residual BLER than olla in one." in page.text
    assert worse is bool(ci95[0] and ci95[0] > 0)


def test_an_e2_timing_that_differs_from_the_families_is_shown(results, tmp_path):
    assert "instead of their own" not in page_of(results, tmp_path).text
    results["settings"] |= {"e2_period_ms": 10.0}
    assert "All families were run with an E2 period of 10 ms instead of their own." in page_of(results, tmp_path).text


@pytest.mark.parametrize(
    ("changes", "pace"),
    [
        ({"e2_period_ms": 0.5}, "real_time"),
        ({"e2_period_ms": 1.0}, "real_time"),
        ({"e2_period_ms": 1.5}, "slow"),
        ({"e2_period_ms": 0.3, "slot_us": 125.0}, "slow"),
        ({"e2_period_ms": None}, "mixed"),
        ({"slot_us": None}, "mixed"),
        ({"e2_delay_ms": None}, "real_time"),
    ],
)
def test_real_time_is_a_report_every_slot_or_two(results, changes, pace):
    results["families"]["files"].update(changes)
    assert view(results).pace("files") == pace


def test_families_of_another_pace_of_e2_are_counted_apart(results, tmp_path):
    results["families"] |= {
        "slow_1": family(student=(-2.0, -3.0, -1.0), e2_period_ms=10.0),
        "slow_2": family(student=(-3.0, -4.0, -2.0), e2_period_ms=50.0),
        "drawn_1": family(e2_period_ms=None),
        "drawn_2": family(e2_period_ms=None),
    }
    page = page_of(results, tmp_path)
    assert (
        "better</span> student (xApp, real-time E2) has significantly more goodput than olla in 2 of 3" in page.source
    )
    assert (
        "student (xApp, slow E2) has significantly more goodput than olla in none of 2 families "
        "and significantly less in 2." in page.text
    )
    assert (
        "student (xApp, E2 period \u2013) has significantly more goodput than olla in 2 of 2 families. It is not"
        in page.text
    )
    # Whatever sits in the DU does not depend on E2.
    assert (
        "salad (in the DU) has significantly more goodput than olla in none of 7 families and significantly less in 1."
        in page.text
    )
    assert "affects only policies in the xApp" in page.text
    assert [row[2] for row in page.headline[8:]] == [
        "2 \u00b7 0 \u00b7 0 \u00b7 1",
        "0 \u00b7 0 \u00b7 2 \u00b7 0",
        "2 \u00b7 0 \u00b7 0 \u00b7 0",
    ]
    assert "slow_1 E2 period 10 ms" in page.text
    assert "drawn_1 E2 period \u2013" in page.text


def test_each_pace_of_e2_has_its_own_best_policy(results, tmp_path):
    slow = results["families"]["slow"] = family(student=(-2.0, -3.0, -1.0), e2_period_ms=10.0)
    for entry in results["families"].values():
        entry["policies"]["patient"] = policy("patient", "xapp", *((3.0, 2.0, 4.0) if entry is slow else (0, -1, 1)))
    text = page_of(results, tmp_path).text
    assert "student (xApp, real-time E2) has significantly more goodput than olla in 2 of 3 families" in text
    assert "patient (xApp, slow E2) has 3.0 % more goodput than olla in slow. 95 % interval +2.0 to +4.0 %" in text


def test_genies_are_marked_as_genies_and_are_no_bound(results, tmp_path):
    for entry in results["families"].values():
        entry["policies"] = {"oracle" if name == "genie" else name: of for name, of in entry["policies"].items()}
        entry["policies"]["genie-like"] = policy("genie-like", "du", 30.0, 29.0, 31.0)
    bench = view(results)
    assert [name for name in bench.policies if bench.is_genie(name)] == ["oracle"]
    page = page_of(results, tmp_path)
    assert "genie-like (in the DU) has significantly more goodput than olla in 3 of 3 families" in page.text
    assert "oracle knows the channel of the slot in advance, which no real policy can." in page.text
    assert not re.search(r"\bbound", page.text)


@pytest.mark.parametrize(
    ("student", "expected_text"),
    [
        (
            (5.0, 4.0, 6.0),
            "student (xApp, real-time E2) has 5.0 % more goodput than olla in one. 95 % interval +4.0 to +6.0 %",
        ),
        ((-5.0, -6.0, -4.0), "student (xApp, real-time E2) has 5.0 % less goodput than olla in one"),
        ((1.0, -1.0, 3.0), "student (xApp, real-time E2) and olla do not differ significantly in one"),
        ((1.0, None, None), "student (xApp, real-time E2) cannot be compared with olla in one"),
        ((None, None, None), "student (xApp, real-time E2) cannot be compared with olla in one"),
    ],
)
def test_first_sentence_with_one_family(results, tmp_path, student, expected_text):
    results["families"] = {"one": family()}
    results["families"] = {"one": family()}
    kind = KINDS[difference(Estimate(mean=student[0], ci95=student[1:])).kind]
    entry = results["families"]["one"]["policies"]["student"]
    entry |= {"gain_vs_olla_pct": {"mean": student[0], "ci95": student[1:]}, "gain_kind": kind}
    assert expected_text in page_of(results, tmp_path).text


def test_marks_unseen_families_wherever_they_are_chosen_from(results, tmp_path):
    page = page_of(results, tmp_path)
    assert page.options == ["high_mobility", "files", "new_carrier \u2020"]
    assert page.source.count('<span class="badge">unseen</span>') == 3  # headline, all figures, families
    assert "No training configuration contains the families marked \u2020: new_carrier." in page.text
    ticks = chart(charts.overview(view(results)), "gain").layout.yaxis.ticktext
    assert ticks == ("high_mobility", "files", "new_carrier \u2020")


def test_says_that_a_quick_run_is_not_to_be_quoted(results, tmp_path):
    assert "This was a quick run" in page_of(results, tmp_path).text
    results["quick"] = False
    assert "This was a quick run" not in page_of(results, tmp_path).text


def test_names_are_shown_as_text(results, tmp_path):
    plain = page_of(results, tmp_path)
    named = json.loads(
        json.dumps(results).replace('"student"', json.dumps(MARKUP)).replace("new_carrier", "a</script>b")
    )
    named["families"]["high_mobility"]["description"] = MARKUP
    page = page_of(named, tmp_path)
    assert page.scripts == plain.scripts
    assert "<b>" not in page.source.split("<main>")[1].split("plotly.js v")[0]
    assert MARKUP in page.text
    assert "a</script>b" in page.text
    write_pngs(tmp_path, named)


def test_null_is_a_dash_and_never_a_word(results, tmp_path):
    results["families"] = {name: emptied(entry) for name, entry in results["families"].items()}
    results["families"]["files"]["policies"].pop("salad")
    for point in results["e2_sweep"]["policies"]["student"]:
        point |= UNDEFINED
    page = page_of(results, tmp_path)
    assert not NOT_A_FIGURE.search(page.text)
    assert page.headline[1] == ["not definedbit/s/Hz", *["nothing-decided:not definednot defined"] * 3]
    assert "chart-genie" not in page.charts
    assert "chart-delay" not in page.charts
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.source):
        json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(write_pngs(tmp_path, results)) == 2


def test_two_policies_one_family_no_sweep(results, tmp_path):
    results["families"] = {"one": family()}
    for name in ("salad", "genie"):
        results["families"]["one"]["policies"].pop(name)
    results["e2_sweep"] = None
    page = page_of(results, tmp_path)
    assert "chart-sweep" not in page.charts
    assert len(page.headline[1]) == 2
    assert [path.name for path in write_pngs(tmp_path, results)] == ["gain.png"]


def test_settings_that_differ_between_families_are_listed(results, tmp_path):
    results["families"]["files"]["policies"]["salad"]["settings"] = {"target": 0.25}
    text = page_of(results, tmp_path).text
    assert "high_mobility, new_carrier target = 0.1, memory = \u2013 4.5 files target = 0.25" in text


def test_a_failed_write_leaves_the_old_page(results, tmp_path, monkeypatch):
    page_of(results, tmp_path)
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr("pathlib.Path.write_text", lambda self, *_: (self.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        page_of(results, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# The charts


def test_markers_are_hollow_where_the_difference_is_not_significant(results):
    figure = chart(charts.overview(view(results)), "gain")
    symbols = {trace.name: trace.marker.symbol for trace in figure.data if trace.showlegend is False}
    hollow = {name: [symbol.endswith("-open") for symbol in symbols[name]] for name in symbols}
    assert hollow == {"salad": [True, False, True], "student": [False, False, True], "genie": [False] * 3}


def test_shares_of_next_to_nothing_stay_off_the_axis_and_are_named(results):
    results["families"]["files"]["policies"]["student"]["genie_share_pct"] = -2000.0
    entry = next(c for c in charts.overview(view(results)) if c.key == "genie")
    assert "student in files (\u22122,000 %)" in entry.caption
    assert entry.figure.layout.xaxis.range[0] > -100


def test_one_family_is_shown_at_a_time(results):
    for entry in charts.one_family(view(results)):
        assert {trace.meta["choice"] for trace in entry.figure.data} == {0, 1, 2}
        assert all(trace.visible is (trace.meta["choice"] == 0) for trace in entry.figure.data)


def test_percentiles_are_compared_with_those_of_the_reference(results):
    quantiles = chart(charts.one_family(view(results)), "quantiles")
    student = next(trace for trace in quantiles.data if trace.name == "student")
    assert list(student.x) == [5.0 * place for place in range(21)]
    assert list(student.y) == pytest.approx([5.0] * 21)


def test_sweep_goes_up_in_period_and_leaves_out_what_is_null(results):
    entry = charts.sweep(view(results), made(results).e2_sweep)
    (trace,) = entry.figure.data
    assert entry.figure.layout.xaxis.type == "log"
    assert list(trace.x) == [0.5, 10.0]
    assert list(trace.y) == [14.0, 9.0]
    assert list(trace.error_y.array) == [1.0, 1.0]
    assert "5 ms later" in entry.caption


def test_delays_are_shown_for_families_with_files_only(results):
    figure = chart(charts.overview(view(results)), "delay")
    assert figure.layout.yaxis.ticktext == ("files",)
    drawn = [x for trace in figure.data for x in trace.x if x is not None and not math.isnan(x)]
    assert sorted(set(drawn)) == [10.0, 41.5, 120.25]


def test_pngs_are_pngs(results, tmp_path):
    written = write_pngs(tmp_path / "new", results)
    assert [path.name for path in written] == ["gain.png", "e2_sweep.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert len(list((tmp_path / "new").iterdir())) == 2


# In a browser


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize("kind", ["full", "null", "markup"])
def test_a_browser_draws_every_chart_without_complaint(kind, results, tmp_path):
    if kind == "null":
        results["families"] = {name: emptied(entry) for name, entry in copy.deepcopy(results["families"]).items()}
    if kind == "markup":
        results = json.loads(json.dumps(results).replace('"student"', json.dumps(MARKUP)))
    page = page_of(results, tmp_path)
    # Another family than the one that is shown first, as a reader would choose it.
    source = page.source.replace(
        "</body>",
        '<script>addEventListener("load", () => setTimeout(() => {'
        'family.value = "1"; family.dispatchEvent(new Event("change"));'
        'const shown = document.getElementById("chart-speed").data.filter((trace) => trace.visible === true);'
        "document.body.dataset.shown = [...new Set(shown.map((trace) => trace.meta.choice))].join();"
        "}, 3000));</script></body>",
    )
    (tmp_path / "report.html").write_text(source, "utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0",
        "--dump-dom", (tmp_path / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    for key in page.charts:
        element = re.search(rf'<div class="chart[^>]*id="{key}"[^>]*>', done.stdout)
        assert element is not None, key
        assert 'data-drawn="yes"' in element[0], key
    assert 'data-shown="1"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []

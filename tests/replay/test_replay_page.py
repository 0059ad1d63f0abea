"""The replay report: one file that loads nothing, shows the summary's figures, and copes with thin or ragged runs."""

import copy
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest

from distila.replay import closed_loop_charts, open_loop_charts
from distila.replay.closed_loop import InProcess, run
from distila.replay.closed_loop_page import write_closed_loop_page
from distila.replay.decided import Decided
from distila.replay.du_config import DuConfig
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.open_loop_page import write_open_loop_page
from distila.replay.page.number_text import MINUS
from distila.replay.page.verdict import Difference
from distila.replay.record import RunRecord
from distila.replay.summary import ClosedLoopSummary, Latency, LogFacts, OpenLoopSummary, ReplaySettings, TraceFacts
from distila.replay.trace import NO_CQI, ChannelTrace, TraceMeta, UeMeta
from distila.xapp.loop import DecisionLoop
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.policy.guard import GuardConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_GAIN = Difference.of(0.0, None)
MARKUP = '<script>alert("x")</script><b>&'


class Page(HTMLParser):
    """What a browser would make of the page: its tags, its text outside scripts and styles, and its scripts."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.shown, self.scripts, self._in = [], [], [], None
        self.feed(path.read_text("utf-8"))
        self.text = " ".join(" ".join(self.shown).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in is None:
            self.shown.append(data)
        elif self._in == "script":
            self.scripts.append(data)

    @property
    def charts(self):
        return [attrs["id"] for tag, attrs in self.tags if attrs.get("class") == "chart"]


def make_trace(lengths, *, name="made up", gap=None, speeds=None, notes=(), slot_is="slot"):
    """UEs of the given lengths in slots, on a slowly moving channel; silent in the slots of ``gap``."""
    rng = np.random.default_rng(0)
    sinr_db = [10 + 5 * np.sin(np.arange(n) / 200 + u) + rng.normal(0, 1, n) for u, n in enumerate(lengths)]
    if gap is not None:
        for values in sinr_db:
            values[gap] = np.nan
    sinr_db = np.concatenate(sinr_db).astype(np.float32)
    cqi = np.where(np.isnan(sinr_db), NO_CQI, np.clip(np.nan_to_num(sinr_db) / 2 + 3, 1, 15)).astype(np.int8)
    speeds = speeds or [None] * len(lengths)
    ues = [UeMeta(name=f"ue{u}", prbs=52, speed_kmh=speed) for u, speed in enumerate(speeds)]
    meta = TraceMeta(name=name, slot_us=500, slot_is=slot_is, source=f"{name} by the test", notes=list(notes), ues=ues)
    return ChannelTrace(
        meta=meta,
        offset=np.r_[0, np.cumsum(lengths)].astype(np.int64),
        slots=np.ones(sum(lengths), np.int32),
        sinr_db=sinr_db,
        cqi=cqi,
    )


def replay(trace, **settings):
    """A run with the OLLA bundle through the loop, one without, and the decision times."""
    controller = InProcess(DecisionLoop(load_bundle("olla"), guard_config=GuardConfig(deadline_us=None)))
    bler, config = SmoothBler.load(), DuConfig(**settings)
    policy, _ = run(trace, bler, config, seed=1, controller=controller)
    against, _ = run(trace, bler, config, seed=1, controller=None)
    return policy, against, controller.latency.samples_us().astype(np.float64)


def summarise(policy, against, /, **changes):
    """A summary of two runs; ``changes`` to its fields, those of a part of it by part and name."""
    meta = policy.trace.meta
    summary = {
        "trace": {
            "path": "made/up.trace", "name": meta.name, "source": meta.source, "slots": policy.num_slots,
            "ues": policy.trace.num_ues, "mcs_tables": [1],
            "slot_us": meta.slot_us, "slot_is": meta.slot_is, "notes": meta.notes,
        },
        "settings": {
            "period_slots": 20, "decision_delay_slots": 8, "seed": 1, "transport": "inproc", "speed": "max",
            "bler": "smooth", "du": DuConfig(period_slots=20).model_dump(),
        },
        "policy": {
            "name": "olla", "version": "7", "digest": "e9d5f087", **policy.summary(),
            "block_delay_ms": {"p50": 0.5, "p95": 4.5, "p99": 60.25},
        },
        "against": {
            "name": "native OLLA", **against.summary(), "block_delay_ms": {"p50": 0.5, "p95": 8.5, "p99": None},
            **dict(Decided.of(0, 0, {})),
        },
        "gain_pct": {"mean": -4.27, "ci95": [-5.03, -3.52], "unit": "UE"},
        "verdict": "made up", **dict(Decided.of(19200, 18900, {"breaker": 300})), "answered_share": 1.0,
        "latency_us": {"p50": 606.1, "p99": 1722.4, "max": 8929.1, "what": "in process"},
        "indications": 300, "decisions": 19200, "native": 300,
        "dropped": {}, "guarded": {"breaker": 300}, "noticed": {"ue_new": 64}, "outcomes": {"accepted": 19200},
        "lost": {},
    }  # fmt: skip
    parts = {name: {**summary[name], **changes.pop(name)} for name in ("policy", "settings") if name in changes}
    return ClosedLoopSummary.model_validate(summary | parts | changes)


@pytest.fixture(scope="module")
def runs():
    return replay(make_trace([400] * 12, speeds=[3.0, 30.0] * 6), period_slots=20, decision_delay_slots=8)


@pytest.fixture
def closed(runs, tmp_path):
    def write(**changes):
        path = tmp_path / "report.html"
        write_closed_loop_page(path, summarise(runs[0], runs[1], **changes), *runs)
        return Page(path)

    return write


def make_log(num_ues=3, reports=60, name="made up"):
    rows = num_ues * reports
    timestamp_us = np.repeat(np.arange(reports) * 100_000, num_ues)
    timestamp_us[rows // 2 :] += 60_000_000  # a minute of silence
    measured = {key: np.full(rows, np.nan) for key in KPI_COLUMNS}
    measured["mcs"] = np.tile(np.linspace(4, 20, reports), (num_ues, 1)).T.reshape(-1)
    measured["cqi"] = np.rint(measured["mcs"] / 2)
    meta = KpiLogMeta(name=name, source="the test", period_us=1e5, ues=[f"{name}{u}" for u in range(num_ues)])
    return KpiLog(meta, timestamp_us, np.tile(np.arange(num_ues, dtype=np.int32), reports), measured)


def open_summary(log, **changes):
    summary = {
        "trace": {
            "path": "made/up.parquet", "rows": log.num_rows, **log.meta.model_dump(), "ues": len(log.meta.ues),
            "notes": ["a note"],
        },
        "policy": {"name": "olla", "version": "7", "digest": "e9d5f087"},
        "verdict": "made up", **dict(Decided.of(180, 180, {})),
        "indications": 60, "decisions": 180, "native": 0, "dropped": {}, "guarded": {}, "noticed": {},
        "agreement": {"same_mcs_share": 0.25, "mean_difference": -1.5, "rows_compared": 1180},
        "latency_us": {"p50": 12.0, "p99": 31.0, "max": 99.0, "what": "in process"},
    }  # fmt: skip
    if "notes" in changes:
        summary["trace"]["notes"] = changes.pop("notes")
    return OpenLoopSummary.model_validate(summary | changes)


def timed(**figures):
    return Latency(**{"p50": None, "p99": None, "max": None, "what": "in process", **figures})


def y_of(figure, trace=0):
    return np.asarray(figure.data[trace].y, np.float64)


# One file


def test_loads_nothing_from_anywhere(closed):
    page = closed()
    loaded = [
        (tag, attrs[name])
        for tag, attrs in page.tags
        for name in ("src", "srcset", "href", "data", "action", "poster")
        if attrs.get(name) and not attrs[name].startswith("data:")
    ]
    assert loaded == []
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none';")
    assert "http" not in policies[0]


def test_holds_plotly_once_and_says_its_language_and_title(closed):
    page = closed()
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert ("html", {"lang": "en"}) in page.tags
    assert any(attrs.get("name") == "viewport" for _, attrs in page.tags)
    assert "olla against native OLLA" in page.text


def test_replaces_an_earlier_report_and_leaves_no_scraps(runs, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_closed_loop_page(path, summarise(runs[0], runs[1]), *runs)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


# What it says


def test_shows_the_figures_of_the_summary(closed, runs):
    page = closed()
    for run_record in runs[:2]:
        figures = run_record.summary()
        assert f"{figures['goodput_mbps']:.2f}" in page.text
        assert f"{100 * figures['first_tx_bler']:.2f}" in page.text
        assert f"{figures['mean_mcs']:.2f}" in page.text
        assert f"{figures['first_transmissions']:,}" in page.text
        assert f"{figures['transmissions_per_block']:.3f}" in page.text
        assert f"{100 * figures['retransmission_share']:.2f}" in page.text
        assert f"{100 * figures['residual_bler']:.4f}" in page.text
    assert "slots without a free HARQ process 0.00 % 0.00 % 0.00 points" in page.text
    assert "19,200 UE decisions, 300 of them (1.6 %) native" in page.text
    assert "p50 606 µs, p99 1,722 µs, longest 8,929 µs" in page.text
    for expected_text in (
        "e9d5f087",
        "made up by the test",
        "decision delay [slots]",
        "target of first-transmission BLER",
    ):
        assert expected_text in page.text


def test_shows_block_delays_of_both_runs_and_how_far_they_differ(closed):
    text = closed().text.replace(MINUS, "-")
    assert "block delay, median [ms] 0.50 0.50 0.00" in text
    assert "block delay, 95th percentile [ms] 4.50 8.50 -4.00" in text
    assert "block delay, 99th percentile [ms] 60.25 not defined not defined" in text


@pytest.mark.parametrize(
    ("gain", "expected_text"),
    [
        (
            (1.84, [0.9, 2.6]),
            "▲ better olla gains +1.8 % goodput over native OLLA. 95 % interval +0.9 to +2.6 %",
        ),
        ((-4.27, [-5.03, -3.52]), "▼ worse olla loses 4.3 % goodput to native OLLA. 95 % interval -5.0 to -3.5 %"),
        (
            (0.2, [-0.4, 0.8]),
            "no difference shown The replay shows no difference in goodput between olla and native",
        ),
        ((0.0, [0.0, 0.0]), "The replay shows no difference in goodput"),
        ((0.03, [0.01, 0.06]), "gains +0.03 % goodput over native OLLA. 95 % interval +0.01 to +0.06 %"),
        (
            (1.0, [None, None]),
            "differs from that of native OLLA by +1.0 %; the interval is not defined",
        ),
        ((None, [None, None]), "nothing decided olla cannot be compared with native OLLA: one of the runs"),
    ],
)
def test_verdict_claims_no_more_than_the_interval_does(closed, gain, expected_text):
    page = closed(gain_pct={"mean": gain[0], "ci95": gain[1], "unit": "UE"})
    assert expected_text in page.text.replace(MINUS, "-")


@pytest.mark.parametrize("model", [TraceFacts, LogFacts, ReplaySettings, DuConfig])
def test_settings_have_titles_in_words(model):
    for name, field in model.model_fields.items():
        assert field.title, name
        assert "_" not in field.title


def test_settings_are_shown_by_their_titles(closed):
    text = closed().text
    for model in (TraceFacts, ReplaySettings, DuConfig):
        assert [name for name in model.model_fields if "_" in name and name in text] == []


def test_verdict_says_what_was_paired(closed):
    assert "paired over 12 UEs" in closed().text
    gain = {"mean": 1.0, "ci95": [0.5, 1.5], "unit": "UE and stretch of time"}
    assert "paired over UE and stretch of time, 12 UEs" in closed(gain_pct=gain).text


def test_says_so_first_when_the_policy_hardly_ever_decided(closed):
    text = closed(**dict(Decided.of(19200, 1920, {"stale_cqi": 17280}))).text
    few = "olla decided only 1,920 of 19,200 UE decisions (10.0 %); the other 17,280 were left to the DU"
    assert 0 < text.index(few) < text.index("olla loses 4.3 % goodput")


def test_some_decisions_that_were_left_to_the_du_are_a_caveat(closed):
    text = closed(**dict(Decided.of(19200, 17280, {"breaker": 1920}))).text
    assert text.index("olla loses 4.3 % goodput") < text.index("olla decided 17,280 of 19,200 UE decisions (90.0 %)")
    assert "UE decisions (99.9 %)" not in closed(**dict(Decided.of(19200, 19181, {"breaker": 19}))).text


def test_counters_that_are_not_known_are_not_called_zero(closed):
    text = closed(guarded=None, noticed=None, outcomes=None).text
    assert "The guard changed no decision" not in text
    assert "Not known here" in text


def test_an_xapp_that_keeps_its_counters_to_itself_gets_its_report(closed):
    page = closed(**dict.fromkeys(("native", "guarded", "noticed", "outcomes")))
    assert "300 indications were decided on with 19,200 UE decisions." in page.text


@pytest.mark.parametrize(
    ("period", "delay", "expected_text"),
    [
        (1, 1, "Not a figure for a near-RT RIC"),
        (1, 0, "which no real loop reaches"),
        (8, 4, "Faster than a near-RT RIC (a report every 4 ms, decisions in force 2 ms later)"),
        (20, 8, "Near-RT loop (a report every 10 ms, decisions in force 4 ms later)"),
    ],
)
def test_says_at_which_speed_of_the_loop_the_figures_hold(closed, period, delay, expected_text):
    assert (
        expected_text in closed(settings={"period_slots": period, "decision_delay_slots": delay, "speed": "max"}).text
    )


def test_says_plainly_that_nothing_was_dropped(closed):
    text = closed(guarded={}, noticed={}).text
    assert "Nothing was dropped: every indication was decided on." in text
    assert "The guard changed no decision." in text


def test_explains_reasons_and_shows_unknown_ones_as_they_are(closed):
    text = closed(dropped={"superseded": 100, "gremlins": 7}, noticed={"invalid_cqi": 3}, lost={"unanswered": 2}).text
    assert "superseded 100 24.57 % a newer one of the same cell" in text
    assert "gremlins 7" in text
    assert "reported cqi out of range" in text
    assert "was not answered in time" in text


def test_text_from_trace_and_bundle_stays_text(tmp_path):
    trace = make_trace([60] * 2, name=MARKUP, notes=[MARKUP], speeds=[3.0, 3.0])
    trace.meta.ues[0].name = MARKUP
    policy, against, latency_us = replay(trace)
    took = {"p50": 606.1, "p99": 1722.4, "max": 8929.1, "what": MARKUP}
    summary = summarise(policy, against, dropped={MARKUP: 1}, policy={"name": MARKUP}, latency_us=took)
    plain = summarise(policy, against)
    write_closed_loop_page(tmp_path / "a.html", summary, policy, against, latency_us)
    write_closed_loop_page(tmp_path / "b.html", plain, policy, against, latency_us)
    odd, even = Page(tmp_path / "a.html"), Page(tmp_path / "b.html")
    live = [[tag for tag, _ in page.tags if tag in ("script", "b")] for page in (odd, even)]
    assert live[0] == live[1]
    assert odd.text.count(MARKUP) >= 4
    assert not any(MARKUP in script for script in odd.scripts)
    # Plotly reads markup in what it draws, so there it must come escaped.
    drawn = closed_loop_charts.gain_charts((MARKUP, "native"), policy, against, NO_GAIN)[0].figure.to_json()
    assert "<" not in drawn.replace("<extra>", "").replace("</extra>", "")


# Thin and ragged runs


def test_one_ue_no_latency_no_interval(tmp_path):
    policy, against, _ = replay(make_trace([30]))
    summary = summarise(
        policy, against, latency_us=timed().model_dump(), gain_pct={"mean": 0.0, "ci95": [None, None], "unit": "UE"}
    )
    write_closed_loop_page(tmp_path / "r.html", summary, policy, against, np.empty(0))
    page = Page(tmp_path / "r.html")
    assert page.charts == ["chart-goodput", "chart-bler", "chart-mcs", "chart-gain"]
    assert "No decision was timed." in page.text


def test_one_slot(tmp_path):
    policy, against, latency_us = replay(make_trace([1]))
    write_closed_loop_page(tmp_path / "r.html", summarise(policy, against), policy, against, latency_us)
    assert "chart-goodput" in Page(tmp_path / "r.html").charts


def test_ragged_ues_and_silence_leave_gaps_not_zeros():
    policy, against, _ = replay(make_trace([160 + 4 * u for u in range(120)], gap=slice(40, 120)), period_slots=4)
    goodput, bler = closed_loop_charts.over_time(("a", "b"), policy, against, 0.1)
    for figure in (goodput.figure, bler.figure):
        assert np.isnan(y_of(figure)).any()
        assert not np.isnan(y_of(figure)).all()
    assert (y_of(goodput.figure)[~np.isnan(y_of(goodput.figure))] > 0).all()
    # The longest UE goes on alone to the last bin, at the rate that it has, not at a 120th of it.
    assert y_of(goodput.figure)[-1] > 0.2 * np.nanmax(y_of(goodput.figure))


def test_over_time_adds_up_to_the_totals(runs):
    policy, against, _ = runs
    figure = closed_loop_charts.over_time(("a", "b"), policy, against, None)[0].figure
    x, y = np.asarray(figure.data[1].x), y_of(figure, 1)
    assert figure.data[1].name == "a"
    # Equal slots in every bin here, so the mean of the bins is the mean of the run.
    assert np.isclose(y.mean(), policy.goodput_mbps(), rtol=0.02)
    assert 0 < x[0] < x[-1] < 0.2  # 400 slots of 0.5 ms


def test_points_over_time_are_the_link_metrics_of_their_stretch(runs):
    policy, against, _ = runs
    goodput, bler = closed_loop_charts.over_time(("a", "b"), policy, against, None)
    counts = policy.counts_over_time(np.arange(0, policy.num_bins, policy.num_bins // len(y_of(bler.figure, 1))))
    np.testing.assert_allclose(y_of(bler.figure, 1), 100 * counts.first_tx_bler)
    np.testing.assert_allclose(y_of(goodput.figure, 1), counts.goodput)
    assert counts.total() == policy.counts()
    assert "NACKs over ACKs and NACKs" in bler.caption


def test_time_of_transmission_opportunities_is_not_called_seconds():
    policy, against, _ = replay(make_trace([50], slot_is="transmission opportunity"))
    figure = closed_loop_charts.over_time(("a", "b"), policy, against, None)[0].figure
    assert figure.layout.xaxis.title.text == "transmission opportunity of each UE"
    assert figure.data[0].x[-1] > 40


def test_mcs_at_sinr_shows_the_mean_and_gaps_where_nothing_was_sent():
    record = RunRecord(make_trace([10]), 10, 10)
    record.mcs_at_sinr[12, 4], record.mcs_at_sinr[12, 8], record.mcs_at_sinr[14, 9] = 3, 1, 2
    figure = closed_loop_charts.mcs_at_sinr(("a", "b"), record, record).figure
    assert y_of(figure, 1)[[0, 2]].tolist() == [5.0, 9.0]
    assert np.isnan(y_of(figure, 1)[1])
    # Bin 12 is over 1 dB to 2 dB: edges -10, -9, ..., and bin 0 is all below -10.
    assert figure.data[1].x[0] == 1.5
    assert np.nansum(np.asarray(figure.data[0].z)) == pytest.approx(100)


def test_gain_per_ue_leaves_out_who_got_nothing_and_says_so():
    policy, against = (RunRecord(make_trace([10] * 3, speeds=[3.0, 3.0, None]), 10, 10) for _ in range(2))
    policy.bits[:, 0], against.bits[:, 0] = [110, 50, 10], [100, 100, 0]
    order, speed = closed_loop_charts.gain_charts(("a", "b"), policy, against, Difference.of(-20.0, None))
    assert "1 of 2 gets more with a." in order.caption
    assert "Left out: 1" in order.caption
    assert np.concatenate([y_of(order.figure, 0), y_of(order.figure, 1)]) == pytest.approx([-50, 10])
    assert y_of(speed.figure, 0) == pytest.approx([-20, -20])
    assert order.figure.layout.yaxis.range == speed.figure.layout.yaxis.range


def test_no_speed_no_speed_chart():
    policy, against, _ = replay(make_trace([50] * 2))
    charts = closed_loop_charts.gain_charts(("a", "b"), policy, against, NO_GAIN)
    assert [chart.key for chart in charts] == ["gain"]
    assert charts[0].wide


def test_latency_counts_every_decision_even_on_equal_values():
    for values in (np.full(5, 3.0), np.array([0.0, 1e6]), np.random.default_rng(0).lognormal(3, 1, 5000)):
        figure = closed_loop_charts.latency(values, timed()).figure
        assert y_of(figure).sum() == pytest.approx(100)
    assert "p50: 7 µs" in [trace.name for trace in closed_loop_charts.latency(values, timed(p50=7.0)).figure.data]


# Open loop


def test_open_loop_says_that_nothing_was_scored(tmp_path):
    log = make_log()
    write_open_loop_page(tmp_path / "o.html", open_summary(log), log, np.rint(log.measured["mcs"]) - 1)
    page = Page(tmp_path / "o.html")
    expected_text = (
        "olla decides 1.50 MCS below the logged one, on average over 1,180 reports; in 25 % of them both are the same."
    )
    assert expected_text in page.text
    assert "never scored as if they had been applied" in page.text
    assert page.charts == ["chart-ue", "chart-difference", "chart-cqi"]
    assert [attrs["value"] for tag, attrs in page.tags if tag == "option"] == ["0", "1", "2"]
    assert "What the E2 node did" not in page.text


def test_open_loop_says_at_the_top_what_the_comparison_can_show(tmp_path):
    log = make_log()
    log.measured["cqi"][:] = np.nan
    log.measured["sinr_db"][:] = np.nan
    summary = open_summary(log, notes=["indices of another table"])
    write_open_loop_page(tmp_path / "o.html", summary, log, np.rint(log.measured["mcs"]) - 1)
    top = Page(tmp_path / "o.html").text[:1500]
    assert "decided on HARQ feedback alone" in top
    assert "indices of another table" in top


def test_open_loop_breaks_lines_over_silence_and_native():
    log = make_log(num_ues=2, reports=10)
    decided = np.where(np.arange(20) < 4, np.nan, 8.0)
    chart = open_loop_charts.mcs_of_ues("olla", log, decided)
    assert chart.choices == ["made up0", "made up1"]
    assert [trace.visible for trace in chart.figure.data] == [True, True, False, False]
    assert np.isnan(y_of(chart.figure, 0)).tolist() == [False] * 5 + [True] + [False] * 5  # the minute of silence
    assert np.isnan(y_of(chart.figure, 1)).tolist() == [True, True, False, False, False, True] + [False] * 5


def test_open_loop_long_logs_are_thinned_to_means(monkeypatch):
    monkeypatch.setattr(open_loop_charts, "_POINTS_PER_UE", 50)
    log = make_log(num_ues=1, reports=1000)
    chart = open_loop_charts.mcs_of_ues("olla", log, np.full(1000, 5.0))
    assert 50 <= len(y_of(chart.figure)) <= 53
    assert np.nanmean(y_of(chart.figure)) == pytest.approx(log.measured["mcs"].mean(), abs=0.2)
    assert "means of up to 20 reports" in chart.caption


def test_open_loop_with_native_decisions_only(tmp_path):
    log = make_log()
    summary = open_summary(log, agreement={"same_mcs_share": None, "mean_difference": None, "rows_compared": 0})
    write_open_loop_page(tmp_path / "o.html", summary, log, np.full(log.num_rows, np.nan))
    page = Page(tmp_path / "o.html")
    assert page.charts == ["chart-ue"]
    assert "Nothing can be compared" in page.text


# In a browser


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize("kind", ["closed", "one UE", "ragged", "markup", "open"])
def test_a_browser_draws_every_chart_without_complaint(kind, runs, tmp_path):
    path = tmp_path / "report.html"
    if kind == "open":
        log = make_log(name=MARKUP)
        write_open_loop_page(path, open_summary(log), log, np.rint(log.measured["mcs"]) - 1)
    else:
        trace = {
            "one UE": lambda: make_trace([20]),
            "ragged": lambda: make_trace([60 + 4 * u for u in range(120)], gap=slice(20, 40)),
            "markup": lambda: make_trace([40] * 2, name=MARKUP, notes=[MARKUP], speeds=[1.0, 2.0]),
        }.get(kind)
        policy, against, latency_us = replay(trace()) if trace else copy.copy(runs)
        summary = summarise(policy, against, policy={"name": MARKUP} if kind == "markup" else {})
        write_closed_loop_page(path, summary, policy, against, latency_us)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    charts = Page(path).charts
    assert len(charts) >= 3
    for chart in charts:
        element = re.search(rf'<div class="chart[^>]*id="{chart}"[^>]*>', done.stdout)
        assert element is not None, chart
        assert 'data-drawn="yes"' in element[0], chart
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize("width", [1280, 1100, 500])
def test_no_word_of_the_report_is_broken_and_no_table_cut(closed, width, tmp_path):
    closed(guarded={"breaker": 300, "breaker_tripped": 7})
    found = browser.layout(tmp_path / "report.html", width, tmp_path)
    assert found == {"broken": "", "cut": "", "beyond": "0"}

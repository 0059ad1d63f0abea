"""The report of a rollout, its audit log and the terminal: metrics by name and unit, nothing cut off."""

import re

import browser
import pytest

from distila.replay.rollouts.rollout_page import write_rollout_page
from distila.xapp.commands.findings import finding_table
from distila.xapp.commands.terminal import print_records, print_table, stdout
from distila.xapp.rollout.machine import Command
from distila.xapp.rollout.metric_text import (
    FINDING_TEXTS,
    METRIC_NAMES,
    difference_text,
    interval_text,
    margin_text,
)
from distila.xapp.rollout.plan import DEFAULT_METRICS, Metric

RELATIVE = Metric(name="goodput_per_prb", role="primary", better="higher", scale="relative", margin=0.01, effect=0.03)
SHARE = Metric(name="decision_latency", better="lower", scale="absolute", margin=0.01, effect=0.01)


@pytest.fixture
def desk(make_desk, make_plan):
    """A rollout that rolled its challenger back after two stages."""
    desk = make_desk()
    desk.controller.command(Command(action="start", plan=make_plan(), who="ana", why="tonight"))
    for _ in range(5):
        desk.interval(bler={2: 0.6})
    assert desk.status == "rolled_back"
    return desk


@pytest.fixture
def page(desk, tmp_path):
    path = tmp_path / "report.html"
    write_rollout_page(path, desk.controller.audit())
    return path


def test_differences_have_the_unit_of_their_scale():
    assert interval_text(RELATIVE, 0.07476, 0.0531, 0.1006) == ("+7.48 % (confidence sequence +5.31 to +10.06 %)")
    assert interval_text(SHARE, -0.012, -0.02, 0.0) == (
        "-1.20 percentage points (confidence sequence -2.00 to 0.00 percentage points)"
    )
    assert interval_text(SHARE, None, None, None) == "not measured"
    assert difference_text(SHARE, -0.00001) == "0.00"
    assert [margin_text(metric) for metric in (RELATIVE, SHARE)] == ["1 %", "1 percentage point"]


def test_every_metric_and_finding_has_words():
    assert set(METRIC_NAMES) == {metric.name for metric in DEFAULT_METRICS}
    assert all("_" not in text for text in (*METRIC_NAMES.values(), *FINDING_TEXTS.values()))


def test_reasons_in_the_audit_log_name_metric_stage_and_unit(desk):
    reasons = {entry.what: entry.why for entry in desk.controller.audit()}
    assert reasons["advance"].startswith("stage shadow is complete after 2 evaluation intervals;")
    assert re.match(
        r"goodput per PRB of new differs from the control's by -[\d.]+ % \(confidence sequence -[\d.]+ to -[\d.]+ %\),"
        r" beyond the margin of 1 %$",
        reasons["roll_back"],
    )


def test_the_report_shows_names_and_units_and_no_keys(page):
    text = re.sub(r"<script.*?</script>|<style>.*?</style>|<[^>]+>", " ", page.read_text("utf-8"), flags=re.DOTALL)
    assert re.search(r"goodput per PRB\s+new\s+[\d,.]+ bit/PRB", text)
    assert re.search(r"throughput of the worst 5 %\s+new\s+[\d,.]+ bit/slot", text)
    assert "1 percentage point " in text
    assert [name for name in (*METRIC_NAMES, "1 points", "roll_back") if name in text] == []


def test_the_terminal_shows_names_units_and_findings_in_words(desk, capsys, monkeypatch):
    status = desk.controller.status()
    monkeypatch.setattr(stdout, "width", 80)
    print_table("findings", *finding_table(status.verdict.findings, status.metrics))
    shown = capsys.readouterr().out
    assert re.search(r"goodput per PRB \[%\] +new +-[\d.]+ +-[\d.]+ +-[\d.]+ +beyond margin", shown)
    assert "late decisions" in shown
    assert "_" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_title_is_as_wide_as_the_terminal_and_never_breaks_a_path(capsys, monkeypatch):
    monkeypatch.setattr(stdout, "width", 80)
    paths = ["/work/distila/training/bundles/student-of-last-week", "/somewhere" * 9 + "/student"]
    for path in paths:
        print_table(path, ["check", "result"], [["sha256", "passed"]])
        assert path in capsys.readouterr().out
    print_table(f"{paths[0]} with more words than fit on one line of it", ["check"], [["sha256"]])
    assert [len(line) <= 80 for line in capsys.readouterr().out.splitlines()][:2] == [True, True]


def test_records_wrap_within_their_last_column(capsys, monkeypatch):
    monkeypatch.setattr(stdout, "width", 60)
    print_records([["interval 1", "advance", "a reason " * 12], ["interval 10", "hold", "short"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 60
    assert all(line.startswith(" " * 22) for line in lines[1:-1])
    assert lines[-1] == "interval 10  hold     short"


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize("width", [1280, 1100, 500])
def test_no_word_of_the_report_is_broken_and_no_column_cut(page, width, tmp_path):
    found = browser.layout(page, width, tmp_path)
    assert found["broken"] == ""
    assert found["beyond"] == "0"
    # On a telephone the table of findings scrolls sideways.
    assert found["cut"] == ("grid" if width < 900 else "")

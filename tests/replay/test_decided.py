"""Who decided: a replay in which the policy decided little or nothing says so before any figure, and why."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from distila.replay import closed_loop
from distila.replay.commands.replay import app
from distila.replay.compared_run import ComparedRun, ReplayOptions, decision_loop
from distila.replay.comparison import replay_log, replay_trace
from distila.replay.decided import FEW, Decided, withheld_meaning
from distila.replay.du_config import DuConfig
from distila.replay.importers.ranalyzer import import_ranalyzer, import_ranalyzer_kpi_log
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.reasons import REASONS
from distila.replay.summary import PolicyFacts
from distila.replay.trace import ChannelTrace, TraceMeta, UeMeta
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.policy.bundle import load_bundle
from distila.xapp.stats import LatencyRecorder

TRACES = os.environ.get("DISTILA_TRACES")
real_traces = pytest.mark.skipif(TRACES is None, reason="DISTILA_TRACES does not name the folder of real traces")
WHY = (
    "because the UE uses an MCS table that the policy was not made for (mcs_table). "
    "The UEs use MCS table 2 (256QAM); student was made for MCS table 1 (64QAM)."
)
NOTHING = f"student decided nothing: all 1,200 UE decisions were left to the DU, {WHY}"


def make_trace(tables, slots=300):
    """One UE for each MCS table, on a channel around 15 dB with an exact CQI."""
    rng = np.random.default_rng(0)
    size = len(tables) * slots
    return ChannelTrace(
        meta=TraceMeta(
            name="made up",
            slot_us=500,
            source="the test",
            ues=[UeMeta(name=f"ue{u}", prbs=52, mcs_table=table) for u, table in enumerate(tables)],
        ),
        offset=np.arange(len(tables) + 1) * slots,
        slots=np.ones(size, np.int32),
        sinr_db=(15 + rng.normal(0, 2, size)).astype(np.float32),
        cqi=np.full(size, 9, np.int8),
    )


@pytest.fixture
def on_table_2(tmp_path):
    path = tmp_path / "qam256.trace"
    make_trace([2, 2, 2, 2]).save(path)
    return path


@pytest.fixture
def mostly_on_table_2(tmp_path):
    path = tmp_path / "mostly.trace"
    make_trace([1, 2, 2, 2]).save(path)
    return path


def in_order(text, *parts):
    """Whether the parts stand in the text in this order."""
    text = " ".join(text.split())
    places = [text.find(part) for part in parts]
    return -1 not in places and all(a < b for a, b in pairwise(places))


def command(*arguments):
    """The command in a process of its own, on a terminal of 80 characters."""
    line = [sys.executable, "-m", "distila.xapp.cli", "replay", *map(str, arguments)]
    result = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}, check=False)
    assert result.returncode == 0, result.stderr
    return result


# --- a cell on another MCS table ---


def test_terminal_says_first_that_nothing_was_decided_and_repeats_it_last_on_stderr(on_table_2, tmp_path):
    result = command("--trace", on_table_2, "--out", tmp_path / "out")
    assert in_order(result.stdout, NOTHING, "goodput per UE")
    assert result.stderr.splitlines()[-1] == f"warning: {NOTHING}"
    assert "no difference" not in result.stdout
    assert "applied" not in result.stdout


def test_json_stays_json_and_stderr_says_so(on_table_2, tmp_path):
    result = command("--trace", on_table_2, "--out", tmp_path / "out", "--json")
    summary = json.loads(result.stdout)
    assert summary["decided_share"] == 0.0
    assert summary["withheld"] == {"mcs_table": 1200}
    assert summary["verdict"] == NOTHING
    keys = list(summary)
    assert keys.index("verdict") < keys.index("gain_pct")
    assert keys.index("decided_share") < keys.index("gain_pct")
    assert result.stderr.splitlines()[-1] == f"warning: {NOTHING}"


def test_page_has_it_as_its_verdict(on_table_2, tmp_path):
    replay_trace(on_table_2, out=tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    assert in_order(text, "nothing decided", NOTHING, "goodput per UE")
    assert "shows no difference" not in text


def test_from_python_the_summary_says_so(on_table_2):
    summary = replay_trace(on_table_2)
    assert (summary.ue_reports, summary.decided, summary.decided_share) == (1200, 0, 0.0)
    assert summary.verdict == NOTHING
    assert summary.answered_share == 1.0


def test_a_policy_that_decided_for_a_quarter_says_so_before_its_gain(mostly_on_table_2, tmp_path):
    result = command("--trace", mostly_on_table_2, "--out", tmp_path / "out")
    few = "student decided only 300 of 1,200 UE decisions (25.0 %); the other 900 were left to the DU, because"
    assert in_order(result.stdout, few, "goodput per UE", "residual BLER")
    summary = replay_trace(mostly_on_table_2)
    assert summary.verdict.startswith(few)
    assert len(summary.verdict) > len(few) + len(WHY)  # the gain follows


def test_the_other_side_of_a_comparison_is_looked_at_too(on_table_2, tmp_path):
    result = command("--trace", on_table_2, "--policy", "olla", "--against", "student", "--out", tmp_path / "out")
    assert in_order(result.stdout, NOTHING, "goodput per UE")
    summary = replay_trace(on_table_2, "olla", "student")
    assert summary.decided_share == 1.0
    assert summary.against.decided_share == 0.0
    assert summary.against.withheld == {"mcs_table": 1200}


def test_the_du_alone_is_asked_for_nothing(on_table_2):
    against = replay_trace(on_table_2, "olla").against
    assert (against.ue_reports, against.decided_share, against.withheld) == (0, None, {})


def test_a_policy_that_decides_everything_has_no_warning(tmp_path):
    path = tmp_path / "t1.trace"
    make_trace([1, 1]).save(path)
    result = command("--trace", path, "--out", tmp_path / "out")
    assert "warning" not in result.stderr
    assert "student decided all 600 UE decisions." in " ".join(result.stdout.split())


def test_open_loop_says_it_first_too(tmp_path):
    rows = 60
    measured = {key: np.full(rows, np.nan) for key in KPI_COLUMNS}
    measured["mcs"], measured["cqi"] = np.full(rows, 10.0), np.full(rows, 9.0)
    meta = KpiLogMeta(name="log", source="the test", mcs_table=2, period_us=1e4, ues=["a"])
    path = tmp_path / "log.parquet"
    log = KpiLog(meta, np.arange(rows) * 10_000, np.zeros(rows, np.int32), measured)
    log.save(path)
    nothing = f"student decided nothing: all 60 UE decisions were left to the DU, {WHY}"
    result = command("--trace", path, "--out", tmp_path / "out")
    assert in_order(result.stdout, nothing, "reports with a logged and a decided MCS")
    assert result.stderr.splitlines()[-1] == f"warning: {nothing}"
    summary = replay_log(path, log, "student", tmp_path / "again")
    assert (summary.decided_share, summary.withheld, summary.verdict) == (0.0, {"mcs_table": 60}, nothing)
    assert in_order((tmp_path / "again" / "report.html").read_text("utf-8"), nothing, "logged and a decided MCS")


# --- other reasons ---


def test_decisions_that_the_du_rejects_are_not_decided():
    """With a delay of 30 slots and a period of 1 slot a decision is past its validity of 18 slots when it arrives."""
    path = Path(__file__).parents[2] / "replay" / "traces" / "urban.trace"
    trace = ChannelTrace.load(path)
    loop = decision_loop(load_bundle("olla"), None, None)
    config = DuConfig(decision_delay_slots=30)
    controller = closed_loop.InProcess(loop)
    record, du = closed_loop.run(trace, SmoothBler.load(), config, seed=1, controller=controller, max_slots=50)
    run = ComparedRun(record, du, PolicyFacts(name="olla"), LatencyRecorder(1), loop.stats.summary())
    assert run.decided == Decided.of(64 * 50, 0, {"expired": 64 * 50})
    assert "arrived after the time it was valid for (expired)" in run.decided.sentence("olla")


def test_switched_off_by_an_operator(tmp_path):
    path, config = tmp_path / "t1.trace", tmp_path / "xapp.yaml"
    make_trace([1]).save(path)
    config.write_text("guard: {enabled: false}\n")
    summary = replay_trace(path, settings=ReplayOptions(config=config))
    assert summary.withheld == {"switched_off": 300}
    assert "an operator has switched the xApp off in this cell (switched_off)" in summary.verdict


# --- counts ---


REASON = st.sampled_from(sorted(REASONS["guarded"].keys() - {"clamped", "breaker_tripped"}))


@given(
    decided=st.integers(0, 10**6),
    vetoes=st.dictionaries(REASON, st.integers(1, 10**5)),
    own=st.integers(0, 10**5),
    rejected=st.dictionaries(st.sampled_from(["stale", "expired", "mcs_out_of_range"]), st.integers(1, 10**5)),
    lost=st.integers(0, 10**5),
    clamped=st.integers(0, 10**5),
)
def test_every_report_is_decided_or_has_a_reason(decided, vetoes, own, rejected, lost, clamped):
    left = sum(vetoes.values()) + own
    found = Decided.by_loop(
        reports=decided + left + sum(rejected.values()) + lost,
        decided=decided,
        native=left,
        guarded={**vetoes, "clamped": clamped, "breaker_tripped": 3},
        rejected=rejected,
    )
    expected = Counter(vetoes) + Counter(rejected) + Counter(policy_native=own, unanswered=lost)
    assert found.withheld == expected
    assert found.decided + sum(found.withheld.values()) == found.ue_reports
    sentence = found.sentence("p")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    if found.few:
        assert found.decided < FEW * found.ue_reports
        assert "nothing" in sentence or "only" in sentence


def test_an_xapp_that_keeps_its_counters_to_itself_leaves_the_reason_open():
    found = Decided.by_loop(reports=10, decided=0, native=10, guarded=None)
    assert found.withheld == {"not_known": 10}
    assert "started by hand" in found.sentence("external xApp")


def test_every_reason_has_its_meaning():
    for group in ("guarded", "outcomes", "withheld"):
        assert all(withheld_meaning(reason) != reason for reason in REASONS[group])


def test_several_tables_are_listed():
    found = Decided.of(4, 1, {"mcs_table": 3})
    text = found.sentence("p", ([1, 2], [1, 3]))
    assert "The UEs use MCS tables 1 (64QAM) and 2 (256QAM); p was made for MCS tables 1 (64QAM) and 3" in text


# --- real logs ---


@real_traces
def test_student_decides_nothing_on_a_real_cell_of_table_2_and_says_so(tmp_path):
    source = sorted(Path(TRACES, "ranalyzer").glob("*.log.gz"))[0]
    trace, _ = import_ranalyzer(source, bler=SmoothBler.load())
    assert {ue.mcs_table for ue in trace.meta.ues} == {2}
    path = tmp_path / "real.trace"
    trace.save(path)
    summary = replay_trace(path)
    assert summary.decided == 0
    assert summary.verdict.startswith("student decided nothing: all ")
    assert "MCS table 2 (256QAM)" in summary.verdict
    log, _ = import_ranalyzer_kpi_log(source)
    assert replay_log(path, log, "student", tmp_path / "out").verdict.startswith("student decided nothing: all ")


@real_traces
def test_a_log_of_openairinterface_is_replayed_as_it_is(tmp_path):
    source = sorted(Path(TRACES, "ranalyzer").glob("*.log.gz"))[0]
    result = CliRunner().invoke(app, ["--trace", str(source), "--policy", "student", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "log of an OpenAirInterface gNB, imported as by" in " ".join(result.stderr.split())
    assert result.stdout.startswith("student decided nothing: all ")

"""RANalyzer import: what a log says is read right, what it hides is counted, the channel gives it back."""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.importers.counts import ImportReport
from distila.replay.importers.ranalyzer import (
    BASELINE,
    CENSORED,
    IDLE,
    REATTACH,
    RESTART,
    SWITCH,
    import_ranalyzer,
    import_ranalyzer_kpi_log,
    intervals,
)
from distila.replay.importers.ranalyzer_log import BAD_MCS, CUT_LINE, NO_LINE_END, parse_log
from distila.replay.importers.reconstruction import (
    fill_censored,
    logged_counts,
    replayed_failures,
    share_within_interval,
    wilson_interval,
)
from distila.replay.importers.source_file import CUT_SHORT
from distila.replay.trace import NO_CQI, ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler

TRACES = os.environ.get("DISTILA_TRACES")
real_traces = pytest.mark.skipif(TRACES is None, reason="DISTILA_TRACES does not name the folder of real traces")
BLER = SmoothBler.load()


def block(frame, *reports):
    return f"\x1b[0m[NR_MAC]   Frame.Slot {frame}.0\n" + "".join(reports)


def line(rounds, mcs="(1) 9", rnti="c610", errors=0, dtx=0, total_bytes=None, end="\n"):
    counts = "/".join(str(count) for count in rounds)
    text = f"UE {rnti}: dlsch_rounds {counts}/0/0, dlsch_errors {errors}, pucch0_DTX {dtx}, BLER 0.06871"
    text += f" MCS {mcs}{end}"
    return text + (f"UE {rnti}: dlsch_total_bytes {total_bytes}\n" if total_bytes is not None else "")


def parse(text):
    report = ImportReport()
    return parse_log(io.StringIO(text, newline="\n"), report), report


def runs_of(text):
    log, report = parse(text)
    return intervals(log, report, "log", 162), report


def write(folder, text, name="20240102_030405_nr-gnb.log"):
    path = folder / name
    path.write_text(text)
    return path


def books_balance(report):
    return report.rows_found == report.rows_used + sum(report.skipped.values())


def test_counters_are_differenced_per_report():
    runs, report = runs_of(
        block(0, line((20, 2))) + block(128, line((35, 2), "(1) 10")) + block(256, line((95, 9), "(1) 12"))
    )
    (run,) = runs
    assert run.first_tx.tolist() == [15, 60]
    assert run.first_fail.tolist() == [0, 7]
    assert run.mcs_table == 2
    assert run.mean_mcs.tolist() == [9.5, 11.0], "the MCS of an interval is the mean of its two ends"
    assert report.skipped == {BASELINE: 1}


def test_frames_wrap_at_1024_and_a_missing_block_makes_a_longer_interval():
    (run,), report = runs_of(block(896, line((1, 0))) + block(0, line((2, 0))) + block(256, line((3, 0))))
    assert run.frames.tolist() == [128, 256]
    assert run.end_frame.tolist() == [128, 384]
    assert report.noted["interval longer than a period: a report block is missing"] == 1


def test_a_missing_frame_line_is_taken_as_one_period():
    (run,), report = runs_of(block(0, line((1, 0)), line((2, 0))) + block(256, line((3, 0))))
    assert run.frames.tolist() == [128, 128]
    assert report.noted["report block without its frame line"] == 1


def test_colour_codes_are_stripped_also_inside_a_line():
    log, report = parse("\x1b[32m" + line((20, 2)).replace("dlsch_errors", "\x1b[0mdlsch_errors"))
    assert log.counters[0].tolist() == [20, 2, 0, 0, 0, 0]
    assert not report.skipped


def test_both_spellings_of_the_line_are_read_and_old_logs_name_no_table():
    log, _ = parse(block(0, line((1, 0), "14")) + block(128, line((2, 0), "(0) 9 CCE fail 14")))
    assert log.mcs_table.tolist() == [0, 1]
    assert log.mcs.tolist() == [14, 9]


@pytest.mark.parametrize("length", [14, 20, 40, 60, 75, 82])
def test_a_line_cut_anywhere_is_counted_and_never_guessed_at(length):
    log, report = parse(block(0, line((20, 2))[:length] + "[PHY] something else\n"))
    assert len(log.ue) == 0
    log, report = parse(block(0, line((20, 2))[:length] + "\n"))
    assert len(log.ue) == 0
    assert report.skipped == {CUT_LINE: 1}


def test_a_last_line_without_line_end_may_have_lost_digits():
    log, report = parse(block(0, line((20, 2), "(1) 19", end="")))
    assert len(log.ue) == 0
    assert report.skipped == {NO_LINE_END: 1}


def test_a_report_behind_another_threads_output_is_read():
    log, report = parse(block(0, "[NR_PHY] some" + line((20, 2))))
    assert log.counters[0, 0] == 20
    assert not report.skipped


def test_an_mcs_that_the_table_lacks_is_counted():
    _, report = parse(line((1, 0), "(1) 28") + line((1, 0), "(3) 1") + line((1, 0), "29"))
    assert report.skipped == {BAD_MCS: 3}
    assert report.examples[BAD_MCS] == "log: line 1: MCS (1) 28"


def test_a_restart_costs_its_interval_only():
    (run,), report = runs_of(
        "".join(block(128 * i, line(r)) for i, r in enumerate([(50, 5), (90, 9), (10, 1), (30, 2)]))
    )
    assert run.first_tx.tolist() == [40, 20]
    assert report.skipped == {BASELINE: 1, RESTART: 1}


def test_an_rnti_that_comes_back_from_zero_is_another_run():
    away = block(256, line((7, 0), rnti="ffff"))
    runs, report = runs_of(
        block(0, line((50, 5))) + block(128, line((90, 9))) + away + block(384, line((4, 0))) + block(512, line((9, 0)))
    )
    assert [(run.name, run.first_tx.tolist()) for run in runs] == [
        ("log/c610", [40]),
        ("log/ffff", []),
        ("log/c610.2", [5]),
    ]
    assert report.skipped == {BASELINE: 2, REATTACH: 1}


def test_an_rnti_that_was_only_missed_in_a_block_goes_on():
    away = block(128, line((7, 0), rnti="ffff"))
    runs, _ = runs_of(block(0, line((50, 5))) + away + block(256, line((90, 9))))
    assert runs[0].first_tx.tolist() == [40]
    assert runs[0].frames.tolist() == [256]


def test_a_switch_of_the_mcs_table_splits_the_run():
    tables = ["(0) 9", "(0) 9", "(1) 9", "(1) 9"]
    runs, report = runs_of("".join(block(128 * i, line((10 * i, i), mcs)) for i, mcs in enumerate(tables)))
    assert [(run.name, run.mcs_table, run.first_tx.tolist()) for run in runs] == [
        ("log/c610", 1, [10]),
        ("log/c610.2", 2, [10]),
    ]
    assert report.skipped == {BASELINE: 1, SWITCH: 1}


@pytest.mark.parametrize(("bytes_each", "table"), [(9207, 2), (4000, 1)])
def test_bytes_sent_identify_the_mcs_table_of_an_old_log(bytes_each, table):
    blocks = [block(128 * i, line((100 * i, i), "13", total_bytes=100 * i * bytes_each)) for i in range(4)]
    (run,), _ = runs_of("".join(blocks))
    assert run.mcs_table == table
    assert run.table_assumed


@pytest.fixture
def log_text():
    rng = np.random.default_rng(1)
    sent = np.cumsum(rng.integers(50, 300, 30))
    failed = np.cumsum(rng.integers(0, 25, 30))
    return "... DLBW 106,RACH\n" + "".join(
        block(128 * i % 1024, line((n, k), f"(1) {10 + i % 5}"))
        for i, (n, k) in enumerate(zip(sent, failed, strict=True))
    )


def test_trace_holds_what_was_logged_and_a_sinr_that_explains_it(tmp_path, log_text):
    trace, report = import_ranalyzer(write(tmp_path, log_text), bler=BLER)
    (ue,) = trace.meta.ues
    assert (ue.name, ue.prbs, ue.mcs_table, ue.layers) == ("20240102_030405_nr-gnb/c610", 106, 2, 1)
    assert trace.meta.slot_is == "transmission opportunity"
    assert trace.slots.tolist() == trace.logged.first_tx.tolist()
    assert (trace.cqi == NO_CQI).all()
    assert books_balance(report)
    # The expectation over many replays is the logged count, up to 0.1 failures per censored segment.
    mean = np.mean([replayed_failures(trace, BLER, np.random.default_rng(seed)) for seed in range(400)])
    assert mean == pytest.approx(logged_counts(trace)[1][0], rel=0.02)


def test_trace_and_log_survive_their_file(tmp_path, log_text):
    trace, _ = import_ranalyzer(write(tmp_path, log_text), bler=BLER)
    trace.save(tmp_path / "trace.parquet")
    assert ChannelTrace.load(tmp_path / "trace.parquet").meta == trace.meta


def test_same_seed_same_replay(tmp_path, log_text):
    trace, _ = import_ranalyzer(write(tmp_path, log_text), bler=BLER)
    first, again, other = (replayed_failures(trace, BLER, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.tolist() == again.tolist() != other.tolist()


def test_idle_intervals_are_left_out_and_counted(tmp_path):
    rounds = [(0, 0), (200, 20), (200, 20), (200, 21), (400, 30)]
    text = "".join(block(128 * i, line(r)) for i, r in enumerate(rounds))
    trace, report = import_ranalyzer(write(tmp_path, text), bler=BLER)
    assert trace.slots.tolist() == [200, 200]
    assert report.skipped[IDLE] == 1
    assert report.skipped["interval with failures but without first transmissions"] == 1
    assert books_balance(report)


def test_small_and_broken_runs_are_skipped_with_their_reason(tmp_path):
    text = "".join(
        block(
            128 * i,
            line((1000 * i, 100 * i)),
            line((i, 0), rnti="0001"),
            line((1000 * i, 600 * i), rnti="0002"),
        )
        for i in range(3)
    )
    trace, report = import_ranalyzer(write(tmp_path, text), bler=BLER)
    assert [ue.name[-4:] for ue in trace.meta.ues] == ["c610"]
    assert {run.ue[-4:]: run.skipped for run in report.runs} == {
        "c610": None,
        "0001": "run with fewer than 100 first transmissions",
        "0002": "run with a first-transmission failure rate above 50%",
    }
    assert books_balance(report)


def test_nothing_to_use_is_one_line_that_says_why(tmp_path):
    path = write(tmp_path, block(0, line((1, 0))) + block(128, line((2, 0))))
    with pytest.raises(InputError, match=r"no run that can be used: .*fewer than 100 first transmissions") as caught:
        import_ranalyzer(path, bler=BLER)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        import_ranalyzer(tmp_path / "absent", bler=BLER)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"contains no file that ends in \.log"):
        import_ranalyzer(tmp_path / "empty", bler=BLER)
    with pytest.raises(InputError, match="prbs is 300"):
        import_ranalyzer(path, bler=BLER, prbs=300)


def test_a_damaged_gzip_file_gives_what_comes_before_the_damage(tmp_path, log_text):
    noise = "".join(f"[PHY] {value}\n" for value in np.random.default_rng(0).random(20_000))
    packed = gzip.compress((log_text + noise).encode())
    for cut, content in [("cut", packed[:-5000]), ("bent", packed[:-5000] + b"x" * 5000)]:
        path = tmp_path / f"{cut}.log.gz"
        path.write_bytes(content)
        trace, report = import_ranalyzer(path, bler=BLER)
        assert len(trace.slots) == 29
        assert report.noted[CUT_SHORT] == 1


def test_a_folder_is_read_file_by_file_with_progress(tmp_path, log_text):
    for name in ("a.log", "b.log", "notes.txt"):
        write(tmp_path, log_text, name)
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(log_text.encode()))
    seen = []
    trace, report = import_ranalyzer(tmp_path, bler=BLER, progress=lambda done, total: seen.append((done, total)))
    assert [ue.name for ue in trace.meta.ues] == ["a/c610", "b/c610"], "a.log.gz is a second copy"
    assert seen == [(1, 2), (2, 2)]
    assert report.files_read == 2
    assert sum(report.noted[reason] for reason in report.noted if reason.startswith("file ")) == 2


def test_kpi_log_keeps_idle_periods_and_starts_at_the_time_in_the_file_name(tmp_path):
    rounds = [(0, 0, 0), (200, 20, 3), (200, 20, 3), (500, 30, 90)]
    text = "".join(block(128 * i, line(r[:2], f"(1) {9 + i}", errors=i, dtx=r[2])) for i, r in enumerate(rounds))
    log, report = import_ranalyzer_kpi_log(write(tmp_path, text))
    assert log.meta.mcs_table == 2
    assert log.timestamp_us[0] == 1_704_164_645_000_000 + 1_280_000  # 2024-01-02 03:04:05 UTC
    assert np.diff(log.timestamp_us).tolist() == [1_280_000, 1_280_000]
    assert log.measured["harq_ack"].tolist() == [180, 0, 290]
    assert log.measured["harq_dtx"].tolist() == [3, 0, 10], "never more than the failures"
    assert log.measured["harq_nack"].tolist() == [17, 0, 0]
    assert log.measured["harq_residual"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(log.measured["mcs"], [9.5, np.nan, 11.5])
    assert np.isnan(log.measured["cqi"]).all()
    assert books_balance(report)


def test_kpi_log_is_for_one_mcs_table(tmp_path):
    text = "".join(block(128 * i, line((500 * i, 0)), line((200 * i, 0), "(0) 9", rnti="0001")) for i in range(3))
    path = write(tmp_path, text)
    log, report = import_ranalyzer_kpi_log(path)
    assert (log.meta.mcs_table, [name[-4:] for name in log.meta.ues]) == (2, ["c610"])
    assert report.skipped["run of MCS table 1; the log is for table 2"] == 2
    assert books_balance(report)
    log, _ = import_ranalyzer_kpi_log(path, mcs_table=1)
    assert [name[-4:] for name in log.meta.ues] == ["0001"]


def test_censored_segments_follow_their_neighbours_only_beyond_their_bound():
    sinr_db = np.array([-6.0, 10.0, 14.0, 9.0, 30.0])
    first_tx = np.array([10, 100, 5, 10, 100])
    first_fail = np.array([0, 10, 0, 10, 10])
    filled = fill_censored(sinr_db, np.arange(5), first_tx, first_fail)
    # No failure: up to the neighbours (10, and 16.7 between 10 and 30); all failed: not above the bound of 9.
    assert filled.round(1).tolist() == [10.0, 10.0, 16.7, 9.0, 30.0]
    assert fill_censored(sinr_db[:1], np.arange(1), first_tx[:1], first_fail[:1]).tolist() == [-6.0]


def test_wilson_interval_is_the_textbook_one():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20.
    low, high = wilson_interval(np.array([81, 15, 0]), np.array([263, 148, 20]))
    assert low.round(4).tolist() == [0.2553, 0.0624, 0.0]
    assert high.round(4).tolist() == [0.3662, 0.1605, 0.1611]


TEXT = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(
            lambda rnti, n, k, mcs, cut, frame: (
                (block(frame) if frame < 1100 else "") + line((n, k), mcs, rnti=rnti, end="")[:cut] + "\n"
            ),
            st.sampled_from(["0001", "0002"]),
            st.one_of(st.integers(0, 300), st.integers(0, 10**16)),
            st.integers(0, 300),
            st.sampled_from(["9", "28", "(0) 28", "(1) 28", "(1) 9", "(7) 1"]),
            st.one_of(st.just(200), st.integers(0, 110)),
            st.integers(0, 1200),
        ),
    ),
    max_size=12,
).map("".join)


@given(TEXT)
def test_any_text_is_read_or_counted(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.log"
    path.write_text(text, encoding="utf-8", errors="replace")
    lines = [entry for entry in path.read_bytes().decode().split("\n") if "dlsch_rounds" in entry]
    for run_import in (
        lambda: import_ranalyzer(path, bler=BLER, min_first_tx=1, max_fail_rate=1.0),
        lambda: import_ranalyzer_kpi_log(path, min_first_tx=1),
    ):
        try:
            _, report = run_import()
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017  # either way of ending is right, but a refusal has to name it
        else:
            assert books_balance(report)
            assert report.rows_found >= len(lines)
    path.unlink()


@pytest.fixture(scope="module")
def imported():
    return import_ranalyzer(Path(TRACES) / "ranalyzer", bler=BLER)


@real_traces
class TestRealLogs:
    def test_every_report_is_accounted_for(self, imported):
        trace, report = imported
        assert report.files_read >= 100
        assert books_balance(report)
        assert sum(run.reports for run in report.used_runs) == report.rows_used == len(trace.slots)
        assert report.skipped.keys() - {BASELINE, SWITCH, IDLE} == {"run with fewer than 100 first transmissions"}
        assert report.noted[CENSORED] > 0

    def test_replaying_the_logged_mcs_gives_back_the_logged_failure_rate(self, imported, capsys):
        """The proof of the reconstruction: at least 90 % of the runs within their 95 % binomial interval."""
        trace, _ = imported
        shares = [share_within_interval(trace, BLER, np.random.default_rng(seed)) for seed in range(20)]
        with capsys.disabled():
            print(f"\n{trace.num_ues} runs, share within the interval, 20 seeds: {np.round(shares, 3).tolist()}")
        assert np.quantile(shares, 0.1) >= 0.9
        assert np.mean(shares) >= 0.93

    def test_bounds_instead_of_neighbours_pass_the_same_proof(self):
        trace, _ = import_ranalyzer(Path(TRACES) / "ranalyzer", bler=BLER, fill_from_neighbours=False)
        shares = [share_within_interval(trace, BLER, np.random.default_rng(seed)) for seed in range(10)]
        assert np.mean(shares) >= 0.93

    def test_kpi_log(self):
        log, report = import_ranalyzer_kpi_log(Path(TRACES) / "ranalyzer")
        assert log.meta.mcs_table == 2
        assert books_balance(report)
        assert log.num_rows == report.rows_used

"""TRACTOR import: CQI becomes SINR, placeholders and repeated recordings are left out and counted."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.importers.counts import ImportReport
from distila.replay.importers.source_file import CUT_SHORT
from distila.replay.importers.tractor import (
    BAD_VALUE,
    BLOCKS_LEFT_OUT,
    CQI_OUT_OF_RANGE,
    CUT_LINE,
    GAP,
    IDLE,
    NO_CQI_YET,
    NOT_A_NUMBER,
    NOT_FORWARD,
    REPEATED,
    import_tractor,
    import_tractor_kpi_log,
    parse_metrics,
)
from distila.replay.kpi_log import KpiLog
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.nr.tbs import num_re

TRACES = os.environ.get("DISTILA_TRACES")
real_traces = pytest.mark.skipif(TRACES is None, reason="DISTILA_TRACES does not name the folder of real traces")
BLER = SmoothBler.load()
COLUMNS = "Timestamp,num_ues,IMSI,,dl_mcs,dl_n_samples,dl_buffer [bytes],dl_cqi,,sum_granted_prbs,dl_ri"
HEADER = COLUMNS + "\n"


def row(time_ms, cqi=9.0, blocks=100, mcs=12.5, prbs=400, imsi=7):
    return f"{time_ms},1,{imsi},,{mcs},{blocks},2000,{cqi},,{prbs},0\n"


def rows(count, start_ms=0, **kwargs):
    return "".join(row(start_ms + 250 * i, **kwargs) for i in range(count))


def write(folder, text, name="ue7_metrics.csv"):
    path = folder / name
    path.write_text(text)
    return path


def books_balance(report):
    return report.rows_found == report.rows_used + sum(report.skipped.values())


def test_a_segment_per_row_with_blocks_whose_sinr_gives_back_the_cqi(tmp_path):
    text = HEADER + "".join(row(250 * cqi, cqi=cqi, blocks=10 * cqi) for cqi in range(1, 16))
    trace, report = import_tractor(write(tmp_path, text), bler=BLER)
    (ue,) = trace.meta.ues
    assert (ue.name, ue.cqi_table, ue.mcs_table) == ("ue7_metrics.1", 1, 1)
    assert trace.slots.tolist() == [min(10 * cqi, 50) for cqi in range(1, 16)]
    assert report.noted[BLOCKS_LEFT_OUT] == sum(max(0, 10 * cqi - 50) for cqi in range(1, 16))
    assert trace.cqi.tolist() == list(range(1, 16))
    thresholds = cqi_thresholds_db(1, BLER, num_re=num_re(ue.prbs))
    assert cqi_for_sinr_db(trace.sinr_db, thresholds).tolist() == list(range(1, 16))
    assert trace.logged is None, "LTE MCS indices are not NR's"
    assert books_balance(report)


def test_cqi_is_taken_as_the_middle_of_its_range_and_fractions_are_interpolated(tmp_path):
    text = HEADER + row(0, cqi=8) + row(250, cqi=8.75) + row(500, cqi=9)
    trace, _ = import_tractor(write(tmp_path, text), bler=BLER)
    thresholds = cqi_thresholds_db(1, BLER, num_re=num_re(trace.meta.ues[0].prbs))
    low, high = (thresholds[8:10] + thresholds[9:11]) / 2
    assert trace.sinr_db.tolist() == pytest.approx([low, 0.25 * low + 0.75 * high, high])
    assert trace.cqi.tolist() == [8, 9, 9], "what a UE at that SINR would report"
    assert cqi_for_sinr_db(trace.sinr_db, thresholds).tolist() == [8, 9, 9]


def test_prbs_are_granted_prbs_per_block_and_at_least_one(tmp_path):
    several = import_tractor(write(tmp_path, HEADER + rows(3, blocks=100, prbs=1310)), bler=BLER)[0]
    assert several.meta.ues[0].prbs == 13
    none = import_tractor(write(tmp_path, HEADER + rows(3, blocks=100, prbs=0)), bler=BLER)[0]
    assert none.meta.ues[0].prbs == 1


def test_idle_rows_and_placeholders_are_no_measurements(tmp_path):
    odd = row(5000, blocks=0) + row(5250, cqi=0.1) + row(5500, cqi=0) + row(5750, cqi=0.857)
    trace, report = import_tractor(write(tmp_path, HEADER + rows(20) + odd), bler=BLER)
    assert len(trace.slots) == 20
    assert report.skipped == {IDLE: 1, NO_CQI_YET: 2, CQI_OUT_OF_RANGE: 1}
    assert books_balance(report)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row(5000)[:20] + "\n", CUT_LINE),
        (row(5000).rstrip("\n"), CUT_LINE),
        (row(5000).replace("12.5", "12.x"), NOT_A_NUMBER),
        (row(5000, cqi=16), BAD_VALUE),
        (row(5000, cqi="nan"), BAD_VALUE),
        (row(5000, mcs=29), BAD_VALUE),
        (row(5000, blocks=-1), BAD_VALUE),
        (row(4750), NOT_FORWARD),
        (row(10), NOT_FORWARD),
    ],
)
def test_a_row_that_cannot_be_used_is_counted_with_its_place(line, reason):
    report = ImportReport()
    metrics = parse_metrics((HEADER + rows(20) + line).splitlines(keepends=True), report, "ue7")
    assert len(metrics.text) == 20
    assert report.skipped == {reason: 1}
    assert report.examples[reason] == "ue7: line 22"


def test_gaps_in_time_are_noted():
    report = ImportReport()
    text = HEADER + row(0) + row(250) + row(750) + row(2000)
    assert len(parse_metrics(text.splitlines(keepends=True), report).text) == 4
    assert report.noted == {GAP: 1}


def test_a_repeated_recording_counts_once_for_the_file_with_most_rows(tmp_path):
    shared = rows(50)
    write(tmp_path, HEADER + shared + rows(10, 50_000), "long.csv")
    write(tmp_path, HEADER + shared, "copy.csv")
    write(tmp_path, HEADER + shared + rows(5, 90_000), "other_tail.csv")
    write(tmp_path, HEADER + rows(50, imsi=8), "other_ue.csv")
    trace, report = import_tractor(tmp_path, bler=BLER)
    names = [ue.name for ue in trace.meta.ues]
    lengths = dict(zip(names, np.diff(trace.offset).tolist(), strict=True))
    assert lengths == {"long.1": 60, "other_tail.1": 5, "other_ue.1": 50}
    assert report.skipped == {REPEATED: 100}
    assert {run.file: run.skipped for run in report.runs}["copy"] is not None
    assert books_balance(report)


def test_files_with_hardly_any_traffic_are_skipped_with_the_reason(tmp_path):
    write(tmp_path, HEADER + rows(3, blocks=10), "small.csv")
    write(tmp_path, HEADER + rows(3, imsi=9), "big.csv")
    trace, report = import_tractor(tmp_path, bler=BLER)
    assert [ue.name for ue in trace.meta.ues] == ["big.1"]
    assert report.skipped == {"recording with fewer than 100 transport blocks": 3}


def test_a_long_recording_becomes_ues_side_by_side_and_loses_no_row(tmp_path):
    path = write(tmp_path, HEADER + rows(25))
    whole, _ = import_tractor(path, bler=BLER)
    cut, report = import_tractor(path, bler=BLER, rows_per_ue=10)
    assert [ue.name for ue in cut.meta.ues] == ["ue7_metrics.1", "ue7_metrics.2", "ue7_metrics.3"]
    assert np.diff(cut.offset).tolist() == [10, 10, 5]
    np.testing.assert_array_equal(cut.sinr_db, whole.sinr_db)
    assert report.rows_used == 25


def test_errors_name_the_file_and_what_is_wrong(tmp_path):
    no_cqi = write(tmp_path, HEADER.replace("dl_cqi", "cqi") + rows(3))
    with pytest.raises(InputError, match=r"ue7_metrics: line 1: column 'dl_cqi' is missing, has: Timestamp, "):
        import_tractor(no_cqi, bler=BLER)
    with pytest.raises(InputError, match=r"no file that can be used: 3 x row without a transport block"):
        import_tractor(write(tmp_path, HEADER + rows(3, blocks=0)), bler=BLER)
    with pytest.raises(InputError, match="no file that can be used"):
        import_tractor(write(tmp_path, ""), bler=BLER)
    with pytest.raises(InputError, match="no such file"):
        import_tractor_kpi_log(tmp_path / "absent.csv")


def test_a_damaged_gzip_file_gives_what_comes_before_the_damage(tmp_path):
    rng = np.random.default_rng(0)
    text = HEADER + "".join(row(250 * i, cqi=round(cqi, 5)) for i, cqi in enumerate(rng.uniform(5, 10, 5000)))
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(text.encode())[:-3000])
    trace, report = import_tractor(path, bler=BLER)
    assert 3000 < len(trace.slots) < 5000
    assert report.noted[CUT_SHORT] == 1
    assert books_balance(report)


def test_kpi_log_keeps_every_row_and_says_what_was_not_measured(tmp_path):
    write(tmp_path, HEADER + row(0) + row(250, blocks=0, mcs=0, prbs=0) + row(500, cqi=0.1, mcs=0.1), "a.csv")
    write(tmp_path, HEADER + row(100, imsi=8) + row(350, imsi=8), "b.csv")
    log, report = import_tractor_kpi_log(tmp_path)
    assert log.timestamp_us.tolist() == [0, 100_000, 250_000, 350_000, 500_000]
    assert log.ue.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_array_equal(log.measured["cqi"], [9, 9, 9, 9, np.nan])
    np.testing.assert_array_equal(log.measured["mcs"], [12.5, 12.5, np.nan, 12.5, 0.0])
    np.testing.assert_array_equal(log.measured["prbs"], [4, 4, np.nan, 4, 4])
    assert np.isnan(log.measured["harq_nack"]).all()
    assert any("LTE index" in note for note in log.meta.notes)
    assert books_balance(report)
    log.save(tmp_path / "log.parquet")
    assert KpiLog.load(tmp_path / "log.parquet").meta == log.meta


CELL = st.one_of(st.sampled_from(["", "0.1", "9", "1e400", "nan", "-3", "250", "x"]), st.text(max_size=4))
TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(st.one_of(st.lists(CELL, max_size=13).map(",".join), st.integers(0, 10**6).map(row))).map(
        lambda lines: HEADER + "\n".join(lines)
    ),
)


@given(TEXT)
def test_any_text_is_read_or_counted(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text(text, encoding="utf-8", errors="replace", newline="")
    for run_import in (
        lambda: import_tractor(path, bler=BLER, min_blocks=1),
        lambda: import_tractor_kpi_log(path, min_blocks=1),
    ):
        try:
            _, report = run_import()
        except InputError as error:
            assert "any" in str(error)  # noqa: PT017  # either way of ending is right, but a refusal has to name it
        else:
            lines = [line for line in path.read_bytes().decode().split("\n") if line]
            assert books_balance(report)
            assert report.rows_found >= len(lines) - 1
    path.unlink()


@real_traces
class TestRealMetrics:
    def test_every_row_is_accounted_for_and_the_repeated_recording_counts_once(self):
        trace, report = import_tractor(Path(TRACES) / "tractor", bler=BLER)
        assert report.files_read == 12
        assert books_balance(report)
        assert report.rows_used == len(trace.slots)
        assert report.skipped[REPEATED] == 2 * 5342
        assert report.skipped[NO_CQI_YET] > 0
        assert trace.cqi.min() >= 1
        holders = {ue.name.split(".")[0] for ue in trace.meta.ues if "002_metrics" in ue.name}
        assert len(holders) == 1, "of the three recordings, one is whole; the others hold too little that is new"

    def test_kpi_log(self):
        log, report = import_tractor_kpi_log(Path(TRACES) / "tractor")
        assert books_balance(report)
        assert log.meta.period_us == 250_000

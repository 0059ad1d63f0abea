"""Generic import: a mapping turns any table into a trace or a log; what is wrong is named."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distila.replay.importers.generic import (
    BASELINE,
    FAIL_ABOVE_TX,
    HALF_HARQ,
    NO_TIME,
    NOT_FORWARD,
    NOT_MEASURED,
    RESTART,
    GenericMapping,
    import_generic,
    import_generic_channel,
    import_generic_kpi_log,
)
from distila.replay.importers.generic_table import WRONG_CELLS
from distila.replay.kpi_log import KpiLog
from distila.replay.trace import NO_CQI, ChannelTrace
from distila.xapp.errors import InputError
from distila.xapp.nr.bler import SmoothBler
from distila.xapp.nr.cqi import cqi_for_sinr_db, cqi_thresholds_db
from distila.xapp.nr.tbs import num_re

BLER = SmoothBler.load()
CHANNEL = {"kind": "channel", "columns": {"sinr": "snr"}}


def channel(columns, **settings):
    return GenericMapping.parse({"kind": "channel", "columns": columns, **settings})


def kpi(columns, **settings):
    return GenericMapping.parse({"kind": "kpi", "columns": {"time": "t", **columns}, **settings})


def write(folder, text, name="table.csv"):
    path = folder / name
    path.write_text(text)
    return path


def books_balance(report):
    return report.rows_found == report.rows_used + sum(report.skipped.values())


def test_a_channel_of_two_ues_with_durations_in_ms(tmp_path):
    path = write(tmp_path, "t,who,snr,len\n1,a,10,2\n1,b,20,0.1\n3,a,11,4\n")
    mapping = channel(
        {"time": "t", "ue": "who", "sinr": "snr", "duration": "len"},
        time_unit="ms",
        slot_us=500,
        prbs=106,
        layers=2,
    )
    trace, report = import_generic(path, mapping)
    assert isinstance(trace, ChannelTrace)
    assert [(ue.name, ue.prbs, ue.layers) for ue in trace.meta.ues] == [("a", 106, 2), ("b", 106, 2)]
    assert trace.offset.tolist() == [0, 2, 3]
    assert trace.slots.tolist() == [4, 8, 1], "at least one slot"
    assert trace.sinr_db.tolist() == [10, 11, 20]
    assert (trace.cqi == NO_CQI).all()
    assert books_balance(report)


def test_slots_come_from_the_steps_of_time_or_are_one(tmp_path):
    path = write(tmp_path, "t,snr\n0,1\n0.001,2\n0.003,3\n")
    timed, _ = import_generic_channel(path, channel({"time": "t", "sinr": "snr"}, time_unit="s"))
    assert timed.slots.tolist() == [2, 4, 4]
    untimed, _ = import_generic_channel(path, channel({"sinr": "snr"}))
    assert untimed.slots.tolist() == [1, 1, 1]
    assert untimed.meta.notes == ["The table has no durations: each row is one slot."]


def test_linear_sinr_becomes_db_and_an_empty_cell_means_not_scheduled(tmp_path):
    path = write(tmp_path, "snr,cqi\n100,7.6\n,\n0,3\n1,15\n")
    trace, report = import_generic_channel(path, channel({"sinr": "snr", "cqi": "cqi"}, sinr_unit="linear"))
    np.testing.assert_allclose(trace.sinr_db, [20, np.nan, 0], atol=1e-6)
    assert trace.cqi.tolist() == [8, NO_CQI, 15]
    assert report.skipped == {"sinr is outside -60..80 dB": 1}, "0 has no logarithm"
    assert report.examples["sinr is outside -60..80 dB"] == "table.csv: data row 3: sinr = -inf"


def test_sinr_comes_from_cqi_where_there_is_none(tmp_path):
    path = write(tmp_path, "cqi\n0\n1\n8\n\n15\n")
    mapping = channel({"cqi": "cqi"}, prbs=20, cqi_table=2)
    trace, report = import_generic_channel(path, mapping, bler=BLER)
    assert trace.cqi.tolist() == [1, 8, 15]
    thresholds = cqi_thresholds_db(2, BLER, num_re=num_re(20))
    assert cqi_for_sinr_db(trace.sinr_db, thresholds).tolist() == [1, 8, 15]
    assert report.skipped == {NOT_MEASURED: 1}
    with pytest.raises(InputError, match="needs a BLER model"):
        import_generic_channel(path, mapping)


def test_logged_counters_are_differenced_and_a_jump_back_is_counted(tmp_path):
    path = write(tmp_path, "snr,mcs,n,k\n5,9,100,10\n5,9,150,12\n5,9,20,1\n5,9,50,5\n5,9,51,9\n")
    columns = {"sinr": "snr", "logged_mcs": "mcs", "logged_first_tx": "n", "logged_first_fail": "k"}
    trace, report = import_generic_channel(path, channel(columns, cumulative=True))
    assert trace.logged.first_tx.tolist() == [50, 30]
    assert trace.logged.first_fail.tolist() == [2, 4]
    assert report.skipped == {BASELINE: 1, RESTART: 1, FAIL_ABOVE_TX: 1}
    assert books_balance(report)


def test_a_kpi_log_from_parquet(tmp_path):
    table = pa.table(
        {
            "t": pa.array([1, 1, 2, 2], pa.int64()),
            "rnti": pa.array([17, 18, 17, 18]),
            "ok": pa.array([10, None, 20, 5], pa.int32()),
            "bad": pa.array([1.0, None, 0.0, 2.0]),
            "cqi": pa.array([None, 7.5, 8.0, 9.0]),
        }
    )
    path = tmp_path / "kpis.parquet"
    pa.parquet.write_table(table, path)
    mapping = kpi({"ue": "rnti", "harq_ack": "ok", "harq_nack": "bad", "cqi": "cqi"}, time_unit="s", mcs_table=2)
    log, report = import_generic(path, mapping)
    assert isinstance(log, KpiLog)
    assert log.meta.ues == ["17", "18"]
    assert log.meta.mcs_table == 2
    assert log.meta.period_us == 1e6, "the median step"
    assert log.timestamp_us.tolist() == [1_000_000, 1_000_000, 2_000_000, 2_000_000]
    np.testing.assert_array_equal(log.measured["harq_ack"], [10, np.nan, 20, 5])
    np.testing.assert_array_equal(log.measured["harq_dtx"], [0, np.nan, 0, 0])
    np.testing.assert_array_equal(log.measured["cqi"], [np.nan, 7.5, 8, 9])
    assert any("harq_dtx, harq_residual were not in the table" in note for note in log.meta.notes)
    assert books_balance(report)
    assert [(run.ue, run.first_tx, run.first_fail) for run in report.runs] == [("17", 31, 1), ("18", 7, 2)]


def test_rows_of_a_kpi_log_that_cannot_be_used_are_counted(tmp_path):
    path = write(tmp_path, "t,ok,bad\n1,5,0\n,5,0\n2,5,\n1,5,0\n3,5,1,9\n4,7,1\n")
    log, report = import_generic_kpi_log(path, kpi({"harq_ack": "ok", "harq_nack": "bad"}))
    assert log.timestamp_us.tolist() == [1, 4]
    assert report.skipped == {NO_TIME: 1, HALF_HARQ: 1, NOT_FORWARD: 1, WRONG_CELLS: 1}
    assert books_balance(report)


def test_running_totals_are_differenced_per_ue_and_a_restart_is_counted(tmp_path):
    path = write(tmp_path, "t,u,ok,bad\n1,a,100,5\n1,b,9,9\n2,a,130,6\n3,a,10,0\n4,a,15,3\n4,b,10,9\n")
    log, report = import_generic_kpi_log(
        path, kpi({"ue": "u", "harq_ack": "ok", "harq_nack": "bad"}, cumulative=True, period_us=10)
    )
    assert [log.meta.ues[ue] for ue in log.ue] == ["a", "a", "b"]
    assert log.measured["harq_ack"].tolist() == [30, 5, 1]
    assert log.measured["harq_nack"].tolist() == [1, 3, 0]
    assert report.skipped == {BASELINE: 2, RESTART: 1}
    assert books_balance(report)


def test_a_cell_that_is_no_number_costs_its_row_and_is_shown(tmp_path):
    path = write(tmp_path, "snr,cqi\n1,2\noops,bad\n3,x7\n4,5\n")
    trace, report = import_generic_channel(path, channel({"sinr": "snr", "cqi": "cqi"}))
    assert trace.sinr_db.tolist() == [1, 4]
    assert report.skipped == {"not a number in column 'snr'": 1, "not a number in column 'cqi'": 1}
    assert report.examples["not a number in column 'snr'"] == "table.csv: data row 2: 'oops'"
    with pytest.raises(InputError, match=r"no row that can be used: 2 x not a number in column 'snr' \(first: "):
        import_generic_channel(write(tmp_path, "snr\na\nb\n"), channel({"sinr": "snr"}))


@pytest.mark.parametrize(("table", "highest"), [(1, 28), (2, 27), (3, 28)])
@given(mcs=st.integers(-5, 40))
def test_an_mcs_that_the_table_lacks_costs_its_row_and_is_shown(tmp_path_factory, table, highest, mcs):
    path = write(tmp_path_factory.getbasetemp(), f"t,m\n1,3\n2,{mcs}\n3,4\n", "mcs.csv")
    log, report = import_generic_kpi_log(path, kpi({"mcs": "m"}, mcs_table=table))
    if 0 <= mcs <= highest:
        assert log.measured["mcs"].tolist() == [3, mcs, 4]
    else:
        reason = f"mcs is outside 0..{highest} of MCS table {table}"
        assert report.skipped == {reason: 1}
        assert report.examples[reason] == f"mcs.csv: data row 2: mcs = {mcs}"
    assert books_balance(report)


@given(cqi=st.integers(-40, 40))
def test_a_cqi_outside_0_to_15_costs_its_row_and_is_shown(tmp_path_factory, cqi):
    path = write(tmp_path_factory.getbasetemp(), f"snr,q\n1,3\n2,{cqi}\n", "cqi.csv")
    trace, report = import_generic_channel(path, channel({"sinr": "snr", "cqi": "q"}))
    if 0 <= cqi <= 15:
        assert trace.cqi.tolist() == [3, cqi]
    else:
        assert report.skipped == {"cqi is outside 0..15": 1}
        assert report.examples["cqi is outside 0..15"] == f"cqi.csv: data row 2: cqi = {cqi}"


def test_a_folder_names_ues_by_file(tmp_path):
    write(tmp_path, "who,snr\nx,1\n", "one.csv")
    write(tmp_path, "who,snr\nx,2\n", "two.csv")
    trace, report = import_generic_channel(tmp_path, channel({"ue": "who", "sinr": "snr"}))
    assert [ue.name for ue in trace.meta.ues] == ["one/x", "two/x"]
    assert report.files_read == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot": 1}, r"unknown key 'slot'; known are kind, columns, "),
        ({"columns": {"snr": "x"}}, r"unknown key 'columns.snr'; known are time, ue, sinr, "),
        ({"time_unit": "h"}, r"time_unit = 'h': "),
        ({"prbs": 276}, r"prbs = 276: "),
        ({"columns": {"time": "t"}}, r"columns has neither sinr nor cqi"),
        ({"columns": {"sinr": "s", "slots": "a", "duration": "b"}}, r"both slots and duration"),
        ({"columns": {"sinr": "s", "logged_mcs": "m"}}, r"logged_mcs, logged_first_tx, .* need each other"),
        ({"columns": {"sinr": "s", "harq_ack": "a"}}, r"columns.harq_ack is not a column of kind 'channel'"),
        ({"kind": "kpi"}, r"columns.time is missing"),
        ({"kind": "kpi", "columns": {"time": "t", "harq_ack": "a"}}, r"harq_ack and columns.harq_nack"),
        ({"kind": "kpi", "columns": {"time": "t", "harq_dtx": "a"}}, r"harq_ack and columns.harq_nack"),
    ],
)
def test_a_wrong_mapping_is_rejected_by_the_name_of_its_key(change, message):
    with pytest.raises(InputError, match=r"^drive\.yaml: .*" + message) as caught:
        GenericMapping.parse(CHANNEL | change, "drive.yaml")
    assert "\n" not in str(caught.value)


def test_a_mapping_survives_json():
    mapping = channel({"sinr": "snr"}, prbs=7)
    assert GenericMapping.parse(json.loads(mapping.model_dump_json())) == mapping


def test_errors_name_the_file_and_what_is_there(tmp_path):
    path = write(tmp_path, "t,SNR\n1,2\n")
    with pytest.raises(InputError, match=r"table\.csv: column 'snr' \(for sinr\) is missing, has 't', 'SNR'"):
        import_generic_channel(path, channel({"sinr": "snr"}))
    with pytest.raises(InputError, match="is there more than once"):
        import_generic_channel(write(tmp_path, "snr,snr\n1,2\n"), channel({"sinr": "snr"}))
    with pytest.raises(InputError, match="empty, needs a header"):
        import_generic_channel(write(tmp_path, ""), channel({"sinr": "snr"}))
    with pytest.raises(InputError, match="not a whole Parquet file"):
        import_generic_channel(write(tmp_path, "PAR1", "x.parquet"), channel({"sinr": "snr"}))
    with pytest.raises(InputError, match="kind is 'channel'; this import makes 'kpi'"):
        import_generic_kpi_log(path, channel({"sinr": "snr"}))


CELL = st.one_of(st.sampled_from(["", "1", "2.5", "-1", "1e400", "nan", "7"]), st.text(max_size=3))
TEXT = st.one_of(st.text(max_size=60), st.lists(st.lists(CELL, min_size=2, max_size=5).map(",".join)).map("\n".join))
MAPPINGS = [
    channel({"time": "t", "ue": "u", "sinr": "x", "cqi": "y"}),
    channel({"cqi": "x", "duration": "y"}, time_unit="s"),
    channel({"sinr": "t", "logged_mcs": "u", "logged_first_tx": "x", "logged_first_fail": "y"}, cumulative=True),
    kpi({"ue": "u", "harq_ack": "x", "harq_nack": "y"}, cumulative=True),
    kpi({"sinr": "u", "mcs": "x", "prbs": "y"}, sinr_unit="linear"),
]


@given(TEXT, st.booleans(), st.sampled_from(MAPPINGS))
def test_any_text_is_read_or_counted(tmp_path_factory, text, with_header, mapping):
    path = tmp_path_factory.mktemp("any") / "any.csv"
    path.write_text(("t,u,x,y\n" if with_header else "") + text, encoding="utf-8", errors="replace")
    try:
        result, report = import_generic(path, mapping, bler=BLER)
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017  # either way of ending is right, but a refusal has to name it
    else:
        assert books_balance(report)
        rows = len(result.slots) if isinstance(result, ChannelTrace) else result.num_rows
        assert rows == report.rows_used
    path.unlink()

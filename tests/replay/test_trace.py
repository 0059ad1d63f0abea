"""Channel traces and KPI logs on disk: what was saved comes back; what cannot be used is refused in one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distila.replay import parquet_file
from distila.replay.du_config import DuConfig
from distila.replay.kpi_log import KPI_COLUMNS, KpiLog, KpiLogMeta
from distila.replay.parquet_file import FORMAT_KEY, META_KEY, file_format
from distila.replay.trace import NO_CQI, NO_MCS, ChannelTrace, LoggedOutcome, TraceMeta, UeMeta, bundled_trace
from distila.xapp import files
from distila.xapp.errors import InputError
from distila.xapp.nr.mcs import MCS_TABLES

LOGGED = ["logged_mcs", "logged_first_tx", "logged_first_fail"]


def make_trace(segments, *, logged=False, names=None):
    """``segments``: per UE a list of (slots, SINR or NaN, CQI)."""
    flat = [segment for ue in segments for segment in ue]
    names = names or [f"ue{u}" for u in range(len(segments))]
    ues = [UeMeta(name=name, prbs=20 + u) for u, name in enumerate(names)]
    meta = TraceMeta(name="made up", slot_us=500, source="the test", ues=ues)
    outcome = None
    if logged:
        mcs = np.array([NO_MCS if i % 3 == 0 else i % 28 for i in range(len(flat))], np.int8)
        tx = np.arange(10, 10 + len(flat), dtype=np.int32)
        outcome = LoggedOutcome(mcs, tx, tx // 3)
    return ChannelTrace(
        meta=meta,
        offset=np.r_[0, np.cumsum([len(ue) for ue in segments])].astype(np.int64),
        slots=np.array([s for s, _, _ in flat], np.int32),
        sinr_db=np.array([x for _, x, _ in flat], np.float32),
        cqi=np.array([c for _, _, c in flat], np.int8),
        logged=outcome,
    )


RAGGED = [[(3, 10.0, 7), (1, np.nan, NO_CQI), (2, -5.5, 0)], [(1, 20.0, 15)], [(10, np.nan, 3), (2, 1.25, NO_CQI)]]
SEGMENT = st.tuples(
    st.integers(1, 9),
    st.one_of(st.just(np.nan), st.floats(-60, 80, width=32)),
    st.integers(NO_CQI, 15),
)
TRACES = st.builds(make_trace, st.lists(st.lists(SEGMENT, min_size=1, max_size=8), min_size=1, max_size=5),
                   logged=st.booleans())  # fmt: skip


def same_trace(a, b):
    assert a.meta == b.meta
    for name in ("offset", "slots", "sinr_db", "cqi"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert (a.logged is None) == (b.logged is None)
    for name in ("mcs", "first_tx", "first_fail") if a.logged else ():
        np.testing.assert_array_equal(getattr(a.logged, name), getattr(b.logged, name), name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


@given(TRACES)
def test_a_trace_that_was_saved_comes_back(folder, trace):
    trace.save(folder / "any.trace")
    same_trace(ChannelTrace.load(folder / "any.trace"), trace)


@given(TRACES, st.integers(0, 30), st.integers(0, 30))
def test_window_is_the_segments_expanded_slot_by_slot(trace, start, length):
    sinr_db, cqi, segment = trace.window(start, start + length)
    assert sinr_db.shape == cqi.shape == segment.shape == (length, trace.num_ues)
    for ue in range(trace.num_ues):
        own = range(trace.offset[ue], trace.offset[ue + 1])
        naive = [index for index in own for _ in range(trace.slots[index])]
        assert trace.num_slots[ue] == len(naive)
        for slot in range(start, start + length):
            here = naive[slot] if slot < len(naive) else None
            got = (sinr_db[slot - start, ue], cqi[slot - start, ue], segment[slot - start, ue])
            expected = (np.nan, NO_CQI, -1) if here is None else (trace.sinr_db[here], trace.cqi[here], here)
            np.testing.assert_array_equal(got, expected)


def test_the_bundled_trace_loads_and_says_what_it_is():
    trace = ChannelTrace.load(bundled_trace())
    assert trace.meta.source
    assert trace.num_ues >= 10, "enough UEs to resample them"
    assert not np.isnan(trace.sinr_db).all()


LOG_VALUE = {
    "cqi": (0, 15), "sinr_db": (-60, 80), "ri": (0, 8), "mcs": (0, 28), "dl_buffer_bytes": (0, 1e9), "prbs": (0, 275)
}  # fmt: skip


@st.composite
def logs(draw):
    rows = draw(st.integers(1, 12))
    ues = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4, unique=True))
    measured = {
        name: np.array(draw(st.lists(st.one_of(st.just(np.nan), st.floats(*bounds)), min_size=rows, max_size=rows)))
        for name, bounds in LOG_VALUE.items()
    }
    absent = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    for name in ("harq_ack", "harq_nack", "harq_dtx", "harq_residual"):
        counts = np.array(draw(st.lists(st.integers(0, 2**40), min_size=rows, max_size=rows)), np.float64)
        measured[name] = np.where(absent, np.nan, counts)
    times = np.cumsum(draw(st.lists(st.integers(0, 10**9), min_size=rows, max_size=rows)))
    ue = np.array(draw(st.lists(st.integers(0, len(ues) - 1), min_size=rows, max_size=rows)), np.int32)
    return KpiLog(KpiLogMeta(name="any", source="the test", period_us=1e5, ues=ues), times, ue, measured)


@given(logs())
def test_a_kpi_log_that_was_saved_comes_back(folder, log):
    log.save(folder / "any.log")
    loaded = KpiLog.load(folder / "any.log")
    assert loaded.meta == log.meta
    np.testing.assert_array_equal(loaded.timestamp_us, log.timestamp_us)
    np.testing.assert_array_equal(loaded.ue, log.ue)
    for name in KPI_COLUMNS:
        np.testing.assert_array_equal(loaded.measured[name], log.measured[name], name)


def make_log(rows=6):
    measured = {name: np.full(rows, np.nan) for name in KPI_COLUMNS} | {"cqi": np.full(rows, 7.0)}
    meta = KpiLogMeta(name="made up", source="the test", period_us=1e5, ues=["a", "b"])
    return KpiLog(meta, np.arange(rows, dtype=np.int64), np.zeros(rows, np.int32), measured)


@pytest.fixture
def trace_file(tmp_path):
    make_trace(RAGGED, logged=True).save(tmp_path / "a.trace")
    return tmp_path / "a.trace"


@pytest.fixture
def log_file(tmp_path):
    make_log().save(tmp_path / "a.log")
    return tmp_path / "a.log"


def rewrite(path, columns=None, metadata=None, drop=()):
    """The file again with some columns or metadata replaced."""
    table = pq.read_table(path)
    kept = table.schema.metadata | (metadata or {})
    table = table.drop_columns([*drop, *(columns or {})])
    for name, values in (columns or {}).items():
        table = table.append_column(name, pa.array(values) if isinstance(values, list) else values)
    pq.write_table(table.replace_schema_metadata(kept), path)


def assert_rejected(load, path, *words):
    with pytest.raises(InputError) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text
    assert text.count(str(path)) == 1


@pytest.mark.parametrize("load", [ChannelTrace.load, KpiLog.load, file_format])
class TestNoFileOfOurs:
    def test_missing(self, load, tmp_path):
        assert_rejected(load, tmp_path / "none.trace", "no such file")

    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"time,cqi\n1,2\n", b"PAR1" + b"\0" * 99 + b"PAR1"])
    def test_not_parquet(self, load, tmp_path, content):
        path = tmp_path / "odd.trace"
        path.write_bytes(content)
        assert_rejected(load, path, "Parquet")

    def test_parquet_of_somebody_else(self, load, tmp_path):
        path = tmp_path / "theirs.parquet"
        pq.write_table(pa.table({"ue": ["a"], "slots": [1]}), path)
        assert_rejected(load, path, "not a distila trace or log", "distila trace import")


@given(st.data())
def test_a_trace_cut_short_anywhere_is_rejected(folder, data):
    whole, cut = folder / "whole.trace", folder / "cut.trace"
    make_trace(RAGGED * 20, logged=True).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_rejected(ChannelTrace.load, cut)


@given(st.data())
def test_a_kpi_log_cut_short_anywhere_is_rejected(folder, data):
    whole, cut = folder / "whole.log", folder / "cut.log"
    make_log(50).save(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_rejected(KpiLog.load, cut)


def test_another_format_or_version_is_rejected_by_name(trace_file, log_file):
    assert_rejected(KpiLog.load, trace_file, "distila.channel-trace/1", "distila.kpi-log/1")
    assert_rejected(ChannelTrace.load, log_file, "distila.channel-trace/1", "distila.kpi-log/1")
    rewrite(trace_file, metadata={FORMAT_KEY: b"distila.channel-trace/2"})
    assert_rejected(ChannelTrace.load, trace_file, "distila.channel-trace/2")


@pytest.mark.parametrize("meta", [b"", b"{", b"[]", b'{"name": "x"}', b'{"name": "x", "slot_us": -1}', b"\xff"])
def test_bad_metadata_is_rejected(trace_file, log_file, meta):
    for load, path in ((ChannelTrace.load, trace_file), (KpiLog.load, log_file)):
        rewrite(path, metadata={META_KEY: meta})
        assert_rejected(load, path, "metadata: ")


@pytest.mark.parametrize("column", ["ue", "slots", "sinr_db", "cqi"])
def test_a_missing_column_is_named(trace_file, column):
    rewrite(trace_file, drop=[column])
    assert_rejected(ChannelTrace.load, trace_file, f"column {column!r} is missing")


@pytest.mark.parametrize("column", ["timestamp_us", "ue", *KPI_COLUMNS])
def test_a_missing_column_of_a_log_is_named(log_file, column):
    rewrite(log_file, drop=[column])
    assert_rejected(KpiLog.load, log_file, f"column {column!r} is missing")


@pytest.mark.parametrize("column", LOGGED)
def test_the_logged_columns_come_together_or_not_at_all(trace_file, column):
    rewrite(trace_file, drop=[column])
    assert_rejected(ChannelTrace.load, trace_file, f"column {column!r} is missing; the logged_ columns need each other")
    rewrite(trace_file, drop=[name for name in LOGGED if name != column])
    assert ChannelTrace.load(trace_file).logged is None


WRONG = {"slots": [1.5] * 6, "sinr_db": ["loud"] * 6, "cqi": ["good"] * 6, "logged_mcs": [[1]] * 6}


@pytest.mark.parametrize("column", WRONG)
def test_a_column_of_a_wrong_type_is_rejected(trace_file, column):
    rewrite(trace_file, {column: WRONG[column]})
    assert_rejected(ChannelTrace.load, trace_file, "wrong type")


def test_a_column_of_a_wrong_type_is_named(trace_file, log_file):
    rewrite(trace_file, {"sinr_db": WRONG["sinr_db"]})
    assert_rejected(ChannelTrace.load, trace_file, "sinr_db")
    rewrite(log_file, {"prbs": ["many"] * 6})
    assert_rejected(KpiLog.load, log_file, "prbs")


@pytest.mark.parametrize(
    "ue", [["ue1"] * 3 + ["ue0"] + ["ue2"] * 2, ["ue0"] * 6, ["ue0", "ue1", "ue2"] * 2, ["x"] * 6, [None] * 6]
)
def test_ues_are_listed_in_the_order_of_the_metadata(trace_file, ue):
    rewrite(trace_file, {"ue": pa.array(ue, pa.string())})
    assert_rejected(ChannelTrace.load, trace_file, "column 'ue'", "order")


OUT_OF_RANGE = {"slots": (0, 1), "cqi": (16, 3), "sinr_db": (81.0, 0.0)}


@pytest.mark.parametrize("column", OUT_OF_RANGE)
def test_a_value_out_of_range_is_named(trace_file, column):
    bad, good = OUT_OF_RANGE[column]
    rewrite(trace_file, {column: [good] * 5 + [bad]})
    assert_rejected(ChannelTrace.load, trace_file, column, str(bad), "outside")


def test_a_segment_needs_its_length(trace_file):
    rewrite(trace_file, {"slots": [None, 1, 1, 1, 1, 1]})
    assert_rejected(ChannelTrace.load, trace_file, "slots")


@pytest.mark.parametrize(("column", "value"), [("logged_mcs", 100), ("logged_first_tx", -1), ("logged_first_fail", 99)])
def test_logged_values_out_of_range_are_rejected(trace_file, column, value):
    rewrite(trace_file, {column: [value] + [0] * 5})
    assert_rejected(ChannelTrace.load, trace_file, column)


def test_a_trace_that_can_be_made_can_be_loaded(tmp_path):
    try:
        trace = make_trace(RAGGED, names=["twin", "twin", "other"])
    except InputError:
        return  # refused where it is made: as good
    trace.save(tmp_path / "twins.trace")
    same_trace(ChannelTrace.load(tmp_path / "twins.trace"), trace)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("cqi", [7.0] * 5 + [15.5], ["cqi", "15.5", "row 5"]),
        ("mcs", [29.0] * 6, ["mcs", "29", "MCS table 1"]),
        ("sinr_db", [float("inf")] * 6, ["sinr_db"]),
        ("prbs", [-1.0] * 6, ["prbs is negative"]),
        ("harq_ack", [1] * 6, ["together"]),
        ("timestamp_us", [5, 4, 6, 7, 8, 9], ["timestamp_us goes backwards"]),
        ("ue", ["a"] * 5 + ["stranger"], ["'ue'", "stranger"]),
        ("timestamp_us", ["noon"] * 6, ["wrong type"]),
    ],
)
def test_a_bad_value_in_a_log_is_named(log_file, column, values, words):
    rewrite(log_file, {column: values})
    assert_rejected(KpiLog.load, log_file, *words)


def test_a_report_without_a_timestamp_is_rejected(log_file):
    rewrite(log_file, {"timestamp_us": [None, 1, 2, 3, 4, 5]})
    assert_rejected(KpiLog.load, log_file, "timestamp_us")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("where", ["while writing", "before renaming"])
def test_a_write_that_is_cut_off_leaves_the_old_file_whole(trace_file, monkeypatch, where):
    def half(_, path, **__):
        path.write_bytes(b"PAR1 and no more")
        raise Killed

    def never(*_):
        raise Killed

    old = trace_file.read_bytes()
    if where == "while writing":
        monkeypatch.setattr(parquet_file.pq, "write_table", half)
    else:
        monkeypatch.setattr(files.os, "replace", never)
    with pytest.raises(Killed):
        make_trace([[(1, 0.0, 0)]]).save(trace_file)
    assert trace_file.read_bytes() == old
    assert [path.name for path in trace_file.parent.iterdir()] == [trace_file.name]


# --- an index that its table lacks ---


@given(table=st.sampled_from([1, 2, 3]), mcs=st.integers(-128, 300), row=st.integers(0, 5))
@example(table=1, mcs=NO_MCS, row=0)
def test_an_mcs_that_the_ues_table_lacks_is_named_with_file_ue_and_value(folder, table, mcs, row):
    path = folder / "mcs.trace"
    made = make_trace(RAGGED, logged=True)
    ues = [ue.model_copy(update={"mcs_table": table}) for ue in made.meta.ues]
    made.meta.ues[:] = ues
    made.logged.mcs[:] = 3
    made.save(path)
    rewrite(path, {"logged_mcs": [mcs if index == row else 3 for index in range(6)]})
    if 0 <= mcs < MCS_TABLES[table].num_mcs or mcs == NO_MCS:
        assert ChannelTrace.load(path).logged.mcs[row] == mcs
    else:
        assert_rejected(ChannelTrace.load, path, "logged_mcs", str(mcs), str(row), "outside 0..")


@given(cqi=st.integers(-300, 300), row=st.integers(0, 5))
def test_a_cqi_outside_0_to_15_is_named_with_file_row_and_value(folder, cqi, row):
    path = folder / "cqi.trace"
    make_trace(RAGGED).save(path)
    rewrite(path, {"cqi": [cqi if index == row else 7 for index in range(6)]})
    if 0 <= cqi <= 15:
        assert ChannelTrace.load(path).cqi[row] == cqi
    elif cqi != NO_CQI:
        assert_rejected(ChannelTrace.load, path, "cqi", str(cqi), "outside")


@pytest.mark.parametrize("key", ["mcs_table", "cqi_table"])
@pytest.mark.parametrize("table", [0, 4, "qam1024"])
def test_a_table_that_ts_38_214_lacks_is_named(trace_file, key, table):
    meta = json.loads(pq.read_schema(trace_file).metadata[META_KEY])
    meta["ues"][1][key] = table
    rewrite(trace_file, metadata={META_KEY: json.dumps(meta).encode()})
    assert_rejected(ChannelTrace.load, trace_file, "metadata: ", key, str(table))


def test_ues_of_one_cell_may_have_different_tables(tmp_path):
    made = make_trace(RAGGED, logged=True)
    made.meta.ues[:] = [ue.model_copy(update={"mcs_table": 1 + i}) for i, ue in enumerate(made.meta.ues)]
    made.save(tmp_path / "mixed.trace")
    assert [ue.mcs_table for ue in ChannelTrace.load(tmp_path / "mixed.trace").meta.ues] == [1, 2, 3]


# --- settings of the DU that come with a trace ---


def test_only_the_du_settings_that_were_given_are_written(tmp_path):
    made = make_trace(RAGGED)
    made.meta.du = DuConfig(max_transmissions=1)
    made.save(tmp_path / "one.trace")
    assert json.loads(pq.read_schema(tmp_path / "one.trace").metadata[META_KEY])["du"] == {"max_transmissions": 1}
    assert ChannelTrace.load(tmp_path / "one.trace").meta.du.given() == {"max_transmissions": 1}


def test_a_trace_from_before_there_were_du_settings_loads(trace_file):
    meta = json.loads(pq.read_schema(trace_file).metadata[META_KEY])
    del meta["du"]
    rewrite(trace_file, metadata={META_KEY: json.dumps(meta).encode()})
    assert ChannelTrace.load(trace_file).meta.du.given() == {}


@pytest.mark.parametrize(("setting", "value"), [("max_transmissions", 9), ("processes", 0), ("retries", 2)])
def test_a_wrong_du_setting_of_a_trace_is_named(trace_file, setting, value):
    meta = json.loads(pq.read_schema(trace_file).metadata[META_KEY]) | {"du": {setting: value}}
    rewrite(trace_file, metadata={META_KEY: json.dumps(meta).encode()})
    assert_rejected(ChannelTrace.load, trace_file, "metadata: ", f"du.{setting}")

"""E2 octet strings to reports and decisions, and back: nothing is lost on the way, nothing bad gets by uncounted."""

from collections import Counter
from dataclasses import fields, replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2 import codec
from distila.xapp.e2.codec import MAX_MESSAGE_BYTES, ControlEncoder, Identity, Rejected
from distila.xapp.e2.ue_reports import FIELDS, HARQ_FIELDS, read_by_protobuf, read_records
from distila.xapp.kpi.observations import MEASURED, REPORTED
from distila.xapp.kpi.report import MCS, MCS_OFFSET, NATIVE, NO_UE_ID, Decisions, KpiReport
from distila.xapp.nr.mcs import NUM_MCS

IDENTITY = Identity("tester", "tester-0", "gnb-7")
HEADER = pb.IndicationHeader(envelope=IDENTITY.envelope(), cell_id="cell", sequence=1, timestamp_us=1)
UINT32, UINT64 = (st.integers(0, 2**bits - 1) for bits in (32, 64))
SMALL = st.integers(0, 300)


def assert_same(one, other):
    """All arrays and numbers equal; NaN equals NaN."""
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)


def read(message, noticed=None):
    """Decode an IndicationMessage, given as a message or as octets."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return codec.decode_indication(HEADER, data, Counter() if noticed is None else noticed)


def indication(*ues, **harq):
    return pb.IndicationMessage(ues=[pb.UeReport(**ue) for ue in ues], harq=pb.HarqCounts(**harq))


def varint(value):
    octets = b""
    while value > 0x7F:
        octets, value = octets + bytes([value & 0x7F | 0x80]), value >> 7
    return octets + bytes([value])


def message_of(ues):
    """An IndicationMessage of UEs that are octets already."""
    return b"".join(b"\x0a" + varint(len(ue)) + ue for ue in ues)


@st.composite
def reports(draw):
    rnti = draw(st.lists(st.integers(1, 0xFFFF), max_size=6, unique=True))
    count = len(rnti)
    ident = draw(st.lists(st.integers(1, 2**53 - 1), min_size=count, max_size=count, unique=True))
    has_id = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    measured = np.full((count, len(MEASURED)), np.nan)
    for place, column in enumerate(REPORTED):
        steps = st.integers(int(column.low * column.wire_steps), int(column.high * column.wire_steps))
        measured[:, place] = [draw(st.just(np.nan) | steps) / column.wire_steps for _ in rnti]
    # The sum of the MCS of retransmissions goes with their counts.
    retx = measured[:, MEASURED.index("retx_ack")] + measured[:, MEASURED.index("retx_nack")]
    sums = [np.nan if np.isnan(number) else draw(st.integers(0, 28 * int(number))) for number in retx]
    measured[:, MEASURED.index("retx_mcs_sum")] = sums
    total = [draw(st.just(np.nan) | st.integers(0, 2**48)) for _ in rnti]
    table = st.lists(st.integers(1, 3), min_size=count, max_size=count)
    counts = st.tuples(*[st.integers(0, 2**24 - 1)] * 4)
    entry = st.tuples(st.integers(0, max(count - 1, 0)), st.integers(0, NUM_MCS - 1), counts)
    harq = draw(st.lists(entry, max_size=12 if count else 0))
    return KpiReport(
        draw(st.text(min_size=1, max_size=8)),
        *draw(st.tuples(UINT64, st.integers(0, 1023), st.integers(0, 159), UINT64, st.integers(1, 1_000_000))),
        rnti=np.array(rnti, np.int64),
        ue_id=np.where(np.array(has_id, bool), np.array(ident, np.int64), NO_UE_ID),
        cqi_table=np.array(draw(table), np.int64),
        mcs_table=np.array(draw(table), np.int64),
        measured=measured,
        total_first_tx=np.array(total, np.float64),
        harq_ue=np.array([ue for ue, _, _ in harq], np.int64),
        harq_mcs=np.array([mcs for _, mcs, _ in harq], np.int64),
        harq_counts=np.array([counts for _, _, counts in harq], np.float64).reshape(len(harq), 4),
    )


@given(reports())
def test_a_report_comes_out_as_it_went_in(report):
    header, message = codec.encode_indication(report, IDENTITY)
    noticed = Counter()
    assert_same(codec.decode_indication(codec.decode_indication_header(header), message, noticed), report)
    assert not noticed


def test_harq_of_several_mcs_of_a_ue_adds_up():
    harq = {"ue": [1, 0, 1], "mcs": [9, 3, 10], "ack": [1, 2, 4], "nack": [0, 0, 8], "dtx": [0, 16, 32]}
    report = read(indication({"rnti": 5}, {"rnti": 4}, **harq))
    assert report.harq_sums.tolist() == [[2, 0, 16, 0], [5, 8, 32, 0]]
    assert report.first_tx.tolist() == [18, 45]
    assert report.first_failed.tolist() == [16, 40]


def test_absent_fields_are_not_measured_and_zero_fields_are_zero():
    names = ["cqi", "cqi_age_slots", "sinr_cdb", "dl_buffer_bytes", "prbs", "native_mcs"]
    names += ["retx_ack", "retx_nack", "retx_mcs_sum", "harq_total_first_tx"]
    report = read(indication({"rnti": 1}, {"rnti": 2, **dict.fromkeys(names, 0)}, {"rnti": 3}))
    assert np.isnan(report.measured[[0, 2]]).all()
    # A rank cannot be zero, nor can a way of combining.
    expected = [0 if column.wire_field in names else np.nan for column in REPORTED]
    np.testing.assert_array_equal(report.measured[1], expected)
    assert report.harq_measured.tolist() == [False, True, False]
    assert report.total_first_tx[1] == 0


def test_an_unspecified_table_is_table_1_and_an_unknown_one_is_not_believed():
    noticed = Counter()
    rows = [
        {"cqi": 3},
        {"cqi": 4, "cqi_table": 2, "mcs_table": 3},
        {"cqi": 5, "mcs_table": 7},
        {"cqi": 6, "cqi_table": 9},
    ]
    report = read(indication(*({"rnti": rnti, **row} for rnti, row in enumerate(rows, start=1))), noticed)
    assert report.cqi_table.tolist() == [1, 2, 1, 1]
    assert report.mcs_table.tolist() == [1, 3, 0, 1]
    np.testing.assert_array_equal(report.measured[:, 0], [3, 4, 5, np.nan])  # a CQI means nothing without its table
    assert noticed == {"invalid_mcs_table": 1, "invalid_cqi_table": 1}


def test_feedback_without_a_running_total_is_still_feedback():
    report = read(indication({"rnti": 1}, {"rnti": 2}, ue=[1], mcs=[4], ack=[1], nack=[2]))
    assert report.harq_measured.tolist() == [False, True]
    assert report.first_tx.tolist() == [0, 3]


def same_read(one, other):
    """Two readings, each a table of UEs and the HARQ arrays, hold the same."""
    np.testing.assert_array_equal(one[0], other[0])
    for first, second in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(first, second)


NUMBERS = dict.fromkeys(FIELDS, UINT32 | SMALL)
NUMBERS |= dict.fromkeys(("ue_id", "harq_total_first_tx", "dl_buffer_bytes"), UINT64 | SMALL)
NUMBERS |= dict.fromkeys(("cqi_table", "mcs_table"), st.integers(1, 3))
NUMBERS["sinr_cdb"] = st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300)


@st.composite
def ues(draw):
    """Octets of a UeReport with any subset of its fields, some of them twice."""
    parts = draw(st.lists(st.fixed_dictionaries({}, optional=NUMBERS), min_size=1, max_size=2))
    return b"".join(pb.UeReport(**part).SerializeToString() for part in parts)


@st.composite
def alike(draw):
    """Octets of UeReports that all hold the same fields."""
    names = draw(st.sets(st.sampled_from([name for name in FIELDS if name != "rnti"])))
    # A number without presence is left out on the wire when it is zero, so none is.
    ue = st.fixed_dictionaries({"rnti": st.integers(1, 0xFFFF), **{name: NUMBERS[name] for name in names}})
    return [pb.UeReport(**ue).SerializeToString() for ue in draw(st.lists(ue, min_size=1, max_size=5))]


HARQ = pb.IndicationMessage(harq=pb.HarqCounts(ue=[0], mcs=[3], ack=[7])).SerializeToString()
LONG_HARQ = pb.IndicationMessage(harq=pb.HarqCounts(**dict.fromkeys(HARQ_FIELDS, range(5000)))).SerializeToString()


@given(alike(), st.sampled_from([b"", HARQ, LONG_HARQ, b"\x12\x00"]))
def test_ues_alike_are_read_fast_and_as_protobuf_reads_them(octets, harq):
    data = message_of(octets) + harq
    fast = read_records(data)
    assert fast is not None
    same_read(fast, read_by_protobuf(data))


@st.composite
def damaged(draw):
    """A valid message, cut off and overwritten here and there."""
    data = bytearray(message_of(draw(alike() | st.lists(ues(), min_size=1, max_size=4))) + HARQ * draw(st.booleans()))
    octet = st.integers(0, 255) | st.sampled_from([0x0A, 0x12, 0x0D, 0x11, 0x80, 0])
    for at, value in draw(st.lists(st.tuples(st.integers(0, 400), octet), max_size=4)):
        data[at % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def outcome(data):
    """What becomes of a message: the report and what was noticed, or the reason of rejection."""
    noticed = Counter()
    try:
        return read(data, noticed), noticed
    except Rejected as rejection:
        return rejection.reason, noticed


@given(damaged() | st.binary(max_size=300))
@example(message_of([b"\x0d\x01\x00\x00\x00\x20\xff\xff\xff\xff\x0f"]))  # a table that protobuf reads as -1
@example(message_of([b"\x0d\x05\x00\x00\x00"]) + HARQ + message_of([b"\x0d\x06\x00\x00\x00"]))  # fields in any order
@example(message_of([b"\x0d\x05\x00\x00\x00"]) + HARQ + HARQ)  # a message given twice is merged
@example(message_of([b"\x0d\x05\x00\x00\x00"]) + b"\x12\x06\x08\x00\x10\x03\x18\x07")  # arrays that are not packed
def test_damaged_octets_mean_the_same_to_both_readers(data):
    """Both readers give the same report and counts, or the same rejection; and never another exception."""
    fast, fast_noticed = outcome(data)
    with mock.patch("distila.xapp.e2.codec.read_records", return_value=None):
        reference, noticed = outcome(data)
    assert fast_noticed == noticed
    assert type(fast) is type(reference)
    if isinstance(reference, str):
        assert fast == reference
    else:
        assert_same(fast, reference)


@given(damaged() | st.binary(max_size=300) | st.lists(ues(), min_size=1, max_size=4).map(message_of))
def test_the_fast_reader_gives_up_on_what_is_not_for_it_or_is_right(data):
    fast = read_records(data)
    if fast is not None:
        same_read(fast, read_by_protobuf(data))


@pytest.mark.parametrize("octets", [b"\x8d\x00\x05\0\0\0\x1d\x07\0\0\0", b"\x0d\x05\0\0\0\x9d\x00\x07\0\0\0"])
def test_keys_longer_than_they_need_be_are_left_to_protobuf(octets):
    """Where fields lie could not be told by which they are and by how long the record is."""
    assert read_records(message_of([octets])) is None
    assert read(message_of([octets])).measured[0, MEASURED.index("cqi")] == 7


def with_envelope(name="distila-la", version="1.0", encoding=pb.ENCODING_PROTO, cell_id="cell"):
    model = pb.ServiceModel(name=name, version=version)
    return pb.IndicationHeader(envelope=pb.Envelope(service_model=model, encoding=encoding), cell_id=cell_id)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\xff\xff\xff", "malformed_header"),
        (HEADER.SerializeToString()[:-1], "malformed_header"),
        (b"\x12\x01\xff", "malformed_header"),  # a cell_id that is not UTF-8
        (b"", "service_model"),
        (with_envelope(name="ORAN-E2SM-KPM").SerializeToString(), "service_model"),
        (with_envelope(version="2.0").SerializeToString(), "service_model"),
        (with_envelope(version="10.0").SerializeToString(), "service_model"),
        (with_envelope(encoding=pb.ENCODING_UNSPECIFIED).SerializeToString(), "encoding"),
        (with_envelope(encoding=2).SerializeToString(), "encoding"),
        (with_envelope(cell_id="").SerializeToString(), "no_cell_id"),
        (with_envelope(cell_id="c" * MAX_MESSAGE_BYTES).SerializeToString(), "oversized"),
    ],
)
def test_a_header_that_cannot_be_used_is_rejected_with_its_reason(header, reason):
    with pytest.raises(Rejected) as rejected:
        codec.decode_indication_header(header)
    assert rejected.value.reason == reason
    assert "\n" not in str(rejected.value)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xff", "malformed_message"),
        (indication({"rnti": 1, "cqi": 7}).SerializeToString()[:-1], "malformed_message"),
        (HARQ[:-1], "malformed_message"),
        (bytes(MAX_MESSAGE_BYTES + 1), "oversized"),
    ],
)
def test_a_message_that_cannot_be_read_is_rejected_with_its_reason(message, reason):
    with pytest.raises(Rejected) as rejected:
        read(message)
    assert rejected.value.reason == reason


def test_a_newer_minor_version_is_understood():
    header = codec.decode_indication_header(with_envelope(version="1.9").SerializeToString())
    assert header.envelope.service_model.version == "1.9"


def test_a_message_as_large_as_the_limit_is_read():
    one = message_of([pb.UeReport(rnti=1, cqi=3).SerializeToString()])
    padding = MAX_MESSAGE_BYTES - len(one) - 5
    assert read(one + b"\x7a" + varint(padding + 1) + bytes(padding + 1)).num_ues == 1  # field 15 is unknown


@pytest.mark.parametrize(
    ("ues", "kept", "noticed"),
    [
        ([{"rnti": 0}, {"rnti": 7}], [7], {"ue_invalid_rnti": 1}),
        ([{"rnti": 7}, {"rnti": 65536}], [7], {"ue_invalid_rnti": 1}),
        ([{"rnti": 7}, {"rnti": 65535}], [7, 65535], {}),
        ([{"rnti": 8}, {"rnti": 7}, {"rnti": 8}], [8, 7], {"ue_duplicate": 1}),
        ([{"rnti": 7, "ue_id": 3}, {"rnti": 8, "ue_id": 3}], [7], {"ue_duplicate": 1}),
        ([{"rnti": 7, "ue_id": 3}, {"rnti": 8}, {"rnti": 9}], [7, 8, 9], {}),
        ([{"rnti": 7, "ue_id": 2**53}, {"rnti": 8, "ue_id": 2**53 - 1}], [8], {"ue_invalid_id": 1}),
        ([{"rnti": 7, "ue_id": 2**64 - 1}], [], {"ue_invalid_id": 1}),
    ],
)
def test_a_ue_that_cannot_be_identified_is_skipped_and_counted(ues, kept, noticed):
    counted = Counter()
    report = read(indication(*ues, ue=range(len(ues)), mcs=[4] * len(ues), ack=[ue["rnti"] for ue in ues]), counted)
    assert report.rnti.tolist() == kept
    assert counted == noticed
    # HARQ counts stay with their UE; what belonged to the UEs left out is gone.
    assert report.harq_sums[:, 0].tolist() == kept


@pytest.mark.parametrize(
    ("field", "bad", "good", "name"),
    [
        ("cqi", 16, 15, "cqi"),
        ("cqi_age_slots", 10**6 + 1, 10**6, "cqi_age_slots"),
        ("sinr_cdb", 20000, 8000, "sinr_db"),
        ("sinr_cdb", -6001, -6000, "sinr_db"),
        ("ri", 0, 1, "ri"),
        ("ri", 9, 8, "ri"),
        ("dl_buffer_bytes", 10**12 + 1, 10**12, "dl_buffer_bytes"),
        ("prbs", 276, 275, "prbs"),
        ("native_mcs", 29, 28, "native_mcs"),
        ("combining", 0, 1, "combining"),
        ("combining", 3, 2, "combining"),
        ("max_transmissions", 0, 1, "max_transmissions"),
        ("max_transmissions", 9, 8, "max_transmissions"),
    ],
)
def test_a_value_out_of_its_range_is_not_measured_and_counted(field, bad, good, name):
    noticed = Counter()
    report = read(indication({"rnti": 1, field: good}, {"rnti": 2, field: bad}, {"rnti": 3, field: bad}), noticed)
    expected = good / 100 if field == "sinr_cdb" else good
    np.testing.assert_array_equal(report.measured[:, MEASURED.index(name)], [expected, np.nan, np.nan])
    assert noticed == {f"invalid_{name}": 2}


RETX = [MEASURED.index(f"retx_{name}") for name in ("ack", "nack", "mcs_sum")]


@pytest.mark.parametrize("field", ["retx_ack", "retx_nack"])
def test_a_count_of_retransmissions_out_of_its_range_is_not_measured_and_counted(field):
    noticed = Counter()
    rows = [{"retx_ack": 1, "retx_nack": 1, "retx_mcs_sum": 0, field: count} for count in (2**24, 2**24 + 1)]
    report = read(indication(*({"rnti": rnti, **row} for rnti, row in enumerate(rows, start=1))), noticed)
    assert np.isnan(report.measured[:, MEASURED.index(field)]).tolist() == [False, True]
    assert noticed == {f"invalid_{field}": 1}


@pytest.mark.parametrize(
    ("row", "believed"),
    [
        ({"retx_ack": 2, "retx_nack": 1, "retx_mcs_sum": 84}, True),
        ({"retx_ack": 2, "retx_nack": 1, "retx_mcs_sum": 85}, False),  # no MCS is above 28
        ({"retx_ack": 0, "retx_nack": 0, "retx_mcs_sum": 0}, True),
        ({"retx_ack": 0, "retx_nack": 0, "retx_mcs_sum": 1}, False),
        ({"retx_ack": 0, "retx_nack": 0}, False),
        ({"retx_ack": 1, "retx_nack": 0}, False),
    ],
)
def test_retransmissions_are_believed_with_the_sum_of_their_mcs_alone(row, believed):
    """Where a policy does not know the MCS, how it fared would tell it wrong things."""
    noticed = Counter()
    report = read(indication({"rnti": 1, **row}), noticed)
    np.testing.assert_array_equal(report.measured[0, RETX], list(row.values()) if believed else [np.nan] * 3)
    assert noticed == ({} if believed else {"invalid_retx_mcs_sum": 1})


@pytest.mark.parametrize(
    ("harq", "kept"),
    [
        ({"ue": [0, 1], "mcs": [28, 29], "ack": [1, 1]}, 1),  # MCS 29 to 31 carry no new data
        ({"ue": [0, 2], "mcs": [3, 3], "ack": [1, 1]}, 1),  # there is no third UE
        ({"ue": [0, 1], "mcs": [3, 3], "nack": [1, 2**24]}, 1),
        ({"ue": [0], "mcs": []}, 0),
        ({"ue": [], "mcs": [3]}, 0),
        ({"ue": [0, 1], "mcs": [3, 3], "ack": [1]}, 0),  # no telling whose count it is
    ],
)
def test_harq_that_makes_no_sense_is_left_out_and_counted(harq, kept):
    noticed = Counter()
    report = read(indication({"rnti": 1}, {"rnti": 2}, **harq), noticed)
    assert report.num_ues == 2
    assert len(report.harq_ue) == kept
    bad = max(map(len, harq.values())) - kept
    assert noticed == {"invalid_harq": bad}


@st.composite
def decisions(draw, cell_id="cell", count=None):
    rnti = draw(st.lists(st.integers(1, 0xFFFF), unique=True, max_size=5, min_size=count or 0))
    ident = [draw(st.just(NO_UE_ID) | st.integers(1, 2**53 - 1)) for _ in rnti]
    arms = draw(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), min_size=1, max_size=3))
    absolute, offset = st.tuples(st.just(MCS), st.integers(0, 28)), st.tuples(st.just(MCS_OFFSET), st.integers(-28, 28))
    action = absolute | offset | st.just((NATIVE, 0))
    chosen = np.array([draw(action) for _ in rnti], np.int64).reshape(len(rnti), 2)
    arm = np.array([draw(st.integers(0, len(arms) - 1)) for _ in rnti], np.int64)
    who = np.array(rnti, np.int64), np.array(ident, np.int64)
    numbers = draw(st.tuples(UINT64, UINT32, UINT32, UINT64, UINT32))
    return Decisions(cell_id, *numbers, *who, *chosen.T, arms, arm)


@given(st.lists(st.sampled_from("abc").flatmap(decisions), min_size=1, max_size=6), st.data())
def test_decisions_come_out_as_they_went_in_whatever_was_sent_before(sent, data):
    """The encoder keeps one message per cell: neither other cells nor earlier decisions shine through."""
    encoder = ControlEncoder(IDENTITY, max_cells=2)
    for first in sent:
        again = data.draw(decisions(first.cell_id, count=5))
        kind, value = again.kind[: len(first.rnti)], again.value[: len(first.rnti)]
        same_ues = replace(first, kind=kind, value=value, valid_for_slots=again.valid_for_slots)
        for one in (first, same_ues, first):
            assert_same(codec.decode_control(*encoder.encode(one)), one)


def test_decisions_of_one_arm_need_no_arm_per_ue():
    one = Decisions("cell", 1, 0, 0, 0, 18, *np.array([[9], [NO_UE_ID], [MCS], [4]]), arms=[("policy", "ab")])
    assert codec.decode_control(*ControlEncoder(IDENTITY).encode(one)).arm.tolist() == [0]


def test_a_ue_decision_without_an_action_reads_as_native():
    header = pb.ControlHeader(envelope=IDENTITY.envelope(), cell_id="cell").SerializeToString()
    ues = [pb.UeDecision(rnti=1), pb.UeDecision(rnti=2, mcs=0), pb.UeDecision(rnti=3, mcs_offset=0)]
    read = codec.decode_control(header, pb.ControlMessage(ues=ues).SerializeToString())
    assert read.kind.tolist() == [NATIVE, MCS, MCS_OFFSET]


def test_a_control_message_with_an_impossible_ue_id_is_rejected():
    header = pb.ControlHeader(envelope=IDENTITY.envelope(), cell_id="cell").SerializeToString()
    message = pb.ControlMessage(ues=[pb.UeDecision(rnti=1, ue_id=2**64 - 1)]).SerializeToString()
    with pytest.raises(Rejected, match="ue_id") as rejected:
        codec.decode_control(header, message)
    assert rejected.value.reason == "malformed_control"


def test_a_period_a_total_or_a_slot_that_cannot_be_is_counted_and_not_believed():
    header = pb.IndicationHeader(cell_id="cell", report_period_slots=2**32 - 1, sfn=1024, slot=160)
    noticed = Counter()
    data = indication({"rnti": 1, "harq_total_first_tx": 2**48 + 1}, {"rnti": 2, "harq_total_first_tx": 2**48})
    report = codec.decode_indication(header, data.SerializeToString(), noticed)
    assert report.period_slots == 1
    assert np.isnan(report.total_first_tx).tolist() == [True, False]
    assert noticed == {"invalid_period": 1, "invalid_harq_total": 1, "invalid_sfn_or_slot": 1}

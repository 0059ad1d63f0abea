"""E2AP: round trips, PDUs of other encoders, and bytes that are none; our reader and writer against pycrate."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("pycrate_asn1dir", reason="E2AP")
from distila.xapp.e2 import e2ap
from distila.xapp.e2.codec import MAX_MESSAGE_BYTES, Rejected
from distila.xapp.e2.e2ap import ControlAnswer, ControlRequest, Indication, RicRequest
from distila.xapp.e2.e2ap_aper import CONTROL, INDICATION, INITIATING, SUCCESSFUL, read_pdu

REQUEST = RicRequest(123, 7, 200)
A_CONTROL = ControlRequest(REQUEST, b"\x00\x00\x00\x01", b"header", b"message")
CAUSES = [
    ("ricRequest", "ran-function-id-invalid"),
    ("ricRequest", "action-not-supported"),
    ("ricRequest", "function-resource-limit"),
    ("ricRequest", "request-id-unknown"),
    ("ricRequest", "control-message-invalid"),
    ("ricRequest", "ric-call-process-id-invalid"),
    ("ricRequest", "control-timer-expired"),
    ("ricRequest", "control-failed-to-execute"),
    ("ricRequest", "system-not-ready"),
    ("ricRequest", "unspecified"),
    ("ricService", "ran-function-not-supported"),
    ("ricService", "excessive-functions"),
    ("ricService", "ric-resource-limit"),
    ("e2Node", "e2node-component-unknown"),
    ("transport", "unspecified"),
    ("transport", "transport-resource-unavailable"),
    ("protocol", "transfer-syntax-error"),
    ("protocol", "semantic-error"),
    ("protocol", "unspecified"),
    ("misc", "control-processing-overload"),
    ("misc", "hardware-failure"),
    ("misc", "om-intervention"),
    ("misc", "unspecified"),
]

small = st.binary(max_size=300)
requests = st.builds(RicRequest, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 4095))
call_ids = st.none() | st.binary(max_size=8)
indications = st.builds(
    Indication, requests, st.integers(0, 255), small, small, st.none() | st.integers(0, 65535), call_ids
)
controls = st.builds(ControlRequest, requests, call_ids, small, small, st.booleans())
answers = st.builds(ControlAnswer, requests, call_ids, st.none() | small, st.none() | st.sampled_from(CAUSES))


@given(indications)
def test_an_indication_is_read_back(indication):
    assert e2ap.decode_indication(e2ap.encode_indication(indication)) == indication


@given(controls)
def test_a_control_request_is_read_back(control):
    assert e2ap.decode_control_request(e2ap.encode_control_request(control)) == control


@given(answers)
def test_an_answer_is_read_back(answer):
    assert e2ap.decode_control_answer(e2ap.encode_control_answer(answer)) == answer


@pytest.mark.parametrize("cause", CAUSES, ids="-".join)
def test_every_cause_of_failure_is_read(cause):
    answer = ControlAnswer(REQUEST, b"\x00\x00\x00\x01", None, cause)
    assert e2ap.decode_control_answer(e2ap.encode_control_answer(answer)).cause == cause


@settings(deadline=None)
@given(controls)
def test_a_control_request_is_written_octet_by_octet_as_pycrate_does(control):
    assert e2ap.encode_control_request(control) == e2ap.encode_control_request_by_pycrate(control)


# ---------------------------------------------------------------- long payloads


@pytest.mark.parametrize("length", [127, 128, 16_000, 16_383, 16_384, 32_768, 65_536, 100_000])
def test_long_payloads_go_through(length):
    """From 16 Ki on they go in fragments, which pycrate writes; where an IE follows one, it cannot read them itself."""
    message = bytes(i % 251 for i in range(length))
    indication = Indication(REQUEST, 1, b"header", message, 9, b"\x00\x01")
    assert e2ap.decode_indication(e2ap.encode_indication(indication)) == indication
    control = ControlRequest(REQUEST, b"\x00\x00\x00\x01", b"header", message)
    assert e2ap.decode_control_request(e2ap.encode_control_request(control)) == control


def test_messages_that_no_e2_termination_would_pass_are_rejected():
    pdu = bytes(MAX_MESSAGE_BYTES + 1)
    for decode in (e2ap.decode_indication, e2ap.decode_control_answer, e2ap.decode_control_request):
        with pytest.raises(Rejected) as rejected:
            decode(pdu)
        assert rejected.value.reason == "oversized"


# ---------------------------------------------------------------- PDUs of other encoders, built by hand after X.691


def length(octets):
    """A length determinant of one octet, or of two from 128 on."""
    return bytes([len(octets)]) if len(octets) < 128 else (0x8000 | len(octets)).to_bytes(2, "big")


def ie(ident, content, criticality=0x00):
    return ident.to_bytes(2, "big") + bytes([criticality]) + length(content) + content


def octet_string(octets):
    return length(octets) + octets


def pdu(procedure, *ies, kind=0x00, criticality=0x40):
    content = b"\x00" + len(ies).to_bytes(2, "big") + b"".join(ies)
    return bytes([kind, procedure, criticality]) + length(content) + content


REQUEST_ID = ie(29, bytes.fromhex("00007b0007"))
RAN_FUNCTION = ie(5, bytes.fromhex("00c8"))


def handmade(*more, message=b"m" * 200, last=()):
    return pdu(
        5, REQUEST_ID, RAN_FUNCTION, ie(15, b"\x01"), *more, ie(28, b"\x00"), ie(25, octet_string(b"h" * 20)),
        ie(26, octet_string(message)), *last,
    )  # fmt: skip


def test_a_handmade_indication_with_two_octet_lengths():
    got = e2ap.decode_indication(handmade(ie(27, b"\x00\x4d")))
    assert got == Indication(REQUEST, 1, b"h" * 20, b"m" * 200, 77)


def test_a_captured_form_is_read():
    """Octet by octet: requestor 123, instance 7, function 200, action 1, sequence 77, report, two payloads."""
    captured = bytes.fromhex(
        "0005403a000007001d000500007b000700050002 00c8000f000101001b0002004d001c000100 0019000504"
        "68656164 001a000b0a 6d6573736167652d6d64"
    )
    assert e2ap.decode_indication(captured) == Indication(REQUEST, 1, b"head", b"message-md", 77)


def test_ies_in_another_order_are_read():
    got = e2ap.decode_indication(
        pdu(5, ie(26, octet_string(b"m")), ie(25, octet_string(b"h")), ie(28, b"\x00"), ie(15, b"\x02"), RAN_FUNCTION,
            REQUEST_ID)
    )  # fmt: skip
    assert got == Indication(REQUEST, 2, b"h", b"m")


def test_an_indication_of_an_insert_is_read_too():
    got = e2ap.decode_indication(
        pdu(5, REQUEST_ID, RAN_FUNCTION, ie(15, b"\x01"), ie(28, b"\x40"), ie(25, b"\x01h"), ie(26, b"\x01m"))
    )
    assert (got.header, got.message) == (b"h", b"m")


def test_one_octet_lengths_beyond_127_as_some_xapps_write_them_are_rejected():
    content = b"\x00\x00\x01" + b"\x00\x1a\x00" + bytes([201, 200]) + b"m" * 200
    wrong = bytes([0x00, 0x05, 0x40, len(content) & 0xFF]) + content
    with pytest.raises(Rejected) as rejected:
        e2ap.decode_indication(wrong)
    assert rejected.value.reason == "malformed_e2ap"


@pytest.mark.parametrize("missing", range(6))
def test_an_indication_without_a_mandatory_ie_is_rejected(missing):
    ies = [REQUEST_ID, RAN_FUNCTION, ie(15, b"\x01"), ie(28, b"\x00"), ie(25, b"\x01h"), ie(26, b"\x01m")]
    del ies[missing]
    if missing == 3:  # the type is not used: report and insert are the same to a reader of indications
        assert e2ap.decode_indication(pdu(5, *ies)).message == b"m"
        return
    with pytest.raises(Rejected) as rejected:
        e2ap.decode_indication(pdu(5, *ies))
    assert rejected.value.reason == "malformed_e2ap"


# ---------------------------------------------------------------- damaged, truncated, foreign


def test_every_truncation_is_rejected():
    whole = e2ap.encode_indication(Indication(REQUEST, 1, b"h" * 40, b"m" * 300, 5))
    for end in range(len(whole)):
        with pytest.raises(Rejected) as rejected:
            e2ap.decode_indication(whole[:end])
        assert rejected.value.reason in ("malformed_e2ap", "not_an_indication")


@pytest.mark.parametrize(
    ("decode", "data", "reason"),
    [
        (e2ap.decode_indication, e2ap.encode_control_request(A_CONTROL), "not_an_indication"),
        (e2ap.decode_control_answer, handmade(), "not_a_control_answer"),
        (e2ap.decode_control_request, handmade(), "not_a_control_request"),
        (e2ap.decode_indication, b"", "malformed_e2ap"),
        (e2ap.decode_indication, b"{\"json\": true}", "malformed_e2ap"),
    ],
)  # fmt: skip
def test_foreign_messages_are_rejected_by_name(decode, data, reason):
    with pytest.raises(Rejected) as rejected:
        decode(data)
    assert rejected.value.reason == reason


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
@example(b"\x00\x05\x40\x03\x00\x00\x00")
@example(b"\x00\x05\x40\xc1" + bytes(100))
def test_no_bytes_do_anything_but_be_read_or_rejected(data):
    for decode in (e2ap.decode_indication, e2ap.decode_control_answer, e2ap.decode_control_request):
        with suppress(Rejected):
            assert decode(data) is not None


PDUS = st.one_of(
    st.tuples(st.just(INITIATING), st.just(INDICATION), indications.map(e2ap.encode_indication)),
    st.tuples(st.just(INITIATING), st.just(CONTROL), controls.map(e2ap.encode_control_request)),
    st.tuples(st.just(SUCCESSFUL), st.just(CONTROL), answers.map(e2ap.encode_control_answer)),
)


@settings(deadline=None, max_examples=400)
@given(PDUS, st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3), st.integers(0, 2))
def test_what_our_reader_takes_pycrate_reads_the_same(whole, changes, cut):
    """Whole and damaged: the reader may leave a PDU to pycrate, but never read one otherwise."""
    kind, procedure, data = whole
    damaged = bytearray(data)
    for at, octet in changes:
        damaged[at % len(damaged)] = octet
    damaged = bytes(damaged[: len(damaged) - cut])
    ours = read_pdu(damaged, kind, procedure)
    if ours is None:
        assert changes or cut or data[0] != kind, "an undamaged PDU is read, unless it is a failure"
        return
    _, name, theirs = e2ap.decode_by_pycrate(damaged)
    assert ours == theirs
    assert name in ("RICindication", "RICcontrolRequest", "RICcontrolAcknowledge")

"""E2AP around distila's service model: RICindication, RICcontrolRequest, RICcontrolAcknowledge, RICcontrolFailure.

    indication = decode_indication(pdu)
    inbox.put(indication.header, indication.message, now_ns)
    pdu = encode_control_request(ControlRequest(indication.request, call_process_id, *control))

The PDUs are aligned PER (E2AP, O-RAN.WG3.E2AP; X.691), written and read by pycrate, which is the reference. The
PDUs that are exchanged for every report are read and written by `distila.xapp.e2.e2ap_aper`, more than ten times as
fast, if they have the usual form; all others by pycrate. Property tests check that both agree, octet by octet.
"""

import logging
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from distila.xapp.e2.codec import MAX_MESSAGE_BYTES, Rejected
from distila.xapp.e2.e2ap_aper import (
    ACTION_ID,
    CALL_PROCESS_ID,
    CONTROL,
    CONTROL_ACK_REQUEST,
    CONTROL_HEADER,
    CONTROL_MESSAGE,
    CONTROL_OUTCOME,
    INDICATION,
    INDICATION_HEADER,
    INDICATION_MESSAGE,
    INDICATION_SN,
    INDICATION_TYPE,
    INITIATING,
    RAN_FUNCTION_ID,
    REQUEST_ID,
    SUCCESSFUL,
    length_of,
    read_pdu,
    write_pdu,
)
from distila.xapp.errors import InputError, one_line

_CAUSE: Final = 1


@dataclass(frozen=True, slots=True)
class RicRequest:
    """RICrequestID and RAN function of a message: the subscription that it belongs to."""

    requestor_id: int
    instance_id: int
    ran_function_id: int


@dataclass(frozen=True, slots=True)
class Indication:
    """RICindication. ``header`` and ``message`` are the service model's octet strings."""

    request: RicRequest
    action_id: int
    header: bytes
    message: bytes
    sequence: int | None = None
    call_process_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """RICcontrolRequest."""

    request: RicRequest
    call_process_id: bytes | None
    header: bytes
    message: bytes
    acknowledge: bool = True


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """RICcontrolAcknowledge, or RICcontrolFailure if it has a ``cause`` (``group`` and value of E2AP's Cause)."""

    request: RicRequest
    call_process_id: bytes | None
    outcome: bytes | None = None
    cause: tuple[str, str] | None = None


def decode_indication(data: bytes) -> Indication:
    """Read a RICindication.

    Raises:
        Rejected: reason ``oversized``, ``malformed_e2ap`` or ``not_an_indication``.
    """
    _check_size(data)
    ies = read_pdu(data, INITIATING, INDICATION)
    if ies is None:
        kind, name, ies = decode_by_pycrate(data)
        if name != "RICindication":
            raise Rejected("not_an_indication", f"E2AP {name or kind}, expected RICindication")
    try:
        return Indication(
            request=_request_in(ies),
            action_id=ies[ACTION_ID],
            header=ies[INDICATION_HEADER],
            message=ies[INDICATION_MESSAGE],
            sequence=ies.get(INDICATION_SN),
            call_process_id=ies.get(CALL_PROCESS_ID),
        )
    except KeyError as missing:
        raise Rejected("malformed_e2ap", f"RICindication without IE {missing}") from None


def decode_control_answer(data: bytes) -> ControlAnswer:
    """Read a RICcontrolAcknowledge or RICcontrolFailure.

    Raises:
        Rejected: reason ``oversized``, ``malformed_e2ap`` or ``not_a_control_answer``.
    """
    _check_size(data)
    ies = read_pdu(data, SUCCESSFUL, CONTROL)
    if ies is None:
        kind, name, ies = decode_by_pycrate(data)
        if name not in ("RICcontrolAcknowledge", "RICcontrolFailure"):
            raise Rejected("not_a_control_answer", f"E2AP {name or kind}, expected an answer to a RICcontrolRequest")
        if name == "RICcontrolFailure" and _CAUSE not in ies:
            raise Rejected("malformed_e2ap", "RICcontrolFailure without a cause")
    try:
        return ControlAnswer(
            request=_request_in(ies),
            call_process_id=ies.get(CALL_PROCESS_ID),
            outcome=ies.get(CONTROL_OUTCOME),
            cause=ies.get(_CAUSE),
        )
    except KeyError as missing:
        raise Rejected("malformed_e2ap", f"answer to a RICcontrolRequest without IE {missing}") from None


def decode_control_request(data: bytes) -> ControlRequest:
    """Read a RICcontrolRequest, as the E2 node does.

    Raises:
        Rejected: reason ``oversized``, ``malformed_e2ap`` or ``not_a_control_request``.
    """
    _check_size(data)
    ies = read_pdu(data, INITIATING, CONTROL)
    if ies is None:
        kind, name, ies = decode_by_pycrate(data)
        if name != "RICcontrolRequest":
            raise Rejected("not_a_control_request", f"E2AP {name or kind}, expected RICcontrolRequest")
    try:
        return ControlRequest(
            request=_request_in(ies),
            call_process_id=ies.get(CALL_PROCESS_ID),
            header=ies[CONTROL_HEADER],
            message=ies[CONTROL_MESSAGE],
            acknowledge=ies.get(CONTROL_ACK_REQUEST) == "ack",
        )
    except KeyError as missing:
        raise Rejected("malformed_e2ap", f"RICcontrolRequest without IE {missing}") from None


def encode_indication(indication: Indication) -> bytes:
    """Write a RICindication, as the E2 node does."""
    ies = [
        *_request(indication.request),
        (ACTION_ID, "reject", "RICactionID", indication.action_id),
        (INDICATION_SN, "reject", "RICindicationSN", indication.sequence),
        (INDICATION_TYPE, "reject", "RICindicationType", "report"),
        (INDICATION_HEADER, "reject", "RICindicationHeader", indication.header),
        (INDICATION_MESSAGE, "reject", "RICindicationMessage", indication.message),
        (CALL_PROCESS_ID, "reject", "RICcallProcessID", indication.call_process_id),
    ]
    return _encode("initiatingMessage", INDICATION, "ignore", "RICindication", ies)


def encode_control_request(control: ControlRequest) -> bytes:
    """Write a RICcontrolRequest."""
    request, call_process_id = control.request, control.call_process_id
    try:
        ids = request.requestor_id.to_bytes(2, "big") + request.instance_id.to_bytes(2, "big")
        ies = [(REQUEST_ID, b"\x00" + ids), (RAN_FUNCTION_ID, request.ran_function_id.to_bytes(2, "big"))]
        if call_process_id is not None:
            ies.append((CALL_PROCESS_ID, length_of(call_process_id) + call_process_id))
        ies += [
            (CONTROL_HEADER, length_of(control.header) + control.header),
            (CONTROL_MESSAGE, length_of(control.message) + control.message),
            (CONTROL_ACK_REQUEST, b"\x40" if control.acknowledge else b"\x00"),
        ]
        return write_pdu(INITIATING, CONTROL, ies)
    except OverflowError:
        return encode_control_request_by_pycrate(control)


def encode_control_request_by_pycrate(control: ControlRequest) -> bytes:
    """Like `encode_control_request`, for any size; the reference."""
    ies = [
        *_request(control.request),
        (CALL_PROCESS_ID, "reject", "RICcallProcessID", control.call_process_id),
        (CONTROL_HEADER, "reject", "RICcontrolHeader", control.header),
        (CONTROL_MESSAGE, "reject", "RICcontrolMessage", control.message),
        (CONTROL_ACK_REQUEST, "reject", "RICcontrolAckRequest", "ack" if control.acknowledge else "noAck"),
    ]
    return _encode("initiatingMessage", CONTROL, "reject", "RICcontrolRequest", ies)


def encode_control_answer(answer: ControlAnswer) -> bytes:
    """Write a RICcontrolAcknowledge or RICcontrolFailure, as the E2 node does."""
    ies = [
        *_request(answer.request),
        (CALL_PROCESS_ID, "reject", "RICcallProcessID", answer.call_process_id),
        (_CAUSE, "ignore", "Cause", answer.cause),
        (CONTROL_OUTCOME, "reject", "RICcontrolOutcome", answer.outcome),
    ]
    if answer.cause is None:
        return _encode("successfulOutcome", CONTROL, "reject", "RICcontrolAcknowledge", ies)
    return _encode("unsuccessfulOutcome", CONTROL, "reject", "RICcontrolFailure", ies)


def load() -> None:
    """Load pycrate's E2AP at start, because it takes a while, and not when the first message arrives.

    Raises:
        InputError: pycrate is not installed.
    """
    _pdu()


@cache
def _pdu() -> Any:
    try:
        from pycrate_asn1dir import E2AP
    except ImportError:
        raise InputError("E2AP needs the package 'pycrate': pip install 'distila[ric]'") from None
    # Its messages on malformed bytes are not printed; such bytes are counted here.
    logging.getLogger("pycrate").setLevel(logging.ERROR)
    return E2AP.E2AP_PDU_Descriptions.E2AP_PDU


# pycrate's PDU is one object that is filled and read, so only one thread may use it at a time.
_PDU_IN_USE: Final = threading.Lock()

_Ie = tuple[int, str, str, Any]


def _request_in(ies: dict[int, Any]) -> RicRequest:
    requestor_id, instance_id = ies[REQUEST_ID]
    return RicRequest(requestor_id, instance_id, ies[RAN_FUNCTION_ID])


def _request(request: RicRequest) -> list[_Ie]:
    ids = {"ricRequestorID": request.requestor_id, "ricInstanceID": request.instance_id}
    return [
        (REQUEST_ID, "reject", "RICrequestID", ids),
        (RAN_FUNCTION_ID, "reject", "RANfunctionID", request.ran_function_id),
    ]


def _encode(kind: str, procedure: int, criticality: str, name: str, ies: list[_Ie]) -> bytes:
    present = [
        {"id": ident, "criticality": how, "value": (type_name, value)}
        for ident, how, type_name, value in ies
        if value is not None
    ]
    content = {"procedureCode": procedure, "criticality": criticality, "value": (name, {"protocolIEs": present})}
    pdu = _pdu()
    with _PDU_IN_USE:
        pdu.set_val((kind, content))
        data: bytes = pdu.to_aper()
    return data


def _check_size(data: bytes) -> None:
    if len(data) > MAX_MESSAGE_BYTES:
        raise Rejected("oversized", f"E2AP PDU of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")


def decode_by_pycrate(data: bytes) -> tuple[str, str, dict[int, Any]]:
    """Kind of the PDU, name of the message, and its IEs, by pycrate.

    Raises:
        Rejected: reason ``malformed_e2ap``.
    """
    pdu = _pdu()
    try:
        with _PDU_IN_USE:
            pdu.from_aper(data)
            kind, content = pdu.get_val()
        name, value = content["value"]
        ies = {ie["id"]: ie["value"][1] for ie in value["protocolIEs"]}
    except Exception as error:  # pycrate raises many kinds of exceptions on malformed bytes
        raise Rejected("malformed_e2ap", f"not an E2AP PDU: {one_line(error)}") from None
    if REQUEST_ID in ies:
        ids = ies[REQUEST_ID]
        if not isinstance(ids, dict):
            raise Rejected("malformed_e2ap", "RICrequestID cannot be read")
        ies[REQUEST_ID] = (ids["ricRequestorID"], ids["ricInstanceID"])
    return kind, name, ies

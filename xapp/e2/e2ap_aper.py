"""Reads and writes the E2AP PDUs that are exchanged for every report, if they have the usual form. pycrate handles all
others.

The usual form is a list of IEs without extensions, each of a type that is listed here, all in whole octets. In aligned
PER (X.691) it consists of a few octets at fixed places and length determinants of one octet, two octets, or, from 16 Ki
on, fragments (clause 11.9). (pycrate 0.8.1 writes fragments correctly, but reads what follows one at a wrong place.)
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

INITIATING: Final = 0x00
SUCCESSFUL: Final = 0x20
"""First octet of an E2AP PDU: the alternative of the CHOICE."""

CONTROL: Final = 4
INDICATION: Final = 5
"""Procedure codes."""

RAN_FUNCTION_ID: Final = 5
ACTION_ID: Final = 15
CALL_PROCESS_ID: Final = 20
CONTROL_ACK_REQUEST: Final = 21
CONTROL_HEADER: Final = 22
CONTROL_MESSAGE: Final = 23
INDICATION_HEADER: Final = 25
INDICATION_MESSAGE: Final = 26
INDICATION_SN: Final = 27
INDICATION_TYPE: Final = 28
REQUEST_ID: Final = 29
CONTROL_OUTCOME: Final = 32
"""Protocol IE ids."""

_FRAGMENT: Final = 16 * 1024
_CRITICALITIES: Final = (0x00, 0x40, 0x80)
_OCTET_STRING: Final = "octet string"


class _Integer(NamedTuple):
    octets: int
    most: int


class _Enumerated(NamedTuple):
    first: str
    second: str


_Ies = dict[int, str | _Integer | _Enumerated]
_COMMON: Final[_Ies] = {RAN_FUNCTION_ID: _Integer(2, 4095), CALL_PROCESS_ID: _OCTET_STRING}
_MESSAGES: Final[dict[tuple[int, int], _Ies]] = {
    (INITIATING, INDICATION): {
        **_COMMON,
        ACTION_ID: _Integer(1, 255),
        INDICATION_SN: _Integer(2, 65535),
        INDICATION_TYPE: _Enumerated("report", "insert"),
        INDICATION_HEADER: _OCTET_STRING,
        INDICATION_MESSAGE: _OCTET_STRING,
    },
    (INITIATING, CONTROL): {
        **_COMMON,
        CONTROL_HEADER: _OCTET_STRING,
        CONTROL_MESSAGE: _OCTET_STRING,
        CONTROL_ACK_REQUEST: _Enumerated("noAck", "ack"),
    },
    (SUCCESSFUL, CONTROL): {**_COMMON, CONTROL_OUTCOME: _OCTET_STRING},
}


class _Unusual(Exception):  # noqa: N818  # not an error: pycrate then reads the PDU
    pass


def read_pdu(data: bytes, kind: int, procedure: int) -> dict[int, Any] | None:
    """The IEs of a PDU by id: octet strings as bytes, integers as int, RICrequestID as (requestor, instance).

    Args:
        data: the PDU.
        kind: `INITIATING` or `SUCCESSFUL`.
        procedure: `INDICATION` or `CONTROL`; with ``kind`` one of RICindication, RICcontrolRequest,
            RICcontrolAcknowledge.

    Returns:
        None where it is another PDU, or does not have the usual form.
    """
    try:
        if data[0] != kind or data[1] != procedure or data[2] not in _CRITICALITIES:
            return None
        content, end = _with_length(data, 3)
        if end != len(data) or content[0] != 0:
            return None
        count = content[1] << 8 | content[2]
        types = _MESSAGES[kind, procedure]
        ies: dict[int, Any] = {}
        at = 3
        for _ in range(count):
            ident = content[at] << 8 | content[at + 1]
            if content[at + 2] not in _CRITICALITIES or ident in ies:
                return None
            value, at = _with_length(content, at + 3)
            if ident == REQUEST_ID:
                if len(value) != 5 or value[0] != 0:
                    return None
                ies[ident] = (value[1] << 8 | value[2], value[3] << 8 | value[4])
                continue
            type_ = types.get(ident)
            if type_ == _OCTET_STRING:
                octets, end = _with_length(value, 0)
                if end != len(value):
                    return None
                ies[ident] = octets
            elif isinstance(type_, _Integer):
                number = int.from_bytes(value, "big")
                if len(value) != type_.octets or number > type_.most:
                    return None
                ies[ident] = number
            elif isinstance(type_, _Enumerated):
                if value not in (b"\x00", b"\x40"):
                    return None
                ies[ident] = type_[value[0] >> 6]
            else:
                return None
        return ies if at == len(content) else None
    except (IndexError, _Unusual):
        return None


def _with_length(data: bytes, at: int) -> tuple[bytes, int]:
    """The octets after a length determinant, and the index of their end."""
    first = data[at]
    if first < 0x80:
        start, length = at + 1, first
    elif first < 0xC0:
        start, length = at + 2, (first & 0x3F) << 8 | data[at + 1]
        if length < 0x80:
            raise _Unusual
    else:
        return _fragments(data, at)
    end = start + length
    if end > len(data):
        raise _Unusual
    return data[start:end], end


def _fragments(data: bytes, at: int) -> tuple[bytes, int]:
    """Octets in fragments of one to four times 16 Ki, the last of them shorter (X.691 clause 11.9.3.8)."""
    parts = []
    while data[at] >= 0xC0:
        length = (data[at] & 0x3F) * _FRAGMENT
        part = data[at + 1 : at + 1 + length]
        if not _FRAGMENT <= length <= 4 * _FRAGMENT or len(part) < length:
            raise _Unusual
        parts.append(part)
        at += 1 + length
    rest, end = _with_length(data, at)
    return b"".join([*parts, rest]), end


def write_pdu(kind: int, procedure: int, ies: Iterable[tuple[int, bytes]]) -> bytes:
    """Write a PDU; it and its IEs have criticality reject.

    Args:
        kind, procedure: as for `read_pdu`.
        ies: id and content of each, in the order of the message's definition.
    """
    parts = []
    for ident, content in ies:
        parts += [ident.to_bytes(2, "big"), b"\x00", length_of(content), content]
    count = len(parts) // 4
    content = b"".join([b"\x00", count.to_bytes(2, "big"), *parts])
    return b"".join([bytes((kind, procedure, 0)), length_of(content), content])


def length_of(octets: bytes) -> bytes:
    """The length determinant of octets that need no fragments.

    Raises:
        OverflowError: they need fragments.
    """
    length = len(octets)
    if length < 0x80:
        return bytes((length,))
    if length >= _FRAGMENT:
        raise OverflowError(f"{length} octets go in fragments")
    return (0x8000 | length).to_bytes(2, "big")

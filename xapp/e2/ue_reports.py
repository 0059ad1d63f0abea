"""Reading the UEs and HARQ counts of an indication: protobuf to arrays, absent fields as NaN.

Two readers give the same. `read_by_protobuf` asks the protobuf library field by field and is the reference.
`read_records` is for the hot path, several times as fast: the fields of UeReport have fixed widths, so UEs that report
the same fields are records of one length, which numpy reads as one structured array. It returns None for whatever is
not exactly of that form, UEs with different fields and damaged bytes included, and leaves it to protobuf.
"""

from itertools import chain
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor
from numpy import count_nonzero

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.kpi.observations import HARQ_OUTCOMES, REPORTED
from distila.xapp.nr.arrays import Float64Array

IDENTITY_FIELDS: Final = ("rnti", "ue_id", "cqi_table", "mcs_table", "harq_total_first_tx")
FIELDS: Final = (*IDENTITY_FIELDS, *(column.wire_field for column in REPORTED if column.wire_field is not None))
"""Columns of the table of UEs, then those of `KpiReport.measured`. An absent field is NaN, an absent ue_id 0."""

HARQ_FIELDS: Final = ("ue", "mcs", *HARQ_OUTCOMES)
"""The HARQ arrays, in order."""

Table = Float64Array
HarqArrays = list[npt.NDArray[np.uint32]]
"""One array for each of `HARQ_FIELDS`; not necessarily of one length."""

_DESCRIPTORS: Final = [pb.UeReport.DESCRIPTOR.fields_by_name[name] for name in FIELDS]
_MAY_BE_ABSENT: Final = [field.has_presence and field.name != "ue_id" for field in _DESCRIPTORS]
_ABSENT: Final = np.where(_MAY_BE_ABSENT, np.nan, 0.0)
# What follows the key of each kind of field: how many octets, and how numpy reads them (protobuf encoding guide). An
# enum is a varint; ours fit one octet, whose top bit is then clear.
_WIRE: Final = {
    FieldDescriptor.TYPE_ENUM: (0, 1, "u1"),
    FieldDescriptor.TYPE_FIXED64: (1, 8, "<u8"),
    FieldDescriptor.TYPE_FIXED32: (5, 4, "<u4"),
    FieldDescriptor.TYPE_SFIXED32: (5, 4, "<i4"),
}
# Key -> (column, octets, numpy type).
_OF_KEY: Final = {
    field.number << 3 | _WIRE[field.type][0]: (column, *_WIRE[field.type][1:])
    for column, field in enumerate(_DESCRIPTORS)
}
_UE_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["ues"].number << 3 | 2
_HARQ_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["harq"].number << 3 | 2
_HARQ_ROW: Final = {
    pb.HarqCounts.DESCRIPTOR.fields_by_name[name].number << 3 | 2: row for row, name in enumerate(HARQ_FIELDS)
}
_MAX_LAYOUTS: Final = 64
_read_ue = attrgetter(*FIELDS)


def read_by_protobuf(data: bytes) -> tuple[Table, HarqArrays]:
    """The table of UEs [ue, field], NaN where an optional field is absent, and the HARQ arrays.

    Raises:
        DecodeError: the bytes are no IndicationMessage.
    """
    message = pb.IndicationMessage.FromString(data)
    ues = list(message.ues)
    flat = np.fromiter(chain.from_iterable(map(_read_ue, ues)), np.float64, len(ues) * len(FIELDS))
    table = flat.reshape(len(ues), len(FIELDS))
    for column in np.flatnonzero(_MAY_BE_ABSENT):
        # Only a zero can be an absent field.
        zeros = np.flatnonzero(table[:, column] == 0).tolist()
        name = FIELDS[column]
        table[[row for row in zeros if not ues[row].HasField(name)], column] = np.nan
    return table, [np.array(getattr(message.harq, name)[:], np.uint32) for name in HARQ_FIELDS]


class _Layout:
    """Where the fields lie in a record that begins with these octets.

    Attributes:
        columns: column of each field.
        names: its name in ``dtype``.
        keys: offsets of what all records must share: the key of the UE, its length, the keys of its fields.
        enums: offsets of the octets that must have a clear top bit.
        dtype: a record as numpy reads it.
    """

    def __init__(self, record: bytes) -> None:
        self.columns: list[int] = []
        self.keys, self.enums, formats, offsets = [0, 1], [], [], []
        at = 2
        while at < len(record):
            key, after = _key(record, at)
            column, width, kind = _OF_KEY[key]
            self.columns.append(column)
            self.keys += range(at, after)
            formats.append(kind)
            offsets.append(after)
            if kind == "u1":
                self.enums.append(after)
            at = after + width
        if at != len(record) or len(set(self.columns)) < len(self.columns):
            raise KeyError("a field is cut short, or there twice")
        self.names = [FIELDS[column] for column in self.columns]
        self.dtype = np.dtype({"names": self.names, "formats": formats, "offsets": offsets, "itemsize": len(record)})


def _key(record: bytes, at: int) -> tuple[int, int]:
    """A field's key, and where it ends; from field 16 on it takes two octets. KeyError: it is written otherwise."""
    first = record[at]
    if first < 0x80:
        return first, at + 1
    # A key that is longer than it need be has a 0 here, and its field lies elsewhere than the layout says.
    if at + 1 == len(record) or not record[at + 1]:
        raise KeyError("a key is cut short, or too long")
    return first & 0x7F | record[at + 1] << 7, at + 2


_layouts: dict[tuple[int, ...], _Layout] = {}


def _layout(record: bytes) -> _Layout | None:
    """The layout of a record, from what was worked out before where possible; None where it has an unknown form."""
    # The keys alone identify a layout; the octets of fixed width between them are skipped.
    shape, at = [len(record)], 2
    try:
        while at < len(record):
            key, after = _key(record, at)
            shape.append(key)
            at = after + _OF_KEY[key][1]
        found = _layouts.get(tuple(shape))
        if found is None:
            found = _Layout(record)
            if len(_layouts) >= _MAX_LAYOUTS:
                _layouts.clear()
            _layouts[tuple(shape)] = found
    except KeyError:
        return None
    return found


def read_records(data: bytes) -> tuple[Table, HarqArrays] | None:
    """As `read_by_protobuf`, for UEs that all report the same fields; None where the bytes are not of that form."""
    if len(data) < 2 or data[0] != _UE_KEY or data[1] >= 0x80:
        return None
    length = 2 + data[1]
    layout = _layout(data[:length]) if length <= len(data) else None
    if layout is None:
        return None
    most = len(data) // length
    octets = np.frombuffer(data, np.uint8, most * length).reshape(most, length)
    # The records end where key and length of a UE no longer follow.
    others = np.flatnonzero((octets[:, 0] != _UE_KEY) | (octets[:, 1] != data[1]))
    count = int(others[0]) if len(others) else most
    shared = octets[:count, layout.keys]
    if count_nonzero(shared != shared[0]) or count_nonzero(octets[:count, layout.enums] >= 0x80):
        return None
    harq = _read_harq(data, count * length)
    if harq is None:
        return None
    records = np.frombuffer(data, layout.dtype, count)
    table = np.empty((count, len(FIELDS)))
    table[:] = _ABSENT
    for column, name in zip(layout.columns, layout.names, strict=True):
        table[:, column] = records[name]
    return table, harq


def _read_harq(data: bytes, start: int) -> HarqArrays | None:
    """The HARQ arrays, which must be all that ``data`` holds from ``start`` on; None where it is anything else."""
    arrays: HarqArrays = [_NO_HARQ] * len(HARQ_FIELDS)
    if start == len(data):
        return arrays
    if data[start] != _HARQ_KEY:
        return None
    length, at = _varint(data, start + 1)
    if at + length != len(data):
        return None
    while at < len(data):
        row = _HARQ_ROW.get(data[at])
        length, at = _varint(data, at + 1)
        if row is None or length % 4 or at + length > len(data) or len(arrays[row]):
            return None
        arrays[row] = np.frombuffer(data, "<u4", length // 4, at)
        at += length
    return arrays


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A length of up to 2 ** 21 and where it ends; a length beyond ``data`` where there is none."""
    value = 0
    for shift in range(0, 21, 7):
        if at >= len(data):
            break
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, at
    return len(data) + 1, at


_NO_HARQ: Final = np.empty(0, np.uint32)

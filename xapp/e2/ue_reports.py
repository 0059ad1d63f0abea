"""Reading the UEs of an indication: a list of UeReport messages to one table, absent fields as NaN.

Two readers give the same table. `read_by_protobuf` asks the protobuf library field by field and is the reference.
`read_varints` is for the hot path, nearly twice as fast: UeReport holds nothing but integers, so its bytes are a row of
varints, alternately key and value, which numpy takes apart at once for all UEs. It gives up (None) on whatever is not
exactly of that form, unknown fields and damaged bytes included, and leaves the judgement to protobuf.
"""

from itertools import chain
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy import count_nonzero

from schemas import e2sm_v1_pb2 as pb

FIELDS: Final = (
    "rnti",
    "ue_id",
    "cqi_table",
    "mcs_table",
    "harq_total_first_tx",
    "cqi",
    "cqi_age_slots",
    "sinr_cdb",
    "ri",
    "dl_buffer_bytes",
    "prbs",
    "native_mcs",
)
"""Columns of the table. An absent field is NaN, but an absent ue_id 0, which no UE has."""

Table = npt.NDArray[np.float64]

_DESCRIPTORS: Final = [pb.UeReport.DESCRIPTOR.fields_by_name[name] for name in FIELDS]
_MAY_BE_ABSENT: Final = [field.has_presence and field.name != "ue_id" for field in _DESCRIPTORS]
_NO_COLUMN: Final = len(FIELDS)  # where the lengths of the UEs go, to be cut off
_ABSENT: Final = np.where([*_MAY_BE_ABSENT, False], np.nan, 0.0)
_SINR: Final = FIELDS.index("sinr_cdb")
# Key of a varint field on the wire: field number shifted by three (protobuf encoding guide).
_COLUMN_OF_KEY: Final = np.full(128, -1)
_COLUMN_OF_KEY[[field.number << 3 for field in _DESCRIPTORS]] = range(len(FIELDS))
_UE_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["ues"].number << 3 | 2
_HARQ_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["harq"].number << 3 | 2
_WIDE: Final = [index for index, field in enumerate(_DESCRIPTORS) if field.cpp_type == field.CPPTYPE_UINT64]
_IS_WIDE: Final = np.isin(np.arange(len(FIELDS) + 1), _WIDE)
_ENUMS: Final = [index for index, field in enumerate(_DESCRIPTORS) if field.cpp_type == field.CPPTYPE_ENUM]
_MAX_VARINT_BYTES: Final = 8  # longer ones are valid up to 10, but hold no value of ours
_read_ue = attrgetter(*FIELDS)


def read_by_protobuf(ues: list[pb.UeReport]) -> Table:
    """The table [ue, field], NaN where an optional field is absent."""
    flat = np.fromiter(chain.from_iterable(map(_read_ue, ues)), np.float64, len(ues) * len(FIELDS))
    table = flat.reshape(len(ues), len(FIELDS))
    for column in np.flatnonzero(_MAY_BE_ABSENT):
        # Only a zero can be an absent field.
        zeros = np.flatnonzero(table[:, column] == 0).tolist()
        name = FIELDS[column]
        table[[row for row in zeros if not ues[row].HasField(name)], column] = np.nan
    return table


def read_varints(data: bytes) -> tuple[Table, int] | None:
    """The table [ue, field] of the UEs at the start of an IndicationMessage, and where in ``data`` they end.

    None where the bytes are not of the expected form.
    """
    octets = np.frombuffer(data, np.uint8)
    # A varint ends with the first octet whose top bit is clear; the lower seven bits of each are its value.
    ends = np.flatnonzero(octets < 0x80)
    if len(ends) < 2 or data[0] != _UE_KEY:
        return None
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    keys = octets[starts[::2]]
    harq = np.flatnonzero(keys == _HARQ_KEY)
    pairs = int(harq[0]) if len(harq) else len(ends) // 2
    keys, key_starts = keys[:pairs], starts[: 2 * pairs : 2]
    value_starts, value_ends = starts[1 : 2 * pairs : 2], ends[1 : 2 * pairs : 2]
    lengths = value_ends - value_starts + 1
    longest = int(lengths.max())
    if longest > _MAX_VARINT_BYTES or count_nonzero(ends[: 2 * pairs : 2] != key_starts):
        return None
    values = (octets[value_starts] & 0x7F).astype(np.int64)
    for octet in range(1, longest):
        longer = np.flatnonzero(lengths > octet)
        values[longer] |= (octets[value_starts[longer] + octet] & 0x7F).astype(np.int64) << (7 * octet)

    ues = np.flatnonzero(keys == _UE_KEY)
    stop = int(value_ends[-1]) + 1
    # Each UE must end where the next begins; that holds only if every key and value was read as what it is.
    begins = np.empty_like(ues)
    begins[:-1] = key_starts[ues[1:]]
    begins[-1] = stop
    if count_nonzero(value_ends[ues] + 1 + values[ues] != begins):
        return None
    table = np.empty((len(ues), len(FIELDS) + 1))
    table[:] = _ABSENT
    per_ue = pairs // len(ues)
    if pairs == per_ue * len(ues) and not count_nonzero(keys.reshape(-1, per_ue) != keys[:per_ue]):
        # The UEs of a cell mostly report the same fields in the same order: then whole columns are set at once.
        columns = _COLUMN_OF_KEY[keys[:per_ue]]
        columns[0] = _NO_COLUMN
        target: tuple[Any, ...] = (slice(None), columns)
        values = values.reshape(-1, per_ue)
    else:
        columns = _COLUMN_OF_KEY[keys]
        columns[ues] = _NO_COLUMN
        target = (np.repeat(np.arange(len(ues)), np.diff(ues, append=pairs)), columns)
    if count_nonzero(columns < 0) or (longest > 4 and count_nonzero((values > 0xFFFFFFFF) & ~_IS_WIDE[columns])):
        return None
    # A field given twice counts with its last value, in numpy's assignment as in protobuf.
    table[target] = values
    if longest > 4:
        # Enums are signed, as protobuf reads them.
        enums = table[:, _ENUMS]
        table[:, _ENUMS] = np.where(enums > 0x7FFFFFFF, enums - 2.0**32, enums)
    zigzag = table[:, _SINR]
    if count_nonzero(zigzag == zigzag):  # NaN differs from itself
        table[:, _SINR] = np.where(zigzag % 2 == 0, zigzag / 2, -(zigzag + 1) / 2)
    return table[:, :_NO_COLUMN], stop

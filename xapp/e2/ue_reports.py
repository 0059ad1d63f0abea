"""Reading the UEs of an indication: a list of UeReport messages to one table, absent fields as NaN.

Two readers give the same table. `read_by_protobuf` asks the protobuf library field by field and is the reference.
`read_varints` is for the hot path, nearly twice as fast: UeReport holds nothing but integers, so its bytes are a row of
varints, alternately key and value, which numpy takes apart at once for all UEs. It gives up (None) on whatever is not
exactly of that form, unknown fields and damaged bytes included, and leaves the judgement to protobuf.
"""

from itertools import chain
from operator import attrgetter
from typing import Final

import numpy as np
import numpy.typing as npt

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
"""Columns of the table."""

Table = npt.NDArray[np.float64]

_DESCRIPTORS: Final = [pb.UeReport.DESCRIPTOR.fields_by_name[name] for name in FIELDS]
_OPTIONAL: Final = [index for index, field in enumerate(_DESCRIPTORS) if field.has_presence]
_NO_COLUMN: Final = len(FIELDS)  # where the lengths of the UEs go, to be cut off
_ABSENT: Final = np.array([np.nan if field.has_presence else 0.0 for field in _DESCRIPTORS] + [0.0])
_SINR: Final = FIELDS.index("sinr_cdb")
# Key of a varint field on the wire: field number shifted by three (protobuf encoding guide).
_COLUMN_OF_KEY: Final = np.full(128, -1)
_COLUMN_OF_KEY[[field.number << 3 for field in _DESCRIPTORS]] = range(len(FIELDS))
_UE_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["ues"].number << 3 | 2
_HARQ_KEY: Final = pb.IndicationMessage.DESCRIPTOR.fields_by_name["harq"].number << 3 | 2
_WIDE: Final = [
    index for index, field in enumerate(_DESCRIPTORS) if field.cpp_type == field.CPPTYPE_UINT64
]
_IS_WIDE: Final = np.isin(np.arange(len(FIELDS) + 1), _WIDE)
_MAX_VARINT_BYTES: Final = 8  # longer ones are valid up to 10, but hold no value of ours
_read_ue = attrgetter(*FIELDS)


def read_by_protobuf(ues: list[pb.UeReport]) -> Table:
    """The table [ue, field], NaN where an optional field is absent."""
    flat = np.fromiter(chain.from_iterable(map(_read_ue, ues)), np.float64, len(ues) * len(FIELDS))
    table = flat.reshape(len(ues), len(FIELDS))
    for column in _OPTIONAL:
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
    keys, key_starts, value_starts, value_ends = (part[:pairs] for part in (keys, starts[::2], starts[1::2], ends[1::2]))
    lengths = value_ends - value_starts + 1
    longest = int(lengths.max())
    if longest > _MAX_VARINT_BYTES or (ends[: 2 * pairs : 2] != key_starts).any():
        return None
    values = (octets[value_starts] & 0x7F).astype(np.int64)
    for octet in range(1, longest):
        longer = np.flatnonzero(lengths > octet)
        values[longer] |= (octets[value_starts[longer] + octet] & 0x7F).astype(np.int64) << (7 * octet)

    ues = np.flatnonzero(keys == _UE_KEY)
    stop = int(value_ends[-1]) + 1
    # Each UE must end where the next begins; that holds only if every key and value was read as what it is.
    begins = np.append(key_starts[ues[1:]], stop)
    if (value_ends[ues] + 1 + values[ues] != begins).any():
        return None
    columns = _COLUMN_OF_KEY[keys]
    columns[ues] = _NO_COLUMN
    if (columns < 0).any():
        return None
    if longest > 4 and ((values > 0xFFFFFFFF) & ~_IS_WIDE[columns]).any():
        return None
    table = np.empty((len(ues), len(FIELDS) + 1))
    table[:] = _ABSENT
    row = np.repeat(np.arange(len(ues)), np.diff(ues, append=pairs))
    # A field given twice counts with its last value, in numpy's assignment as in protobuf.
    table[row, columns] = values
    zigzag = table[:, _SINR]
    if not np.isnan(zigzag).all():
        table[:, _SINR] = np.where(zigzag % 2 == 0, zigzag / 2, -(zigzag + 1) / 2)
    return table[:, :_NO_COLUMN], stop

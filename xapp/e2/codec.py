"""E2 octet strings to `KpiReport` and `Decisions`, and back, in distila's service model (schemas/e2sm_v1.proto).

Both directions of both messages live here, so that the xApp and whatever stands in for the E2 node cannot disagree.
Decoding never trusts the sender: a message that cannot be read is rejected as a whole (`Rejected`, with a reason to
count), a value out of its range becomes *not measured*, and both are counted by reason.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy import count_nonzero

from distila.schemas import e2sm_v1_pb2 as pb
from distila.xapp.e2.ue_reports import FIELDS, HARQ_FIELDS, IDENTITY_FIELDS, HarqArrays, read_by_protobuf, read_records
from distila.xapp.kpi.observations import COLUMNS, HARQ_OUTCOMES, MAX_COUNT, MEASURED, REPORTED
from distila.xapp.kpi.report import (
    MAX_RNTI,
    MCS,
    MCS_OFFSET,
    NATIVE,
    NO_UE_ID,
    RETX,
    RETX_ACK,
    RETX_MCS_SUM,
    RETX_NACK,
    Decisions,
    KpiReport,
)
from distila.xapp.nr.arrays import BoolArray, Float64Array, IntArray
from distila.xapp.nr.mcs import NUM_MCS

SERVICE_MODEL: Final = "distila-la"
SERVICE_MODEL_VERSION: Final = "1.2"
MAX_MESSAGE_BYTES: Final = 128 * 1024
"""The size of e2term's buffers; a longer message cannot have come through an E2 termination."""

_MAX_UE_ID: Final = 2**53  # the table below is float64
_MAX_PERIOD_SLOTS: Final = COLUMNS["period_slots"].high
_MAX_TOTAL: Final = 2**48
_LOW: Final = np.array([column.low for column in REPORTED])
_HIGH: Final = np.array([column.high for column in REPORTED])
_MIDDLE, _HALF_RANGE = (_LOW + _HIGH) / 2, (_HIGH - _LOW) / 2

_RNTI, _UE_ID, _CQI_TABLE, _MCS_TABLE, _TOTAL = range(len(IDENTITY_FIELDS))  # columns of the table of ue_reports
_FIRST_MEASURED: Final = len(IDENTITY_FIELDS)
_SCALED: Final = [(place, column.wire_steps) for place, column in enumerate(REPORTED) if column.wire_steps != 1]
_CQI: Final = MEASURED.index("cqi")
_SFNS: Final = 1024
_MOST_SLOTS: Final = 160  # of a frame, at 240 kHz subcarrier spacing (TS 38.211 table 4.3.2-1)
_MEASURED_FIELDS: Final = FIELDS[_FIRST_MEASURED:]
_FIRST_COUNT: Final = 2
_HARQ_LIMITS: Final = np.array([[0], [NUM_MCS], *[[MAX_COUNT]] * len(HARQ_OUTCOMES)])  # the first is the number of UEs


class Rejected(Exception):  # noqa: N818  # the message is rejected; it is no error of the program
    """A message that cannot be used. ``reason`` is a short, fixed word to count by; the text says more."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this end is; goes into the envelope of every message it sends."""

    app_id: str = "distila"
    app_instance_id: str = "distila-0"
    e2_node_id: str = ""

    def envelope(self) -> pb.Envelope:
        """The envelope as a message."""
        return pb.Envelope(
            app_id=self.app_id,
            app_instance_id=self.app_instance_id,
            e2_node_id=self.e2_node_id,
            service_model=pb.ServiceModel(name=SERVICE_MODEL, version=SERVICE_MODEL_VERSION),
            encoding=pb.ENCODING_PROTO,
        )


def check_envelope(envelope: pb.Envelope) -> None:
    """Reject another service model, another major version, or another encoding.

    Raises:
        Rejected: reason ``service_model`` or ``encoding``.
    """
    model = envelope.service_model
    if model.name != SERVICE_MODEL or model.version.split(".")[0] != SERVICE_MODEL_VERSION.split(".")[0]:
        expected = f"{SERVICE_MODEL} {SERVICE_MODEL_VERSION}"
        raise Rejected("service_model", f"service model is {model.name!r} {model.version!r}, expected {expected}")
    if envelope.encoding != pb.ENCODING_PROTO:
        raise Rejected("encoding", f"encoding is {envelope.encoding}, expected ENCODING_PROTO")


def decode_indication_header(data: bytes) -> pb.IndicationHeader:
    """Parse and check a RICindicationHeader.

    Raises:
        Rejected: reason ``oversized``, ``malformed_header``, ``service_model``, ``encoding`` or ``no_cell_id``.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise Rejected("oversized", f"header of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        header = pb.IndicationHeader.FromString(data)
    except DecodeError as error:
        raise Rejected("malformed_header", f"indication header: {error}") from None
    check_envelope(header.envelope)
    if not header.cell_id:
        raise Rejected("no_cell_id", "indication header: cell_id is empty")
    return header


def decode_indication(header: pb.IndicationHeader, data: bytes, noticed: Counter[str]) -> KpiReport:
    """Parse a RICindicationMessage under its decoded header.

    Args:
        header: from `decode_indication_header`.
        data: the octet string.
        noticed: counts, by reason, UEs left out (``ue_...``) and values taken as not measured (``invalid_...``).

    Raises:
        Rejected: reason ``oversized`` or ``malformed_message``.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise Rejected("oversized", f"message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        table, arrays = read_records(data) or read_by_protobuf(data)
    except DecodeError as error:
        raise Rejected("malformed_message", f"indication message: {error}") from None
    harq = _harq(arrays, len(table), noticed)
    usable = _usable(table, noticed)
    if usable is not None:
        table, harq = _keep(usable, table, harq)
    measured = table[:, _FIRST_MEASURED:]
    for column, steps in _SCALED:
        measured[:, column] /= steps
    invalid = np.abs(measured - _MIDDLE) > _HALF_RANGE  # NaN is not
    if count_nonzero(invalid):
        for name, count in zip(MEASURED, invalid.sum(axis=0).tolist(), strict=True):
            if count:
                noticed[f"invalid_{name}"] += count
        measured[invalid] = np.nan
    # Counts of retransmissions are of no use without their MCS, and mislead a policy where that MCS is impossible.
    again = measured[:, RETX_ACK] + measured[:, RETX_NACK]
    unusable = ~(measured[:, RETX_MCS_SUM] <= (NUM_MCS - 1) * again) & (again >= 0)
    if count_nonzero(unusable):
        noticed["invalid_retx_mcs_sum"] += int(count_nonzero(unusable))
        measured[np.flatnonzero(unusable)[:, None], RETX] = np.nan
    total = table[:, _TOTAL]
    if count_nonzero(total > _MAX_TOTAL):
        noticed["invalid_harq_total"] += int(count_nonzero(total > _MAX_TOTAL))
        total[total > _MAX_TOTAL] = np.nan
    period_slots = max(1, header.report_period_slots)
    if period_slots > _MAX_PERIOD_SLOTS:
        noticed["invalid_period"] += 1
        period_slots = 1
    ue_id = table[:, _UE_ID].astype(np.int64)
    ue_id[ue_id == 0] = NO_UE_ID
    tables = _table_indices(table[:, _CQI_TABLE : _MCS_TABLE + 1], noticed)
    if count_nonzero(tables) < tables.size:
        # A CQI means nothing without its table.
        measured[tables[:, 0] == 0, _CQI] = np.nan
        tables[tables[:, 0] == 0, 0] = 1
    if header.sfn >= _SFNS or header.slot >= _MOST_SLOTS:
        noticed["invalid_sfn_or_slot"] += 1
    return KpiReport(
        cell_id=header.cell_id,
        sequence=header.sequence,
        sfn=header.sfn,
        slot=header.slot,
        timestamp_us=header.timestamp_us,
        period_slots=period_slots,
        rnti=table[:, _RNTI].astype(np.int64),
        ue_id=ue_id,
        cqi_table=tables[:, 0],
        mcs_table=tables[:, 1],
        measured=measured,
        total_first_tx=total,
        harq_ue=harq[0],
        harq_mcs=harq[1],
        harq_counts=harq[2:].T.astype(np.float64),
    )


def _usable(table: Float64Array, noticed: Counter[str]) -> BoolArray | None:
    """Which UEs can be distinguished, [ue]: RNTI and id in range, neither of them twice. None: all of them."""
    rnti, ident = table[:, _RNTI], table[:, _UE_ID]
    if len(table) == 0:
        return None
    # Most nodes list their UEs in order, and either all of them have an id or none.
    if rnti[0] >= 1 and rnti[-1] <= MAX_RNTI and not count_nonzero(rnti[1:] <= rnti[:-1]):
        if not count_nonzero(ident):
            return None
        if ident[0] >= 1 and ident[-1] < _MAX_UE_ID and not count_nonzero(ident[1:] <= ident[:-1]):
            return None
    rntis, ids = rnti.tolist(), ident.tolist()
    usable, seen_rnti, seen_id = np.zeros(len(rntis), bool), set(), set()
    for row, (rnti, ident) in enumerate(zip(rntis, ids, strict=True)):
        if not 1 <= rnti <= MAX_RNTI:
            noticed["ue_invalid_rnti"] += 1
        elif ident >= _MAX_UE_ID:
            noticed["ue_invalid_id"] += 1
        elif rnti in seen_rnti or (ident and ident in seen_id):
            noticed["ue_duplicate"] += 1
        else:
            usable[row] = True
            seen_rnti.add(rnti)
            seen_id.add(ident)
    return usable


def _keep(usable: BoolArray, table: Float64Array, harq: IntArray) -> tuple[Float64Array, IntArray]:
    """The rows of the usable UEs, and the HARQ entries that are theirs with the row numbers they have then."""
    new_row = np.cumsum(usable) - 1
    harq = harq[:, usable[harq[0]]]
    harq[0] = new_row[harq[0]]
    return table[usable], harq


def _table_indices(columns: Float64Array, noticed: Counter[str]) -> IntArray:
    """CQI and MCS table of each UE, [ue, 2]: unspecified is table 1, the default of RRC (TS 38.331), unknown is 0."""
    tables = columns.astype(np.int64)
    tables[tables == 0] = 1
    unknown = (tables < 1) | (tables > 3)
    if count_nonzero(unknown):
        for name, column in (("invalid_cqi_table", 0), ("invalid_mcs_table", 1)):
            if count_nonzero(unknown[:, column]):
                noticed[name] += int(count_nonzero(unknown[:, column]))
        tables[unknown] = 0
    return tables


def _harq(arrays: HarqArrays, num_ues: int, noticed: Counter[str]) -> IntArray:
    """The HARQ entries that make sense, [6, entry]: row of the UE, MCS, and the four counts."""
    length = len(arrays[0])
    harq = np.zeros((len(arrays), length), np.int64)
    for row, array in enumerate(arrays):
        if len(array) == length:
            harq[row] = array
        elif len(array) or row < _FIRST_COUNT:
            noticed["invalid_harq"] += max(map(len, arrays))
            return np.empty((len(arrays), 0), np.int64)
    limits = _HARQ_LIMITS.copy()
    limits[0] = num_ues
    too_high = harq >= limits
    if count_nonzero(too_high):
        bad = too_high.any(axis=0)
        noticed["invalid_harq"] += int(count_nonzero(bad))
        harq = harq[:, ~bad]
    return harq


def encode_indication(report: KpiReport, identity: Identity) -> tuple[bytes, bytes]:
    """RICindicationHeader and RICindicationMessage of a report, as the E2 node sends them."""
    header = pb.IndicationHeader(
        envelope=identity.envelope(),
        cell_id=report.cell_id,
        sequence=report.sequence,
        sfn=report.sfn,
        slot=report.slot,
        timestamp_us=report.timestamp_us,
        report_period_slots=report.period_slots,
    )
    message = pb.IndicationMessage()
    measured_table = report.measured.copy()
    for column, steps in _SCALED:
        measured_table[:, column] = np.round(measured_table[:, column] * steps)
    add = message.ues.add
    rows = zip(
        report.rnti.tolist(),
        report.ue_id.tolist(),
        report.cqi_table.tolist(),
        report.mcs_table.tolist(),
        measured_table.tolist(),
        report.total_first_tx.tolist(),
        strict=True,
    )
    for rnti, ue_id, cqi_table, mcs_table, measured, total in rows:
        fields = {name: int(value) for name, value in zip(_MEASURED_FIELDS, measured, strict=True) if value == value}
        ue = add(rnti=rnti, cqi_table=cqi_table, mcs_table=mcs_table, **fields)
        if ue_id != NO_UE_ID:
            ue.ue_id = ue_id
        if total == total:
            ue.harq_total_first_tx = int(total)
    arrays = [report.harq_ue, report.harq_mcs, *report.harq_counts.T.astype(np.int64)]
    for name, array in zip(HARQ_FIELDS, arrays, strict=True):
        if array.any() or name in HARQ_FIELDS[:_FIRST_COUNT]:
            getattr(message.harq, name).extend(array.tolist())
    return header.SerializeToString(), message.SerializeToString()


class ControlEncoder:
    """Writes control messages.

    The UEs of a cell are mostly those of its previous message, so the message of each cell is kept and only what
    changed is set anew.

    Args:
        identity: who the messages come from.
        max_cells: cells whose message is kept.
    """

    def __init__(self, identity: Identity, max_cells: int = 1024) -> None:
        self._header = pb.ControlHeader(envelope=identity.envelope())
        self._max_cells = max_cells
        self._latest: dict[str, tuple[object, pb.ControlMessage, list[pb.UeDecision]]] = {}

    def encode(self, decisions: Decisions) -> tuple[bytes, bytes]:
        """RICcontrolHeader and RICcontrolMessage of a set of decisions."""
        header = self._header
        header.cell_id = decisions.cell_id
        header.answers_sequence = decisions.answers_sequence
        header.sfn = decisions.sfn
        header.slot = decisions.slot
        header.timestamp_us = decisions.timestamp_us
        arm = b"" if decisions.arm is None else decisions.arm.tobytes()
        who = (decisions.rnti.tobytes(), decisions.ue_id.tobytes(), arm, tuple(decisions.arms))
        latest = self._latest.get(decisions.cell_id)
        if latest is None or latest[0] != who:
            if len(self._latest) >= self._max_cells:
                self._latest.clear()
            latest = (who, *_addressed(decisions))
            self._latest[decisions.cell_id] = latest
        _, message, ues = latest
        message.valid_for_slots = decisions.valid_for_slots
        kinds = decisions.kind
        if not count_nonzero(kinds != MCS):
            for ue, value in zip(ues, decisions.value.tolist(), strict=True):
                ue.mcs = value
        else:
            for ue, kind, value in zip(ues, kinds.tolist(), decisions.value.tolist(), strict=True):
                if kind == MCS:
                    ue.mcs = value
                elif kind == MCS_OFFSET:
                    ue.mcs_offset = value
                else:
                    ue.native.SetInParent()
        return header.SerializeToString(), message.SerializeToString()


def _addressed(decisions: Decisions) -> tuple[pb.ControlMessage, list[pb.UeDecision]]:
    """A control message that says whom it is for, but not yet what; and its UEs."""
    message = pb.ControlMessage(arms=[pb.Arm(name=name, policy_digest=digest) for name, digest in decisions.arms])
    arms = [0] * len(decisions.rnti) if decisions.arm is None else decisions.arm.tolist()
    for rnti, ue_id, arm in zip(decisions.rnti.tolist(), decisions.ue_id.tolist(), arms, strict=True):
        ue = message.ues.add(rnti=rnti, arm=arm)
        if ue_id != NO_UE_ID:
            ue.ue_id = ue_id
    return message, list(message.ues)


def decode_control(header_data: bytes, message_data: bytes) -> Decisions:
    """Parse a control message, as the E2 node does. A UE decision without an action reads as native.

    Raises:
        Rejected: reason ``malformed_control``, ``service_model`` or ``encoding``.
    """
    try:
        header = pb.ControlHeader.FromString(header_data)
        message = pb.ControlMessage.FromString(message_data)
    except DecodeError as error:
        raise Rejected("malformed_control", f"control message: {error}") from None
    check_envelope(header.envelope)
    ues = message.ues
    if any(ue.ue_id >= _MAX_UE_ID for ue in ues):
        raise Rejected("malformed_control", f"control message: a ue_id is {_MAX_UE_ID} or more")
    rows = np.array([(ue.rnti, ue.ue_id, ue.mcs, ue.mcs_offset, ue.arm) for ue in ues], np.int64).reshape(len(ues), 5)
    kinds = {"mcs": MCS, "mcs_offset": MCS_OFFSET}
    kind = np.array([kinds.get(ue.WhichOneof("action") or "", NATIVE) for ue in ues], np.int64)
    return Decisions(
        cell_id=header.cell_id,
        answers_sequence=header.answers_sequence,
        sfn=header.sfn,
        slot=header.slot,
        timestamp_us=header.timestamp_us,
        valid_for_slots=message.valid_for_slots,
        rnti=rows[:, 0].astype(np.int64),
        ue_id=np.where(rows[:, 1] == 0, NO_UE_ID, rows[:, 1]),
        kind=kind,
        value=(rows[:, 2] + rows[:, 3]).astype(np.int64),  # at most one of the two is set
        arms=[(arm.name, arm.policy_digest) for arm in message.arms],
        arm=rows[:, 4].astype(np.int64),
    )


def count_outcome(data: bytes, outcomes: Counter[str], lost: Counter[str]) -> None:
    """Count the UE decisions of a ControlOutcome by what became of them.

    Args:
        data: RICcontrolOutcome, the octet string.
        outcomes: ``accepted`` and the causes of rejection.
        lost: where one that cannot be read is counted, as ``malformed_outcome``.
    """
    try:
        outcome = pb.ControlOutcome.FromString(data)
    except DecodeError:
        lost["malformed_outcome"] += 1
        return
    outcomes["accepted"] += outcome.accepted
    for rejection in outcome.rejections:
        outcomes[_cause(rejection.cause)] += rejection.ues


def _cause(cause: pb.Cause) -> str:
    """The word of a cause; a newer minor version of the service model may have some that are unknown here."""
    try:
        return pb.Cause.Name(cause).removeprefix("CAUSE_").lower()
    except ValueError:
        return "unknown_cause"

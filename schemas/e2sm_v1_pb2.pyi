from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

CAUSE_EXPIRED: Cause
CAUSE_MALFORMED: Cause
CAUSE_MCS_OUT_OF_RANGE: Cause
CAUSE_NOT_READY: Cause
CAUSE_SERVICE_MODEL_NOT_SUPPORTED: Cause
CAUSE_STALE: Cause
CAUSE_UNKNOWN_CELL: Cause
CAUSE_UNKNOWN_UE: Cause
CAUSE_UNSPECIFIED: Cause
CQI_TABLE_1: CqiTable
CQI_TABLE_2: CqiTable
CQI_TABLE_3: CqiTable
CQI_TABLE_UNSPECIFIED: CqiTable
DESCRIPTOR: _descriptor.FileDescriptor
ENCODING_PROTO: Encoding
ENCODING_UNSPECIFIED: Encoding
MCS_TABLE_1: McsTable
MCS_TABLE_2: McsTable
MCS_TABLE_3: McsTable
MCS_TABLE_UNSPECIFIED: McsTable

class ActionDefinition(_message.Message):
    __slots__ = ["cell_ids"]
    CELL_IDS_FIELD_NUMBER: _ClassVar[int]
    cell_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cell_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ["name", "policy_digest"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    policy_digest: str
    def __init__(self, name: _Optional[str] = ..., policy_digest: _Optional[str] = ...) -> None: ...

class ControlHeader(_message.Message):
    __slots__ = ["answers_sequence", "cell_id", "envelope", "sfn", "slot", "timestamp_us"]
    ANSWERS_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SFN_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    answers_sequence: int
    cell_id: str
    envelope: Envelope
    sfn: int
    slot: int
    timestamp_us: int
    def __init__(self, envelope: _Optional[_Union[Envelope, _Mapping]] = ..., cell_id: _Optional[str] = ..., answers_sequence: _Optional[int] = ..., sfn: _Optional[int] = ..., slot: _Optional[int] = ..., timestamp_us: _Optional[int] = ...) -> None: ...

class ControlMessage(_message.Message):
    __slots__ = ["arms", "ues", "valid_for_slots"]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    UES_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_SLOTS_FIELD_NUMBER: _ClassVar[int]
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    ues: _containers.RepeatedCompositeFieldContainer[UeDecision]
    valid_for_slots: int
    def __init__(self, arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., valid_for_slots: _Optional[int] = ..., ues: _Optional[_Iterable[_Union[UeDecision, _Mapping]]] = ...) -> None: ...

class ControlOutcome(_message.Message):
    __slots__ = ["accepted", "answers_sequence", "cell_id", "rejections"]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    answers_sequence: int
    cell_id: str
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    def __init__(self, cell_id: _Optional[str] = ..., answers_sequence: _Optional[int] = ..., accepted: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ["app_id", "app_instance_id", "e2_node_id", "encoding", "service_model"]
    APP_ID_FIELD_NUMBER: _ClassVar[int]
    APP_INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    E2_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SERVICE_MODEL_FIELD_NUMBER: _ClassVar[int]
    app_id: str
    app_instance_id: str
    e2_node_id: str
    encoding: Encoding
    service_model: ServiceModel
    def __init__(self, app_id: _Optional[str] = ..., app_instance_id: _Optional[str] = ..., e2_node_id: _Optional[str] = ..., service_model: _Optional[_Union[ServiceModel, _Mapping]] = ..., encoding: _Optional[_Union[Encoding, str]] = ...) -> None: ...

class EventTriggerDefinition(_message.Message):
    __slots__ = ["report_period_ms"]
    REPORT_PERIOD_MS_FIELD_NUMBER: _ClassVar[int]
    report_period_ms: int
    def __init__(self, report_period_ms: _Optional[int] = ...) -> None: ...

class HarqCounts(_message.Message):
    __slots__ = ["ack", "dtx", "mcs", "nack", "residual", "ue"]
    ACK_FIELD_NUMBER: _ClassVar[int]
    DTX_FIELD_NUMBER: _ClassVar[int]
    MCS_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    UE_FIELD_NUMBER: _ClassVar[int]
    ack: _containers.RepeatedScalarFieldContainer[int]
    dtx: _containers.RepeatedScalarFieldContainer[int]
    mcs: _containers.RepeatedScalarFieldContainer[int]
    nack: _containers.RepeatedScalarFieldContainer[int]
    residual: _containers.RepeatedScalarFieldContainer[int]
    ue: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ue: _Optional[_Iterable[int]] = ..., mcs: _Optional[_Iterable[int]] = ..., ack: _Optional[_Iterable[int]] = ..., nack: _Optional[_Iterable[int]] = ..., dtx: _Optional[_Iterable[int]] = ..., residual: _Optional[_Iterable[int]] = ...) -> None: ...

class IndicationHeader(_message.Message):
    __slots__ = ["cell_id", "envelope", "report_period_slots", "sequence", "sfn", "slot", "timestamp_us"]
    CELL_ID_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    REPORT_PERIOD_SLOTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SFN_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    cell_id: str
    envelope: Envelope
    report_period_slots: int
    sequence: int
    sfn: int
    slot: int
    timestamp_us: int
    def __init__(self, envelope: _Optional[_Union[Envelope, _Mapping]] = ..., cell_id: _Optional[str] = ..., sequence: _Optional[int] = ..., sfn: _Optional[int] = ..., slot: _Optional[int] = ..., timestamp_us: _Optional[int] = ..., report_period_slots: _Optional[int] = ...) -> None: ...

class IndicationMessage(_message.Message):
    __slots__ = ["harq", "ues"]
    HARQ_FIELD_NUMBER: _ClassVar[int]
    UES_FIELD_NUMBER: _ClassVar[int]
    harq: HarqCounts
    ues: _containers.RepeatedCompositeFieldContainer[UeReport]
    def __init__(self, ues: _Optional[_Iterable[_Union[UeReport, _Mapping]]] = ..., harq: _Optional[_Union[HarqCounts, _Mapping]] = ...) -> None: ...

class Native(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class RanFunctionDefinition(_message.Message):
    __slots__ = ["service_model"]
    SERVICE_MODEL_FIELD_NUMBER: _ClassVar[int]
    service_model: ServiceModel
    def __init__(self, service_model: _Optional[_Union[ServiceModel, _Mapping]] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ["cause", "ues"]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    UES_FIELD_NUMBER: _ClassVar[int]
    cause: Cause
    ues: int
    def __init__(self, cause: _Optional[_Union[Cause, str]] = ..., ues: _Optional[int] = ...) -> None: ...

class ServiceModel(_message.Message):
    __slots__ = ["name", "version"]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class UeDecision(_message.Message):
    __slots__ = ["arm", "mcs", "mcs_offset", "native", "rnti", "ue_id"]
    ARM_FIELD_NUMBER: _ClassVar[int]
    MCS_FIELD_NUMBER: _ClassVar[int]
    MCS_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NATIVE_FIELD_NUMBER: _ClassVar[int]
    RNTI_FIELD_NUMBER: _ClassVar[int]
    UE_ID_FIELD_NUMBER: _ClassVar[int]
    arm: int
    mcs: int
    mcs_offset: int
    native: Native
    rnti: int
    ue_id: int
    def __init__(self, rnti: _Optional[int] = ..., ue_id: _Optional[int] = ..., mcs: _Optional[int] = ..., mcs_offset: _Optional[int] = ..., native: _Optional[_Union[Native, _Mapping]] = ..., arm: _Optional[int] = ...) -> None: ...

class UeReport(_message.Message):
    __slots__ = ["combining", "cqi", "cqi_age_slots", "cqi_table", "dl_buffer_bytes", "harq_total_first_tx", "max_transmissions", "mcs_table", "native_mcs", "prbs", "retx_ack", "retx_mcs_sum", "retx_nack", "ri", "rnti", "sinr_cdb", "ue_id"]
    COMBINING_FIELD_NUMBER: _ClassVar[int]
    CQI_AGE_SLOTS_FIELD_NUMBER: _ClassVar[int]
    CQI_FIELD_NUMBER: _ClassVar[int]
    CQI_TABLE_FIELD_NUMBER: _ClassVar[int]
    DL_BUFFER_BYTES_FIELD_NUMBER: _ClassVar[int]
    HARQ_TOTAL_FIRST_TX_FIELD_NUMBER: _ClassVar[int]
    MAX_TRANSMISSIONS_FIELD_NUMBER: _ClassVar[int]
    MCS_TABLE_FIELD_NUMBER: _ClassVar[int]
    NATIVE_MCS_FIELD_NUMBER: _ClassVar[int]
    PRBS_FIELD_NUMBER: _ClassVar[int]
    RETX_ACK_FIELD_NUMBER: _ClassVar[int]
    RETX_MCS_SUM_FIELD_NUMBER: _ClassVar[int]
    RETX_NACK_FIELD_NUMBER: _ClassVar[int]
    RI_FIELD_NUMBER: _ClassVar[int]
    RNTI_FIELD_NUMBER: _ClassVar[int]
    SINR_CDB_FIELD_NUMBER: _ClassVar[int]
    UE_ID_FIELD_NUMBER: _ClassVar[int]
    combining: int
    cqi: int
    cqi_age_slots: int
    cqi_table: CqiTable
    dl_buffer_bytes: int
    harq_total_first_tx: int
    max_transmissions: int
    mcs_table: McsTable
    native_mcs: int
    prbs: int
    retx_ack: int
    retx_mcs_sum: int
    retx_nack: int
    ri: int
    rnti: int
    sinr_cdb: int
    ue_id: int
    def __init__(self, rnti: _Optional[int] = ..., ue_id: _Optional[int] = ..., cqi: _Optional[int] = ..., cqi_table: _Optional[_Union[CqiTable, str]] = ..., cqi_age_slots: _Optional[int] = ..., sinr_cdb: _Optional[int] = ..., ri: _Optional[int] = ..., harq_total_first_tx: _Optional[int] = ..., dl_buffer_bytes: _Optional[int] = ..., prbs: _Optional[int] = ..., mcs_table: _Optional[_Union[McsTable, str]] = ..., native_mcs: _Optional[int] = ..., retx_ack: _Optional[int] = ..., retx_nack: _Optional[int] = ..., combining: _Optional[int] = ..., retx_mcs_sum: _Optional[int] = ..., max_transmissions: _Optional[int] = ...) -> None: ...

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class McsTable(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class CqiTable(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []

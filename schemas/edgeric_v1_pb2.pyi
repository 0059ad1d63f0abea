from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MacUeMetrics(_message.Message):
    __slots__ = ["cqi", "dl_acked_bytes", "dl_buffer", "dl_harq_ack", "dl_harq_nack", "dl_mcs", "dl_prbs", "dl_tbs", "snr", "ul_buffer", "ul_crc_fail", "ul_crc_ok", "ul_mcs", "ul_prbs", "ul_tbs"]
    CQI_FIELD_NUMBER: _ClassVar[int]
    DL_ACKED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DL_BUFFER_FIELD_NUMBER: _ClassVar[int]
    DL_HARQ_ACK_FIELD_NUMBER: _ClassVar[int]
    DL_HARQ_NACK_FIELD_NUMBER: _ClassVar[int]
    DL_MCS_FIELD_NUMBER: _ClassVar[int]
    DL_PRBS_FIELD_NUMBER: _ClassVar[int]
    DL_TBS_FIELD_NUMBER: _ClassVar[int]
    SNR_FIELD_NUMBER: _ClassVar[int]
    UL_BUFFER_FIELD_NUMBER: _ClassVar[int]
    UL_CRC_FAIL_FIELD_NUMBER: _ClassVar[int]
    UL_CRC_OK_FIELD_NUMBER: _ClassVar[int]
    UL_MCS_FIELD_NUMBER: _ClassVar[int]
    UL_PRBS_FIELD_NUMBER: _ClassVar[int]
    UL_TBS_FIELD_NUMBER: _ClassVar[int]
    cqi: int
    dl_acked_bytes: int
    dl_buffer: int
    dl_harq_ack: int
    dl_harq_nack: int
    dl_mcs: int
    dl_prbs: int
    dl_tbs: int
    snr: float
    ul_buffer: int
    ul_crc_fail: int
    ul_crc_ok: int
    ul_mcs: int
    ul_prbs: int
    ul_tbs: int
    def __init__(self, cqi: _Optional[int] = ..., snr: _Optional[float] = ..., dl_buffer: _Optional[int] = ..., ul_buffer: _Optional[int] = ..., dl_tbs: _Optional[int] = ..., ul_tbs: _Optional[int] = ..., dl_harq_ack: _Optional[int] = ..., dl_harq_nack: _Optional[int] = ..., ul_crc_ok: _Optional[int] = ..., ul_crc_fail: _Optional[int] = ..., dl_mcs: _Optional[int] = ..., ul_mcs: _Optional[int] = ..., dl_prbs: _Optional[int] = ..., ul_prbs: _Optional[int] = ..., dl_acked_bytes: _Optional[int] = ...) -> None: ...

class McsControl(_message.Message):
    __slots__ = ["ran_index", "tti_index", "ue_mcs"]
    RAN_INDEX_FIELD_NUMBER: _ClassVar[int]
    TTI_INDEX_FIELD_NUMBER: _ClassVar[int]
    UE_MCS_FIELD_NUMBER: _ClassVar[int]
    ran_index: int
    tti_index: int
    ue_mcs: _containers.RepeatedCompositeFieldContainer[UeMcs]
    def __init__(self, ran_index: _Optional[int] = ..., tti_index: _Optional[int] = ..., ue_mcs: _Optional[_Iterable[_Union[UeMcs, _Mapping]]] = ...) -> None: ...

class TtiMetrics(_message.Message):
    __slots__ = ["timestamp_us", "tti_index", "ues"]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    TTI_INDEX_FIELD_NUMBER: _ClassVar[int]
    UES_FIELD_NUMBER: _ClassVar[int]
    timestamp_us: int
    tti_index: int
    ues: _containers.RepeatedCompositeFieldContainer[UeMetrics]
    def __init__(self, tti_index: _Optional[int] = ..., timestamp_us: _Optional[int] = ..., ues: _Optional[_Iterable[_Union[UeMetrics, _Mapping]]] = ...) -> None: ...

class UeMcs(_message.Message):
    __slots__ = ["mcs", "rnti"]
    MCS_FIELD_NUMBER: _ClassVar[int]
    RNTI_FIELD_NUMBER: _ClassVar[int]
    mcs: int
    rnti: int
    def __init__(self, rnti: _Optional[int] = ..., mcs: _Optional[int] = ...) -> None: ...

class UeMetrics(_message.Message):
    __slots__ = ["mac", "rnti"]
    MAC_FIELD_NUMBER: _ClassVar[int]
    RNTI_FIELD_NUMBER: _ClassVar[int]
    mac: MacUeMetrics
    rnti: int
    def __init__(self, rnti: _Optional[int] = ..., mac: _Optional[_Union[MacUeMetrics, _Mapping]] = ...) -> None: ...

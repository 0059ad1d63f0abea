from distila.schemas import e2sm_v1_pb2 as _e2sm_v1_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ControlRequest(_message.Message):
    __slots__ = ["header", "message"]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    message: bytes
    def __init__(self, header: _Optional[bytes] = ..., message: _Optional[bytes] = ...) -> None: ...

class ControlResponse(_message.Message):
    __slots__ = ["outcome"]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: bytes
    def __init__(self, outcome: _Optional[bytes] = ...) -> None: ...

class Indication(_message.Message):
    __slots__ = ["header", "message"]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    message: bytes
    def __init__(self, header: _Optional[bytes] = ..., message: _Optional[bytes] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ["cell_ids", "envelope"]
    CELL_IDS_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    cell_ids: _containers.RepeatedScalarFieldContainer[str]
    envelope: _e2sm_v1_pb2.Envelope
    def __init__(self, envelope: _Optional[_Union[_e2sm_v1_pb2.Envelope, _Mapping]] = ..., cell_ids: _Optional[_Iterable[str]] = ...) -> None: ...

from mlpserve.v1 import classifier_pb2 as _classifier_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PackedPredictResponse(_message.Message):
    __slots__ = ("model", "top_k", "class_ids", "scores", "probabilities", "timing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CLASS_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    model: _classifier_pb2.ModelRef
    top_k: int
    class_ids: bytes
    scores: bytes
    probabilities: bytes
    timing: _classifier_pb2.Timing
    def __init__(self, model: _Optional[_Union[_classifier_pb2.ModelRef, _Mapping]] = ..., top_k: _Optional[int] = ..., class_ids: _Optional[bytes] = ..., scores: _Optional[bytes] = ..., probabilities: _Optional[bytes] = ..., timing: _Optional[_Union[_classifier_pb2.Timing, _Mapping]] = ...) -> None: ...

from mlpserve.v1 import artifact_pb2 as _artifact_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Traffic(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAFFIC_UNSPECIFIED: _ClassVar[Traffic]
    TRAFFIC_INTERACTIVE: _ClassVar[Traffic]
    TRAFFIC_BATCH: _ClassVar[Traffic]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_AVAILABLE: _ClassVar[ModelState]
    MODEL_STATE_SERVING: _ClassVar[ModelState]
    MODEL_STATE_UNREADABLE: _ClassVar[ModelState]
    MODEL_STATE_REFUSED: _ClassVar[ModelState]
    MODEL_STATE_KEPT: _ClassVar[ModelState]
TRAFFIC_UNSPECIFIED: Traffic
TRAFFIC_INTERACTIVE: Traffic
TRAFFIC_BATCH: Traffic
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_AVAILABLE: ModelState
MODEL_STATE_SERVING: ModelState
MODEL_STATE_UNREADABLE: ModelState
MODEL_STATE_REFUSED: ModelState
MODEL_STATE_KEPT: ModelState

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("model", "version", "images", "top_k", "probabilities", "timing", "traffic")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    images: bytes
    top_k: int
    probabilities: bool
    timing: bool
    traffic: Traffic
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., images: _Optional[bytes] = ..., top_k: _Optional[int] = ..., probabilities: bool = ..., timing: bool = ..., traffic: _Optional[_Union[Traffic, str]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_seconds", "run_seconds", "batch_images", "traffic", "slices")
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    queue_seconds: float
    run_seconds: float
    batch_images: int
    traffic: Traffic
    slices: int
    def __init__(self, queue_seconds: _Optional[float] = ..., run_seconds: _Optional[float] = ..., batch_images: _Optional[int] = ..., traffic: _Optional[_Union[Traffic, str]] = ..., slices: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("model", "top_k", "class_ids", "scores", "probabilities", "timing")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CLASS_IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    top_k: int
    class_ids: _containers.RepeatedScalarFieldContainer[int]
    scores: _containers.RepeatedScalarFieldContainer[float]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    timing: Timing
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., top_k: _Optional[int] = ..., class_ids: _Optional[_Iterable[int]] = ..., scores: _Optional[_Iterable[float]] = ..., probabilities: _Optional[_Iterable[float]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "manifest", "serving")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    manifest: _artifact_pb2.Manifest
    serving: ServingInfo
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., manifest: _Optional[_Union[_artifact_pb2.Manifest, _Mapping]] = ..., serving: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class ServingInfo(_message.Message):
    __slots__ = ("provider", "precision", "max_batch_images", "max_request_images", "max_message_bytes", "transport")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    provider: str
    precision: _artifact_pb2.Precision
    max_batch_images: int
    max_request_images: int
    max_message_bytes: int
    transport: str
    def __init__(self, provider: _Optional[str] = ..., precision: _Optional[_Union[_artifact_pb2.Precision, str]] = ..., max_batch_images: _Optional[int] = ..., max_request_images: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., transport: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "total_size")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelSummary]
    next_page_token: str
    total_size: int
    def __init__(self, models: _Optional[_Iterable[_Union[ModelSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class ModelSummary(_message.Message):
    __slots__ = ("model", "state", "test_accuracy", "detail", "promoted")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEST_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    state: ModelState
    test_accuracy: float
    detail: str
    promoted: bool
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., state: _Optional[_Union[ModelState, str]] = ..., test_accuracy: _Optional[float] = ..., detail: _Optional[str] = ..., promoted: bool = ...) -> None: ...

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Preparation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PREPARATION_UNSPECIFIED: _ClassVar[Preparation]
    PREPARATION_SCALED: _ClassVar[Preparation]
    PREPARATION_CENTRED_INK: _ClassVar[Preparation]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FP32: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]

class FileRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_ROLE_UNSPECIFIED: _ClassVar[FileRole]
    FILE_ROLE_MODEL_FP32: _ClassVar[FileRole]
    FILE_ROLE_MODEL_INT8: _ClassVar[FileRole]
    FILE_ROLE_GOLDEN_SAMPLES: _ClassVar[FileRole]
    FILE_ROLE_REPORT: _ClassVar[FileRole]
    FILE_ROLE_MODEL_CARD: _ClassVar[FileRole]
    FILE_ROLE_PICTURE: _ClassVar[FileRole]
PREPARATION_UNSPECIFIED: Preparation
PREPARATION_SCALED: Preparation
PREPARATION_CENTRED_INK: Preparation
PRECISION_UNSPECIFIED: Precision
PRECISION_FP32: Precision
PRECISION_INT8: Precision
FILE_ROLE_UNSPECIFIED: FileRole
FILE_ROLE_MODEL_FP32: FileRole
FILE_ROLE_MODEL_INT8: FileRole
FILE_ROLE_GOLDEN_SAMPLES: FileRole
FILE_ROLE_REPORT: FileRole
FILE_ROLE_MODEL_CARD: FileRole
FILE_ROLE_PICTURE: FileRole

class Manifest(_message.Message):
    __slots__ = ("format", "model", "version", "created", "image", "labels", "network", "training", "evaluations", "tools", "files", "reference")
    class ToolsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    EVALUATIONS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    format: int
    model: str
    version: int
    created: _timestamp_pb2.Timestamp
    image: ImageSpec
    labels: _containers.RepeatedScalarFieldContainer[str]
    network: Network
    training: Training
    evaluations: _containers.RepeatedCompositeFieldContainer[Evaluation]
    tools: _containers.ScalarMap[str, str]
    files: _containers.RepeatedCompositeFieldContainer[ArtifactFile]
    reference: Reference
    def __init__(self, format: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., created: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., image: _Optional[_Union[ImageSpec, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., network: _Optional[_Union[Network, _Mapping]] = ..., training: _Optional[_Union[Training, _Mapping]] = ..., evaluations: _Optional[_Iterable[_Union[Evaluation, _Mapping]]] = ..., tools: _Optional[_Mapping[str, str]] = ..., files: _Optional[_Iterable[_Union[ArtifactFile, _Mapping]]] = ..., reference: _Optional[_Union[Reference, _Mapping]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("images", "class_counts", "confidence_counts", "mean_ink")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CLASS_COUNTS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_INK_FIELD_NUMBER: _ClassVar[int]
    images: int
    class_counts: _containers.RepeatedScalarFieldContainer[int]
    confidence_counts: _containers.RepeatedScalarFieldContainer[int]
    mean_ink: float
    def __init__(self, images: _Optional[int] = ..., class_counts: _Optional[_Iterable[int]] = ..., confidence_counts: _Optional[_Iterable[int]] = ..., mean_ink: _Optional[float] = ...) -> None: ...

class ImageSpec(_message.Message):
    __slots__ = ("rows", "cols", "preparation")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLS_FIELD_NUMBER: _ClassVar[int]
    PREPARATION_FIELD_NUMBER: _ClassVar[int]
    rows: int
    cols: int
    preparation: Preparation
    def __init__(self, rows: _Optional[int] = ..., cols: _Optional[int] = ..., preparation: _Optional[_Union[Preparation, str]] = ...) -> None: ...

class Network(_message.Message):
    __slots__ = ("layers", "activation", "parameters")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[int]
    activation: str
    parameters: int
    def __init__(self, layers: _Optional[_Iterable[int]] = ..., activation: _Optional[str] = ..., parameters: _Optional[int] = ...) -> None: ...

class Training(_message.Message):
    __slots__ = ("data", "train_images", "validation_images", "pixel_mean", "pixel_deviation", "epochs", "batch_size", "learning_rate", "seed", "device", "seconds", "validation_accuracy", "recipe", "temperature", "teachers", "teacher_layers", "warp", "warnings", "teacher_kind", "start_channels")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TRAIN_IMAGES_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_IMAGES_FIELD_NUMBER: _ClassVar[int]
    PIXEL_MEAN_FIELD_NUMBER: _ClassVar[int]
    PIXEL_DEVIATION_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TEACHERS_FIELD_NUMBER: _ClassVar[int]
    TEACHER_LAYERS_FIELD_NUMBER: _ClassVar[int]
    WARP_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TEACHER_KIND_FIELD_NUMBER: _ClassVar[int]
    START_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    data: str
    train_images: int
    validation_images: int
    pixel_mean: float
    pixel_deviation: float
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    device: str
    seconds: float
    validation_accuracy: float
    recipe: str
    temperature: float
    teachers: int
    teacher_layers: _containers.RepeatedScalarFieldContainer[int]
    warp: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    teacher_kind: str
    start_channels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, data: _Optional[str] = ..., train_images: _Optional[int] = ..., validation_images: _Optional[int] = ..., pixel_mean: _Optional[float] = ..., pixel_deviation: _Optional[float] = ..., epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., learning_rate: _Optional[float] = ..., seed: _Optional[int] = ..., device: _Optional[str] = ..., seconds: _Optional[float] = ..., validation_accuracy: _Optional[float] = ..., recipe: _Optional[str] = ..., temperature: _Optional[float] = ..., teachers: _Optional[int] = ..., teacher_layers: _Optional[_Iterable[int]] = ..., warp: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ..., teacher_kind: _Optional[str] = ..., start_channels: _Optional[_Iterable[int]] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("precision", "test_images", "test_accuracy", "max_difference", "agreement", "calibration_error")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    TEST_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TEST_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MAX_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    test_images: int
    test_accuracy: float
    max_difference: float
    agreement: float
    calibration_error: float
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., test_images: _Optional[int] = ..., test_accuracy: _Optional[float] = ..., max_difference: _Optional[float] = ..., agreement: _Optional[float] = ..., calibration_error: _Optional[float] = ...) -> None: ...

class ArtifactFile(_message.Message):
    __slots__ = ("role", "path", "sha256", "size_bytes")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    role: FileRole
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, role: _Optional[_Union[FileRole, str]] = ..., path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class GoldenSamples(_message.Message):
    __slots__ = ("images", "answers")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    images: bytes
    answers: _containers.RepeatedCompositeFieldContainer[GoldenAnswers]
    def __init__(self, images: _Optional[bytes] = ..., answers: _Optional[_Iterable[_Union[GoldenAnswers, _Mapping]]] = ...) -> None: ...

class GoldenAnswers(_message.Message):
    __slots__ = ("precision", "class_ids", "probabilities", "tolerance")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CLASS_IDS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    class_ids: _containers.RepeatedScalarFieldContainer[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    tolerance: float
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., class_ids: _Optional[_Iterable[int]] = ..., probabilities: _Optional[_Iterable[float]] = ..., tolerance: _Optional[float] = ...) -> None: ...

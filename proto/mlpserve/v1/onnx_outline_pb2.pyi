from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OnnxModel(_message.Message):
    __slots__ = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string", "graph", "opset_import", "metadata_props", "training_info", "functions", "configuration")
    IR_VERSION_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_NAME_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_VERSION_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    OPSET_IMPORT_FIELD_NUMBER: _ClassVar[int]
    METADATA_PROPS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_INFO_FIELD_NUMBER: _ClassVar[int]
    FUNCTIONS_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    ir_version: int
    producer_name: bytes
    producer_version: bytes
    domain: bytes
    model_version: int
    doc_string: bytes
    graph: OnnxGraph
    opset_import: _containers.RepeatedCompositeFieldContainer[OnnxOperatorSet]
    metadata_props: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    training_info: _containers.RepeatedCompositeFieldContainer[OnnxTrainingInfo]
    functions: _containers.RepeatedCompositeFieldContainer[OnnxFunction]
    configuration: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    def __init__(self, ir_version: _Optional[int] = ..., producer_name: _Optional[bytes] = ..., producer_version: _Optional[bytes] = ..., domain: _Optional[bytes] = ..., model_version: _Optional[int] = ..., doc_string: _Optional[bytes] = ..., graph: _Optional[_Union[OnnxGraph, _Mapping]] = ..., opset_import: _Optional[_Iterable[_Union[OnnxOperatorSet, _Mapping]]] = ..., metadata_props: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ..., training_info: _Optional[_Iterable[_Union[OnnxTrainingInfo, _Mapping]]] = ..., functions: _Optional[_Iterable[_Union[OnnxFunction, _Mapping]]] = ..., configuration: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ...) -> None: ...

class OnnxOperatorSet(_message.Message):
    __slots__ = ("domain", "version")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    domain: str
    version: int
    def __init__(self, domain: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class OnnxGraph(_message.Message):
    __slots__ = ("node", "name", "initializer", "doc_string", "input", "output", "value_info", "quantization_annotation", "sparse_initializer", "metadata_props")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    INITIALIZER_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    VALUE_INFO_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    SPARSE_INITIALIZER_FIELD_NUMBER: _ClassVar[int]
    METADATA_PROPS_FIELD_NUMBER: _ClassVar[int]
    node: _containers.RepeatedCompositeFieldContainer[OnnxNode]
    name: bytes
    initializer: _containers.RepeatedCompositeFieldContainer[OnnxTensor]
    doc_string: bytes
    input: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    output: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    value_info: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    quantization_annotation: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    sparse_initializer: _containers.RepeatedCompositeFieldContainer[OnnxSparseTensor]
    metadata_props: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    def __init__(self, node: _Optional[_Iterable[_Union[OnnxNode, _Mapping]]] = ..., name: _Optional[bytes] = ..., initializer: _Optional[_Iterable[_Union[OnnxTensor, _Mapping]]] = ..., doc_string: _Optional[bytes] = ..., input: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., output: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., value_info: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., quantization_annotation: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., sparse_initializer: _Optional[_Iterable[_Union[OnnxSparseTensor, _Mapping]]] = ..., metadata_props: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ...) -> None: ...

class OnnxNode(_message.Message):
    __slots__ = ("input", "output", "name", "op_type", "attribute", "doc_string", "domain", "overload", "metadata_props", "device_configurations")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_FIELD_NUMBER: _ClassVar[int]
    METADATA_PROPS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CONFIGURATIONS_FIELD_NUMBER: _ClassVar[int]
    input: _containers.RepeatedScalarFieldContainer[bytes]
    output: _containers.RepeatedScalarFieldContainer[bytes]
    name: bytes
    op_type: bytes
    attribute: _containers.RepeatedCompositeFieldContainer[OnnxAttribute]
    doc_string: bytes
    domain: str
    overload: bytes
    metadata_props: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    device_configurations: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    def __init__(self, input: _Optional[_Iterable[bytes]] = ..., output: _Optional[_Iterable[bytes]] = ..., name: _Optional[bytes] = ..., op_type: _Optional[bytes] = ..., attribute: _Optional[_Iterable[_Union[OnnxAttribute, _Mapping]]] = ..., doc_string: _Optional[bytes] = ..., domain: _Optional[str] = ..., overload: _Optional[bytes] = ..., metadata_props: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ..., device_configurations: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ...) -> None: ...

class OnnxAttribute(_message.Message):
    __slots__ = ("name", "f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs", "doc_string", "tp", "type_protos", "type", "ref_attr_name", "sparse_tensor", "sparse_tensors")
    NAME_FIELD_NUMBER: _ClassVar[int]
    F_FIELD_NUMBER: _ClassVar[int]
    I_FIELD_NUMBER: _ClassVar[int]
    S_FIELD_NUMBER: _ClassVar[int]
    T_FIELD_NUMBER: _ClassVar[int]
    G_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    INTS_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    TP_FIELD_NUMBER: _ClassVar[int]
    TYPE_PROTOS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    REF_ATTR_NAME_FIELD_NUMBER: _ClassVar[int]
    SPARSE_TENSOR_FIELD_NUMBER: _ClassVar[int]
    SPARSE_TENSORS_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    f: float
    i: int
    s: bytes
    t: OnnxTensor
    g: OnnxGraph
    floats: _containers.RepeatedScalarFieldContainer[float]
    ints: _containers.RepeatedScalarFieldContainer[int]
    strings: _containers.RepeatedScalarFieldContainer[bytes]
    tensors: _containers.RepeatedCompositeFieldContainer[OnnxTensor]
    graphs: _containers.RepeatedCompositeFieldContainer[OnnxGraph]
    doc_string: bytes
    tp: OnnxSkipped
    type_protos: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    type: int
    ref_attr_name: bytes
    sparse_tensor: OnnxSparseTensor
    sparse_tensors: _containers.RepeatedCompositeFieldContainer[OnnxSparseTensor]
    def __init__(self, name: _Optional[bytes] = ..., f: _Optional[float] = ..., i: _Optional[int] = ..., s: _Optional[bytes] = ..., t: _Optional[_Union[OnnxTensor, _Mapping]] = ..., g: _Optional[_Union[OnnxGraph, _Mapping]] = ..., floats: _Optional[_Iterable[float]] = ..., ints: _Optional[_Iterable[int]] = ..., strings: _Optional[_Iterable[bytes]] = ..., tensors: _Optional[_Iterable[_Union[OnnxTensor, _Mapping]]] = ..., graphs: _Optional[_Iterable[_Union[OnnxGraph, _Mapping]]] = ..., doc_string: _Optional[bytes] = ..., tp: _Optional[_Union[OnnxSkipped, _Mapping]] = ..., type_protos: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., type: _Optional[int] = ..., ref_attr_name: _Optional[bytes] = ..., sparse_tensor: _Optional[_Union[OnnxSparseTensor, _Mapping]] = ..., sparse_tensors: _Optional[_Iterable[_Union[OnnxSparseTensor, _Mapping]]] = ...) -> None: ...

class OnnxTensor(_message.Message):
    __slots__ = ("dims", "data_type", "segment", "float_data", "int32_data", "string_data", "int64_data", "name", "raw_data", "double_data", "uint64_data", "doc_string", "external_data", "data_location", "metadata_props")
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    FLOAT_DATA_FIELD_NUMBER: _ClassVar[int]
    INT32_DATA_FIELD_NUMBER: _ClassVar[int]
    STRING_DATA_FIELD_NUMBER: _ClassVar[int]
    INT64_DATA_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RAW_DATA_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_DATA_FIELD_NUMBER: _ClassVar[int]
    UINT64_DATA_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_DATA_FIELD_NUMBER: _ClassVar[int]
    DATA_LOCATION_FIELD_NUMBER: _ClassVar[int]
    METADATA_PROPS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    data_type: int
    segment: OnnxSkipped
    float_data: _containers.RepeatedScalarFieldContainer[float]
    int32_data: _containers.RepeatedScalarFieldContainer[int]
    string_data: _containers.RepeatedScalarFieldContainer[bytes]
    int64_data: _containers.RepeatedScalarFieldContainer[int]
    name: bytes
    raw_data: bytes
    double_data: _containers.RepeatedScalarFieldContainer[float]
    uint64_data: _containers.RepeatedScalarFieldContainer[int]
    doc_string: bytes
    external_data: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    data_location: int
    metadata_props: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    def __init__(self, dims: _Optional[_Iterable[int]] = ..., data_type: _Optional[int] = ..., segment: _Optional[_Union[OnnxSkipped, _Mapping]] = ..., float_data: _Optional[_Iterable[float]] = ..., int32_data: _Optional[_Iterable[int]] = ..., string_data: _Optional[_Iterable[bytes]] = ..., int64_data: _Optional[_Iterable[int]] = ..., name: _Optional[bytes] = ..., raw_data: _Optional[bytes] = ..., double_data: _Optional[_Iterable[float]] = ..., uint64_data: _Optional[_Iterable[int]] = ..., doc_string: _Optional[bytes] = ..., external_data: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ..., data_location: _Optional[int] = ..., metadata_props: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ...) -> None: ...

class OnnxSparseTensor(_message.Message):
    __slots__ = ("values", "indices", "dims")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    values: OnnxTensor
    indices: OnnxTensor
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Union[OnnxTensor, _Mapping]] = ..., indices: _Optional[_Union[OnnxTensor, _Mapping]] = ..., dims: _Optional[_Iterable[int]] = ...) -> None: ...

class OnnxTrainingInfo(_message.Message):
    __slots__ = ("initialization", "algorithm", "initialization_binding", "update_binding")
    INITIALIZATION_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    INITIALIZATION_BINDING_FIELD_NUMBER: _ClassVar[int]
    UPDATE_BINDING_FIELD_NUMBER: _ClassVar[int]
    initialization: OnnxGraph
    algorithm: OnnxGraph
    initialization_binding: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    update_binding: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    def __init__(self, initialization: _Optional[_Union[OnnxGraph, _Mapping]] = ..., algorithm: _Optional[_Union[OnnxGraph, _Mapping]] = ..., initialization_binding: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ..., update_binding: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ...) -> None: ...

class OnnxFunction(_message.Message):
    __slots__ = ("name", "input", "output", "attribute", "node", "doc_string", "opset_import", "domain", "attribute_proto", "value_info", "overload", "metadata_props")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DOC_STRING_FIELD_NUMBER: _ClassVar[int]
    OPSET_IMPORT_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTE_PROTO_FIELD_NUMBER: _ClassVar[int]
    VALUE_INFO_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_FIELD_NUMBER: _ClassVar[int]
    METADATA_PROPS_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    input: _containers.RepeatedScalarFieldContainer[bytes]
    output: _containers.RepeatedScalarFieldContainer[bytes]
    attribute: _containers.RepeatedScalarFieldContainer[bytes]
    node: _containers.RepeatedCompositeFieldContainer[OnnxNode]
    doc_string: bytes
    opset_import: _containers.RepeatedCompositeFieldContainer[OnnxOperatorSet]
    domain: bytes
    attribute_proto: _containers.RepeatedCompositeFieldContainer[OnnxAttribute]
    value_info: _containers.RepeatedCompositeFieldContainer[OnnxSkipped]
    overload: bytes
    metadata_props: _containers.RepeatedCompositeFieldContainer[OnnxEntry]
    def __init__(self, name: _Optional[bytes] = ..., input: _Optional[_Iterable[bytes]] = ..., output: _Optional[_Iterable[bytes]] = ..., attribute: _Optional[_Iterable[bytes]] = ..., node: _Optional[_Iterable[_Union[OnnxNode, _Mapping]]] = ..., doc_string: _Optional[bytes] = ..., opset_import: _Optional[_Iterable[_Union[OnnxOperatorSet, _Mapping]]] = ..., domain: _Optional[bytes] = ..., attribute_proto: _Optional[_Iterable[_Union[OnnxAttribute, _Mapping]]] = ..., value_info: _Optional[_Iterable[_Union[OnnxSkipped, _Mapping]]] = ..., overload: _Optional[bytes] = ..., metadata_props: _Optional[_Iterable[_Union[OnnxEntry, _Mapping]]] = ...) -> None: ...

class OnnxEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    value: bytes
    def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class OnnxSkipped(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

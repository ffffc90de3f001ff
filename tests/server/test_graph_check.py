"""No ONNX file leads ONNX Runtime out of itself: every place of ONNX's schema where a tensor may stand is looked at."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tests.support.artifacts import MODELS, seal

from mlpserve.v1.onnx_outline_pb2 import OnnxModel, OnnxSkipped, OnnxTensor
from mlpserve_server.errors import ArtifactError
from mlpserve_server.models import graph_check, loading
from mlpserve_server.store.folder import Store

Route = tuple[FieldDescriptor, ...]

LOOKED_AT = {
    f"onnx.{name}Proto"
    for name in ("Tensor", "SparseTensor", "Attribute", "Node", "Graph", "Function", "TrainingInfo", "OperatorSetId")
}
WIRE = {1: "64 bits", 2: "32 bits", 3: "varint", 4: "varint", 5: "varint", 9: "length", 12: "length", 14: "varint"}
REFUSED = "lies in another file|defines functions or training steps"


def _routes(message: Descriptor, on_the_way: tuple[Descriptor, ...] = ()) -> Iterator[Route]:
    """The ways to a tensor that pass no kind of message more than twice, so that there are graphs in graphs."""
    for field in message.fields:
        inner = field.message_type
        if inner is None or on_the_way.count(inner) > 1:
            continue
        if inner is TensorProto.DESCRIPTOR:
            yield (field,)
        yield from ((field, *rest) for rest in _routes(inner, (*on_the_way, inner)))


ROUTES = list(_routes(ModelProto.DESCRIPTOR))


def _name(route: Route) -> str:
    return ".".join(field.name for field in route)


def _plant(model: ModelProto, route: Route, tensor: TensorProto) -> None:
    message: Any = model
    for field in route:
        value = getattr(message, field.name)
        message = value.add() if hasattr(value, "add") else value
    message.CopyFrom(tensor)


def _outside(**fields: Any) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], **fields)
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


OUTSIDE = _outside(data_location=TensorProto.EXTERNAL)
ONLY_ENTRIES = _outside()
ONLY_LOCATION = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
# ONNX's enum has 0 and 1. Protobuf's readers keep 1 and put another number after it beside. (Field 14: tag 0x70.)
ODD_LOCATIONS = [
    TensorProto.FromString(ONLY_LOCATION.SerializeToString() + b"\x70" + odd) for odd in (b"\x02", b"\x7f")
]


class Loader:
    """The real loader, given a version with correct digests whose ONNX file is another."""

    def __init__(self, store: Path, folder: Path) -> None:
        self._version = Path(shutil.copytree(store / "mnist/1", folder / "mnist/1"))
        self._store = folder
        self.content = {name: (self._version / name).read_bytes() for name in MODELS}

    def model(self) -> ModelProto:
        return ModelProto.FromString(self.content["model.onnx"])

    def load(self, content: bytes, precision: str = "fp32") -> None:
        version = Store(self._store).open("mnist")
        (self._version / MODELS[precision == "int8"]).write_bytes(content)
        seal(self._version, version.manifest)
        loading.load(Store(self._store).open("mnist"), device="cpu", precision=precision, max_batch=2, threads=1)

    def refuses(self, content: bytes, words: str, precision: str = "fp32") -> None:
        with pytest.raises(ArtifactError, match=words):
            self.load(content, precision)


@pytest.fixture(scope="module")
def loader(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Loader:
    return Loader(store, tmp_path_factory.mktemp("outline"))


def test_the_outline_has_every_field_of_onnx() -> None:
    """A newer ONNX with another place for a tensor fails here, before it can be hidden in."""
    seen = {}

    def compare(theirs: Descriptor, ours: Descriptor) -> None:
        if theirs.full_name in seen:
            assert seen[theirs.full_name] is ours
            return
        seen[theirs.full_name] = ours
        assert set(ours.fields_by_number) == set(theirs.fields_by_number), theirs.full_name
        for number, field in theirs.fields_by_number.items():
            same = ours.fields_by_number[number]
            assert same.name == field.name
            if field.message_type is None:
                assert WIRE[same.type] == WIRE[field.type], f"{theirs.full_name}.{field.name}"
            elif same.message_type is not OnnxSkipped.DESCRIPTOR:
                compare(field.message_type, same.message_type)
            else:
                assert not list(_routes(field.message_type)), f"{theirs.full_name}.{field.name} leads to a tensor"
                assert field.message_type.full_name not in LOOKED_AT

    compare(ModelProto.DESCRIPTOR, OnnxModel.DESCRIPTOR)
    assert seen.keys() >= LOOKED_AT
    for route in ROUTES:
        descriptor = OnnxModel.DESCRIPTOR
        for field in route:
            descriptor = descriptor.fields_by_number[field.number].message_type
        assert descriptor is OnnxTensor.DESCRIPTOR, _name(route)


def test_a_tensor_in_another_file_is_refused_wherever_it_stands(loader: Loader) -> None:
    names = [_name(route) for route in ROUTES]
    assert {"graph.initializer", "graph.sparse_initializer.indices", "graph.node.attribute.sparse_tensor.values"} <= {
        *names
    }
    assert "graph.node.attribute.graphs.node.attribute.sparse_tensors.indices" in names
    for route in ROUTES:
        model = loader.model()
        _plant(model, route, OUTSIDE)
        with pytest.raises(ArtifactError, match=REFUSED):
            graph_check.check(model.SerializeToString(), Path(_name(route)))
    for route in ROUTES:
        if len(route) <= 5:  # the real loader reads and checks a whole version each time
            model = loader.model()
            _plant(model, route, OUTSIDE)
            loader.refuses(model.SerializeToString(), REFUSED)


@settings(max_examples=60, deadline=None)
@given(
    routes=st.lists(st.sampled_from(ROUTES), min_size=1, max_size=4),
    tensors=st.lists(st.sampled_from([OUTSIDE, ONLY_ENTRIES, ONLY_LOCATION, *ODD_LOCATIONS]), min_size=4, max_size=4),
    appended=st.booleans(),
    precision=st.sampled_from(["fp32", "int8"]),
)
def test_tensors_in_other_files_are_refused_together(
    loader: Loader, routes: list[Route], tensors: list[TensorProto], *, appended: bool, precision: str
) -> None:
    """`appended`: as a second `graph` in the file, which Protobuf's readers merge with the first."""
    content = loader.content[MODELS[precision == "int8"]]
    model = ModelProto() if appended else ModelProto.FromString(content)
    for route, tensor in zip(routes, tensors, strict=False):
        _plant(model, route, tensor)
    planted = model.SerializeToString()
    loader.refuses(content + planted if appended else planted, REFUSED, precision)


def test_a_location_that_is_none_in_32_bits_is_refused(loader: Loader) -> None:
    """Readers differ in what 4294967296 does to an enum: it is 0, or no value of it."""
    tensor = ONLY_LOCATION.SerializeToString() + b"\x70\x80\x80\x80\x80\x10"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    loader.refuses(loader.content["model.onnx"] + b"\x3a" + bytes([len(graph)]) + graph, "lies in another file")


def _in_ort_format(folder: Path) -> bytes:
    """A model y = x + 1 as ONNX Runtime writes it for itself."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "other", value[:1], value[1:], [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(folder / "other.ort")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return (folder / "other.ort").read_bytes()


def _both(onnx_file: bytes, ort_file: bytes) -> bytes:
    """A file that Protobuf reads as `onnx_file`, and ONNX Runtime by its first bytes as `ort_file`.

    For ONNX Runtime the first four bytes say where its content begins, and its mark follows. For Protobuf they are
    ir_version 8 and the tag of a field of eight bytes, which begins with 0 and the mark; ONNX Runtime's content is the
    end of a producer_version.
    """
    start = b"\x08\x08\x09\x00"
    by = int.from_bytes(start, "little") - int.from_bytes(ort_file[:4], "little")
    assert by % 8 == 0, "ONNX Runtime checks that numbers are aligned"
    head = start + graph_check.ORT_FORMAT + bytes(3) + b"\x1a"
    content = bytes(by + 8 - len(head) - 3) + ort_file[8:]
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7 & 0x7F | 0x80, len(content) >> 14])
    return head + length + content + onnx_file


def test_a_file_in_onnx_runtimes_own_format_is_refused(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _in_ort_format(tmp_path)
    both = _both(loader.content["model.onnx"], other)
    assert ModelProto.FromString(both).graph == loader.model().graph
    taken = ort.InferenceSession(both, providers=["CPUExecutionProvider"])
    assert [node.name for node in taken.get_inputs()] == ["x"], "ONNX Runtime alone takes the other model"
    loader.refuses(other, "ONNX Runtime's own format")
    loader.refuses(both, "ONNX Runtime's own format")
    monkeypatch.setattr(graph_check, "check", lambda content, where: None)
    loader.refuses(other, "ONNX Runtime cannot load")
    loader.load(both)  # as ONNX, by the option: its golden answers are right


def test_options_and_fields_that_nobody_looked_at_are_refused(loader: Loader) -> None:
    options = loader.model()
    options.metadata_props.add(key="ort_config", value='{"session_options": {"enable_profiling": 1}}')
    loader.refuses(options.SerializeToString(), "options for ONNX Runtime")
    harmless = loader.model()
    harmless.metadata_props.add(key="licence", value="MIT")
    harmless.graph.quantization_annotation.add(tensor_name="weights_0")
    loader.load(harmless.SerializeToString())
    tensor = b"\xba\x3e" + bytes([OUTSIDE.ByteSize()]) + OUTSIDE.SerializeToString()  # as a field 999
    model = loader.model()
    unknown = [
        model.SerializeToString() + tensor,
        ModelProto(graph=onnx.GraphProto.FromString(tensor)).SerializeToString() + model.SerializeToString(),
    ]
    for content in unknown:
        loader.refuses(content, r"does not know \(Onnx(Model|Graph) 999\)")


@pytest.mark.parametrize(
    "content",
    [b"", b"ir_version: 8 graph { name: 'g' }", b'{"irVersion": "8", "graph": {"name": "g"}}'],
    ids=["empty", "text", "JSON"],
)
def test_other_forms_of_a_model_are_refused(loader: Loader, content: bytes) -> None:
    loader.refuses(content, "is not an ONNX model|cannot load")


def test_a_foreign_operator_is_named_shortly(loader: Loader) -> None:
    model = loader.model()
    model.opset_import.extend(helper.make_opsetid(f"com.example{number}" + "x" * 5000, 1) for number in range(500))
    with pytest.raises(ArtifactError, match="and 497 more; only standard ONNX operators") as caught:
        loader.load(model.SerializeToString())
    assert len(str(caught.value)) < 500


def test_tensors_of_a_file_of_its_own_are_served(loader: Loader) -> None:
    """Graphs in graphs and sparse tensors are ONNX too."""
    value = numpy_helper.from_array(np.zeros(1, "float32"), "k")
    index = numpy_helper.from_array(np.zeros(1, "int64"), "i")
    sparse = onnx.SparseTensorProto(values=value, indices=index, dims=[1])
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Constant", [], ["z"], value=value)], "inner", [], [output])
    model = loader.model()
    condition = numpy_helper.from_array(np.array(True), "always")
    model.graph.initializer.append(condition)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], sparse_value=sparse))
    model.graph.node.insert(0, helper.make_node("If", ["always"], ["unused too"], then_branch=inner, else_branch=inner))
    loader.load(model.SerializeToString())


@pytest.mark.parametrize("nested", [False, True])
def test_a_loop_without_an_end_is_refused_before_it_runs(nested: bool) -> None:
    """ONNX Runtime runs what is constant while it loads a file, so such a file would hold a start for ever."""
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [1])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])],
    )
    endless = helper.make_node("Loop", ["", "yes"], [], body=body)
    if nested:
        inside = helper.make_graph([endless], "then", [], [])
        endless = helper.make_node("If", ["yes"], [], then_branch=inside, else_branch=inside)
    model = helper.make_model(helper.make_graph([endless], "endless", [], [], [yes]))
    with pytest.raises(ArtifactError, match="has a Loop, which may never end"):
        graph_check.check(model.SerializeToString(), Path("model.onnx"))

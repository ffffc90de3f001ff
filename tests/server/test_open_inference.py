"""The Open Inference Protocol: a list of calls with their answers, and the documented examples with Triton's client."""

import re
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.grpc_calls import channel, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.support.model_infer import columns_of, infer

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip

ROOT = Path(__file__).resolve().parents[2]
TRITON = ROOT / ".venv-triton/bin/python"
IMAGES = mnist_images()[:5]
SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def _ask(server: ServerProcess, method: str, request: object) -> object:
    """One call by the name of its method."""
    output = SERVICE.methods_by_name[method].output_type._concrete_class
    with channel(server.address) as opened:
        path = f"/{SERVICE.full_name}/{method}"
        call = opened.unary_unary(path, lambda message: message.SerializeToString(), output.FromString)
        return call(request, timeout=20)


@pytest.fixture(scope="module")
def expected(server: ServerProcess) -> pb.PredictResponse:
    with stub(server.address) as caller:
        return caller.Predict(pb.PredictRequest(images=pixels(IMAGES), probabilities=True), timeout=20)


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 784), (5, 28, 28), (5, 1, 28, 28)])
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32", "INT64"])
def test_answers_are_those_of_predict(
    server: ServerProcess, expected: pb.PredictResponse, shape: tuple[int, ...], raw: bool, datatype: str
) -> None:
    answer = _ask(server, "ModelInfer", infer(IMAGES.reshape(shape), datatype=datatype, raw=raw, id="a7"))
    assert isinstance(answer, oip.ModelInferResponse)
    assert (answer.model_name, answer.model_version, answer.id) == ("mnist", "1", "a7")
    assert bool(answer.raw_output_contents) == raw
    columns = columns_of(answer)
    assert list(columns) == ["class_ids", "scores", "probabilities"]
    assert columns["class_ids"].tolist() == list(expected.class_ids)
    assert np.allclose(columns["scores"], expected.scores, atol=1e-6)
    assert np.allclose(columns["probabilities"].ravel(), expected.probabilities, atol=1e-6)


def test_requested_outputs_come_in_their_order(server: ServerProcess) -> None:
    for names in (["scores"], ["probabilities", "class_ids"]):
        answer = _ask(server, "ModelInfer", infer(IMAGES, *names, model_version="1"))
        assert isinstance(answer, oip.ModelInferResponse)
        assert [output.name for output in answer.outputs] == names
        assert len(answer.raw_output_contents) == len(names)


def test_the_second_request_of_a_form_is_answered_as_the_first(server: ServerProcess) -> None:
    """The header is known by then."""
    for index in range(5):
        answer = _ask(server, "ModelInfer", infer(IMAGES[index : index + 1], "class_ids"))
        assert isinstance(answer, oip.ModelInferResponse)
        with stub(server.address) as caller:
            own = caller.Predict(pb.PredictRequest(images=pixels(IMAGES[index : index + 1])), timeout=20)
        assert columns_of(answer)["class_ids"].tolist() == list(own.class_ids)


# --- about the server ----------------------------------------------------------------------------------------------


def test_what_the_server_says_about_itself(server: ServerProcess) -> None:
    assert _ask(server, "ServerLive", oip.ServerLiveRequest()).live  # type: ignore[attr-defined]
    assert _ask(server, "ServerReady", oip.ServerReadyRequest()).ready  # type: ignore[attr-defined]
    for version, ready in (("", True), ("1", True), ("2", False), ("x", False)):
        answer = _ask(server, "ModelReady", oip.ModelReadyRequest(name="mnist", version=version))
        assert answer.ready == ready  # type: ignore[attr-defined]
    metadata = _ask(server, "ModelMetadata", oip.ModelMetadataRequest(name="mnist"))
    assert isinstance(metadata, oip.ModelMetadataResponse)
    assert (metadata.name, list(metadata.versions)) == ("mnist", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in [*metadata.inputs, *metadata.outputs]] == [
        ("images", "UINT8", [-1, 784]),
        ("class_ids", "INT32", [-1]),
        ("scores", "FP32", [-1]),
        ("probabilities", "FP32", [-1, 10]),
    ]
    config = _ask(server, "ModelConfig", oip.ModelConfigRequest(name="mnist")).config  # type: ignore[attr-defined]
    assert (config.name, config.max_batch_size, config.backend) == ("mnist", 4096, "onnxruntime")
    assert list(config.dynamic_batching.preferred_batch_size) == [256]
    assert not config.model_transaction_policy.decoupled
    assert config.default_model_filename in ("model.onnx", "model.int8.onnx")
    kinds = (oip.ModelInstanceGroup.KIND_CPU, oip.ModelInstanceGroup.KIND_GPU)
    assert [group.kind in kinds for group in config.instance_group] == [True]
    assert set(config.parameters) == {"digest", "precision", "provider", "transport"}
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("images", oip.TYPE_UINT8, [784])]
    assert _ask(server, "ServerMetadata", oip.ServerMetadataRequest()).name == "mlpserve"  # type: ignore[attr-defined]
    index = _ask(server, "RepositoryIndex", oip.RepositoryIndexRequest())
    assert [(m.name, m.version, m.state) for m in index.models] == [("mnist", "1", "READY")]  # type: ignore[attr-defined]


# --- refusals ------------------------------------------------------------------------------------------------------


def _broken(change: str) -> oip.ModelInferRequest:
    request = infer(IMAGES)
    tensor = request.inputs[0]
    match change:
        case "no input":
            del request.inputs[:]
        case "name":
            tensor.name = "pixels"
        case "shape":
            tensor.shape[:] = [5, 783]
        case "no images":
            tensor.shape[0] = 0
        case "too many":
            tensor.shape[0] = 5000
        case "length":
            request.raw_input_contents[0] = bytes(784 * 4)
        case "datatype":
            tensor.datatype = "BYTES"
        case "both":
            tensor.contents.uint_contents.extend([1])
        case "two raw":
            request.raw_input_contents.append(b"x")
        case "typed length":
            del request.raw_input_contents[:]
            tensor.contents.uint_contents.extend([1, 2])
        case "normalised":
            return infer(IMAGES / 255, datatype="FP32")
        case "zeros and ones":
            return infer(IMAGES // 128, datatype="FP32")
        case "negative":
            return infer(-IMAGES.astype(np.int32), datatype="INT32", raw=False)
        case "nan":
            return infer(np.full((1, 784), np.nan), datatype="FP64")
        case "FP16 typed":
            del request.raw_input_contents[:]
            tensor.datatype = "FP16"
        case "output":
            request.outputs.add(name="logits")
        case "output twice":
            request.outputs.add(name="scores")
            request.outputs.add(name="scores")
        case "classification":
            request.outputs.add(name="scores").parameters["classification"].int64_param = 3
        case "output parameter":
            request.outputs.add(name="scores").parameters["x"].int64_param = 3
        case "shared memory":
            del request.raw_input_contents[:]
            tensor.parameters["shared_memory_region"].string_param = "mine"
        case "shared memory for outputs":
            request.outputs.add(name="scores").parameters["shared_memory_region"].string_param = "mine"
        case "hundreds of inputs":
            for _ in range(500):
                request.inputs.add(name="\n\x1b[2J" + "x" * 1000)
    return request


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no input", "inputs: expected one input, 'images'; got none"),
        ("name", "expected one input, 'images'; got pixels"),
        ("shape", r"'images' has shape \[5, 783\]; expected \[N, 784\] or \[N, 28, 28\]"),
        ("no images", "0 images in one request; this server takes 1 to 4096"),
        ("too many", "5000 images in one request; this server takes 1 to 4096"),
        ("length", "3136 bytes; 5 images of UINT8 are 3920"),
        ("datatype", "datatype 'BYTES'; expected UINT8"),
        ("both", "expected one entry, and no contents beside it"),
        ("two raw", "expected one entry"),
        ("typed length", "2 values in contents.uint_contents; 5 images have 3920"),
        ("normalised", "whole numbers from 0 to 255, not normalised"),
        ("zeros and ones", "all pixels are 0 or 1; they must be 0 to 255, not normalised"),
        ("negative", "whole numbers from 0 to 255"),
        ("nan", "whole numbers from 0 to 255"),
        ("FP16 typed", "FP16 has no typed contents; send raw_input_contents"),
        ("output", "'logits' is unknown or doubled; there are class_ids, scores, probabilities"),
        ("output twice", "'scores' is unknown or doubled"),
        ("classification", "class_count is not supported here; ask for the output probabilities"),
        ("output parameter", "outputs have no parameters here"),
        ("shared memory", "inputs: shared memory is not supported here"),
        ("shared memory for outputs", "outputs: shared memory is not supported here"),
        ("hundreds of inputs", r"got images, \\n\\x1b\[2Jx+… \(1,005 characters\), .* and 493 more$"),
    ],
)
def test_invalid_requests(server: ServerProcess, change: str, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(server, "ModelInfer", _broken(change))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert re.search(message, caught.value.details() or "")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_name": "cifar"}, "model 'cifar' is not served here"),
        ({"model_version": "9"}, "version 9 of 'mnist' is not served here"),
        ({"model_version": "latest"}, "version 'latest' is not served here; versions are numbers"),
    ],
)
def test_unknown_models(server: ServerProcess, fields: dict[str, str], message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _ask(server, "ModelInfer", infer(IMAGES, **fields))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert message in (caught.value.details() or "")


def test_no_message_at_all(server: ServerProcess) -> None:
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(f"/{SERVICE.full_name}/ModelInfer")(b"\xff\xff", timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_the_store_decides_what_is_loaded(server: ServerProcess, method: str) -> None:
    request = SERVICE.methods_by_name[method].input_type._concrete_class(model_name="mnist")
    with pytest.raises(grpc.RpcError) as caught:
        _ask(server, method, request)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "mlpserve-store promote" in (caught.value.details() or "")


# --- Triton's client -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TRITON.exists(), reason="no .venv-triton: run `make test`, which makes it")
@pytest.mark.parametrize("which", ["synchronous", "asyncio"])
def test_documented_examples(server: ServerProcess, tmp_path: Path, which: str) -> None:
    """The examples of docs/open-inference.md as they are, but for the port."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/open-inference.md").read_text(), flags=re.DOTALL)
    code = next(block for block in blocks if block.startswith(f"# {which}"))
    script = tmp_path / "example.py"
    script.write_text(code.replace("127.0.0.1:50051", server.address))
    result = subprocess.run([TRITON, script], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    classes = re.search(r"classes \[([\d, ]+)\]", result.stdout)
    assert classes, result.stdout
    assert len(classes[1].split(", ")) == (2 if which == "synchronous" else 8)
    assert len(set(classes[1].split(", "))) == 1


CONFORMANCE = """
import sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("mnist", "1")
assert client.get_server_metadata().name == "mlpserve"
assert client.get_model_config("mnist", as_json=True)["config"]["input"][0]["data_type"] == "TYPE_UINT8"
assert client.get_model_repository_index().models[0].state == "READY"

def infer(array, kind, **more):
    tensor = triton.InferInput("images", list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return client.infer("mnist", [tensor], **more)

images = np.load(sys.argv[2])
np.savez(
    sys.argv[3],
    **{f"{kind} {name}": infer(images.astype(dtype), kind, request_id="r").as_numpy(name)
       for kind, dtype in (("UINT8", np.uint8), ("FP32", np.float32))
       for name in ("class_ids", "scores", "probabilities")},
)
for wrong, status in (
    (lambda: infer(images / np.float32(255), "FP32"), "INVALID_ARGUMENT"),
    (lambda: infer(images[:, :20], "UINT8"), "INVALID_ARGUMENT"),
    (lambda: infer(images, "UINT8", model_version="7"), "NOT_FOUND"),
    (lambda: client.load_model("mnist"), "UNIMPLEMENTED"),
):
    try:
        wrong()
    except InferenceServerException as error:
        assert status in error.status(), error.status()
    else:
        raise AssertionError(status)
"""


@pytest.mark.skipif(not TRITON.exists(), reason="no .venv-triton: run `make test`, which makes it")
def test_tritons_client(server: ServerProcess, expected: pb.PredictResponse, tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    arguments = [server.address, str(tmp_path / "images.npy"), str(tmp_path / "answers.npz")]
    result = subprocess.run(
        [TRITON, "-c", CONFORMANCE, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    answers = np.load(tmp_path / "answers.npz")
    for kind in ("UINT8", "FP32"):
        assert answers[f"{kind} class_ids"].tolist() == list(expected.class_ids)
        assert np.allclose(answers[f"{kind} probabilities"].ravel(), expected.probabilities, atol=1e-6)

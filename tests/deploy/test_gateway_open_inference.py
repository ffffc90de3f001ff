"""The Open Inference Protocol's REST form through the gateway, called as KServe's and Triton's REST clients call it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from support.waiting import wait_until
from tests.support.documents import blocks
from tests.support.envoy import Gateway
from tests.support.rest import Answer, ask

from mlpserve_client import Client

ROOT = Path(__file__).resolve().parents[2]
IMAGES = mnist_images()[:3]
INFER = "/v2/models/mnist/infer"
LENGTH = "inference-header-content-length"


@pytest.fixture(scope="module")
def distribution(server: ServerProcess) -> Any:
    """N × C probabilities, by the project's own protocol."""
    with Client(server.address) as client:
        return client.predict(IMAGES, probabilities=True).probabilities


def _input(data: object, datatype: str = "UINT8", shape: tuple[int, ...] = (3, 784), **fields: object) -> Any:
    return {"name": "images", "shape": list(shape), "datatype": datatype, "data": data, **fields}


def _infer(gateway: Gateway, tensor: object, path: str = INFER, **fields: object) -> Answer:
    return ask(gateway.address, "POST", path, {"inputs": [tensor], **fields})


def _outputs(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return {output["name"]: output for output in answer.json["outputs"]}


# --- health and metadata -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/mnist/ready", {"name": "mnist", "ready": True}),
        ("/v2/models/mnist/versions/1/ready", {"name": "mnist", "ready": True}),
    ],
)
def test_health(gateway: Gateway, path: str, expected: object) -> None:
    answer = ask(gateway.address, "GET", path)
    assert (answer.status, answer.json) == (200, expected)


@pytest.mark.parametrize("path", ["/v2/models/cifar/ready", "/v2/models/mnist/versions/9/ready"])
def test_what_is_not_ready_is_not_answered_with_200(gateway: Gateway, path: str) -> None:
    """KServe's and Triton's clients look at the status alone."""
    answer = ask(gateway.address, "GET", path)
    assert (answer.status, answer.json["ready"]) == (400, False)


def test_metadata(gateway: Gateway) -> None:
    server = ask(gateway.address, "GET", "/v2").json
    assert (set(server), server["name"]) == ({"name", "version", "extensions"}, "mlpserve")
    assert server["extensions"] == ["binary_tensor_data"]
    assert ask(gateway.address, "GET", "/v2/").json == server
    model = ask(gateway.address, "GET", "/v2/models/mnist").json
    assert model == {
        "name": "mnist",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 784]}],
        "outputs": [
            {"name": "class_ids", "datatype": "INT32", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    }
    assert ask(gateway.address, "GET", "/v2/models/mnist/versions/1").json == model


def test_a_draining_server_is_not_ready(store: Path, transport: str, tmp_path: Path) -> None:
    flags = ["--precision", "fp32", "--threads", 1, "--drain-delay", 4, "--transport", transport]
    with ServerProcess(tmp_path, store, *flags) as server, Gateway(tmp_path, [server.address]) as gateway:
        assert ask(gateway.address, "GET", "/v2/health/ready").status == 200
        server.terminate()
        answer = wait_until(
            lambda: (found := ask(gateway.address, "GET", "/v2/health/ready")).status != 200 and found,
            "a draining server is not ready",
        )
        assert answer.status in (400, 503)  # by the server's own word, or by the gateway's health check
        assert answer.json in ({"ready": False}, {"error": "no healthy upstream"})


def test_without_a_server_nothing_is_ready(store: Path, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, store, "--precision", "fp32") as server,
        Gateway(tmp_path, [server.address]) as gateway,
    ):
        server.process.kill()
        server.wait()
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/mnist/ready", "/v2/models/mnist"):
            answer = ask(gateway.address, "GET", path)
            assert answer.status == 503
            assert set(answer.json) == {"error"}
        assert ask(gateway.address, "GET", "/v1/models").json["code"] == 14


# --- infer with JSON -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "datatype", "shape"),
    [
        (IMAGES.reshape(-1).tolist(), "UINT8", (3, 784)),
        (IMAGES.reshape(3, 784).tolist(), "UINT8", (3, 784)),
        (IMAGES.tolist(), "UINT8", (3, 28, 28)),
        (IMAGES.astype(float).reshape(-1).tolist(), "FP32", (3, 28, 28)),
        (IMAGES.reshape(3, 784).tolist(), "INT64", (3, 784)),
    ],
    ids=["flat", "nested", "pictures", "floats", "int64"],
)
def test_infer(gateway: Gateway, distribution: Any, data: object, datatype: str, shape: tuple[int, ...]) -> None:
    answer = _infer(gateway, _input(data, datatype, shape), id="call 7", model_name="mnist")
    outputs = _outputs(answer)
    assert set(answer.json) == {"model_name", "model_version", "id", "outputs"}
    assert (answer.json["model_name"], answer.json["model_version"], answer.json["id"]) == ("mnist", "1", "call 7")
    assert [list(output) for output in answer.json["outputs"]] == [["name", "datatype", "shape", "data"]] * 3
    assert {name: (o["datatype"], o["shape"]) for name, o in outputs.items()} == {
        "class_ids": ("INT32", [3]),
        "scores": ("FP32", [3]),
        "probabilities": ("FP32", [3, 10]),
    }
    found = np.array(outputs["probabilities"]["data"], np.float32).reshape(3, 10)
    assert found.tobytes() == distribution.tobytes(), "JSON carries every bit"
    assert outputs["class_ids"]["data"] == distribution.argmax(axis=1).tolist()


def test_infer_of_one_output_of_one_version(gateway: Gateway, expected: list[int]) -> None:
    path = "/v2/models/mnist/versions/1/infer"
    answer = _infer(gateway, _input(IMAGES.reshape(-1).tolist()), path, outputs=[{"name": "class_ids"}])
    assert [output["name"] for output in answer.json["outputs"]] == ["class_ids"]
    assert answer.json["outputs"][0]["data"] == expected
    assert "id" not in answer.json


def test_the_documented_call(gateway: Gateway, tmp_path: Path) -> None:
    """The block of docs/open-inference.md as it stands, but for the port."""
    (block,) = [block for block in blocks(ROOT / "docs/open-inference.md") if "curl --json" in block.code]
    code = "set -e\n" + block.code.replace("127.0.0.1:8080", gateway.address)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["outputs"][0]["shape"] == [1]


def test_a_thousand_images(gateway: Gateway, server: ServerProcess) -> None:
    images = np.concatenate([mnist_images()[:500]] * 2)
    with Client(server.address) as client:
        classes = client.predict(images).class_ids.tolist()
    outputs = _outputs(_infer(gateway, _input(images.tolist(), shape=images.shape)))
    assert outputs["class_ids"]["data"] == classes


# --- infer with binary data ----------------------------------------------------------------------------------------


def _binary(gateway: Gateway, head: object, tail: bytes, length: int | None = None) -> Answer:
    encoded = json.dumps(head).encode()
    headers = {LENGTH: str(len(encoded) if length is None else length), "content-type": "application/octet-stream"}
    return ask(gateway.address, "POST", INFER, encoded + tail, headers)


def _binary_input(size: int, **fields: object) -> Any:
    return {
        "name": "images",
        "shape": [3, 784],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": size},
        **fields,
    }


def test_binary_data_in_both_directions(gateway: Gateway, distribution: Any) -> None:
    request = {"inputs": [_binary_input(IMAGES.size)], "parameters": {"binary_data_output": True}}
    answer = _binary(gateway, request, IMAGES.tobytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    length = int(answer.headers[LENGTH])
    head, at = json.loads(answer.body[:length]), length
    columns = {}
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        assert "data" not in output
        columns[output["name"]] = answer.body[at : at + size]
        at += size
    assert at == len(answer.body)
    assert columns["probabilities"] == distribution.tobytes()
    assert np.frombuffer(columns["class_ids"], "<i4").tolist() == distribution.argmax(axis=1).tolist()


def test_binary_data_for_one_output_only(gateway: Gateway, distribution: Any) -> None:
    wanted = [{"name": "class_ids"}, {"name": "scores", "parameters": {"binary_data": True}}]
    answer = _binary(gateway, {"inputs": [_binary_input(IMAGES.size)], "outputs": wanted}, IMAGES.tobytes())
    length = int(answer.headers[LENGTH])
    classes, scores = json.loads(answer.body[:length])["outputs"]
    assert classes["data"] == distribution.argmax(axis=1).tolist()
    assert scores["parameters"] == {"binary_data_size": 12}
    assert answer.body[length:] == distribution.max(axis=1).tobytes()


def test_binary_data_in_and_json_out(gateway: Gateway, expected: list[int]) -> None:
    answer = _binary(gateway, {"inputs": [_binary_input(IMAGES.size)]}, IMAGES.tobytes())
    assert LENGTH not in answer.headers
    assert _outputs(answer)["class_ids"]["data"] == expected


@pytest.mark.parametrize(
    ("head", "tail", "length", "message"),
    [
        ({"inputs": [_binary_input(2352)]}, bytes(2351), None, "binary_data_size is more than what follows"),
        ({"inputs": [_binary_input(2352)]}, bytes(2353), None, "1 bytes follow that belong to no input"),
        ({"inputs": [_binary_input(-1)]}, b"", None, "binary_data_size is more than what follows"),
        ({"inputs": [_binary_input(0, data=[1])]}, b"", None, "both data and binary_data_size"),
        ({"inputs": [_binary_input(2351)]}, bytes(2351), None, "2351 bytes; 3 images of UINT8 are 2352"),
        ({"inputs": []}, b"", 1_000_000, "inference-header-content-length must be the number of bytes"),
    ],
)
def test_wrong_binary_data(gateway: Gateway, head: object, tail: bytes, length: int | None, message: str) -> None:
    answer = _binary(gateway, head, tail, length)
    assert answer.status == 400
    assert message in answer.json["error"]


# --- errors --------------------------------------------------------------------------------------------------------

FLAT = [0] * 2352


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "the body must be a JSON object"),
        (b"{", "the body is not JSON"),
        ({}, "expected one input, 'images'; got none"),
        ({"inputs": {}}, "inputs must be an array"),
        ({"inputs": [1]}, "inputs must be an array of objects"),
        ({"inputs": [_input(FLAT)], "input": 1}, 'the field or parameter "input", which is not supported'),
        ({"inputs": [_input(FLAT)], "model_name": "cifar"}, 'model_name "cifar" is another than the path\'s "mnist"'),
        ({"inputs": [_input(FLAT)], "model_version": "2"}, 'model_version "2" is another than the path\'s'),
        ({"inputs": [_input(FLAT)], "id": 7}, "id must be a string"),
        ({"inputs": [_input(FLAT)], "parameters": {"priority": 1}}, '"priority", which is not supported'),
        ({"inputs": [_input(FLAT)], "parameters": {"binary_data_output": 1}}, "must be a boolean"),
        ({"inputs": [_input(FLAT, name="pixels")]}, "expected one input, 'images'; got pixels"),
        ({"inputs": [_input(FLAT, parameters={"shared_memory_region": "a"})]}, '"shared_memory_region", which is not'),
        ({"inputs": [_input(FLAT, shape=())]}, "shape must be an array of numbers"),
        ({"inputs": [_input(FLAT, shape=(-3, 784))]}, "whole numbers from 0"),
        ({"inputs": [_input(FLAT[1:])]}, '"images": 2351 values; its shape has 2352'),
        ({"inputs": [_input([FLAT[:3]] * 784)]}, "784 entries at level 1; its shape says 3"),
        ({"inputs": [_input([FLAT[:784], FLAT[:784], FLAT[:783]])]}, "783 entries at level 2; its shape says 784"),
        ({"inputs": [_input([FLAT[:784], 1, 2])]}, "neither flat nor nested as its shape says"),
        ({"inputs": [_input([256, *FLAT[1:]])]}, "value 0 is 256, which is no UINT8"),
        ({"inputs": [_input([0, -1, *FLAT[2:]])]}, "value 1 is -1, which is no UINT8"),
        ({"inputs": [_input([0.5, *FLAT[1:]])]}, "value 0 is 0.5, which is no UINT8"),
        ({"inputs": [_input(["1", *FLAT[1:]])]}, "value 0 is no number"),
        ({"inputs": [_input([0.5, *FLAT[1:]], "FP32")]}, "whole numbers from 0 to 255, not normalised"),
        ({"inputs": [_input(["a"] * 2352, "BYTES")]}, '"BYTES" cannot be given in JSON here; send UINT8'),
        ({"inputs": [_input(FLAT, "FP16")]}, '"FP16" cannot be given in JSON here'),
        ({"inputs": [_input(FLAT)], "outputs": [{"name": "logits"}]}, "'logits' is unknown or doubled"),
        (
            {"inputs": [_input(FLAT)], "outputs": [{"name": "scores", "parameters": {"classification": 3}}]},
            "classification is not supported: ask for the output probabilities",
        ),
    ],
)
def test_wrong_requests(gateway: Gateway, body: object, message: str) -> None:
    answer = ask(gateway.address, "POST", INFER, body)
    assert answer.status == 400, answer.body
    assert set(answer.json) == {"error"}
    assert message in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v2/models/cifar", 404, "model 'cifar' is not served here"),
        ("GET", "/v2/models/mnist/versions/9", 404, "version 9 of 'mnist' is not served here"),
        ("GET", "/v2/models/mnist/versions/nine", 404, "versions are numbers from 1"),
        ("GET", "/v2/models", 404, 'nothing is served at "/v2/models"'),
        ("GET", "/v2/health", 404, "nothing is served at"),
        ("GET", "/v2/models/mnist/stats", 404, "nothing is served at"),
        ("POST", "/v2/repository/index", 404, "nothing is served at"),
        ("POST", "/v2/models/mnist/generate", 404, "nothing is served at"),
        ("POST", "/v2/health/ready", 405, "expected GET"),
        ("GET", INFER, 405, "expected POST"),
        ("GET", "/v2/models/mnist?version=1", 400, 'the query "version=1" is not taken here'),
    ],
)
def test_paths_that_are_not_served(gateway: Gateway, method: str, path: str, status: int, message: str) -> None:
    answer = ask(gateway.address, method, path)
    assert answer.status == status
    assert set(answer.json) == {"error"}
    assert message in answer.json["error"]


def test_infer_with_another_model(gateway: Gateway) -> None:
    answer = _infer(gateway, _input(FLAT), "/v2/models/cifar/infer")
    assert (answer.status, "model 'cifar' is not served here" in answer.json["error"]) == (404, True)


def test_infer_above_the_limit(gateway: Gateway) -> None:
    answer = ask(gateway.address, "POST", INFER, bytes(4_310_000))
    assert (answer.status, "larger than the gateway takes" in answer.json["error"]) == (413, True)


def test_text_of_callers_is_escaped_and_cut(gateway: Gateway) -> None:
    name = "\n\x1b[31m" + "x" * 500
    answer = ask(gateway.address, "POST", INFER, {"inputs": [], name: 1})
    error = answer.json["error"]
    assert answer.status == 400
    assert len(error) < 200
    assert not any(character < " " for character in error.rstrip("\n"))


def test_a_port_where_nothing_listens(tmp_path: Path, store: Path) -> None:
    """The other server answers; the gateway does not wait for the dead one."""
    with (
        ServerProcess(tmp_path, store, "--precision", "fp32") as server,
        Gateway(tmp_path, [f"127.0.0.1:{free_port()}", server.address]) as gateway,
    ):
        assert {ask(gateway.address, "GET", "/v2/health/ready").status for _ in range(20)} == {200}

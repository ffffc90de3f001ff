"""What the gateway does not take, and how it says so: to callers of JSON, of gRPC and of gRPC-Web."""

import base64
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor
from support.grpc_calls import channel, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess
from support.waiting import wait_until
from tests.support import http2
from tests.support.envoy import Gateway
from tests.support.rest import ask

from mlpserve.v1 import classifier_pb2 as pb

PREDICT = "/v1/models/mnist:predict"
IMAGES = base64.b64encode(pixels(mnist_images()[:3])).decode()
TOO_LARGE = bytes(4_310_000)  # by so little that all of it is sent before the answer comes


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, 5),
        ("GET", "/healthz", 404, 5),
        ("GET", "/metrics", 404, 5),
        ("GET", "/v1", 404, 5),
        ("GET", "/v1/", 404, 5),
        ("GET", "/v1/models/", 404, 5),
        ("GET", "/v1/models/mnist/versions/1", 404, 5),
        ("POST", "/v1/models/mnist:explain", 404, 5),
        ("GET", "/v1/modelsx", 404, 5),
        ("GET", "/v1x/models", 404, 5),
        ("POST", "/mlpserve.v1.ClassifierService/Predict", 404, 5),
        ("GET", "/grpc.health.v1.Health/Check", 404, 5),
        ("GET", PREDICT, 405, 12),
        ("PUT", PREDICT, 405, 12),
        ("POST", "/v1/models", 405, 12),
        ("DELETE", "/v1/models/mnist", 405, 12),
    ],
)
def test_what_is_not_served_is_refused_as_a_status(
    gateway: Gateway, method: str, path: str, status: int, code: int
) -> None:
    answer = ask(gateway.address, method, path)
    assert answer.status == status
    assert set(answer.json) == {"code", "message", "details"}
    assert (answer.json["code"], answer.json["details"]) == (code, [])
    assert answer.json["message"]
    assert ("allow" in answer.headers) is (status == 405)


def test_a_wrong_method_names_the_right_one(gateway: Gateway) -> None:
    assert ask(gateway.address, "GET", PREDICT).headers["allow"] == "POST"
    assert ask(gateway.address, "POST", "/v1/models", {}).headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (PREDICT, b"{", "the body is not JSON: no key in quotation marks at byte 2"),
        (PREDICT, b"", "the body is not JSON: no value at byte 1"),
        (PREDICT, b"[]", "the body must be a JSON object"),
        (PREDICT, b'{"images": "AAAA"} x', "something behind the end at byte 20"),
        (PREDICT, b'{"images": "AAAA", "images": "BBBB"}', "a key that was there before at byte 20"),
        (PREDICT, b'{"images": ' + b"[" * 10_000, "more than 16 levels"),
        (PREDICT, b'{"image": "AAAA"}', 'unknown field "image"'),
        (PREDICT, b'{"images": "AAAA", "top_k": "many"}', 'top_k: invalid value "many"'),
        (PREDICT, b'{"images": "AAAA", "model": "cifar"}', "the model stands in the path"),
        (PREDICT, b'{"images": "AAAA", "model": "mnist"}', "the model stands in the path"),
        (f"{PREDICT}?model=cifar", b'{"images": "AAAA"}', 'the query "model=cifar" is not taken here'),
        (f"{PREDICT}?top_k=3", b'{"images": "AAAA"}', 'the query "top_k=3" is not taken here'),
    ],
)
def test_a_body_is_refused_as_a_status(gateway: Gateway, path: str, body: bytes, message: str) -> None:
    answer = ask(gateway.address, "POST", path, body)
    assert (answer.status, answer.json["code"]) == (400, 3)
    assert message in answer.json["message"]


@pytest.mark.parametrize("query", ["model=cifar", "version=1&model=cifar", "top_k=1"])
def test_a_query_does_not_beat_the_path(gateway: Gateway, query: str) -> None:
    answer = ask(gateway.address, "GET", f"/v1/models/mnist?{query}")
    assert (answer.status, answer.json["code"]) == (400, 3)


def test_every_field_of_the_contract_is_known(gateway: Gateway) -> None:
    """In both of its spellings, so that a field that the contract gets is not forgotten here."""
    kinds = descriptor.FieldDescriptor
    values: dict[int, Any] = {kinds.TYPE_BOOL: True, kinds.TYPE_UINT32: 1, kinds.TYPE_ENUM: "TRAFFIC_BATCH"}
    fields = [field for field in pb.PredictRequest.DESCRIPTOR.fields if field.name not in ("model", "images")]
    assert len(fields) > 3
    for field in fields:
        for name in {field.name, field.json_name}:
            answer = ask(gateway.address, "POST", PREDICT, {"images": IMAGES, name: values[field.type]})
            assert answer.status == 200, (name, answer.json)


def test_errors_of_the_server_keep_their_details(gateway: Gateway) -> None:
    answer = ask(gateway.address, "POST", PREDICT, {"images": "AAAA"})
    assert (answer.status, answer.json["code"]) == (400, 3)
    assert answer.json["details"][0]["@type"] == "type.googleapis.com/google.rpc.BadRequest"


def test_compressed_bodies_are_refused(gateway: Gateway) -> None:
    answer = ask(gateway.address, "POST", PREDICT, b"\x1f\x8b", {"content-encoding": "gzip"})
    assert (answer.status, answer.json["code"]) == (415, 3)
    assert "send it without content-encoding" in answer.json["message"]


def test_headers_above_the_limit_are_a_status(gateway: Gateway) -> None:
    answer = ask(gateway.address, "GET", "/v1/models", headers={"x-long": "x" * 20_000})
    assert (answer.status, answer.json["code"]) == (431, 8)


# --- above the limit -----------------------------------------------------------------------------------------------


def test_a_body_above_the_limit_is_a_status(gateway: Gateway) -> None:
    answer = ask(gateway.address, "POST", PREDICT, TOO_LARGE)
    assert (answer.status, answer.json["code"]) == (413, 8)
    assert "larger than the gateway takes (4300000 bytes)" in answer.json["message"]


def test_a_message_above_the_limit_is_resource_exhausted(gateway: Gateway) -> None:
    with stub(gateway.address) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.Predict(pb.PredictRequest(images=TOO_LARGE), timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than the gateway takes (4300000 bytes)" in caught.value.details()


def test_a_grpc_web_message_above_the_limit_is_resource_exhausted(gateway: Gateway) -> None:
    frame = b"\0" + len(TOO_LARGE).to_bytes(4, "big") + TOO_LARGE
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer = ask(gateway.address, "POST", "/mlpserve.v1.ClassifierService/Predict", frame, headers)
    assert answer.headers["grpc-status"] == "8"
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert "larger than the gateway takes" in answer.headers["grpc-message"]
    assert answer.body == b""


# --- gRPC ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["/nothing.v1.Here/Call", "/v1/models", "/v2/health/ready"])
def test_an_unknown_grpc_method_is_unimplemented(gateway: Gateway, method: str) -> None:
    with channel(gateway.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(method)(b"", timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == (
        "nothing is served at this path; there are gRPC, /v1/models and /v2 (docs/gateway.md)"
    )


@pytest.mark.parametrize("path", [b"/\xff\xfe/x", b"/mlpserve.v1.ClassifierService/\xff\xfe"])
def test_a_malformed_method_does_not_reach_a_server(store: Path, tmp_path: Path, path: bytes) -> None:
    """gRPC's own server ends on it, and is opened again."""
    flags = ["--precision", "fp32", "--transport", "grpcio", "--workers", 1]
    with ServerProcess(tmp_path, store, *flags) as server, Gateway(tmp_path, [server.address]) as gateway:
        with http2.Connection(gateway.address) as connection:
            end = http2.END_HEADERS | http2.END_STREAM
            connection.send(http2.frame(http2.HEADERS, end, 1, http2.headers(path)))
            wait_until(lambda: connection.ended or connection.frames[http2.RST_STREAM], "the gateway refuses it")
        with stub(gateway.address) as caller:
            for _ in range(20):
                assert len(caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10).class_ids) == 1
        assert "opened again" not in server.log


def test_nothing_in_the_configuration_is_deprecated(gateway: Gateway) -> None:
    assert "deprecated" not in gateway.log.lower()
    stats = json.loads(ask(gateway.admin, "GET", "/stats?format=json&filter=deprecated").body)["stats"]
    used = {entry["name"]: entry["value"] for entry in stats}
    assert used["runtime.deprecated_feature_use"] == 0

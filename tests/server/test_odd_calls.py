"""Calls that no generated stub sends, on every unary method of both transports."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from support.grpc_calls import PREDICT, channel
from support.processes import ServerProcess
from support.transports import TRANSPORTS, need
from support.waiting import wait_until
from tests.support.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, Connection, frame, headers, literal, message

from mlpserve.v1 import classifier_pb2, open_inference_pb2

SERVICES: list[ServiceDescriptor] = [
    classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"],
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
]
UNARY = [
    f"/{service.full_name}/{method.name}"
    for service in SERVICES
    for method in service.methods
    if not method.server_streaming and not method.client_streaming
]
GET_MODEL = "/mlpserve.v1.ClassifierService/GetModel"


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    need(request.param)
    with ServerProcess(tmp_path_factory.mktemp("server"), store, "--transport", request.param) as process:
        yield process
        assert "Traceback" not in process.log


def test_every_unary_method_that_reflection_shows_is_here() -> None:
    assert {"Predict", "ModelInfer", "GetModel", "Check", "List", "ModelStatistics"} <= {
        method.rpartition("/")[2] for method in UNARY
    }


@pytest.mark.parametrize("method", UNARY)
def test_bytes_that_are_no_message_are_an_invalid_argument(server: ServerProcess, method: str) -> None:
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(method)(b"\xff\xff\xff\xff", timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, caught.value


@pytest.mark.parametrize("method", UNARY)
def test_a_call_without_a_message_is_answered(server: ServerProcess, method: str) -> None:
    """The specification's code for a unary call that has no message, at once."""
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.stream_unary(method)(iter(()), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED, caught.value


@pytest.mark.parametrize("method", UNARY)
def test_metadata_of_nearly_16_kib_is_taken_each_time(server: ServerProcess, method: str) -> None:
    metadata = [(f"x-part-{number}", "v" * 1460) for number in range(10)]
    with channel(server.address) as opened:
        for _ in range(20):
            try:
                opened.unary_unary(method)(b"", metadata=metadata, timeout=10)
            except grpc.RpcError as error:
                # An empty Predict lacks its images, an empty ModelInfer its inputs; both were read. Nothing is loaded.
                unloaded = method.endswith(("RepositoryModelLoad", "RepositoryModelUnload"))
                expected = (
                    (grpc.StatusCode.UNIMPLEMENTED,)
                    if unloaded
                    else (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
                )
                assert error.code() in expected, (method, error)


def test_more_metadata_is_refused_and_the_connection_goes_on(server: ServerProcess) -> None:
    metadata = [(f"x-part-{number}", "v" * 1460) for number in range(13)]
    with channel(server.address) as opened:
        with pytest.raises(grpc.RpcError) as caught:
            opened.unary_unary(GET_MODEL)(b"", metadata=metadata, timeout=10)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, caught.value
        assert opened.unary_unary(GET_MODEL)(b"", timeout=10)


@pytest.mark.parametrize(
    "forged",
    [
        b"a\nFORGED",
        b"a\r\nFORGED",
        b"a\x1b[31mFORGED",
        b"a\x00FORGED",
        b"a\x9b31mFORGED",
        "a\u202eFORGED".encode(),
        b"F" * 120,
    ],
    ids=repr,
)
def test_a_forged_request_id_stays_on_its_line(server: ServerProcess, forged: bytes) -> None:
    """Sent by hand, because gRPC's clients send no such thing; the server may refuse it or log it escaped."""
    wrong = message(3, b"\x1a\x01x")  # one byte is no image
    with Connection(server.address) as connection:
        block = headers(PREDICT.encode()) + literal(b"x-request-id", forged)
        connection.send(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, wrong))
        wait_until(lambda: connection.closed or 1 in connection.ended, lambda: f"the call ends: {connection.frames}")
    with channel(server.address) as opened:
        assert opened.unary_unary(GET_MODEL)(b"", timeout=10), "others are served"
    assert all(line.startswith("20") for line in server.log.splitlines()), server.log
    assert not any(unicodedata.category(letter) in ("Cc", "Cf") and letter != "\n" for letter in server.log)


def test_health_list_names_what_check_answers(server: ServerProcess) -> None:
    with channel(server.address) as opened:
        listed = opened.unary_unary(
            "/grpc.health.v1.Health/List", response_deserializer=health_pb2.HealthListResponse.FromString
        )(b"", timeout=10)
        check = opened.unary_unary(
            "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
        )
        assert listed.statuses
        for name, status in listed.statuses.items():
            asked = health_pb2.HealthCheckRequest(service=name).SerializeToString()
            assert check(asked, timeout=10).status == status.status, name

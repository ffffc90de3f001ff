"""Logs and traces of real servers: what a person or a collector gets to see."""

import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from support.grpc_calls import PREDICT, channel, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, run, scrape
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client

ONE = pb.PredictRequest(images=pixels(mnist_images()[:1]))


def _lines(process: ServerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.log.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_json_log(transport: str, workers: int, store: Path, tmp_path: Path) -> None:
    flags = ["--transport", transport, "--workers", workers, "--log-format", "json"]
    with ServerProcess(tmp_path, store, *flags) as process:
        process.terminate()
        assert process.wait() == 0
        lines = _lines(process)
    assert all({"time", "level", "message"} <= line.keys() for line in lines)
    proven = [line for line in lines if "proven in" in line["message"]]
    assert len(proven) == workers
    told = {line["worker"] for line in proven if "worker" in line}
    assert len(told) == (workers if workers > 1 else 0), "each worker's lines say which one it is; one alone need not"
    assert lines[-1]["message"] == "drained; every accepted request was answered"


def test_failed_requests_are_sampled_with_their_ids(transport: str, store: Path, tmp_path: Path) -> None:
    flags = ["--transport", transport, "--log-format", "json"]
    with ServerProcess(tmp_path, store, *flags) as process, channel(process.address) as opened:
        method = opened.unary_unary(PREDICT)
        for number in range(50):
            with pytest.raises(grpc.RpcError):
                method(b"\x1a\x01x", metadata=[("x-request-id", f"r{number}")], timeout=10)
        lines = [line for line in _lines(process) if line["message"] == "failed request"]
    assert 1 <= len(lines) <= 5
    assert lines[0] | {"time": ""} == {
        "time": "",
        "level": "warning",
        "message": "failed request",
        "method": "Predict",
        "request_id": "r0",
        "images": 1,
        "traffic": "",
        "code": "INVALID_ARGUMENT",
        "reason": "images: 1 bytes are not a whole number of 28x28 images (784 bytes each)",
        "others_like_it": 0,
    }


def test_slow_requests_are_told(transport: str, slow_store: Path, tmp_path: Path) -> None:
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--slow-request", 0.05]
    with ServerProcess(tmp_path, slow_store, *flags) as process, stub(process.address) as caller:
        request = pb.PredictRequest(images=bytes(784 * 4096))
        caller.Predict(request, metadata=[("x-request-id", "big")], timeout=60)
        process.wait_for_log("slow request method=Predict request_id=big images=4096 traffic=batch queue_seconds=")
        assert "batch_images=256" in process.log


def test_trace(transport: str, store: Path, tmp_path: Path) -> None:
    """client → queue → run, with the batch's span linked to the requests in it."""
    spans_file = tmp_path / "spans"
    tracer = TracerProvider().get_tracer("test")
    with (
        ServerProcess(tmp_path, store, "--transport", transport, "--trace", spans_file) as process,
        Client(process.address) as client,
    ):
        client.predict(mnist_images()[:1])  # outside of a span
        with tracer.start_as_current_span("caller") as caller:
            client.predict(mnist_images()[:3])
        process.terminate()
        assert process.wait() == 0
    spans = {span["name"]: span for span in map(json.loads, spans_file.read_text().splitlines())}
    request, queue, run_span, batch = (
        spans.pop(name) for name in ("mlpserve.v1.ClassifierService/Predict", "queue", "run", "batch")
    )
    assert spans == {}
    context = caller.get_span_context()
    assert request["context"]["trace_id"] == queue["context"]["trace_id"] == f"0x{context.trace_id:032x}"
    assert request["parent_id"] == f"0x{context.span_id:016x}"
    assert request["kind"] == "SpanKind.SERVER"
    assert request["attributes"]["mlpserve.images"] == 3
    assert queue["parent_id"] == run_span["parent_id"] == request["context"]["span_id"]
    assert [link["context"]["span_id"] for link in run_span["links"]] == [batch["context"]["span_id"]]
    assert [link["context"]["span_id"] for link in batch["links"]] == [request["context"]["span_id"]]
    assert batch["parent_id"] is None
    assert request["start_time"] <= queue["end_time"] <= run_span["end_time"] == request["end_time"]
    assert request["resource"]["attributes"]["service.name"] == "mlpserve"


@pytest.mark.parametrize(
    ("payload", "deadline", "code", "error"),
    [(b"\x1a\x01x", 10.0, 3, False), (ONE.SerializeToString(), 1e-9, 4, True)],
    ids=["invalid", "expired"],
)
def test_calls_that_fail_have_a_span(
    payload: bytes, deadline: float, code: int, error: bool, transport: str, store: Path, tmp_path: Path
) -> None:
    if error and transport != "wire":
        pytest.skip("gRPC itself ends calls that have expired")
    spans_file = tmp_path / "spans"
    flags = ["--transport", transport, "--trace", spans_file]
    parent = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    with ServerProcess(tmp_path, store, *flags) as process, http2.Connection(process.address) as connection:
        block = http2.headers(PREDICT.encode()) + http2.literal(b"traceparent", parent.encode())
        block += http2.literal(b"grpc-timeout", b"1n" if deadline < 1 else b"10S")
        # At once: whose deadline passes while their message is on its way are ended by the wire, and have no span.
        headers = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block)
        connection.send(headers + http2.frame(http2.DATA, http2.END_STREAM, 1, http2.message(len(payload), payload)))
        wait_until(lambda: 1 in connection.ended, "the call is ended")
        process.terminate()
        assert process.wait() == 0
    spans = [json.loads(line) for line in spans_file.read_text().splitlines()]
    (span,) = spans
    assert span["context"]["trace_id"] == "0x" + "1" * 32
    assert span["attributes"]["rpc.grpc.status_code"] == code
    assert span["attributes"]["mlpserve.reason"]
    assert (span["status"]["status_code"] == "ERROR") is error


def test_calls_that_are_not_sampled_make_no_spans(store: Path, tmp_path: Path) -> None:
    spans_file = tmp_path / "spans"
    with ServerProcess(tmp_path, store, "--trace", spans_file) as process, stub(process.address) as caller:
        for parent in ("00-" + "1" * 32 + "-" + "2" * 16 + "-00", "nonsense", "00-zz"):
            caller.Predict(ONE, metadata=[("traceparent", parent)], timeout=10)
        process.terminate()
        assert process.wait() == 0, "spans are written at the end at the latest"
    assert spans_file.read_text() == ""
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_trace_file_that_cannot_be_written(store: Path, tmp_path: Path) -> None:
    result = run("mlpserve-server", "--store", store, "--listen", "127.0.0.1:0", "--trace", tmp_path / "no/such")
    assert result.returncode == 1
    assert "No such file or directory; expected otlp, or a file that can be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_metrics_endpoint_is_not_filled_by_requests_that_stall(store: Path, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with ServerProcess(tmp_path, store, "--metrics-listen", listen) as process, ExitStack() as opened:
        host, port = listen.split(":")
        before = len(list(Path(f"/proc/{process.process.pid}/task").iterdir()))
        for _ in range(400):
            half = opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
            half.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert scrape(listen)["mlpserve_ready"] == 1
        assert len(list(Path(f"/proc/{process.process.pid}/task").iterdir())) < before + 100
        assert "Traceback" not in process.log

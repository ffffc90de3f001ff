"""ModelStreamInfer: many requests on one call, on the path of ModelInfer; and what ModelStatistics counts."""

import itertools
import queue
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.grpc_calls import channel
from support.mnist import mnist_images
from support.processes import ServerProcess
from support.waiting import wait_until
from tests.support.model_infer import columns_of, infer

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.config import ServerConfig
from mlpserve_server.control import stream_infer
from mlpserve_server.server import Server
from mlpserve_server.transports import limits

SERVICE = "/inference.GRPCInferenceService"
IMAGES = mnist_images()[:300]
SECONDS = 60.0


@pytest.fixture(params=["wire", "grpcio"])
def streaming(request: pytest.FixtureRequest) -> str:
    if request.param == "wire":
        pytest.importorskip("mlpserve_wire")
    return str(request.param)


@pytest.fixture
def serving(streaming: str, store: Path) -> Iterator[Server]:
    with Server(ServerConfig(store=store, listen="127.0.0.1:0", transport=streaming)) as server:
        yield server


def _stream(opened: grpc.Channel, requests: Iterable[oip.ModelInferRequest], **options: object) -> grpc.Call:
    method = opened.stream_stream(
        f"{SERVICE}/ModelStreamInfer",
        oip.ModelInferRequest.SerializeToString,
        oip.ModelStreamInferResponse.FromString,
    )
    return method(iter(requests), **{"timeout": SECONDS, **options})


def _statistics(opened: grpc.Channel, **fields: str) -> list[oip.ModelStatistics]:
    method = opened.unary_unary(
        f"{SERVICE}/ModelStatistics",
        oip.ModelStatisticsRequest.SerializeToString,
        oip.ModelStatisticsResponse.FromString,
    )
    return list(method(oip.ModelStatisticsRequest(**fields), timeout=SECONDS).model_stats)


class Talk:
    """Requests that are sent when the test says so; None ends the stream."""

    def __init__(self, *requests: oip.ModelInferRequest) -> None:
        self._waiting: queue.SimpleQueue[oip.ModelInferRequest | None] = queue.SimpleQueue()
        for request in requests:
            self.say(request)

    def say(self, request: oip.ModelInferRequest | None) -> None:
        self._waiting.put(request)

    def __iter__(self) -> Iterator[oip.ModelInferRequest]:
        return iter(self._waiting.get, None)


def test_each_request_is_answered_in_its_order(serving: Server) -> None:
    """Of one image and of thousands, raw and typed, more of them than may be under way."""
    sizes = [1, 3, 300, 1, 4096, 7] * 60
    requests = [
        infer(np.resize(IMAGES, (size, 784)), "class_ids", raw=size != 7, id=f"n{number}")
        for number, size in enumerate(sizes)
    ]
    with channel(serving.address) as opened:
        once = opened.unary_unary(
            f"{SERVICE}/ModelInfer", oip.ModelInferRequest.SerializeToString, oip.ModelInferResponse.FromString
        )
        expected = {
            size: columns_of(once(requests[sizes.index(size)], timeout=SECONDS))["class_ids"].tolist()
            for size in set(sizes)
        }
        answers = list(_stream(opened, requests))
    assert [answer.error_message for answer in answers] == [""] * len(sizes)
    assert [answer.infer_response.id for answer in answers] == [request.id for request in requests]
    for size, answer in zip(sizes, answers, strict=True):
        assert columns_of(answer.infer_response)["class_ids"].tolist() == expected[size]


def test_a_refused_request_does_not_end_the_stream(serving: Server) -> None:
    good, bad = infer(IMAGES[:1], "class_ids", id="good"), infer(IMAGES[:1, :20], "class_ids", id="bad")
    with channel(serving.address) as opened:
        answers = list(_stream(opened, [good, bad, infer(IMAGES[:1], id="other", model_name="cifar"), good]))
    assert [answer.infer_response.id for answer in answers] == ["good", "bad", "other", "good"]
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert answers[1].error_message.startswith("INVALID_ARGUMENT: inputs: 'images' has shape [1, 20, 28]")
    assert answers[2].error_message.startswith("NOT_FOUND: model 'cifar' is not served here")


def test_an_error_ends_the_stream_where_its_caller_wants_that(serving: Server) -> None:
    good, bad = infer(IMAGES[:1], "class_ids"), infer(IMAGES[:1, :20], "class_ids")
    with channel(serving.address) as opened:
        stream = _stream(opened, [good, bad, good], metadata=[("triton_grpc_error", "true")])
        assert next(stream).infer_response.outputs
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "shape [1, 20, 28]" in caught.value.details()


def test_bytes_that_are_no_request(serving: Server) -> None:
    with channel(serving.address) as opened:
        method = opened.stream_stream(f"{SERVICE}/ModelStreamInfer", None, oip.ModelStreamInferResponse.FromString)
        answers = list(method(iter([b"\xff\xff", infer(IMAGES[:1]).SerializeToString()]), timeout=SECONDS))
    assert [answer.error_message.split(":")[0] for answer in answers] == ["INVALID_ARGUMENT", ""]


def test_a_message_that_is_too_large_ends_the_stream(serving: Server) -> None:
    with channel(serving.address) as opened:
        stream = _stream(opened, [infer(np.zeros((5000, 784), np.uint8))])
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(serving: Server, compression: grpc.Compression) -> None:
    with channel(serving.address) as opened:
        requests = [infer(IMAGES[:count], "class_ids") for count in (1, 300, 1)]
        answers = list(_stream(opened, requests, compression=compression))
    assert [len(columns_of(answer.infer_response)["class_ids"]) for answer in answers] == [1, 300, 1]


def test_the_deadline_is_the_streams(serving: Server) -> None:
    with channel(serving.address) as opened:
        talk = Talk(infer(IMAGES[:1]))
        stream = _stream(opened, talk, timeout=1.0)
        assert not next(stream).error_message
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        talk.say(None)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_idle_stream_stays(serving: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a message may be on its way."""
    monkeypatch.setattr(limits, "READ_SECONDS", 0.2)
    with channel(serving.address) as opened:
        talk = Talk(infer(IMAGES[:1]))
        stream = _stream(opened, talk)
        assert not next(stream).error_message
        time.sleep(1.0)
        talk.say(infer(IMAGES[:1]))
        assert not next(stream).error_message
        talk.say(None)
        assert list(stream) == []


@pytest.mark.slow
def test_what_a_cancelled_stream_had_under_way_is_not_run(streaming: str, slow_store: Path, tmp_path: Path) -> None:
    large = infer(np.zeros((4096, 784), np.uint8), "class_ids", model_name="slow")
    config = ServerConfig(store=slow_store, model="slow", listen="127.0.0.1:0", transport=streaming)
    with Server(config) as server, channel(server.address) as opened:
        stream = _stream(opened, [large] * 16)
        next(stream)
        stream.cancel()
        wait_until(lambda: server.metrics.dropped["cancelled", "batch"] >= 1, "what waits is dropped")
        assert not next(_stream(opened, [infer(IMAGES[:1], model_name="slow")])).error_message
        assert server.metrics.handled[1]["OK"] < 16


def test_streams_are_bounded(streaming: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_infer, "STREAM_BYTES", 2 * 2 * 4096 * 784 + (1 << 16))
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=streaming)
    with Server(config) as server, ExitStack() as stack:
        opened = stack.enter_context(channel(server.address))
        talks = [Talk(infer(IMAGES[:1])) for _ in range(2)]
        held = [_stream(opened, talk) for talk in talks]
        assert not any(next(stream).error_message for stream in held)
        with pytest.raises(grpc.RpcError) as caught:
            next(_stream(opened, [infer(IMAGES[:1])]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 2 streams of ModelStreamInfer" in caught.value.details()
        for talk in talks:
            talk.say(None)
        assert [list(stream) for stream in held] == [[], []]
        wait_until(lambda: next(_stream(opened, [infer(IMAGES[:1])])), "there is room again", not_yet=(grpc.RpcError,))


def test_a_drain_ends_streams(streaming: str, store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", streaming, "--workers", 1) as process:
        with channel(process.address) as opened:
            requests = (infer(IMAGES[:1], "class_ids", id=f"{number}") for number in itertools.count())
            stream = _stream(opened, requests)
            ids = [next(stream).infer_response.id for _ in range(50)]
            process.terminate()
            with pytest.raises(grpc.RpcError) as caught:
                for answer in stream:
                    assert not answer.error_message
                    ids.append(answer.infer_response.id)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, caught.value
        assert ids == [f"{number}" for number in range(len(ids))]
        assert process.wait(20) == 0
        assert "Traceback" not in process.log
        assert "destroyed" not in process.log


def test_statistics_count_what_was_answered(serving: Server) -> None:
    with channel(serving.address) as opened:
        (before,) = _statistics(opened)
        assert (before.name, before.version, before.inference_count, before.last_inference) == ("mnist", "1", 0, 0)
        began = time.time()
        list(_stream(opened, [infer(IMAGES[:count]) for count in (1, 2, 1)] + [infer(IMAGES[:1, :5])]))

        def counted() -> oip.ModelStatistics | None:
            (found,) = _statistics(opened, name="mnist", version="1")
            return found if found.inference_stats.fail.count and found.inference_count == 4 else None

        after = wait_until(counted, "all is counted")
        assert after is not None
        with pytest.raises(grpc.RpcError) as caught:
            _statistics(opened, name="mnist", version="2")
    taken = time.time() - began
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert after.inference_count == 4
    assert 1 <= after.execution_count <= 3
    assert abs(after.last_inference / 1000 - began) < taken + 1
    stats = after.inference_stats
    assert (stats.success.count, stats.fail.count) == (3, 1)
    parts = [stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output]
    assert [part.count for part in parts] == [3, 3, 3, 3]
    assert all(part.ns > 0 for part in parts)
    assert sum(part.ns for part in parts) <= stats.success.ns + 1000 < taken * 1e9 * 3
    assert sum(batch.batch_size * batch.compute_infer.count for batch in after.batch_stats) == 4
    assert sum(batch.compute_infer.ns for batch in after.batch_stats) <= stats.compute_infer.ns

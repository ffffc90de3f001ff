"""Inputs that nobody sends on purpose: over the decoders, and over the wire."""

import random
import socket
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import onnx
import pytest
from support.grpc_calls import PREDICT, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess
from support.waiting import wait_until
from tests.support.http2 import PREFACE, frame, headers, literal
from tests.support.mutate import mutated

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from mlpserve_server.codecs.base import Request
from mlpserve_server.codecs.predict import PredictCodec
from mlpserve_server.errors import ArtifactError, CallError
from mlpserve_server.models import graph_check
from mlpserve_server.models.loading import load
from mlpserve_server.store.folder import Store

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

REQUESTS, ONNX_FILES = 1_000_000, 20_000
CONNECTIONS, ROUND = 25_000, 2_500


def test_decoders(store: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(7)
    version = Store(store).open("mnist")
    model = load(version, device="cpu", precision="fp32", max_batch=4, threads=1)
    codec = PredictCodec(model, 16)
    images = pixels(mnist_images()[:2])
    samples = [
        pb.PredictRequest(images=images[:784]).SerializeToString(),
        pb.PredictRequest(model="mnist", version=1, images=images, top_k=3, probabilities=True).SerializeToString(),
        pb.PredictRequest(model="mnist", version=1, top_k=3).SerializeToString(),
        b"",
    ]
    outcomes: Counter[str] = Counter()
    for index in range(REQUESTS):
        payload = mutated(random_, samples[index % 4]) if index % 8 else random_.randbytes(random_.randrange(900))
        try:
            request = codec.decode(payload)
        except CallError:
            outcomes["refused"] += 1
            continue
        assert isinstance(request, Request)
        assert len(request.images) == request.size * 784
        assert 1 <= request.form.top_k <= 10
        outcomes["decoded"] += 1
    graph = onnx.load(version.folder / "model.onnx")
    for tensor in graph.graph.initializer:
        tensor.ClearField("raw_data")  # without the weights, so that a change meets what is looked at
    small = graph.SerializeToString()
    for _ in range(ONNX_FILES):
        try:
            graph_check.check(mutated(random_, small), version.folder)
        except ArtifactError:
            outcomes["ONNX refused"] += 1
        else:
            outcomes["ONNX let pass"] += 1
    figures |= {"requests": REQUESTS, "ONNX files": ONNX_FILES, **outcomes}
    assert outcomes["decoded"] > 1000
    assert outcomes["refused"] > 1000


HEADERS = headers(PREDICT.encode())


def _abuse(random_: random.Random) -> bytes:
    """The bytes of one bad connection."""
    message = pb.PredictRequest(images=bytes(784)).SerializeToString()
    call = PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, HEADERS)
    good = call + frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message)
    kinds = [
        lambda: random_.randbytes(random_.randint(1, 300)),
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: PREFACE + random_.randbytes(random_.randint(1, 300)),
        lambda: good[: random_.randrange(len(good))],  # cut off anywhere
        lambda: call + frame(0, 1, 1, b"\1" + struct.pack(">I", len(message)) + message),  # says compressed
        lambda: call + frame(0, 1, 1, b"\0" + struct.pack(">I", 2**31) + message),  # a length that is not there
        lambda: call + frame(0, 1, 1, b"\0" + struct.pack(">I", 3) + message),  # more than its length
        lambda: call + frame(0, 1, 1, b"\0\0"),  # no length
        lambda: call + frame(3, 0, 1, struct.pack(">I", 8)),  # reset
        lambda: PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, HEADERS + literal(b"x", b"y" * 100) * 300),
        lambda: PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, HEADERS) + frame(9, 0, 1, b"") * 50,
        lambda: PREFACE + frame(4, 0, 0, b"") + frame(0, 1, 1, message),  # data of no call
        lambda: PREFACE + frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),  # an impossible window
        lambda: PREFACE + frame(4, 0, 0, b"") + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 3,
        lambda: mutated(random_, good),
    ]
    return random_.choice(kinds)()


def _connect(host: str, port: int) -> socket.socket:
    """A connection; grpc.aio's server ends on some bad calls, and is opened again within a moment."""
    return wait_until(
        lambda: socket.create_connection((host, port), timeout=10),
        "the port takes a connection",
        5,
        not_yet=(ConnectionRefusedError, ConnectionResetError),
    )


def _answer(caller: ClassifierServiceStub, request: pb.PredictRequest) -> bytes:
    """The answer's bytes; a call that is under way while gRPC's server ends is asked again, as clients do."""
    for last in (False, False, True):
        try:
            return caller.Predict(request, timeout=10, wait_for_ready=True).SerializeToString()
        except grpc.RpcError as error:
            assert not last
            assert error.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
            time.sleep(1)
    raise AssertionError


def test_connections(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(11)
    hung = answered = 0
    with ServerProcess(tmp_path, store, "--transport", transport) as process, stub(process.address) as caller:
        host, port = process.address.split(":")
        image = pb.PredictRequest(images=pixels(mnist_images()[:1]))
        expected = caller.Predict(image, timeout=10).SerializeToString()
        for index in range(CONNECTIONS):
            with _connect(host, int(port)) as connection:
                try:
                    connection.sendall(_abuse(random_))
                    if index % 10 == 0:
                        connection.shutdown(socket.SHUT_WR)
                        started = time.monotonic()
                        while connection.recv(65536):
                            pass
                        hung += time.monotonic() - started > 5
                except TimeoutError:
                    hung += 1
                except OSError:
                    pass  # hung up on, as it may be
            if index % ROUND == ROUND - 1:
                assert _answer(caller, image) == expected
                answered += 1
        assert process.process.poll() is None
        # gRPC itself logs header bytes that are no text; our own loop must not have met anything.
        assert "hit a bug" not in process.log
        reopened = process.log.count("it is opened again")
    figures |= {
        "servers opened again": reopened,
        "connections": CONNECTIONS,
        "hung": hung,
        "right answers between": answered,
    }
    assert hung == 0

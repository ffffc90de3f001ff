"""Rows among random neighbours, against a Run of each row alone, bit by bit."""

import random
import threading
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from support.grpc_calls import PREDICT, channel
from support.mnist import mnist_images
from tests.support.model_infer import columns_of, infer

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.classifier_pb2 import PredictRequest, Traffic
from mlpserve.v1.packed_pb2 import PackedPredictResponse

INFER = "/inference.GRPCInferenceService/ModelInfer"
COLUMNS = ("class_ids", "scores", "probabilities")
IN_FLIGHT = 4
Answers = tuple[npt.NDArray[Any], ...]


class Alone(NamedTuple):
    """Images and what a Run of each alone answers.

    Attributes:
        images: uint8 [N, D].
        answers: int32 [N], float32 [N], float32 [N, C].
    """

    images: npt.NDArray[np.uint8]
    answers: Answers

    def wrong(self, rows: npt.NDArray[np.int64], found: Answers) -> int:
        """How many rows of an answer differ from those in any bit."""
        differs = np.zeros(len(rows), bool)
        for own, other in zip(self.answers, found, strict=True):
            differs |= (_bits(own[rows]) != _bits(other)).any(axis=1)
        return int(differs.sum())


def _bits(column: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(column).view(np.uint32).reshape(len(column), -1)


def pool(count: int, pixels: int = 784) -> npt.NDArray[np.uint8]:
    """Digits, noise, and noise on black, in no order: uint8 [count, pixels]."""
    rng = np.random.default_rng(0)
    digits = np.resize(mnist_images().reshape(-1, 784), (count, pixels))
    noise = rng.integers(0, 256, (count, pixels), np.uint8)
    kind = rng.integers(0, 4, (count, 1))
    return np.where(kind < 2, digits, np.where((kind == 2) | (rng.random((count, pixels)) < 0.2), noise, 0))


def session(content: bytes, threads: int) -> ort.InferenceSession:
    """As the server makes one."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def alone(content: bytes, images: npt.NDArray[np.uint8]) -> Alone:
    """A Run for each row of an ONNX file, on one thread."""
    one = session(content, 1)
    answers = [one.run(list(COLUMNS), {"images": images[row : row + 1]}) for row in range(len(images))]
    return Alone(images, tuple(np.concatenate(column) for column in zip(*answers, strict=True)))


def served_file(store: Path, precision: str) -> bytes:
    """An ONNX file of version 1 of "mnist"."""
    return (store / "mnist/1" / ("model.int8.onnx" if precision == "int8" else "model.onnx")).read_bytes()


class Callers:
    """Threads that ask for random rows in requests of random sizes, by both protocols and in both classes of traffic.

    Args:
        address: of the server.
        expected: what it must answer.
        rows: how many to ask for in all.
        largest: rows of one request.

    Attributes:
        rows: answered.
        wrong: rows that differ.
        mixed: requests that ran in a batch with others.
        requests: answered.
    """

    def __init__(self, address: str, expected: Alone, rows: int, largest: int = 1000, threads: int = 4) -> None:
        self._address, self._expected, self._left, self._largest = address, expected, rows, largest
        self._lock = threading.Lock()
        self.rows = self.wrong = self.mixed = self.requests = 0
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(threads)]

    def run(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]
        return self

    def _take(self, rng: random.Random) -> int:
        """The size of the next request: half are single images, the others of any size up to the largest."""
        size = 1 if rng.random() < 0.5 else int(self._largest ** rng.random())
        with self._lock:
            size = min(size, self._left)
            self._left -= size
        return size

    def _work(self, seed: int) -> None:
        rng = random.Random(seed)
        try:
            with channel(self._address) as opened:
                waiting: deque[tuple[npt.NDArray[np.int64], Any]] = deque()
                while (size := self._take(rng)) or waiting:
                    if size:
                        rows = np.array(rng.choices(range(len(self._expected.images)), k=size))
                        waiting.append((rows, self._call(opened, rows, rng)))
                    if len(waiting) >= IN_FLIGHT or not size:
                        self._check(*waiting.popleft())
        except BaseException as error:
            self.errors.append(error)

    def _call(self, opened: grpc.Channel, rows: npt.NDArray[np.int64], rng: random.Random) -> Any:
        images = self._expected.images[rows]
        if rng.random() < 0.5:
            ask = opened.unary_unary(
                INFER,
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
            return ask.future(infer(images, *COLUMNS), timeout=60)
        ask = opened.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PackedPredictResponse.FromString,
        )
        traffic = rng.choice((Traffic.TRAFFIC_INTERACTIVE, Traffic.TRAFFIC_BATCH))
        request = PredictRequest(images=images.tobytes(), probabilities=True, timing=True, traffic=traffic)
        return ask.future(request, timeout=60)

    def _check(self, rows: npt.NDArray[np.int64], call: Any) -> None:
        answer = call.result()
        if isinstance(answer, PackedPredictResponse):
            found = (
                np.frombuffer(answer.class_ids, "<u4").view(np.int32),
                np.frombuffer(answer.scores, "<f4"),
                np.frombuffer(answer.probabilities, "<f4").reshape(len(rows), -1),
            )
            mixed = answer.timing.batch_images > len(rows)
        else:
            columns = columns_of(answer)
            found, mixed = tuple(columns[name] for name in COLUMNS), False
        wrong = self._expected.wrong(rows, found)
        with self._lock:
            self.rows += len(rows)
            self.requests += 1
            self.wrong += wrong
            self.mixed += mixed

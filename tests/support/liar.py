"""A real gRPC server that answers with whatever bytes a test chooses; left alone, as an honest one would."""

import threading
from collections.abc import Callable
from concurrent import futures
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Evaluation, ImageSpec, Manifest, Preparation
from mlpserve.v1.packed_pb2 import PackedPredictResponse

PIXELS, CLASSES = 4, 3
REF = pb.ModelRef(name="m", version=3, digest="ab" * 32)


def description() -> pb.GetModelResponse:
    """Of a model that takes 2x2 pixels and knows three classes."""
    image = ImageSpec(rows=2, cols=2, preparation=Preparation.PREPARATION_SCALED)
    return pb.GetModelResponse(
        model=REF,
        manifest=Manifest(
            model="m", version=3, image=image, labels=["a", "b", "c"], evaluations=[Evaluation(test_accuracy=0.9)]
        ),
        serving=pb.ServingInfo(max_request_images=4096, max_message_bytes=1 << 20, max_batch_images=64),
    )


def versions() -> pb.ListModelsResponse:
    return pb.ListModelsResponse(models=[pb.ModelSummary(model=REF, state=pb.MODEL_STATE_SERVING, test_accuracy=0.9)])


def answer(request: pb.PredictRequest) -> PackedPredictResponse:
    """Probabilities by the first pixels of an image."""
    pixels = np.frombuffer(request.images, np.uint8).reshape(-1, PIXELS)[:, :CLASSES] + np.array([3.0, 2.0, 1.0])
    probabilities = (pixels / pixels.sum(axis=1, keepdims=True)).astype("<f4")
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, : request.top_k or 1]
    response = PackedPredictResponse(
        model=REF,
        top_k=request.top_k or 1,
        class_ids=best.astype("<u4").tobytes(),
        scores=np.take_along_axis(probabilities, best, axis=1).tobytes(),
    )
    if request.probabilities:
        response.probabilities = probabilities.tobytes()
    if request.timing:
        response.timing.queue_seconds = response.timing.run_seconds = 0.001
        response.timing.batch_images = len(pixels)
    return response


class Liar:
    """The server, while the `with` block runs.

    Attributes:
        info, listed: answers of GetModel and ListModels.
        predict: answers Predict.
        fail: told of a method, a request and its context, which it may abort; None to answer all.
        gate: closed, it holds every answer back.
        asked: methods that were called.
    """

    def __init__(self) -> None:
        self.info: bytes = description().SerializeToString()
        self.listed: bytes = versions().SerializeToString()
        self.predict: Callable[[pb.PredictRequest], bytes] = lambda request: answer(request).SerializeToString()
        self.fail: Callable[[str, bytes, grpc.ServicerContext], None] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(32))
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._handler(name))
            for name in ("GetModel", "ListModels", "Predict")
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("mlpserve.v1.ClassifierService", handlers),)
        )
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def _handler(self, name: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.asked.append(name)
            if self.fail is not None:
                self.fail(name, request, context)
            if name == "GetModel":
                return self.info
            if name == "ListModels":
                return self.listed
            self.gate.wait(60)
            return self.predict(pb.PredictRequest.FromString(request))

        return handle

    def lie(self, change: Callable[[PackedPredictResponse], Any]) -> None:
        """Change every answer of Predict."""

        def predict(request: pb.PredictRequest) -> bytes:
            response = answer(request)
            change(response)
            return response.SerializeToString()

        self.predict = predict

    def misdescribe(self, change: Callable[[pb.GetModelResponse], Any]) -> None:
        """Change the answer of GetModel."""
        info = description()
        change(info)
        self.info = info.SerializeToString()

    def __enter__(self) -> "Liar":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.stop(None).wait()

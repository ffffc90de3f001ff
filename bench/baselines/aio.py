"""The grpc.aio server that a tutorial would write: inference in the coroutine.

python bench/baselines/aio.py MODEL.onnx PORT
"""

import asyncio
import sys

import grpc
import numpy as np
import onnxruntime as ort

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import classifier_pb2_grpc


class Classifier(classifier_pb2_grpc.ClassifierServiceServicer):
    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def Predict(  # type: ignore[override]  # noqa: N802
        self, request: pb.PredictRequest, context: grpc.ServicerContext
    ) -> pb.PredictResponse:
        images = np.frombuffer(request.images, np.uint8).reshape(-1, 784)
        class_ids, scores = self.session.run(["class_ids", "scores"], {"images": images})
        return pb.PredictResponse(
            model=pb.ModelRef(name="mnist", version=1), top_k=1, class_ids=class_ids.tolist(), scores=scores.tolist()
        )


async def serve(path: str, port: str) -> None:
    server = grpc.aio.server()
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(Classifier(path), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))

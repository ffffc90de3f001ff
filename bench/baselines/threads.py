"""The grpcio server that a tutorial would write: a thread pool, inference in the handler.

python bench/baselines/threads.py MODEL.onnx PORT
"""

import sys
from concurrent import futures

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

    def Predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:  # noqa: N802
        images = np.frombuffer(request.images, np.uint8).reshape(-1, 784)
        class_ids, scores = self.session.run(["class_ids", "scores"], {"images": images})
        return pb.PredictResponse(
            model=pb.ModelRef(name="mnist", version=1), top_k=1, class_ids=class_ids.tolist(), scores=scores.tolist()
        )


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(Classifier(sys.argv[1]), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    server.wait_for_termination()

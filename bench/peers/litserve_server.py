"""LitServe, JSON with base64 in and raw float32 probabilities out. MODEL and PORT come from the environment."""

import base64
import os

import litserve as ls
import numpy as np
import onnxruntime as ort
from fastapi import Response


class Api(ls.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.frombuffer(base64.b64decode(request["images"]), np.uint8).reshape(-1, 784)

    def predict(self, images):
        return self.session.run(["probabilities"], {"images": images})[0]

    def encode_response(self, output):
        return Response(content=output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    server = ls.LitServer(Api(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )

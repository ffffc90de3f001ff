"""mosec, raw bytes in and raw float32 probabilities out. MODEL and BATCH come from the environment."""

import os

import numpy as np
import onnxruntime as ort
from mosec import Server, Worker

BATCH = int(os.environ["BATCH"])


class Classifier(Worker):
    def __init__(self) -> None:
        super().__init__()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    def deserialize(self, data):
        return data

    def serialize(self, data):
        return data

    def _run(self, data):
        images = np.frombuffer(data, np.uint8).reshape(-1, 784)
        return self.session.run(["probabilities"], {"images": images})[0]

    def forward(self, data):
        if BATCH == 1:
            return self._run(data).tobytes()
        probabilities = self._run(b"".join(data))
        replies, stop = [], 0
        for request in data:
            start, stop = stop, stop + len(request) // 784
            replies.append(probabilities[start:stop].tobytes())
        return replies


if __name__ == "__main__":
    server = Server()
    if BATCH == 1:
        server.append_worker(Classifier, num=1)
    else:
        server.append_worker(Classifier, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()

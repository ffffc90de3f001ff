"""The batching loop alone, without a transport: `make bench-loop`.

What one round of receive, decode, Run, encode and send costs for each request of one image, and how much of that is not
the Run. Best of several repetitions.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from support.machine import machine

from bench.asking import published_model
from mlpserve.v1.classifier_pb2 import PredictRequest
from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.loop import BatchingLoop
from mlpserve_server.batching.recording import Recorder
from mlpserve_server.calls import Answer, Call, PlainFormat
from mlpserve_server.catalog import Catalog, prepare
from mlpserve_server.models.loading import load
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.store.folder import Store

PAYLOAD = PredictRequest(images=bytes(784)).SerializeToString()


class EndlessTransport:
    """Always has the same number of new calls; answers go nowhere."""

    name = "endless"

    def __init__(self, calls: int) -> None:
        self._calls = calls

    def start(self) -> str:
        return ""

    def expect(self, formats: Sequence[PlainFormat]) -> None:
        pass

    def receive(self, timeout: float) -> list[Call]:
        now = time.monotonic()
        return [Call(PAYLOAD, now, None, 0) for _ in range(self._calls)]

    def send(self, answers: Sequence[Answer]) -> float:
        return time.monotonic()

    def set_serving(self, serving: bool) -> None:
        pass

    def stop(self) -> None:
        pass


def main() -> None:
    model = load(Store(published_model()).open("mnist"), device="cpu", precision="fp32", max_batch=256, threads=1)
    print(f"Machine: {machine()}, float32 file\n")
    print("| calls in a batch | loop, µs a call | Run, µs a call | rest, µs a call |")
    print("|--:|--:|--:|--:|")
    for calls in (1, 16, 256):
        catalog = Catalog("mnist", keep=0)
        catalog.serve(prepare(model, max_request=4096))
        metrics = Metrics(catalog.describe)
        admission = Admission(catalog, metrics, max_batch=256, max_queue=16384, batch_queue=65536, batch_share=0.1)
        recorder = Recorder(metrics, RequestLog(slow=1.0), tracing=None)
        loop = BatchingLoop(EndlessTransport(calls), catalog, admission, recorder)
        images = np.zeros((calls, 784), np.uint8)
        whole = fastest(loop._run_once, calls)
        run = fastest(partial(model.predict, images), calls)
        print(f"| {calls} | {whole:.1f} | {run:.1f} | {whole - run:.1f} |")


def fastest(function: Callable[[], object], calls: int) -> float:
    """µs a call, best of five."""
    times = []
    for _ in range(5):
        repeats = max(20, 4000 // calls)
        started = time.perf_counter()
        for _ in range(repeats):
            function()
        times.append((time.perf_counter() - started) / repeats / calls * 1e6)
    return min(times)


if __name__ == "__main__":
    main()

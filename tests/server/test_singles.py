"""Single images of many callers at once, of both methods: each gets its own answer, and each is counted once."""

from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
from support.grpc_calls import channel, pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape_when
from tests.support.model_infer import infer

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.calls import MODEL_INFER

CALLERS, IMAGES = 4, 300


def test_waiting_single_images_get_their_own_answers(transport: str, store: Path, tmp_path: Path) -> None:
    images = mnist_images()[:IMAGES]
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--max-batch", 16, "--max-streams", 1024, "--metrics-listen", metrics]
    with ServerProcess(tmp_path, store, *flags) as process, ExitStack() as stack:
        callers = [stack.enter_context(stub(process.address)) for _ in range(CALLERS)]
        infers = stack.enter_context(channel(process.address)).unary_unary(MODEL_INFER)
        whole = callers[0].Predict(pb.PredictRequest(images=pixels(images)), timeout=30)
        sent = [
            (place, caller.Predict.future(pb.PredictRequest(images=pixels(images[place : place + 1])), timeout=60))
            for place in range(IMAGES)
            for caller in callers
        ]
        messages = [infer(images[place : place + 1], "class_ids").SerializeToString() for place in range(IMAGES)]
        inferred = [infers.future(message, timeout=60) for message in messages]
        leavers = [callers[0].Predict.future(pb.PredictRequest(images=bytes(784)), timeout=60) for _ in range(20)]
        for leaver in leavers:
            leaver.cancel()
        for place, future in sent:
            answer = future.result()
            assert list(answer.class_ids) == [whole.class_ids[place]]
            assert answer.scores[0] == whole.scores[place]
        for place, reply in enumerate(inferred):
            answered = oip.ModelInferResponse.FromString(reply.result())
            assert np.frombuffer(answered.raw_output_contents[0], np.int32)[0] == whole.class_ids[place]
        total = 1 + (CALLERS + 1) * IMAGES

        def over(now: dict[str, float]) -> bool:
            return _sum(now, "grpc_server_handled_total") == _sum(now, "grpc_server_started_total")

        samples = scrape_when(metrics, over)
        assert _sum(samples, "grpc_server_handled_total", grpc.StatusCode.OK) >= total
        counted = _sum(samples, "grpc_server_handling_seconds_count")
        assert counted == _sum(samples, "grpc_server_handled_total", grpc.StatusCode.OK)
        assert samples["mlpserve_images_total"] == counted - 1 + IMAGES
        assert [samples[f'mlpserve_queue_images{{traffic="{name}"}}'] for name in ("interactive", "batch")] == [0, 0]


def _sum(samples: dict[str, float], name: str, code: grpc.StatusCode | None = None) -> float:
    """All series of a metric, or those with a code."""
    said = "" if code is None else f'grpc_code="{code.name}"'
    return sum(
        value for series, value in samples.items() if series.startswith(f"{name}{{") and said.lower() in series.lower()
    )

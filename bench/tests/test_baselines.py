"""The limits that others are compared with answer as the benchmark asks them."""

import subprocess
import sys
from pathlib import Path

import pytest
from bench.contenders import BENCH
from support.grpc_calls import pixels, stub
from support.mnist import mnist_images
from support.processes import free_port
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb


def test_the_wire_answers_a_constant(tmp_path: Path) -> None:
    pytest.importorskip("mlpserve_wire")
    reply = pb.PredictResponse(top_k=1, class_ids=[7], scores=[1.0])
    (tmp_path / "reply").write_bytes(reply.SerializeToString())
    port = free_port()
    command = [sys.executable, str(BENCH / "baselines/wire_constant.py"), str(tmp_path / "reply"), str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            with stub(f"127.0.0.1:{port}") as caller:

                def answers() -> bool:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    request = pb.PredictRequest(images=pixels(mnist_images()[:1]))
                    return bool(caller.Predict(request, timeout=5, wait_for_ready=True) == reply)

                wait_until(answers, "an answer")
        finally:
            process.kill()

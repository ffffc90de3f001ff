"""A server that no longer works says so, and does not stay: stuck Runs, wrong answers, silent and dead workers."""

import os
import signal
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.grpc_calls import stub
from support.processes import ServerProcess, children
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.batching import loop as batching
from mlpserve_server.config import ServerConfig
from mlpserve_server.control import liveness
from mlpserve_server.healthcheck import is_serving
from mlpserve_server.server import Server

ONE = pb.PredictRequest(images=bytes(784))
SECONDS = 30.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)


def test_a_run_that_hangs_is_noticed_and_reported(quick: None, store: Path, transport: str) -> None:
    stuck = threading.Event()
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport, stall_timeout=4, drain_timeout=0.1)
    with Server(config, on_stuck=lambda _: stuck.set()) as server, stub(server.address) as caller:
        assert is_serving(server.address)
        assert server.model is not None
        release = threading.Event()
        predict = server.model.predict
        server.model.predict = lambda images: (release.wait(SECONDS), predict(images))[1]  # type: ignore[method-assign]
        call = caller.Predict.future(ONE, timeout=SECONDS)
        wait_until(lambda: not is_serving(server.address), "the server says NOT_SERVING")
        assert not server.metrics.ready
        assert stuck.wait(SECONDS)
        release.set()
        assert len(call.result().class_ids) == 1


def test_readiness_comes_and_goes_with_the_golden_answers(quick: None, store: Path, transport: str) -> None:
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport, stall_timeout=30)
    config_stale = 1.0
    with Server(config) as server:
        assert server.model is not None
        assert server._liveness is not None
        server._liveness._stale = config_stale
        predict = server.model.predict

        def wrong(images: np.ndarray) -> object:  # type: ignore[type-arg]
            answers = predict(images)
            return answers._replace(probabilities=np.roll(answers.probabilities, 1, axis=1))

        server.model.predict = wrong  # type: ignore[method-assign, assignment]
        wait_until(lambda: not is_serving(server.address), "the server says NOT_SERVING")
        server.model.predict = predict  # type: ignore[method-assign]
        wait_until(lambda: is_serving(server.address), "the server says SERVING")


def test_a_silent_worker_is_replaced(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--workers", 2, "--stall-timeout", 4) as process:
        first, second = children(process.process.pid)
        os.kill(first, signal.SIGSTOP)
        process.wait_for_log("has not answered for")
        wait_until(
            lambda: len(children(process.process.pid)) == 2 and first not in children(process.process.pid),
            "another worker takes the place of the first",
        )
        assert second in children(process.process.pid)

        def answers() -> bool:
            with stub(process.address) as caller:
                try:
                    return len(caller.Predict(ONE, timeout=2).class_ids) == 1
                except grpc.RpcError:
                    return False

        wait_until(lambda: all(answers() for _ in range(10)), "every call is answered")
        process.terminate()
        assert process.wait() == 0

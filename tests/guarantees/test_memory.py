"""What a server needs at most under the loads that take memory, and that it fits into what Kubernetes gives it."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from support.grpc_calls import PREDICT, channel, stub
from support.processes import ServerProcess, resident_mb
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.healthcheck import is_serving

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
ONE = pb.PredictRequest(images=bytes(784))
LARGEST = 784 * 4096
JOBS, IN_FLIGHT, SECONDS = 4, 4, 20  # a scoring job's own number
RESETS, WATCHES, ON_A_CONNECTION, UNFINISHED = 100_000, 20_000, 1000, 1000
WATCH = "/grpc.health.v1.Health/Watch"


def _limit_mb() -> float:
    """Memory of the server's container."""
    manifest = yaml.safe_load((ROOT / "deploy/kubernetes/base/server.yaml").read_text())
    text = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert text.endswith("Mi")
    return float(text[:-2])


def _check(process: ServerProcess, figures: dict[str, Any]) -> None:
    pid = process.process.pid
    figures["MB at most"] = resident_mb(pid, most=True)
    time.sleep(15)
    figures["MB afterwards"] = resident_mb(pid)
    assert is_serving(process.address)
    assert figures["MB at most"] < 0.75 * _limit_mb()  # the rest is for a second model, and what the kernel counts
    started = time.monotonic()
    process.terminate()
    assert process.wait() == 0
    figures["seconds to end"] = time.monotonic() - started


def _score(address: str, counts: dict[str, int]) -> None:
    request = pb.PredictRequest(images=bytes(LARGEST)).SerializeToString()
    end = time.monotonic() + SECONDS
    with channel(address) as opened:
        method = opened.unary_unary(PREDICT)
        pending = [method.future(request, timeout=60) for _ in range(IN_FLIGHT)]
        while pending:
            code = pending.pop(0).code()
            counts["answered" if code is grpc.StatusCode.OK else "refused"] += 1
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED)
            if time.monotonic() < end:
                pending.append(method.future(request, timeout=60))


def test_scoring_jobs(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """Sixteen requests of 4,096 images in flight, and nobody who waits before trying again."""
    with ServerProcess(tmp_path, store, "--transport", transport, "--workers", 1) as process:
        figures["MB before"] = resident_mb(process.process.pid)
        counts = {"answered": 0, "refused": 0}
        jobs = [threading.Thread(target=_score, args=(process.address, counts)) for _ in range(JOBS)]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        figures |= counts
        _check(process, figures)
    assert counts["answered"] > 20


def test_resets(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """100,000 calls that are reset as soon as they have begun."""
    with ServerProcess(tmp_path, store, "--transport", transport, "--workers", 1) as process:
        block = http2.headers(PREDICT.encode())
        with http2.Connection(process.address) as connection:
            for stream in range(1, 2 * RESETS, 2):
                call = http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
                try:
                    connection.send(call + http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL))
                except OSError:
                    figures["resets until it was hung up on"] = stream // 2
                    break
        with stub(process.address) as caller:
            started = time.monotonic()
            assert len(caller.Predict(ONE, timeout=60).class_ids) == 1
            figures["seconds to the next answer"] = time.monotonic() - started
        _check(process, figures)


def test_unfinished_messages(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """1,000 messages of 3 MB without their last bytes."""
    with ServerProcess(tmp_path, store, "--transport", transport, "--workers", 1) as process, ExitStack() as opened:
        connections = [opened.enter_context(http2.Connection(process.address)) for _ in range(2)]

        def attack(connection: http2.Connection) -> None:
            streams = range(1, UNFINISHED, 2)
            for stream in streams:
                connection.call(stream, PREDICT)
            for stream in streams:
                connection.send_data(stream, http2.message(LARGEST, bytes(LARGEST - 1000)), 0.05)

        threads = [threading.Thread(target=attack, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        longest, calls = 0.0, 0
        with stub(process.address) as caller:
            while any(thread.is_alive() for thread in threads):
                started = time.monotonic()
                assert len(caller.Predict(ONE, timeout=20).class_ids) == 1
                longest, calls = max(longest, time.monotonic() - started), calls + 1
                time.sleep(0.2)
        assert calls, "the attack was over before anybody called"
        figures |= {"calls meanwhile": calls, "seconds of the longest": longest}
        _check(process, figures)


def test_watches(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """20,000 health watches of somebody without a token."""
    with ServerProcess(tmp_path, store, "--transport", transport, "--workers", 1) as process, ExitStack() as opened:
        connections = []
        for _ in range(WATCHES // ON_A_CONNECTION):
            connection = opened.enter_context(http2.Connection(process.address))
            connections.append(connection)
            for stream in range(1, 2 * ON_A_CONNECTION, 2):
                connection.call(stream, WATCH)
                connection.send(http2.frame(http2.DATA, http2.END_STREAM, stream, http2.message(0, b"")))
        assert is_serving(process.address), "Check must go on working"
        wait_until(
            lambda: sum(len(connection.ended) for connection in connections) >= WATCHES - 1000,
            "all watches but a thousand are refused",
        )
        figures["refused"] = sum(len(connection.ended) for connection in connections)
        _check(process, figures)
        assert figures["seconds to end"] < 10
        assert "Traceback" not in process.log

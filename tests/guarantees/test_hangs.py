"""What is around the server hangs: nobody reads its output, its store never answers, its supervisor is killed."""

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.grpc_calls import PREDICT, channel, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, children, free_port, scrape
from support.waiting import wait_until
from tests.support.callers import Callers
from tests.support.unread import full_pipe, hanging, prepare_dead_mount, unread_server

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client
from mlpserve_server.healthcheck import is_serving

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

ONE = pb.PredictRequest(images=bytes(784))


def _seconds_until(holds: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    wait_until(holds, what, 120, every=0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_reads_the_log(transport: str, workers: int, store: Path, figures: dict[str, Any]) -> None:
    """Under load for ten seconds, with a line a second that nobody takes."""
    flags = ("--transport", transport, "--workers", workers)
    with full_pipe() as (_, writer), unread_server(writer, store, *flags) as (process, address):
        with Client(address) as client:
            expected = client.predict(mnist_images()[:1000]).class_ids
        with Callers(address, expected, threads=2, timeout=20) as callers, channel(address) as opened:
            method = opened.unary_unary(PREDICT)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                with pytest.raises(grpc.RpcError):
                    method(b"\x1a\x01x", timeout=10)
        assert is_serving(address)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout=60) == 0
    figures |= {f"calls: {name}": count for name, count in callers.outcomes.items()}
    figures["seconds from SIGTERM to the end"] = time.monotonic() - began
    assert set(callers.outcomes) == {"right"}


def test_a_run_that_hangs_while_nobody_reads_the_log(
    transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    hang = tmp_path / "hang"
    flags = ("--transport", transport, "--stall-timeout", 6, "--workers", 1)
    with full_pipe() as (_, writer), unread_server(writer, store, *flags, hang=hang) as (process, address):
        with stub(address) as caller:
            assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
        hang.touch()
        figures["seconds until NOT_SERVING"] = _seconds_until(lambda: not is_serving(address), "it is NOT_SERVING")
        assert process.poll() is None
        figures["seconds from then to the end"] = _seconds_until(lambda: process.poll() is not None, "the server ends")
        assert process.returncode == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_while_the_store_hangs(
    transport: str,
    workers: int,
    store: Path,
    tmp_path: Path,
    figures: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = Counter[str]()
    flags = ("--transport", transport, "--workers", workers, "--poll", 0.1)
    fifo = prepare_dead_mount(tmp_path, "promoted.json", monkeypatch)
    with ServerProcess(tmp_path, store, *flags) as process:
        os.mkfifo(fifo)
        with hanging(fifo):
            process.wait_for_log("the store does not answer: waiting for which version of mnist to serve")
            with Client(process.address) as client:
                expected = client.predict(mnist_images()[:1000]).class_ids
            with Callers(process.address, expected, threads=2, timeout=20, retries=0) as callers:
                time.sleep(2)
                process.terminate()
                began = time.monotonic()
                assert process.wait(timeout=60) == 0
                figures["seconds from SIGTERM to the end"] = time.monotonic() - began
            outcomes = callers.outcomes
    figures |= {f"calls: {name}": count for name, count in outcomes.items()}
    assert set(outcomes) <= {"right", "UNAVAILABLE"}
    assert outcomes["right"] > 100


def test_a_worker_dies_while_the_store_is_away(
    transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    own = Path(shutil.copytree(store, tmp_path / "store"))
    metrics = f"127.0.0.1:{free_port()}"
    flags = ("--transport", transport, "--workers", 2, "--metrics-listen", metrics, "--precision", "fp32")
    with ServerProcess(tmp_path, own, *flags) as process, Client(process.address) as client:
        expected = client.predict(mnist_images()[:1000]).class_ids
        own.rename(tmp_path / "away")
        with Callers(process.address, expected, threads=4, timeout=60, retries=1000) as callers:
            time.sleep(1)
            os.kill(children(process.process.pid)[0], signal.SIGKILL)
            process.wait_for_log("is tried again until it can")
            time.sleep(10)
            assert scrape(metrics)['mlpserve_workers{state="ready"}'] == 1
            (tmp_path / "away").rename(own)
            figures["seconds until both serve"] = _seconds_until(
                lambda: scrape(metrics)["mlpserve_ready"] == 1, "both workers serve"
            )
        assert process.process.poll() is None
    figures |= {f"calls: {name}": count for name, count in callers.outcomes.items()}
    assert set(callers.outcomes) == {"right"}


def test_supervisor_is_killed_while_a_worker_is_stopped(
    transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    """The port is free at once for the next server; before that, one worker served on, stopped, for ever."""
    flags = ("--transport", transport, "--workers", 2, "--listen", f"127.0.0.1:{free_port()}")
    for _ in range(3):
        with ServerProcess(tmp_path, store, *flags) as process:
            workers = children(process.process.pid)
            os.kill(workers[0], signal.SIGSTOP)
            process.process.kill()
            process.wait()
            taken = _seconds_until(
                lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers),  # noqa: B023
                "no worker is left",
            )
        figures["seconds until no worker is left, at most"] = max(
            taken, figures.get("seconds until no worker is left, at most", 0.0)
        )


def test_from_one_process_to_two(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """A server that ends before its callers leaves connections in TIME_WAIT, for a minute."""
    flags = ("--transport", transport, "--listen", f"127.0.0.1:{free_port()}")
    with contextlib.ExitStack() as callers:
        for workers in (1, 2, 1, 2):
            began = time.monotonic()
            with ServerProcess(tmp_path, store, *flags, "--workers", workers) as process:
                figures["seconds of a start, at most"] = max(
                    time.monotonic() - began, figures.get("seconds of a start, at most", 0.0)
                )
                for _ in range(10):
                    caller = callers.enter_context(stub(process.address))
                    assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
                process.terminate()
                assert process.wait() == 0

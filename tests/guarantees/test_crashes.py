"""kill -9: of a worker under load, and of the whole server."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess, children, free_port
from support.waiting import wait_until
from tests.support.callers import Callers

from mlpserve_client import Client

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(600)]

KILLS = 4  # more within a minute would end the server


def test_kill_a_worker(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    replaced = []
    with ServerProcess(tmp_path, store, "--precision", "fp32", "--transport", transport, "--workers", 2) as process:
        with Client(process.address) as client:
            expected = client.predict(mnist_images()[:1000]).class_ids
        with (
            Callers(process.address, expected, threads=4, timeout=30) as retrying,
            Callers(process.address, expected, threads=4, timeout=30, retries=0) as once,
        ):
            for _ in range(KILLS):
                time.sleep(1)
                workers = children(process.process.pid)
                victim = random.choice(workers)
                ready = process.log.count("proven in")
                started = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda: process.log.count("proven in") > ready, "another worker is ready", 30, every=0.01)  # noqa: B023
                replaced.append(time.monotonic() - started)
                assert len(children(process.process.pid)) == 2
            time.sleep(1)
        process.terminate()
        assert process.wait() == 0
    figures |= {"kills": KILLS, "slowest replacement s": max(replaced)}
    figures |= {f"retrying: {name}": count for name, count in retrying.outcomes.items()}
    figures |= {f"without retry: {name}": count for name, count in once.outcomes.items()}
    assert max(replaced) <= 2
    assert set(retrying.outcomes) == {"right"}
    assert set(once.outcomes) <= {"right", "UNAVAILABLE"}
    assert once.outcomes["UNAVAILABLE"] <= 4 * KILLS, "only calls on the dead worker's connections"


def test_kill_the_server(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    port, back = free_port(), []
    listen = f"127.0.0.1:{port}"
    flags = ["--precision", "fp32", "--transport", transport, "--listen", listen]
    process = ServerProcess(tmp_path, store, *flags).__enter__()
    with Client(process.address) as client:
        expected = client.predict(mnist_images()[:1000]).class_ids
    with Callers(listen, expected, threads=2, timeout=60, retries=1000) as callers:
        for _ in range(5):
            time.sleep(random.uniform(0.2, 0.8))
            process.__exit__(None, None, None)  # kill -9
            started = time.monotonic()
            process = ServerProcess(tmp_path, store, *flags).__enter__()
            back.append(time.monotonic() - started)
        time.sleep(0.5)
    process.__exit__(None, None, None)
    figures |= {"kills": 5, "slowest restart s": max(back), **callers.outcomes}
    assert set(callers.outcomes) == {"right"}

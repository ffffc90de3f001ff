"""Twenty SIGTERMs under load: nothing is lost, and nobody sees anything but good answers and UNAVAILABLE."""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from tests.support.callers import Callers

from mlpserve_client import Client

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

SIGNALS = 20


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm(transport: str, workers: int, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    random.seed(workers)
    first_port, second_port = free_port(), free_port()
    flags = ["--precision", "fp32", "--transport", transport, "--workers", workers]

    def server(port: int) -> ServerProcess:
        return ServerProcess(tmp_path, store, *flags, "--listen", f"127.0.0.1:{port}")

    outcomes: dict[str, Counter[str]] = {}
    with server(first_port) as standing:
        with Client(standing.address) as client:
            expected = client.predict(mnist_images()[:1000]).class_ids
        one, both = f"127.0.0.1:{second_port}", f"ipv4:127.0.0.1:{second_port},127.0.0.1:{first_port}"
        victim = server(second_port)
        victim.__enter__()
        with (
            Callers(both, expected, threads=2, timeout=20) as to_a_second_server,
            Callers(one, expected, threads=2, timeout=60, retries=1000) as to_the_restarted_one,
            Callers(one, expected, threads=2, timeout=20, retries=0) as without_retry,
        ):
            for index in range(SIGNALS):
                time.sleep(random.uniform(0.1, 0.8))
                victim.process.send_signal(random.choice([signal.SIGTERM, signal.SIGINT]))
                assert victim.wait() == 0
                victim.__exit__(None, None, None)
                if index % 2:
                    time.sleep(random.uniform(0, 0.3))
                victim = server(second_port)
                victim.__enter__()
            time.sleep(0.5)
        outcomes = {
            "to a second server": to_a_second_server.outcomes,
            "to the restarted one": to_the_restarted_one.outcomes,
            "without retry": without_retry.outcomes,
        }
        victim.__exit__(None, None, None)
    figures["signals"] = SIGNALS
    for way, counts in outcomes.items():
        figures |= {f"{way}: {name}": count for name, count in sorted(counts.items())}
    assert set(outcomes["to a second server"]) == {"right"}
    assert set(outcomes["to the restarted one"]) == {"right"}
    assert set(outcomes["without retry"]) == {"right", "UNAVAILABLE"}
    assert all(counts["right"] > 100 for counts in outcomes.values())

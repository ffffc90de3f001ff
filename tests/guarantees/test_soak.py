"""Millions of requests with reloads, cancellations and reconnects: right to the end, and nothing grows."""

import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.grpc_calls import PREDICT, pixels, stub
from support.h2load import MISSING, Load
from support.h2load import run as h2load
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, resident_mb, scrape
from tests.support.artifacts import publish_rolled
from tests.support.steady import IMAGES, count_wrong, steady_load

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(3600)]

# grpcio is many times slower; it gets fewer requests.
REQUESTS = {"wire": 5_000_000, "grpcio": 500_000}
SANITIZED = os.environ.get(
    "SOAK_PRELOAD", ""
)  # a sanitizer, whose own books of memory grow; see server/wire/sanitized.py
GROWTH = {"wire": 1.1, "grpcio": 1.2}  # a grpc.aio server that does nothing grows by ten bytes a call too
ROUND_SECONDS = 15
LOADS = (Load("ones", 1, 8, 16), Load("eights", 8, 2, 2), Load("sixty-fours", 64, 1, 1))
STEADY_RATE = 50
CANCELLED_A_ROUND = 400


@pytest.mark.skipif(shutil.which("h2load") is None, reason=MISSING)
def test_soak(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    requests = int(os.environ.get("SOAK_REQUESTS", REQUESTS[transport]))
    own = Path(shutil.copytree(store, tmp_path / "store"))
    publish_rolled(own / "mnist/1", own, 2)
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--poll", 0.1, "--metrics-listen", metrics]
    states: list[tuple[float, int, int]] = []
    failed = wrong = cancelled = steady = served = 0
    codes: dict[str, int] = {}
    versions = set()
    with ServerProcess(tmp_path, own, *flags, env={"LD_PRELOAD": SANITIZED}) as process:
        pid = process.process.pid
        with stub(process.address) as caller:
            answer = caller.Predict(pb.PredictRequest(images=pixels(mnist_images()[:IMAGES])))
        base = np.array(answer.class_ids, np.int64) - answer.model.version
        while served < requests:
            with steady_load(process.address, STEADY_RATE, tmp_path) as outcomes:
                errors = _round(process.address, own, len(states) + 3)
            assert errors == []
            cancelled += CANCELLED_A_ROUND
            steady += len(outcomes[0].codes)
            failed += int((outcomes[0].codes != 0).sum())
            wrong += count_wrong(outcomes[0], base)
            versions |= set(outcomes[0].versions.tolist())
            time.sleep(1)  # connections close
            threads, descriptors = (len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("task", "fd"))
            states.append((resident_mb(pid), threads, descriptors))
            samples = scrape(metrics)
            codes = {
                name.split('"')[1]: int(value)
                for name, value in samples.items()
                if name.startswith("mlpserve_requests_total{")
            }
            served = codes["OK"]
        assert "Traceback" not in process.log
    early, late = states[len(states) // 10], states[-1]
    figures |= {"requests": served, "cancelled": cancelled, "checked": steady, "failed": failed, "wrong": wrong}
    figures |= {"reloads": len(states), "connections made": len(states) * (sum(load.connections for load in LOADS) + 5)}
    for name, before, after in zip(("MB", "threads", "file descriptors"), early, late, strict=True):
        figures |= {f"{name} early": before, f"{name} late": after}
    figures |= {f"ended {code}": count for code, count in codes.items()}
    assert (failed, wrong) == (0, 0)
    assert set(codes) <= {"OK", "CANCELLED"}  # h2load may cut its last calls off
    assert len(versions) >= len(states)
    assert SANITIZED or late[0] <= GROWTH[transport] * early[0]
    assert late[1:] == early[1:]


def _round(address: str, store: Path, number: int) -> list[BaseException]:
    """Every load at once, on new connections, with a reload and cancelled calls in their midst."""
    errors: list[BaseException] = []

    def load(kind: Load) -> None:
        body = pb.PredictRequest(images=pixels(mnist_images()[: kind.images])).SerializeToString()
        try:
            h2load(kind, f"http://{address}{PREDICT}", body, wire="mlpserve", reply_size=0, seconds=ROUND_SECONDS)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=load, args=(kind,)) for kind in LOADS]
    for thread in threads:
        thread.start()
    with stub(address) as caller:
        for step in range(CANCELLED_A_ROUND):
            call = caller.Predict.future(pb.PredictRequest(images=bytes(784 * random.choice((1, 16)))), timeout=20)
            time.sleep(random.uniform(0, 0.01))
            call.cancel()
            if step == CANCELLED_A_ROUND // 2:
                publish_rolled(store / "mnist/1", store, number)
    for thread in threads:
        thread.join()
    return errors

"""A hundred reloads under load: nothing fails, and every answer is of the version that it names."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.grpc_calls import stub, wait_for_version
from support.processes import ServerProcess, resident_mb
from tests.support.artifacts import BREAKAGES, publish_rolled
from tests.support.steady import IMAGES, count_wrong, steady_load

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

RELOADS = 100
RATE = 300  # requests a second, a quarter of them of 16 images
QUIET_SECONDS = 15


def test_reloads(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    own = Path(shutil.copytree(store, tmp_path / "store"))
    staged = tmp_path / "staged"
    broken = {number: BREAKAGES[number // 5 % len(BREAKAGES)] for number in range(5, RELOADS + 2, 5)}
    for number in range(2, RELOADS + 2):
        publish_rolled(own / "mnist/1", staged, number, broken=broken.get(number, ""))
    with (
        ServerProcess(tmp_path, own, "--transport", transport, "--poll", 0.05) as process,
        stub(process.address) as caller,
    ):

        def wait_for(number: int) -> None:
            if number in broken:
                process.wait_for_log(f"version {number} is refused")
            else:
                wait_for_version(caller, number)

        def publish(number: int) -> None:
            (staged / "mnist" / str(number)).rename(own / "mnist" / str(number))
            wait_for(number)

        publish(2)
        with steady_load(process.address, RATE, tmp_path) as quiet:
            time.sleep(QUIET_SECONDS)
        before = resident_mb(process.process.pid)
        started = time.monotonic()
        with steady_load(process.address, RATE, tmp_path) as loaded:
            time.sleep(1)
            for number in range(3, RELOADS + 2):
                publish(number)
                time.sleep(0.1)
            time.sleep(1)
        seconds = time.monotonic() - started
        after = resident_mb(process.process.pid)
        answer = caller.Predict(pb.PredictRequest(images=_pixels()))
        base = np.array(answer.class_ids, np.int64) - answer.model.version

    (quiet_outcomes,), (outcomes,) = quiet, loaded
    failed = int((outcomes.codes != 0).sum())
    wrong = count_wrong(outcomes, base)
    quiet_p99, p99 = (float(np.percentile(o.seconds, 99) * 1000) for o in (quiet_outcomes, outcomes))
    figures |= {
        "reloads": RELOADS,
        "of them refused": len(broken),
        "versions that answered": len(set(outcomes.versions.tolist())),
        "requests": len(outcomes.codes),
        "failed": failed,
        "wrong": wrong,
        "quiet p99 ms": quiet_p99,
        "p99 ms": p99,
        "seconds": seconds,
        "MB before": before,
        "MB after": after,
    }
    assert (failed, wrong) == (0, 0)
    assert set(broken).isdisjoint(outcomes.versions.tolist())
    assert len(set(outcomes.versions.tolist())) >= RELOADS * 0.75
    assert p99 <= 3 * quiet_p99
    assert after <= 1.1 * before


def _pixels() -> bytes:
    from support.mnist import mnist_images

    return mnist_images()[:IMAGES].tobytes()

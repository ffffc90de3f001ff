"""A minute of services and jobs on one server, with a reload, a cancelled job and a SIGTERM in it."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support.grpc_calls import stub, wait_for_version
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape
from tests.support.artifacts import publish_rolled
from tests.support.steady import IMAGES, count_wrong, steady_load

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(300)]

RATE, SECONDS, JOB_IMAGES, IN_FLIGHT = 150, 60, 4096, 4
SENT = np.resize(mnist_images()[:IMAGES].reshape(IMAGES, -1), (JOB_IMAGES, 784))


class Job(threading.Thread):
    """Keeps four requests in flight until it is cancelled or the server drains; counts what it got."""

    def __init__(self, address: str, base: "np.ndarray[Any, Any]") -> None:
        super().__init__()
        self._address, self._base = address, np.resize(base, JOB_IMAGES)
        self.leave = threading.Event()
        self.answered = self.wrong = 0
        self.codes: set[grpc.StatusCode] = set()

    def run(self) -> None:
        request = pb.PredictRequest(images=SENT.tobytes(), traffic=pb.TRAFFIC_BATCH)
        with stub(self._address) as caller:
            waiting = [caller.Predict.future(request, timeout=60) for _ in range(IN_FLIGHT)]
            while waiting and not self.leave.is_set():
                call = waiting.pop(0)
                if call.exception() is not None:
                    self.codes.add(call.code())
                    continue
                answer = call.result()
                self.answered += 1
                # By one version from the first slice to the last, also while another one takes over.
                self.wrong += list(answer.class_ids) != list((self._base + answer.model.version) % 10)
                waiting.append(caller.Predict.future(request, timeout=60))
            for call in waiting:
                call.cancel()


def test_mixed_traffic(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    own = Path(shutil.copytree(store, tmp_path / "store"))
    publish_rolled(own / "mnist/1", own, 2)
    publish_rolled(own / "mnist/1", tmp_path / "staged", 3)
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--workers", 1, "--poll", 0.2, "--precision", "fp32"]
    with ServerProcess(tmp_path, own, *flags, "--metrics-listen", metrics) as process:
        with stub(process.address) as caller:
            answer = caller.Predict(pb.PredictRequest(images=SENT[:IMAGES].tobytes()), timeout=30)
            base = (np.array(answer.class_ids, np.int64) - answer.model.version) % 10
            jobs = [Job(process.address, base) for _ in range(3)]
            for job in jobs:
                job.start()
            with steady_load(process.address, RATE, tmp_path) as results:
                time.sleep(SECONDS / 3)
                (tmp_path / "staged/mnist/3").rename(own / "mnist/3")
                wait_for_version(caller, 3)
                time.sleep(SECONDS / 3)
                jobs[2].leave.set()
                time.sleep(SECONDS / 3)
                samples = scrape(metrics)
                process.terminate()
                assert process.wait() == 0, "what was accepted was answered"
        for job in jobs:
            job.join(60)
        assert "Traceback" not in process.log
    (outcomes,) = results
    good = outcomes.codes == 0
    counts = {
        "interactive calls answered": int(good.sum()),
        "job requests answered": sum(job.answered for job in jobs),
        "wrong": count_wrong(outcomes._replace(**{k: v[good] for k, v in outcomes._asdict().items()}), base)
        + sum(job.wrong for job in jobs),
    }
    figures |= counts | {
        "p50 ms": float(np.percentile(outcomes.seconds[good], 50) * 1e3),
        "p99 ms": float(np.percentile(outcomes.seconds[good], 99) * 1e3),
    }
    assert counts["wrong"] == 0
    assert counts["interactive calls answered"] > 0.9 * RATE * SECONDS
    assert counts["job requests answered"] > 50
    assert set(np.unique(outcomes.versions[good])) == {2, 3}
    assert set(np.unique(outcomes.codes)) <= {0, grpc.StatusCode.UNAVAILABLE.value[0]}
    assert 'mlpserve_dropped_total{reason="overload",traffic="interactive"}' not in samples
    assert set().union(*(job.codes for job in jobs)) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

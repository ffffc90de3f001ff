"""Deadlines that pass in the queue, callers that leave, and five times more load than the server can take."""

import asyncio
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import PREDICT, channel, pixels, stub
from support.h2load import MISSING, Load
from support.h2load import run as h2load
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, resident_mb, scrape, scrape_when

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(900)]

ONE = pb.PredictRequest(images=bytes(784))
BLOCKER = pb.PredictRequest(images=bytes(784 * 4096))


def test_deadline_storm(transport: str, slow_store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """Half of 4,000 calls expire while they wait; only the others are run.

    All are batch traffic, so that none of them runs between two slices of what they wait behind.
    """
    one = pb.PredictRequest(images=ONE.images, traffic=pb.TRAFFIC_BATCH)
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--metrics-listen", metrics]
    with ServerProcess(tmp_path, slow_store, *flags) as process, stub(process.address) as caller:
        caller.Predict(ONE, timeout=10)
        before = scrape_when(metrics, lambda now: now["mlpserve_images_total"] >= 1)["mlpserve_images_total"]
        blockers = [caller.Predict.future(BLOCKER, timeout=120) for _ in range(2)]
        time.sleep(0.1)
        calls = [caller.Predict.future(one, timeout=60 if index % 2 else 0.3) for index in range(4000)]
        alive = sum(call.exception() is None for call in calls[1::2])
        expired = sum(call.exception() is not None for call in calls[0::2])
        assert all(call.exception() is None for call in blockers)
        samples = scrape_when(metrics, lambda now: now["mlpserve_images_total"] - before >= alive + 2 * 4096)
    executed = samples["mlpserve_images_total"] - before - 2 * 4096
    figures |= {"alive": alive, "expired": expired, "executed": executed}
    figures["wrongly executed"] = executed - alive
    assert (alive, expired) == (2000, 2000)
    assert executed == 2000


def test_cancellations(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """10,000 callers leave at random moments; each of 10,000 others gets its own answer."""
    images = mnist_images()[:1000]
    counts = {"answered": 0, "wrong": 0, "cancelled": 0, "answered before": 0}

    async def run(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as opened:
            method = opened.unary_unary(PREDICT, response_deserializer=pb.PredictResponse.FromString)
            whole = await method(pb.PredictRequest(images=pixels(images)).SerializeToString())
            limit = asyncio.Semaphore(400)

            async def one(number: int) -> None:
                index = number % len(images)
                payload = pb.PredictRequest(images=pixels(images[index : index + 1])).SerializeToString()
                async with limit:
                    call = method(payload, timeout=30)
                    if number % 2:
                        await asyncio.sleep(random.uniform(0, 0.02))
                        counts["cancelled" if call.cancel() else "answered before"] += 1
                    else:
                        answer = await call
                        counts["answered"] += 1
                        counts["wrong"] += answer.class_ids[0] != whole.class_ids[index]

            await asyncio.gather(*(one(number) for number in range(20_000)))

    with ServerProcess(tmp_path, store, "--transport", transport) as process:
        asyncio.run(run(process.address))
        with stub(process.address) as caller:
            assert len(caller.Predict(ONE, timeout=5).class_ids) == 1
        assert "Traceback" not in process.log
    figures |= counts
    assert counts["answered"] == 10_000
    assert counts["wrong"] == 0
    assert counts["cancelled"] > 5_000


OVERLOAD_SECONDS, IMAGES = 60, 64


@pytest.mark.skipif(shutil.which("h2load") is None, reason=MISSING)
def test_overload(transport: str, slow_store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    """Five times the capacity for a minute."""
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", "slow", "--transport", transport, "--threads", 1, "--max-queue", 4096]
    body = pb.PredictRequest(images=pixels(mnist_images()[:IMAGES])).SerializeToString()
    with (
        ServerProcess(tmp_path, slow_store, *flags, "--metrics-listen", metrics) as process,
        stub(process.address) as caller,
        channel(process.address) as probe,
    ):
        url = f"http://{process.address}{PREDICT}"
        normal = _seconds(caller)
        closed = h2load(Load("", IMAGES, 1, 4), url, body, wire="mlpserve", reply_size=0, seconds=5)
        capacity = closed.requests_per_second * IMAGES
        health, stop = [], threading.Event()

        def ask() -> None:
            while not stop.wait(0.1):
                started = time.monotonic()
                answer = health_pb2_grpc.HealthStub(probe).Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                health.append(time.monotonic() - started)

        asking = threading.Thread(target=ask)
        asking.start()
        before, memory = scrape(metrics), resident_mb(process.process.pid)
        most, started = memory, time.monotonic()
        rate = round(5 * closed.requests_per_second)
        load = threading.Thread(
            target=h2load,
            args=(Load("", IMAGES, 8, 200, rate), url, body),
            kwargs={"wire": "mlpserve", "reply_size": 0, "seconds": OVERLOAD_SECONDS, "may_fail": True},
        )
        load.start()
        while load.is_alive():
            time.sleep(0.2)
            most = max(most, resident_mb(process.process.pid))
            if time.monotonic() - started < OVERLOAD_SECONDS:
                during, elapsed = scrape(metrics), time.monotonic() - started
        load.join()
        time.sleep(1)
        afterwards = _seconds(caller)
        stop.set()
        asking.join()
    answered = (during["mlpserve_images_total"] - before["mlpserve_images_total"]) / elapsed
    refused = during['mlpserve_dropped_total{reason="overload",traffic="interactive"}'] * IMAGES / elapsed
    figures |= {
        "capacity images/s": capacity,
        "answered images/s": answered,
        "refused images/s": refused,
        "MB before": memory,
        "MB at most": most,
        "health at most ms": max(health) * 1000,
        "health checks": len(health),
        "one call before ms": normal * 1000,
        "one call 1 s after ms": afterwards * 1000,
    }
    assert answered >= 0.9 * capacity
    assert refused >= 2 * capacity
    assert max(health) < 0.25
    assert afterwards < 5 * normal + 0.01


def _seconds(caller: Any) -> float:
    times = []
    for _ in range(20):
        started = time.monotonic()
        caller.Predict(ONE, timeout=10)
        times.append(time.monotonic() - started)
    return float(np.median(times))

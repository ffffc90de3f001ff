"""A bounded burst of single-image requests, with live measurements."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve_client.aio import AsyncClient
from mlpserve_client.errors import InvalidInputError, MlpserveError, ServerError
from mlpserve_client.playground.job import Job

MOST_REQUESTS, MOST_IN_FLIGHT = 50_000, 1024
TICK = 0.1  # seconds between two points of the picture
TIMEOUT = 10.0  # seconds for one request


@dataclass
class _Tally:
    latencies: list[float] = field(default_factory=list)  # seconds
    batches: list[int] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def point(self, seconds: float) -> dict[str, Any]:
        """Summarise requests that were answered within `seconds`."""
        latencies = np.array(self.latencies or [0.0]) * 1000
        return {
            "answered": len(self.latencies),
            "failed": dict(self.failed),
            "perSecond": len(self.latencies) / seconds if seconds else 0.0,
            "p50Ms": float(np.percentile(latencies, 50)),
            "p99Ms": float(np.percentile(latencies, 99)),
            "batch": float(np.mean(self.batches)) if self.batches else 0.0,
            "largestBatch": max(self.batches, default=0),
        }


def check(requests: int, in_flight: int) -> None:
    """Check a burst's size.

    Raises:
        InvalidInputError: it is out of bounds.
    """
    if not 1 <= requests <= MOST_REQUESTS:
        raise InvalidInputError(f"{requests} requests; expected 1 to {MOST_REQUESTS:,}")
    if not 1 <= in_flight <= MOST_IN_FLIGHT:
        raise InvalidInputError(f"{in_flight} requests in flight; expected 1 to {MOST_IN_FLIGHT:,}")


async def burst(
    client: AsyncClient, image: npt.NDArray[np.uint8], requests: int, in_flight: int, job: Job | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Send an image many times, one request each.

    Args:
        client: must not coalesce, so that the server forms the batches.
        image: uint8 [rows, cols].
        requests: number of requests.
        in_flight: number of concurrent requests.
        job: that runs beside it; its images are counted too.

    Yields:
        A point every TICK seconds for the answers in that interval, then one for the whole burst with `done`.
    """
    check(requests, in_flight)
    whole, part = _Tally(), _Tally()
    left = requests
    started = ticked = time.perf_counter()

    async def send() -> None:
        nonlocal left
        while left:
            left -= 1
            asked = time.perf_counter()
            try:
                answer = await client.predict(image, timing=True, timeout=TIMEOUT)
            except MlpserveError as error:
                kind = error.code.name if isinstance(error, ServerError) else type(error).__name__
                whole.failed[kind] += 1
                part.failed[kind] += 1
                continue
            elapsed = time.perf_counter() - asked
            for tally in (whole, part):
                tally.latencies.append(elapsed)
                if answer.timing is not None:
                    tally.batches.append(answer.timing.batch_images)

    begun = counted = job.images if job else 0
    senders = [asyncio.ensure_future(send()) for _ in range(min(in_flight, requests))]
    try:
        while True:
            _, pending = await asyncio.wait(senders, timeout=TICK)
            now = time.perf_counter()
            point, part, ticked, span = part, _Tally(), now, now - ticked
            beside = _beside(job, counted, span)
            counted = job.images if job else 0
            yield point.point(span) | beside | {"seconds": now - started, "done": False}
            if not pending:
                break
        for sender in senders:
            sender.result()  # any error but an MlpserveError is a bug, and must surface
        yield whole.point(now - started) | _beside(job, begun, now - started) | {"seconds": now - started, "done": True}
    finally:
        # The page was closed, or Stop was pressed.
        for sender in senders:
            sender.cancel()


def _beside(job: Job | None, before: int, seconds: float) -> dict[str, Any]:
    """What a job has had of the server since it had had `before` images; nothing without one."""
    if job is None:
        return {}
    images = job.images - before
    return {"job": {"images": images, "perSecond": images / seconds if seconds else 0.0, "failed": dict(job.failed)}}

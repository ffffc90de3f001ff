"""How often and for how long a version has answered, as Triton's ModelStatistics counts.

Durations are those of requests: what a batch takes counts once for each request in it.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple


class Spans(NamedTuple):
    """Where the seconds of a batch have gone: before its Run, in it, and after it."""

    before: float
    run: float
    after: float


@dataclass
class Total:
    """How often something took how long.

    Attributes:
        times: how often.
        before, run, after: seconds in all.
    """

    times: int = 0
    before: float = 0.0
    run: float = 0.0
    after: float = 0.0

    def add(self, spans: Spans, times: int = 1) -> None:
        """Count what took so long each time."""
        before, run, after = spans
        self.times += times
        self.before += times * before
        self.run += times * run
        self.after += times * after


class Statistics:
    """Of one version. Written by one thread at a time, read by any.

    Attributes:
        last: time.time() of the last answer; 0 before.
        images: answered.
        by_size: batches, by the images in them.
        requests: that were answered, with the batches that they ended in.
        queue_seconds: that these have waited, together.
        seconds: from their arrivals to their answers, together.
        failed: requests that ended without an answer while this version served.
        failed_seconds: from their arrivals to their ends, together.
    """

    def __init__(self) -> None:
        self.last = 0.0
        self.images = 0
        self.by_size: dict[int, Total] = {}
        self.requests = Total()
        self.queue_seconds = self.seconds = self.failed_seconds = 0.0
        self.failed = 0

    def ran(self, images: int, spans: Spans) -> None:
        """Count a batch of so many images."""
        self.last = time.time()
        self.images += images
        of_size = self.by_size.get(images)
        if of_size is None:
            of_size = self.by_size[images] = Total()
        of_size.add(spans)

    def answered(self, spans: Spans, requests: int, queued: float, taken: float) -> None:
        """Count requests that a batch has completed.

        Args:
            spans: of the batch.
            requests: how many.
            queued: seconds that they have waited, together.
            taken: seconds from their arrivals to their answers, together.
        """
        self.requests.add(spans, requests)
        self.queue_seconds += queued
        self.seconds += taken

    def fail(self, seconds: float) -> None:
        """Count a request that was not answered."""
        self.failed += 1
        self.failed_seconds += seconds

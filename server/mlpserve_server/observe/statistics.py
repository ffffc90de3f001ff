"""How often and for how long a version has answered, as Triton's ModelStatistics counts.

Durations are those of requests: what a batch takes counts once for each request in it.
"""

import time
from dataclasses import dataclass

Spans = tuple[float, float, float]  # where the seconds of a batch have gone: before its Run, in it, and after it


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

    def ran(self, images: int, spans: Spans, requests: int, queued: float, taken: float) -> None:
        """Count a batch, and the requests that it has completed.

        Args:
            images: in the batch.
            spans: of the batch.
            requests: how many.
            queued: seconds that they have waited, together.
            taken: seconds from their arrivals to their answers, together.
        """
        before, run, after = spans
        of_size, all_requests = self.by_size.get(images), self.requests
        if of_size is None:
            of_size = self.by_size[images] = Total()
        of_size.times += 1
        of_size.before += before
        of_size.run += run
        of_size.after += after
        all_requests.times += requests
        all_requests.before += requests * before
        all_requests.run += requests * run
        all_requests.after += requests * after
        self.last = time.time()
        self.images += images
        self.queue_seconds += queued
        self.seconds += taken

    def fail(self, seconds: float) -> None:
        """Count a request that was not answered."""
        self.failed += 1
        self.failed_seconds += seconds

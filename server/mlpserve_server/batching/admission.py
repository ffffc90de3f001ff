"""Which calls wait, and which are told at once why they cannot.

The queue is bounded in images and lives here alone, so there is one bound in one place, and calls that are dead by the
time their batch forms cost no Run.
"""

import time
from collections import deque
from collections.abc import Collection, Mapping

from grpc import StatusCode

from mlpserve_server.batching.served import Served
from mlpserve_server.calls import Answer, Call
from mlpserve_server.codecs.predict import IMAGES_TAG, named_version
from mlpserve_server.errors import CallError, Draining, Expired, NotReady, Overloaded
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.request_log import RequestLog

REFUSALS: dict[str, CallError] = {
    "draining": Draining("the server is shutting down; call another one, or this one again later"),
    "not_ready": NotReady("the model is still being loaded; try again in a moment"),
}


class Admission:
    """The queue, and who is let into it. For one thread at a time, except `observe`.

    Args:
        metrics: told of every call, and of what waits.
        request_log: told of calls that are refused.
        max_batch: most images in a batch, unless one request alone is larger.
        max_queue: most images waiting.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog, *, max_batch: int, max_queue: int) -> None:
        self._metrics = metrics
        self._request_log = request_log
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queue: deque[Call] = deque()
        self._images = 0
        self._images_per_second = 0.0  # of recent large batches, to estimate how long the queue takes

    def __bool__(self) -> bool:
        """Whether a call waits."""
        return bool(self._queue)

    def observe(self, images: int, seconds: float) -> None:
        """Learn from a batch how fast the queue empties."""
        if images >= self._max_batch // 2:  # smaller ones say little of how fast a long queue empties
            rate = images / max(seconds, 1e-6)
            self._images_per_second = 0.8 * self._images_per_second + 0.2 * rate if self._images_per_second else rate

    def refuse_all(self, calls: list[Call], reason: str, answers: list[Answer]) -> None:
        """Answer calls that arrive while none is let in, for one of REFUSALS."""
        for call in calls:
            self._metrics.started[call.method] += 1
            self.refuse(call, reason, REFUSALS[reason], answers)

    def admit(
        self,
        calls: list[Call],
        served: Served,
        kept: Mapping[int, Served],
        pending: Collection[int],
        answers: list[Answer],
    ) -> None:
        """Queue calls, or answer them with why not.

        Args:
            calls: as they arrived.
            served: answers calls that name no version.
            kept: by version, answer calls that name it.
            pending: versions that are about to be kept.
            answers: refusals are added to it.
        """
        waiting, now = self._images, time.monotonic()
        for call in calls:
            self._metrics.started[call.method] += 1
            # Good enough before the message is parsed: everything but the images is shorter than one image.
            call.served = served
            if (kept or pending) and not call.payload.startswith(IMAGES_TAG):
                version = named_version(call.payload)
                call.served = kept.get(version, served)
                if version in pending and version not in kept:
                    not_yet = NotReady(f"version {version} is still being loaded; try again in a moment")
                    self.refuse(call, "not_ready", not_yet, answers)
                    continue
            call.images = len(call.payload) // call.served.model.pixels or 1
            if waiting + call.images > self._max_queue:
                self.refuse(call, "overload", self._overloaded(waiting), answers)
            elif waiting > 2 * self._max_batch and call.deadline < now + self._wait(waiting):
                self.refuse(call, "hopeless", self._hopeless(call.deadline - now, waiting), answers)
            else:
                waiting += call.images
                self._queue.append(call)
        self._set_images(waiting)

    def take(self, answers: list[Answer]) -> list[Call]:
        """The next batch: at least one call if any is alive, then as many as fit. The dead are dropped."""
        queue = self._queue
        batch: list[Call] = []
        images, waiting = 0, self._images
        now = time.monotonic()
        while queue:
            call = queue[0]
            if call.alive and call.deadline > now:
                if batch and (images + call.images > self._max_batch or call.served is not batch[0].served):
                    break
                batch.append(queue.popleft())
                images += call.images
            else:
                self._drop(queue.popleft(), now, answers)
            waiting -= call.images
        self._set_images(waiting)
        return batch

    def refuse(self, call: Call, reason: str, error: CallError, answers: list[Answer]) -> None:
        """Answer a call that will not be run."""
        self._metrics.dropped[reason] += 1
        self._metrics.handled[call.method][error.code.name] += 1
        self._request_log.failed(call, error)
        answers.append((call, error))

    def _drop(self, call: Call, now: float, answers: list[Answer]) -> None:
        """Count a dead call, and answer it unless the transport has ended it already."""
        reason = "expired" if call.deadline <= now else "cancelled"
        if call.alive:
            expired = Expired("the deadline passed while the call waited in the queue")
            self.refuse(call, reason, expired, answers)
        else:
            self._metrics.dropped[reason] += 1
            self._metrics.handled[call.method][StatusCode.CANCELLED.name] += 1

    def _wait(self, images: int) -> float:
        """Seconds until so many images have run, by what recent large batches took; 0 while that is unknown."""
        return images / self._images_per_second if self._images_per_second else 0.0

    def _overloaded(self, waiting: int) -> Overloaded:
        message = f"{waiting} images are waiting, at most {self._max_queue} may"
        return Overloaded(message, self._wait(waiting) or 0.1)

    def _hopeless(self, left: float, waiting: int) -> Overloaded:
        wait = self._wait(waiting)
        message = f"the queue takes about {wait:.3f} s, and the call's deadline is in {left:.3f} s"
        return Overloaded(message, max(wait - left, 0.001))

    def _set_images(self, images: int) -> None:
        self._images = images
        self._metrics.queued_images = images

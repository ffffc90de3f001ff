"""Which calls wait, and which are told at once why they cannot.

The queue is bounded in images and lives here alone, so there is one bound in one place, and calls that are dead by the
time their batch forms cost no Run.
"""

import time
from collections import deque

from mlpserve_server.batching.failures import Failure
from mlpserve_server.calls import Call
from mlpserve_server.catalog import Catalog, Served
from mlpserve_server.codecs.naming import named_model
from mlpserve_server.codecs.predict import IMAGES_TAG
from mlpserve_server.errors import CallError, Draining, Expired, NotReady, Overloaded, UnknownModel
from mlpserve_server.observe.metrics import Metrics

DRAINING = Draining("the server is shutting down; call another one, or this one again later")
NOT_READY = NotReady("the model is still being loaded; try again in a moment")


class Admission:
    """The queue, and who is let into it. For one thread at a time, except `observe`.

    Args:
        catalog: knows which model answers a call.
        metrics: told of every call that arrives, and of what waits.
        max_batch: most images in a batch, unless one request alone is larger.
        max_queue: most images waiting.
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, *, max_batch: int, max_queue: int) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._queue: deque[tuple[Call, Served]] = deque()
        self._images = 0
        self._images_per_second = 0.0  # of recent large batches, to estimate how long the queue takes
        self._closed = False

    def __bool__(self) -> bool:
        """Whether a call waits."""
        return bool(self._queue)

    def close(self) -> None:
        """Let no call in from now on."""
        self._closed = True

    def observe(self, images: int, seconds: float) -> None:
        """Learn from a batch how fast the queue empties."""
        if images >= self._max_batch // 2:  # smaller ones say little of how fast a long queue empties
            rate = images / max(seconds, 1e-6)
            self._images_per_second = 0.8 * self._images_per_second + 0.2 * rate if self._images_per_second else rate

    def admit(self, calls: list[Call], failures: list[Failure]) -> None:
        """Queue calls, each with what answers it: the model that serves now, so a new one takes over between batches.

        Args:
            calls: as they arrived.
            failures: gets those that are not let in.
        """
        for call in calls:
            self._metrics.started[call.method] += 1
        versions = self._catalog.versions()
        serving = versions.serving
        if self._closed or serving is None:
            error, dropped = (DRAINING, "draining") if self._closed else (NOT_READY, "not_ready")
            failures.extend(Failure(call, error, dropped) for call in calls)
            return
        alone = not (versions.kept or versions.pending)
        waiting, now = self._images, time.monotonic()
        for call in calls:
            served = serving
            # Good enough before the message is parsed: everything but the images is shorter than one image.
            if not (alone or call.payload.startswith(IMAGES_TAG)):
                try:
                    served = self._catalog.find(*named_model(call.payload))
                except NotReady as error:
                    failures.append(Failure(call, error, "not_ready"))
                    continue
                except UnknownModel:
                    pass  # the codec reads all of the message, and says so if that is what it says
            call.images = len(call.payload) // served.model.pixels or 1
            if (refused := self._full(call, waiting, now)) is not None:
                failures.append(refused)
            else:
                waiting += call.images
                self._queue.append((call, served))
        self._set_images(waiting)

    def take(self, failures: list[Failure]) -> tuple[Served, list[Call]] | None:
        """The next batch: at least one call if any is alive, then as many as fit and have the same model.

        Args:
            failures: gets the dead.
        """
        queue = self._queue
        batch: list[Call] = []
        answering: Served | None = None
        images, waiting = 0, self._images
        now = time.monotonic()
        while queue:
            call, served = queue[0]
            if call.alive and call.deadline > now:
                if answering is None:
                    answering = served
                elif images + call.images > self._max_batch or served is not answering:
                    break
                batch.append(call)
                images += call.images
            else:
                failures.append(_dead(call, now))
            queue.popleft()
            waiting -= call.images
        self._set_images(waiting)
        return None if answering is None else (answering, batch)

    def _full(self, call: Call, waiting: int, now: float) -> Failure | None:
        """Why a call cannot wait behind so many images; None if it can."""
        if waiting + call.images > self._max_queue:
            return Failure(call, self._overloaded(waiting), "overload")
        if waiting > 2 * self._max_batch and call.deadline < now + self._wait(waiting):
            return Failure(call, self._hopeless(call.deadline - now, waiting), "hopeless")
        return None

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


def _dead(call: Call, now: float) -> Failure:
    """Why a call is not run: nobody waits for it any longer."""
    dropped = "expired" if call.deadline <= now else "cancelled"
    error: CallError | None = None
    if call.alive:
        error = Expired("the deadline passed while the call waited in the queue")
    return Failure(call, error, dropped)

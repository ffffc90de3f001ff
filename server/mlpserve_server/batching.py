"""The batching loop: one thread that takes what has arrived, runs it, and answers.

No timer delays anything: a batch is whatever arrived while the last one ran. Idle, a request runs at once; under load
batches grow by themselves up to the maximum. The queue is bounded in images and lives here alone, so there is one
bound in one place, and calls that are dead by the time their batch forms cost no Run.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from mlpserve_server.codec import Decoder, Encoder, Request, assemble
from mlpserve_server.errors import CallError, Draining, Expired, NotReady, Overloaded, RunFailed
from mlpserve_server.metrics import Metrics
from mlpserve_server.model import LoadedModel
from mlpserve_server.transports.base import Answer, Call, Transport

log = logging.getLogger(__name__)

REFUSALS: dict[str, CallError] = {
    "draining": Draining("the server is shutting down; call another one, or this one again later"),
    "not_ready": NotReady("the model is still being loaded; try again in a moment"),
}
IDLE_SECONDS = 0.1  # longest wait for a call before the loop looks whether it should stop


class BatchingLoop:
    """Receives from a transport, answers to it.

    Args:
        transport: started already.
        current: the model that answers now, or None while none is proven.
        metrics: counters to add to.
        max_batch: most images in a batch, unless one request alone is larger.
        max_request: most images in one request.
        max_queue: most images waiting.
    """

    def __init__(
        self,
        transport: Transport,
        current: Callable[[], LoadedModel | None],
        metrics: Metrics,
        *,
        max_batch: int,
        max_request: int,
        max_queue: int,
    ) -> None:
        self._transport = transport
        self._current = current
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_request = max_request
        self._max_queue = max_queue
        self._queue: deque[Call] = deque()
        self._queued_images = 0
        self._images_per_second = 0.0  # of recent Runs, for RetryInfo
        self._codec: tuple[LoadedModel, Decoder, Encoder] | None = None
        self._draining = threading.Event()
        self._refusing = False
        self._thread = threading.Thread(target=self._loop, name="batching", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def prepare(self, model: LoadedModel) -> None:
        """Make what requests to a model need before it becomes current, so that the first one does not wait for it."""
        self._codec = model, Decoder(model, self._max_request), Encoder(model)

    def drain(self, timeout: float) -> bool:
        """Finish every call that has arrived, refuse later ones, and end the thread.

        Args:
            timeout: seconds to wait for it.

        Returns:
            Whether everything was answered in time.
        """
        self._draining.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            draining = self._draining.is_set()
            try:
                self._run_once()
            except Exception:
                log.exception("the batching loop met an error that is a bug; it goes on")
            if draining:
                # One round with the flag set has taken in all that had arrived; from now on calls are refused.
                self._refusing = True
                if not self._queue:
                    return

    def _run_once(self) -> None:
        """Receive, form a batch, run it, answer it."""
        wait = 0 if self._queue or self._draining.is_set() else IDLE_SECONDS
        answers: list[Answer] = []
        arrived = self._transport.receive(wait)
        model = self._current()
        if arrived:
            self._admit(arrived, model, answers)
        batch = self._take(answers)
        if batch and model is not None:
            self._answer(batch, model, answers)
        if answers:
            self._transport.send(answers)

    def _admit(self, calls: list[Call], model: LoadedModel | None, answers: list[Answer]) -> None:
        """Queue calls, or answer them with why not."""
        if self._refusing or model is None:
            reason = "draining" if self._refusing else "not_ready"
            for call in calls:
                self._refuse(call, reason, REFUSALS[reason], answers)
            return
        pixels, room = model.pixels, self._max_queue - self._queued_images
        for call in calls:
            # Good enough before the message is parsed: everything but the images is shorter than one image.
            call.images = len(call.payload) // pixels or 1
            if call.images <= room:
                room -= call.images
                self._queue.append(call)
            else:
                self._refuse(call, "overload", self._overloaded(self._max_queue - room), answers)
        self._set_queued(self._max_queue - room)

    def _overloaded(self, waiting: int) -> Overloaded:
        wait = waiting / self._images_per_second if self._images_per_second else 0.1
        return Overloaded(f"{waiting} images are waiting, at most {self._max_queue} may", wait)

    def _take(self, answers: list[Answer]) -> list[Call]:
        """The next batch: at least one call if any is alive, then as many as fit. The dead are dropped."""
        queue = self._queue
        batch: list[Call] = []
        images, waiting = 0, self._queued_images
        now = time.monotonic()
        while queue:
            call = queue[0]
            if call.alive and call.deadline > now:
                if batch and images + call.images > self._max_batch:
                    break
                batch.append(queue.popleft())
                images += call.images
            else:
                self._drop(queue.popleft(), now, answers)
            waiting -= call.images
        self._set_queued(waiting)
        return batch

    def _drop(self, call: Call, now: float, answers: list[Answer]) -> None:
        """Count a dead call, and answer it unless the transport has ended it already."""
        reason = "expired" if call.deadline <= now else "cancelled"
        if call.alive:
            expired = Expired("the deadline passed while the call waited in the queue")
            self._refuse(call, reason, expired, answers)
        else:
            self._metrics.dropped[reason] += 1

    def _refuse(self, call: Call, reason: str, error: CallError, answers: list[Answer]) -> None:
        """Answer a call that will not be run."""
        self._metrics.dropped[reason] += 1
        self._metrics.requests[error.code.name] += 1
        answers.append((call, error))

    def _answer(self, batch: list[Call], model: LoadedModel, answers: list[Answer]) -> None:
        """Decode each call by itself, run the good ones together, encode each answer."""
        started = time.monotonic()
        decoder, encoder = self._codec_for(model)
        calls: list[Call] = []
        requests: list[Request] = []
        for call in batch:
            try:
                requests.append(decoder.decode(call.payload))
                calls.append(call)
            except CallError as error:
                self._refuse(call, "invalid", error, answers)
        if not requests:
            return
        try:
            images = assemble(requests, model.pixels)
            replies = encoder.encode(requests, model.predict(images))
        except Exception:
            log.exception("a Run of %d requests failed", len(requests))
            failure = RunFailed("the model failed on this batch; the server's log says why")
            self._metrics.requests[failure.code.name] += len(calls)
            answers.extend((call, failure) for call in calls)
            return
        answers.extend(zip(calls, replies, strict=True))
        self._record(calls, len(images), started)

    def _codec_for(self, model: LoadedModel) -> tuple[Decoder, Encoder]:
        if self._codec is None or self._codec[0] is not model:
            self.prepare(model)
        assert self._codec is not None
        return self._codec[1], self._codec[2]

    def _record(self, calls: list[Call], images: int, started: float) -> None:
        seconds = time.monotonic() - started
        self._images_per_second = 0.8 * self._images_per_second + 0.2 * images / max(seconds, 1e-6)
        self._metrics.requests["OK"] += len(calls)
        self._metrics.images += images
        self._metrics.batch_images.observe(images)
        self._metrics.run_seconds.observe(seconds)
        if calls[0].arrived == calls[-1].arrived:  # received together, as most are
            self._metrics.queue_seconds.observe(started - calls[0].arrived, len(calls))
        else:
            for call in calls:
                self._metrics.queue_seconds.observe(started - call.arrived)

    def _set_queued(self, images: int) -> None:
        self._queued_images = images
        self._metrics.queued_images = images

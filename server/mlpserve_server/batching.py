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

from mlpserve.v1.classifier_pb2 import PredictRequest
from mlpserve_server.codec import ReplyEncoder, assemble, decode
from mlpserve_server.errors import CallError, Draining, Expired, NotReady, Overloaded, RunFailed
from mlpserve_server.metrics import Metrics
from mlpserve_server.model import LoadedModel
from mlpserve_server.transports.base import Answer, Call, Transport

log = logging.getLogger(__name__)

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
        self._draining = threading.Event()
        self._refusing = False
        self._thread = threading.Thread(target=self._loop, name="batching", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

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
        for call in arrived:
            refusal = self._admit(call, model)
            if refusal is not None:
                answers.append((call, refusal))
        batch = self._take(answers)
        if batch and model is not None:
            self._answer(batch, model, answers)
        if answers:
            self._transport.send(answers)
            for _, answer in answers:
                self._metrics.requests["OK" if isinstance(answer, bytes) else answer.code.name] += 1

    def _admit(self, call: Call, model: LoadedModel | None) -> CallError | None:
        """Queue a call, or say why not."""
        if self._refusing:
            self._metrics.dropped["draining"] += 1
            return Draining("the server is shutting down; call another one, or this one again later")
        if model is None:
            self._metrics.dropped["not_ready"] += 1
            return NotReady("the model is still being loaded; try again in a moment")
        # Good enough before the message is parsed: everything but the images is shorter than one image.
        call.images = max(1, len(call.payload) // model.pixels)
        if self._queued_images + call.images > self._max_queue:
            self._metrics.dropped["overload"] += 1
            wait = self._queued_images / self._images_per_second if self._images_per_second else 0.1
            return Overloaded(f"{self._queued_images} images are waiting, at most {self._max_queue} may", wait)
        self._queue.append(call)
        self._count_queued(call.images)
        return None

    def _take(self, answers: list[Answer]) -> list[Call]:
        """The next batch: at least one call if any is alive, then as many as fit. The dead are dropped."""
        batch: list[Call] = []
        images = 0
        now = time.monotonic()
        while self._queue:
            call = self._queue[0]
            dead = not call.alive or call.deadline <= now
            if batch and not dead and images + call.images > self._max_batch:
                break
            self._queue.popleft()
            self._count_queued(-call.images)
            if not call.alive:
                # The transport has ended the call; at its deadline as well, when it sees that first.
                self._metrics.dropped["expired" if call.deadline <= now else "cancelled"] += 1
            elif dead:
                self._metrics.dropped["expired"] += 1
                answers.append((call, Expired("the deadline passed while the call waited in the queue")))
            else:
                batch.append(call)
                images += call.images
        return batch

    def _answer(self, batch: list[Call], model: LoadedModel, answers: list[Answer]) -> None:
        """Decode each call by itself, run the good ones together, encode each answer."""
        calls: list[Call] = []
        requests: list[PredictRequest] = []
        for call in batch:
            try:
                requests.append(decode(call.payload, model, self._max_request))
                calls.append(call)
            except CallError as error:
                self._metrics.dropped["invalid"] += 1
                answers.append((call, error))
        if not requests:
            return
        started = time.monotonic()
        try:
            images = assemble(requests, model.pixels)
            encoder = ReplyEncoder(model, model.predict(images))
            stop = 0
            replies: list[Answer] = []
            for call, request in zip(calls, requests, strict=True):
                start, stop = stop, stop + len(request.images) // model.pixels
                replies.append((call, encoder.encode(request, start, stop)))
        except Exception:
            log.exception("a Run of %d requests failed", len(requests))
            failure = RunFailed("the model failed on this batch; the server's log says why")
            answers.extend((call, failure) for call in calls)
            return
        answers.extend(replies)
        self._record(calls, len(images), started)

    def _record(self, calls: list[Call], images: int, started: float) -> None:
        seconds = time.monotonic() - started
        self._images_per_second = 0.8 * self._images_per_second + 0.2 * images / max(seconds, 1e-6)
        self._metrics.images += images
        self._metrics.batch_images.observe(images)
        self._metrics.run_seconds.observe(seconds)
        for call in calls:
            self._metrics.queue_seconds.observe(started - call.arrived)

    def _count_queued(self, images: int) -> None:
        self._queued_images += images
        self._metrics.queued_images = self._queued_images

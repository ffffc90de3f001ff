"""The batching loop: a thread that takes what has arrived, runs it, and answers.

No timer delays anything: a batch is whatever arrived while the last one ran. Idle, a request runs at once; under load
batches grow by themselves up to the maximum.

On a GPU there are two such threads. One at a time takes its turn at the queue and decodes its batch, while the other
waits for the device or answers; on CPUs a second one would only take the cores from the Run.
"""

import logging
import threading
import time
from typing import NamedTuple

from mlpserve.v1.classifier_pb2 import Timing
from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.served import Served, prepare
from mlpserve_server.calls import Answer, Call, Transport
from mlpserve_server.codecs.predict import Request, assemble
from mlpserve_server.errors import CallError, RunFailed
from mlpserve_server.host.tuning import give_back_memory
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.models.runners import Images, Predictions
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.observe.tracing import Tracing

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.1  # longest wait for a call before the loop looks whether it should stop
PROBE_SECONDS = 2.0  # between two proofs of the model that serves
QUIET_SECONDS, TRIM_SECONDS = 1.0, 10.0  # without a batch before memory is given back, and between two times


class Batch(NamedTuple):
    """Decoded calls that run together.

    Attributes:
        started: time.monotonic() when their decoding began.
        served: what answers them.
        calls: one for each request.
        requests: decoded.
        images: uint8 [N, D], of all requests in order.
    """

    started: float
    served: Served
    calls: list[Call]
    requests: list[Request]
    images: Images


class BatchingLoop:
    """Receives from a transport, answers to it.

    A call is answered by the model that served when it was admitted, so a new model takes over between two batches. The
    models before it answer calls that name their version, so that a job which has begun with one can end with it.

    Args:
        transport: started already.
        metrics: counters to add to.
        max_batch: most images in a batch, unless one request alone is larger.
        max_request: most images in one request.
        max_queue: most images waiting.
        keep: how many replaced models go on answering calls that name them.
        request_log: told of requests that failed, and of every batch.
        tracing: told of every batch, or None.

    Attributes:
        proved: time.monotonic() when the model last gave its golden answers in this loop.
        pending: versions that are about to be kept; calls that name them are asked to come back.
    """

    def __init__(
        self,
        transport: Transport,
        metrics: Metrics,
        *,
        max_batch: int,
        max_request: int,
        max_queue: int,
        keep: int,
        request_log: RequestLog,
        tracing: Tracing | None,
    ) -> None:
        self._transport = transport
        self._metrics = metrics
        self._max_request = max_request
        self._request_log = request_log
        self._tracing = tracing
        self._admission = Admission(metrics, request_log, max_batch=max_batch, max_queue=max_queue)
        self._served: Served | None = None
        self._keep = keep
        self._kept: dict[int, Served] = {}  # by version, latest first; replaced as a whole
        self._next_probe = 0.0
        self._last_batch = self._last_trim = 0.0
        self.proved = 0.0
        self.pending: frozenset[int] = frozenset()
        self._draining = threading.Event()
        self._refusing = False
        self._turn = threading.Lock()  # who holds it receives, and owns what waits
        self._recording = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start; the transport has been started."""
        self._start_thread()
        if self._served and self._served.model.concurrent:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._loop, name=f"batching-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def model(self) -> LoadedModel | None:
        """What answers calls that arrive now; None while none is proven."""
        served = self._served
        return served.model if served else None

    def find(self, version: int) -> LoadedModel | None:
        """What answers calls that name a version now; for 0 and unknown versions what answers the others.

        None while the version, or any, is still being loaded.
        """
        kept = self._kept.get(version)
        if kept is None and version in self.pending:
            return None
        return kept.model if kept else self.model

    def serve(self, model: LoadedModel) -> None:
        """Let a model that has proven itself answer from the next batch on; called from any thread."""
        served = prepare(model, self._max_request)  # before the model takes over, so that no request waits for it
        replaced, number = self._served, model.ref.version
        # In this order, so that a call which names a version finds it at every moment.
        if replaced is not None:
            self._kept = {replaced.model.ref.version: replaced} | self._kept
        self._served = served
        self._kept = {v: self._kept[v] for v in [v for v in self._kept if v != number][: self._keep]}
        self._metrics.drift = served.drift.snapshot if served.drift else dict
        self.proved = time.monotonic()
        if model.concurrent and len(self._threads) == 1:
            self._start_thread()

    def keep(self, model: LoadedModel) -> bool:
        """Let a proven model answer calls that name its version, as if it had served before.

        Returns:
            Whether there was room for it beside those that are kept already.
        """
        number = model.ref.version
        current = self.model
        if len(self._kept) >= self._keep or number in self._kept or (current and current.ref.version == number):
            return False
        self._kept = self._kept | {number: prepare(model, self._max_request)}
        return True

    def drain(self, timeout: float) -> bool:
        """Finish every call that has arrived, refuse later ones, and end the threads.

        Args:
            timeout: seconds to wait for that.

        Returns:
            Whether everything was answered in time.
        """
        self._draining.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self) -> None:
        while True:
            draining = self._draining.is_set()
            try:
                self._run_once()
            except Exception:
                log.exception("the batching loop hit a bug and continues")
            if draining:
                # One round with the flag set has taken in all that had arrived; from now on calls are refused.
                self._refusing = True
                if not self._admission:
                    return

    def _run_once(self) -> None:
        """Receive, form a batch, run it, answer it."""
        answers: list[Answer] = []
        with self._turn:
            wait = 0 if self._admission or self._draining.is_set() else IDLE_SECONDS
            arrived = self._transport.receive(wait)
            if arrived:
                self._admit(arrived, answers)
            taken = self._admission.take(answers)
            batch = self._decode(taken, answers) if taken else None
            probe = time.monotonic() >= self._next_probe
            if probe:
                self._next_probe = time.monotonic() + PROBE_SECONDS
        if batch:
            self._last_batch = time.monotonic()
            self._answer(batch, answers)
        if answers:
            self._transport.send(answers)
        if batch:
            # After the answers, so that nobody waits for it.
            seen = (batch.calls, len(batch.images), batch.started, time.monotonic())
            self._request_log.answered(*seen)
            if self._tracing is not None:
                self._tracing.answered(*seen)
        if probe:
            self._probe()
            self._give_back()

    def _give_back(self) -> None:
        now = time.monotonic()
        if now - self._last_batch > QUIET_SECONDS and now - self._last_trim > TRIM_SECONDS:
            self._last_trim = now
            give_back_memory()

    def _probe(self) -> None:
        """Let the model prove itself again; this thread does it, so that a proof shows that batches run too."""
        served = self._served
        if served is not None:
            try:
                served.model.prove()
                self.proved = time.monotonic()
            except Exception as error:
                log.error("the model that serves did not prove itself again: %s", error)

    def _admit(self, arrived: list[Call], answers: list[Answer]) -> None:
        """Queue calls, or answer them with why not."""
        served = self._served
        if self._refusing or served is None:
            self._admission.refuse_all(arrived, "draining" if self._refusing else "not_ready", answers)
        else:
            self._admission.admit(arrived, served, self._kept, self.pending, answers)

    def _decode(self, taken: list[Call], answers: list[Answer]) -> "Batch | None":
        """Decode each call by itself and put the images of the good ones together; None when none is good."""
        started = time.monotonic()
        served = taken[0].served
        calls: list[Call] = []
        requests: list[Request] = []
        for call in taken:
            try:
                requests.append(served.decoders[call.method].decode(call.payload))
                calls.append(call)
            except CallError as error:
                self._admission.refuse(call, "invalid", error, answers)
        return Batch(started, served, calls, requests, assemble(requests, served.model.pixels)) if requests else None

    def _answer(self, batch: "Batch", answers: list[Answer]) -> None:
        """Run a batch and encode each answer."""
        _, served, calls, requests, images = batch
        try:
            predictions = served.model.predict(images)
            replies = served.encoder.encode(requests, predictions, lambda number: _timing(batch, number))
        except Exception:
            log.exception("a Run of %d requests failed", len(requests))
            failure = RunFailed("the model failed on this batch; the server's log says why")
            with self._recording:
                for call in calls:
                    self._metrics.handled[call.method][failure.code.name] += 1
                    self._request_log.failed(call, failure)
            answers.extend((call, failure) for call in calls)
            return
        answers.extend(zip(calls, replies, strict=True))
        with self._recording:
            self._record(batch, predictions)

    def _record(self, batch: "Batch", predictions: Predictions) -> None:
        calls, images, started, now = batch.calls, len(batch.images), batch.started, time.monotonic()
        seconds = now - started
        self._admission.observe(images, seconds)
        self._metrics.images += images
        self._metrics.count_classes(predictions.class_ids, batch.served.model.classes)
        if batch.served.drift is not None:
            batch.served.drift.observe(batch.images, predictions, now)
        self._metrics.batch_images.observe(images)
        self._metrics.run_seconds.observe(seconds)
        first = calls[0]
        infer = sum(call.method for call in calls)  # of two methods
        if first.arrived == calls[-1].arrived and infer in (0, len(calls)):  # received together, as most are
            self._record_calls(first.method, len(calls), first.arrived, started, now)
        else:
            for call in calls:
                self._record_calls(call.method, 1, call.arrived, started, now)

    def _record_calls(self, method: int, count: int, arrived: float, started: float, now: float) -> None:
        self._metrics.handled[method]["OK"] += count
        self._metrics.queue_seconds.observe(started - arrived, count)
        self._metrics.request_seconds[method].observe(now - arrived, count)


def _timing(batch: Batch, number: int) -> Timing:
    """Where the time of a batch's request with this number has gone."""
    return Timing(
        queue_seconds=batch.started - batch.calls[number].arrived,
        run_seconds=time.monotonic() - batch.started,
        batch_images=len(batch.images),
    )

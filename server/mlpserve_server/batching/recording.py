"""The bookkeeping of the batching loop: counters, the request log and traces, once the answers have left."""

import threading
import time
from collections.abc import Iterable

from grpc import StatusCode

from mlpserve_server.batching.batch import Batch, Part, RowPart
from mlpserve_server.batching.failures import Failure
from mlpserve_server.calls import BATCH, INTERACTIVE, Call
from mlpserve_server.catalog import Served
from mlpserve_server.models.runners import Predictions
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.request_log import RequestLog
from mlpserve_server.observe.statistics import Spans
from mlpserve_server.observe.tracing import Tracing

OK = StatusCode.OK.name


class Recorder:
    """Keeps the books; the loop's threads take turns.

    Args:
        metrics: counters to add to.
        request_log: told of requests that failed, and of every batch.
        tracing: told of every batch, or None.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog, tracing: Tracing | None) -> None:
        self._metrics = metrics
        self._request_log = request_log
        self._tracing = tracing
        self._turn = threading.Lock()

    def failed(self, failures: Iterable[Failure], serving: Served | None) -> None:
        """Record calls that have ended without a prediction.

        Args:
            failures: they.
            serving: what served meanwhile.
        """
        now = time.monotonic()
        with self._turn:
            for call, error, dropped in failures:
                code = StatusCode.CANCELLED if error is None else error.code
                self._metrics.ended(call.method, code.name, traffic=call.traffic, dropped=dropped)
                if serving is not None:
                    serving.statistics.fail(now - call.arrived)
                if error is not None:
                    self._request_log.failed(call, error)
                if self._tracing is not None:
                    self._tracing.failed(call, code, "cancelled by its caller" if error is None else str(error))

    def ran(self, batch: Batch, predictions: Predictions | None, spans: Spans, ended: float) -> None:
        """Record a batch that has run.

        Args:
            batch: whose calls have been answered.
            predictions: for its images; None if the Run failed.
            spans: where its time has gone.
            ended: time.monotonic() when its replies had been sent.
        """
        whole, images, metrics = batch.whole, len(batch.images), self._metrics
        started, served = batch.started, batch.served
        with self._turn:
            if predictions is not None:
                metrics.images += images
                metrics.run_images[BATCH] += batch.batch_images
                metrics.run_images[INTERACTIVE] += images - batch.batch_images
                metrics.count_classes(predictions.class_ids, served.model.classes)
                if served.drift is not None:
                    served.drift.observe(batch.images, predictions, ended)
                metrics.batch_images.observe(images)
                metrics.run_seconds.observe(sum(spans))
                answered = [self._answered_rows(of_rows, started, ended) for of_rows in batch.rows]
                if batch.parts:
                    answered += [self._answered_calls(part, started, ended) for part in batch.parts]
                if batch.finished:
                    answered += [self._finished(call, ended) for call in batch.finished]
                served.statistics.ran(images, spans, *(answered[0] if len(answered) == 1 else _sum(answered)))
            for of_rows in batch.rows:
                self._request_log.answered(of_rows.rows, images, started, ended)
            if whole:
                self._request_log.answered(whole, images, started, ended)
            for call in batch.finished:
                self._request_log.answered([call], images, ended - call.progress.run_seconds, ended)
        if self._tracing is not None:
            if whole:
                self._tracing.answered(whole, images, started, ended)
            for call in batch.finished:
                self._tracing.answered([call], images, call.progress.started, ended)

    # These give the number of requests, and the seconds that they have waited, and taken in all, together.

    def _finished(self, call: Call, ended: float) -> tuple[int, float, float]:
        """Count a call that has run in slices."""
        assert call.traffic is not None
        seconds = ended - call.arrived
        self._metrics.ended(call.method, OK)
        queued = self._metrics.queue_seconds[call.traffic].observe(max(0.0, seconds - call.progress.run_seconds))
        return 1, queued, self._metrics.request_seconds[call.method][call.traffic].observe(seconds)

    def _answered_rows(self, part: RowPart, started: float, ended: float) -> tuple[int, float, float]:
        method, arrived = part.method, part.rows.arrived
        self._metrics.ended(method, OK, count=len(arrived))
        queued = self._metrics.queue_seconds[part.traffic].observe_all(started - arrived)
        taken = self._metrics.request_seconds[method][part.traffic].observe_all(ended - arrived)
        return len(arrived), queued, taken

    def _answered_calls(self, part: Part, started: float, ended: float) -> tuple[int, float, float]:
        method, calls = part.method, part.calls
        self._metrics.ended(method, OK, count=len(calls))
        queue = self._metrics.queue_seconds[part.traffic]
        request = self._metrics.request_seconds[method][part.traffic]
        first = calls[0].arrived
        if first == calls[-1].arrived:  # received together, as most are
            times = len(calls)
            return times, queue.observe(started - first, times), request.observe(ended - first, times)
        queued = sum(queue.observe(started - call.arrived) for call in calls)
        return len(calls), queued, sum(request.observe(ended - call.arrived) for call in calls)


def _sum(answered: list[tuple[int, float, float]]) -> tuple[int, float, float]:
    return sum(each[0] for each in answered), sum(each[1] for each in answered), sum(each[2] for each in answered)

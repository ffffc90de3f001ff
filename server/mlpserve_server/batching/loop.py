"""The batching loop: a thread that takes what has arrived, runs it, and answers.

No timer delays anything: a batch is whatever arrived while the last one ran. Idle, a request runs at once; under load
batches grow by themselves up to the maximum.

On a GPU there are two such threads. One at a time takes its turn at the queue and puts its batch together, while the
other waits for the device or answers; on CPUs a second one would only take the cores from the Run.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mlpserve_server.batching.admission import Admission
from mlpserve_server.batching.batch import Batch
from mlpserve_server.batching.failures import Failure
from mlpserve_server.batching.recording import Recorder
from mlpserve_server.calls import Answer, PlainFormat, Transport
from mlpserve_server.catalog import NOTHING, Catalog, Served
from mlpserve_server.errors import RunFailed
from mlpserve_server.host.tuning import give_back_memory
from mlpserve_server.models.runners import Predictions
from mlpserve_server.observe.statistics import Spans

log = logging.getLogger(__name__)

IDLE_SECONDS = 0.1  # longest wait for a call before the loop looks whether it should stop
PROBE_SECONDS = 2.0  # between two proofs of the model that serves
NO_SPANS = (0.0, 0.0, 0.0)
QUIET_SECONDS, TRIM_SECONDS = 1.0, 10.0  # without a batch before memory is given back, and between two times


class BatchingLoop:
    """Receives from a transport, answers to it.

    Args:
        transport: started already.
        catalog: knows what serves.
        admission: queues what is received.
        recorder: told of what has been answered.

    Attributes:
        proved: time.monotonic() when the model last gave its golden answers in this loop, or none was there to do so.
    """

    def __init__(self, transport: Transport, catalog: Catalog, admission: Admission, recorder: Recorder) -> None:
        self._transport = transport
        self._catalog = catalog
        self._admission = admission
        self._recorder = recorder
        self._next_probe = 0.0
        self._last_batch = self._last_trim = 0.0
        # What the transport has been told of, and from whom that is.
        self._expected: list[Mapping[bytes, Any]] = []
        self._versions = NOTHING
        self._answering: list[Served] = []
        self._plain: list[Callable[[], Mapping[bytes, Any]]] = []
        self.proved = time.monotonic()
        self._draining = threading.Event()
        self._turn = threading.Lock()  # who holds it receives, and owns what waits
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start; the transport has been started."""
        self._start_thread()
        self.widen()

    def widen(self) -> None:
        """Use a second thread if the model that serves can be run by two; those after it run on the same device."""
        serving = self._catalog.versions().serving
        if serving is not None and serving.model.concurrent and len(self._threads) == 1:
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._loop, name=f"batching-{len(self._threads)}", daemon=True)
        self._threads.append(thread)
        thread.start()

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
                self._admission.close()
                if not self._admission:
                    return

    def _run_once(self) -> None:
        """Receive, form a batch, run it, answer it."""
        failures: list[Failure] = []
        with self._turn:
            self._expect_rows()
            wait = 0 if self._admission or self._draining.is_set() else IDLE_SECONDS
            arrived = self._transport.receive(wait)
            if arrived:
                self._admission.admit(arrived, failures)
            batch = self._admission.take(failures)
            now = time.monotonic() if batch is None else batch.started
            probe = now >= self._next_probe
            if probe:
                self._next_probe = now + PROBE_SECONDS
        answers, predictions, spans = self._run(batch, failures) if batch else ([], None, NO_SPANS)
        if failures:
            answers += [(call, error) for call, error, _ in failures if error is not None]
        ended = self._transport.send(answers) if answers else time.monotonic()
        self._record(batch, predictions, spans, ended, failures)
        if probe:
            self._probe()
            self._give_back()

    def _expect_rows(self) -> None:
        """Tell the transport which calls the models read as rows, when that changes."""
        versions = self._catalog.versions()
        if versions is not self._versions:
            self._versions = versions
            self._answering = [*([versions.serving] if versions.serving else []), *versions.kept.values()]
            self._plain = [codec.plain for served in self._answering for codec in served.codecs]
        present = [plain() for plain in self._plain]
        if present == self._expected:  # as a rule they are the same objects
            return
        self._expected = present
        formats = dict.fromkeys(
            PlainFormat(method, prefix, served.model.pixels)
            for served in self._answering
            for method, codec in enumerate(served.codecs)
            for prefix in codec.plain()
        )
        self._transport.expect(list(formats))

    def _run(self, batch: Batch, failures: list[Failure]) -> tuple[list[Answer], Predictions | None, Spans]:
        """Run a batch and encode each answer; its calls become failures if that fails."""
        self._last_batch = batch.started
        begun_run = time.monotonic()
        try:
            predictions = batch.served.model.predict(batch.images)
            ended_run = time.monotonic()
            answers = batch.encode(predictions)
            spans = (begun_run - batch.started, ended_run - begun_run, time.monotonic() - ended_run)
            return answers, predictions, spans
        except Exception:
            calls = batch.all_calls()
            log.exception("a Run of %d requests failed", len(calls))
            error = RunFailed("the model failed on this batch; the server's log says why")
            failures.extend(Failure(call, error) for call in calls if call.progress is None or call.progress.end())
            return [], None, NO_SPANS

    def _record(
        self,
        batch: Batch | None,
        predictions: Predictions | None,
        spans: Spans,
        ended: float,
        failures: list[Failure],
    ) -> None:
        """Keep the books, after the answers have left, so that no call waits for them or fails by them."""
        try:
            if failures:
                self._recorder.failed(failures, self._catalog.versions().serving)
            if batch is not None:
                if predictions is not None:
                    self._admission.observe(len(batch.images), batch.batch_images, ended - batch.started)
                self._recorder.ran(batch, predictions, spans, ended)
        except Exception:
            log.exception("recording a round hit a bug; its calls were answered")

    def _give_back(self) -> None:
        now = time.monotonic()
        if now - self._last_batch > QUIET_SECONDS and now - self._last_trim > TRIM_SECONDS:
            self._last_trim = now
            give_back_memory()

    def _probe(self) -> None:
        """Let the model prove itself again; this thread does it, so that a proof shows that batches run too."""
        serving = self._catalog.versions().serving
        try:
            if serving is not None:
                serving.model.prove()
            self.proved = time.monotonic()
        except Exception as error:
            log.error("the model that serves did not prove itself again: %s", error)

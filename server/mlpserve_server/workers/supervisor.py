"""Several server processes on one port, and the process that keeps them.

The kernel spreads connections over the workers (SO_REUSEPORT), so this helps callers with several connections; calls on
one connection stay with one worker. The supervisor holds the port, starts each worker as a fresh process, replaces one
that dies or no longer answers, adds up their metrics, and drains them together. They talk over pipes, one JSON object a
line:

    supervisor → worker   {"do": "serve"}, {"do": "metrics"}; the end of the pipe means that the supervisor is gone
    worker → supervisor   {"ready": {…}}, {"failed": "why"}, {"metrics": {…}}

A worker is `python -m mlpserve_server.workers.worker CONFIG_AS_JSON SUPERVISOR_PID`.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import StartupError
from mlpserve_server.host.bounded import within
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.host.shared_port import reserve
from mlpserve_server.observe.metrics import Metrics
from mlpserve_server.observe.prometheus import MetricsEndpoint, families
from mlpserve_server.started import Started
from mlpserve_server.workers.process import NOT_A_WORD, WorkerProcess

log = logging.getLogger(__name__)

READY_SECONDS = 120.0  # for a worker to prove its model
METRICS_SECONDS = 2.0  # for the workers to answer a scrape
WATCH_SECONDS = 1.0  # between two questions whether a worker is there
MAX_DEATHS, DEATHS_WITHIN = 5, 60.0  # more deaths in so many seconds end the server
NONE_SERVES_SECONDS = 60.0  # without any worker that serves end it too
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two trials to start a worker; doubled each time
STOP_SECONDS = 10.0  # for a worker's stop, beside the drain itself


@dataclasses.dataclass
class _Place:
    """One of the workers that there should be.

    Attributes:
        worker: that has the place; None while there is none.
        due: time.monotonic() of the next trial to start one.
        pause: seconds from the next failure to the trial after it.
        complaint: what the log has said of the last failure.
    """

    worker: WorkerProcess | None = None
    due: float = 0.0
    pause: float = FIRST_PAUSE
    complaint: str = ""


class Supervisor:
    """Keeps `config.workers` servers on one port.

    Args:
        config: settings; each worker gets the same with the port that was found.
        on_failure: called from another thread, with why, when it cannot go on.

    Attributes:
        failure: why it cannot go on; empty while it can.
    """

    def __init__(self, config: ServerConfig, on_failure: Callable[[str], None]) -> None:
        self._config = config
        self._on_failure = on_failure
        self._places = [_Place() for _ in range(config.workers)]
        self._deaths: list[float] = []
        self._restarts = 0
        self._last_served = 0.0
        self._stopping = False
        self._lock = threading.Lock()  # whether a new worker comes before or after the stop; held for moments only
        self._news = threading.Event()
        self._endpoint: MetricsEndpoint | None = None
        self.failure = ""

    def start(self) -> Started:
        """Start all workers and let them serve once every one of them is ready.

        Raises:
            StartupError: the port cannot be had, or a worker cannot start.
        """
        self._reservation, address = reserve(self._config.listen)
        threads = self._config.threads or max(1, cpu_count() // self._config.workers - 1)
        self._config = dataclasses.replace(self._config, listen=address, threads=threads)
        if self._config.metrics_listen:
            self._endpoint = MetricsEndpoint(self._collect, self._config.metrics_listen)
        started: Future[Started] = Future()
        threading.Thread(target=self._keep, args=(started,), name="keeping workers", daemon=True).start()
        return started.result()

    def waiting(self) -> str:
        """What a start that is under way waits for, in a sentence."""
        return "what the workers were waiting for is above"

    def stop(self) -> bool:
        """Drain all workers at the same time.

        Returns:
            Whether every one answered all that it had accepted.
        """
        with self._lock:
            self._stopping = True
        self._news.set()
        workers = self._workers()
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + self._config.drain_delay + self._config.drain_timeout + STOP_SECONDS
        codes = [worker.wait(deadline - time.monotonic()) for worker in workers]
        if self._endpoint is not None:
            within(STOP_SECONDS, "closing the metrics' port", self._endpoint.close)
        if hasattr(self, "_reservation"):
            self._reservation.close()
        # One that was still starting had accepted nothing, however it ended.
        return all(code == 0 for worker, code in zip(workers, codes, strict=True) if worker.served)

    def kill(self) -> None:
        """End all workers at once, whatever they are doing; for a signal handler, so it takes no lock."""
        self._stopping = True
        for worker in self._workers():
            worker.kill()

    def _workers(self) -> list[WorkerProcess]:
        # Looked at once each: another thread empties places.
        return [worker for place in self._places if (worker := place.worker) is not None]

    def _keep(self, started: "Future[Started]") -> None:
        """Start the workers, then replace those that end. One thread does, and never ends: its end would kill them."""
        try:
            started.set_result(self._start_all())
            last = time.monotonic()
            while not self._stopping and not self.failure:
                now = time.monotonic()
                late, last = now - last > 4 * WATCH_SECONDS, now
                if not late:  # otherwise this process was held up, and what the workers said meanwhile comes first
                    self._look(now)
                self._news.wait(WATCH_SECONDS)
                self._news.clear()
        except StartupError as error:
            started.set_exception(error)
        except Exception as error:
            log.exception("keeping the workers alive hit a bug")
            self._fail(f"the workers are no longer kept: {error}")
            if not started.done():
                started.set_exception(error)
        threading.Event().wait()

    def _start_all(self) -> Started:
        """Start all workers; let them serve when the last one is ready.

        Raises:
            StartupError: one cannot start.
        """
        started = self._wait_ready(self._spawn(self._places[0]))
        # The first one measures which file is faster; all must serve the same.
        self._config = dataclasses.replace(self._config, precision=started.precision)
        for worker in [self._spawn(place) for place in self._places[1:]]:
            self._wait_ready(worker)
        for worker in self._workers():
            worker.tell("serve")
        self._last_served = time.monotonic()
        return started

    def _spawn(self, place: _Place) -> WorkerProcess:
        try:
            worker = WorkerProcess(self._config, self._news.set)
        except OSError as error:
            raise StartupError(f"a worker cannot be started: {error.strerror or error}") from error
        with self._lock:
            place.worker = worker
            if self._stopping:
                worker.kill()
        return worker

    def _wait_ready(self, worker: WorkerProcess) -> Started:
        while worker.started is None:
            if worker.failure or self._stopping:
                raise StartupError(worker.failure or "stopped before it was ready")
            if time.monotonic() - worker.began > READY_SECONDS:
                raise StartupError(_not_ready())
            self._news.wait(WATCH_SECONDS)
            self._news.clear()
        return worker.started

    def _look(self, now: float) -> None:
        """Do for each place what is to be done now."""
        for index, place in enumerate(self._places):
            worker = place.worker
            if worker is None:
                if now >= place.due:
                    self._replace(index, place)
            elif (code := worker.code()) is not None:
                self._ended(index, place, worker, code)
            elif worker.killed:
                pass  # it is about to end
            elif worker.served:
                self._last_served = now
                place.pause = FIRST_PAUSE
                if worker.silence() > self._config.stall_timeout:
                    log.error("worker %d has not answered for %.0f s; killing it", index, worker.silence())
                    worker.kill()
                else:
                    worker.tell("metrics")
            elif worker.started is not None:
                worker.tell("serve")
                if place.complaint:
                    log.info("worker %d serves again", index)
                place.complaint = ""
            elif now - worker.began > READY_SECONDS:
                worker.failure = _not_ready()
                worker.kill()
        if now - self._last_served > NONE_SERVES_SECONDS:
            self._fail(f"no worker has served for {NONE_SERVES_SECONDS:.0f} s and none can be started")

    def _replace(self, index: int, place: _Place) -> None:
        self._restarts += 1
        try:
            self._spawn(place)
        except StartupError as error:
            self._try_later(index, place, str(error))

    def _ended(self, index: int, place: _Place, worker: WorkerProcess, code: int) -> None:
        with self._lock:
            if self._stopping:
                return  # it was told to
            place.worker = None
        now = time.monotonic()
        if not worker.served and worker.failure not in ("", NOT_A_WORD):
            self._try_later(index, place, worker.failure)
            return
        self._deaths = [death for death in self._deaths if now - death < DEATHS_WITHIN] + [now]
        if len(self._deaths) > MAX_DEATHS:
            log.error("workers died %d times within %.0f s; giving up", len(self._deaths), DEATHS_WITHIN)
            self._fail("the workers died too often")
        elif worker.served:
            log.error("worker %d ended with code %s; starting another", index, code)
            self._replace(index, place)
        else:
            self._try_later(index, place, f"it ended with code {code} before it was ready")

    def _try_later(self, index: int, place: _Place, reason: str) -> None:
        """Leave a place empty for a while; the others go on serving."""
        place.due, place.pause = time.monotonic() + place.pause, min(2 * place.pause, LONGEST_PAUSE)
        if reason != place.complaint:
            log.error("worker %d cannot be replaced, and is tried again until it can: %s", index, reason)
        place.complaint = reason

    def _fail(self, reason: str) -> None:
        self.failure = reason
        self._on_failure(reason)

    def _collect(self) -> Iterator[Any]:
        """The workers' metrics, added up."""
        total, workers = Metrics(), [worker for worker in self._workers() if worker.code() is None]
        for worker in workers:
            worker.ask_metrics()
        deadline = time.monotonic() + METRICS_SECONDS
        answers = [worker.metrics(deadline - time.monotonic()) for worker in workers]
        snapshots = [answer for answer in answers if answer is not None]
        for snapshot in snapshots:
            total.add(snapshot)
        ready = sum(snapshot["ready"] for snapshot in snapshots)
        total.ready = ready == len(self._places)
        total.workers = {"configured": len(self._places), "ready": ready}
        total.worker_restarts = self._restarts
        return families(total)


def _not_ready() -> str:
    return f"it was not ready within {READY_SECONDS:.0f} s; its log is above, and says so if the store does not answer"

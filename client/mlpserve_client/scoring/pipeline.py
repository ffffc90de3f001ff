"""Reading, decoding, asking and writing at the same time, in order, with bounded memory.

reader thread ──chunks──▶ workers: decode, then ask within the window ──in order──▶ this thread: write parts
"""

import contextlib
import ctypes
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mlpserve_client.client import Client
from mlpserve_client.connection.retries import FIRST_DELAY, LONGEST_DELAY
from mlpserve_client.errors import (
    DeadlineExceededError,
    MlpserveError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    UnavailableError,
)
from mlpserve_client.messages.predictions import ModelId, Predictions
from mlpserve_client.scoring.endpoint import Endpoint
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import Folder
from mlpserve_client.scoring.inputs import Chunk, Decoded, Input
from mlpserve_client.scoring.output.evaluation import Ids, Tally, class_ids_of
from mlpserve_client.scoring.output.parts import PartWriter
from mlpserve_client.scoring.output.plan import Part, Plan
from mlpserve_client.scoring.window import Window

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
AHEAD = 2  # chunks read beyond what the workers have


@dataclass
class Busy:
    """Seconds that each stage was busy; decoding and asking are summed over threads."""

    reading: float = 0.0
    decoding: float = 0.0
    asking: float = 0.0
    waiting: float = 0.0
    writing: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, stage: str, since: float) -> float:
        """Count a stage from a time until now, which is returned."""
        now = time.perf_counter()
        with self._lock:
            setattr(self, stage, getattr(self, stage) + now - since)
        return now


Scored = tuple[Decoded, Predictions | None, Predictions | None]
Item = tuple[Part, Chunk, "Future[Scored]"]
Failed = tuple[Part, Exception]  # reading it failed


class Pipeline:
    """Scores parts of a plan.

    Args:
        plan: of the job.
        inputs: opened, by their numbers in the plan.
        folder: the output.
        endpoint: of the server that answers.
        compared: of the server that answers for the second version; None for none.
        truth: true class ids of all rows; None for none, or where the inputs have their own.
        batch: rows in one request.
        in_flight: most requests at a time.

    Attributes:
        changed: what has changed, by the number of the input; none of its parts is written from there on.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Mapping[int, Input],
        folder: Folder,
        endpoint: Endpoint,
        compared: Endpoint | None,
        truth: Ids | None,
        batch: int,
        in_flight: int,
    ) -> None:
        self._plan = plan
        self._inputs = inputs
        self._folder = folder
        self._endpoint = endpoint
        self._compared = compared
        self._truth = truth
        self._batch = batch
        self._in_flight = in_flight
        self._stop = threading.Event()
        self.changed: dict[int, str] = {}
        self.window = Window(in_flight)
        self.busy = Busy()

    def run(
        self, parts: Iterable[Part], on_rows: Callable[[int], object], on_part: Callable[[Part, Tally], object]
    ) -> None:
        """Score parts, one after another.

        Args:
            parts: which ones.
            on_rows: told of rows that have been answered.
            on_part: told of each part that is written.

        Raises:
            ScoringError: an input is damaged, or the model that answers is another one.
            ServerError: the server failed and kept failing.
        """
        _keep_freed_memory()
        waiting: queue.Queue[Item | Failed | BaseException | None] = queue.Queue(self._in_flight + AHEAD)
        client = self._endpoint.client(self._plan.model.version)
        other = self._compared.client(self._plan.compared.version) if self._compared and self._plan.compared else None
        with client, ThreadPoolExecutor(self._in_flight, "scoring") as pool:
            reader = threading.Thread(target=self._read, args=(parts, pool, client, other, waiting), daemon=True)
            reader.start()
            try:
                self._write(waiting, on_rows, on_part)
            finally:
                self._stop.set()
                client.close()  # ends the calls that are under way; nobody waits for their answers
                if other is not None:
                    other.close()
                while reader.is_alive():  # it may wait for a place in the queue
                    _drain(waiting)
                    reader.join(0.05)
                _drain(waiting)

    def _read(
        self,
        parts: Iterable[Part],
        pool: ThreadPoolExecutor,
        client: Client,
        other: Client | None,
        waiting: "queue.Queue[Item | Failed | BaseException | None]",
    ) -> None:
        try:
            for part in parts:
                if part.input in self.changed:
                    continue
                since = time.perf_counter()
                try:
                    for chunk in self._inputs[part.input].read(part.start, part.stop, self._batch):
                        self.busy.add("reading", since)
                        if self._stop.is_set():
                            return
                        waiting.put((part, chunk, pool.submit(self._score, chunk, client, other)))
                        since = time.perf_counter()
                except Exception as error:  # whatever a reader raises for a file that nobody foresaw
                    waiting.put((part, error))
                except BaseException as error:  # a panic of a compiled reader is no Exception
                    where = self._inputs[part.input].path
                    waiting.put((part, ScoringError(f"{where}: {type(error).__name__}: {error}")))
            waiting.put(None)
        except BaseException as error:  # without a last word the writer would wait for ever
            waiting.put(error)

    def _score(self, chunk: Chunk, client: Client, other: Client | None) -> Scored:
        since = time.perf_counter()
        try:
            decoded = chunk.decode()
        except BaseException as error:  # whatever a decoder raises for a row that nobody foresaw, panics too
            raise ScoringError(f"rows from {chunk.start} on: {type(error).__name__}: {error}") from error
        since = self.busy.add("decoding", since)
        if len(decoded.images) == 0:
            return decoded, None, None
        answers = self._ask(client, decoded, self._plan.model)
        others = None
        if other is not None and self._plan.compared is not None:
            others = self._ask(other, decoded, self._plan.compared)
        self.busy.add("asking", since)
        return decoded, answers, others

    def _ask(self, client: Client, decoded: Decoded, model: ModelId) -> Predictions:
        """Answers to a chunk's images; tried again while the server is away or full."""
        deadline = time.monotonic() + self._endpoint.timeout
        pause = FIRST_DELAY
        while True:
            asked = time.monotonic()
            with self.window.slot():
                deadline += time.monotonic() - asked  # the job's own queue does not count
                if self._stop.is_set():
                    raise ScoringError("the job has stopped")
                since = time.perf_counter()
                try:
                    answers = client.predict(decoded.images, timeout=max(deadline - time.monotonic(), 0.001))
                except ModelNotFoundError as error:
                    raise ScoringError(
                        f"{error}. The job began with version {model.version}: serve it again (mlpserve-server "
                        f"--version {model.version}) and run the same command; finished parts are kept"
                    ) from error
                except (OverloadedError, UnavailableError, DeadlineExceededError) as error:
                    self.window.refused()
                    delay = max(pause * random.uniform(0.5, 1.5), error.retry_after or 0.0)
                    if isinstance(error, DeadlineExceededError) or delay > deadline - time.monotonic():
                        raise
                else:
                    self.window.answered(time.perf_counter() - since, len(decoded.images))
                    break
            self._stop.wait(delay)
            pause = min(2 * pause, LONGEST_DELAY)
        if answers.model != model:
            raise ScoringError(
                f"version {model.version} answered with digest {answers.model.digest[:12]}, the job began with "
                f"{model.digest[:12]}: the server reads another store now. Serve the old one and run the same command"
            )
        return answers

    def _write(
        self,
        waiting: "queue.Queue[Item | Failed | BaseException | None]",
        on_rows: Callable[[int], object],
        on_part: Callable[[Part, Tally], object],
    ) -> None:
        writer: PartWriter | None = None
        current: Part | None = None
        while True:
            since = time.perf_counter()
            item = waiting.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            part = item[0]
            if part.input in self.changed:
                if len(item) == 3:
                    item[2].cancel()
                continue
            try:
                if len(item) == 2:
                    raise item[1]
                _, chunk, future = item
                decoded, answers, others = future.result()
                since = self.busy.add("waiting", since)
                if writer is None or part is not current:
                    writer, current = PartWriter(self._plan, part, self._folder), part
                writer.add(chunk, decoded, answers, others, self._targets(part, chunk))
                complete = writer.complete
                if complete and not self._has_changed(part):
                    writer.write()
                self.busy.add("writing", since)
            except ServerError:
                raise
            except Exception as error:
                # What an input holds that is being written may look like anything.
                if self._has_changed(part):
                    continue
                if isinstance(error, MlpserveError):
                    raise
                where = self._inputs[part.input].path
                raise ScoringError(f"{where}: {type(error).__name__}: {error}") from error
            on_rows(chunk.count)
            if complete and part.input not in self.changed:
                on_part(part, writer.tally)

    def _has_changed(self, part: Part) -> bool:
        """Whether what a part was read from is no longer what it was when it was opened; noted if so."""
        words = self._inputs[part.input].changed(part.start, part.stop)
        if words:
            self.changed[part.input] = words
        return bool(words)

    def _targets(self, part: Part, chunk: Chunk) -> Ids | None:
        if chunk.targets is not None:
            return class_ids_of(chunk.targets, self._plan.labels, self._plan.inputs[part.input][0])
        if self._truth is None:
            return None
        first = part.first_row + chunk.start - part.start
        return np.asarray(self._truth[first : first + chunk.count])


def _keep_freed_memory() -> None:
    """Let the C library use a chunk's memory again for the next one.

    glibc gives blocks of this size back to the kernel at once, which clears every page anew: a fifth of a job's time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # bytes; the most that it accepts
        library.mallopt(M_TRIM_THRESHOLD, 128 << 20)


def _drain(waiting: "queue.Queue[Item | Failed | BaseException | None]") -> None:
    """Forget what nobody will write."""
    while True:
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            return
        if isinstance(item, tuple) and len(item) == 3:
            item[2].cancel()

"""Reading, decoding, asking and writing at the same time, in order, with bounded memory.

reader thread ──chunks──▶ workers: decode, then ask within the window ──in order──▶ this thread: write parts
"""

import contextlib
import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from mlpserve_client.errors import MlpserveError, ServerError
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import Folder
from mlpserve_client.scoring.inputs import Chunk, Input
from mlpserve_client.scoring.inputs.meaning import Ids, Meaning
from mlpserve_client.scoring.output.evaluation import Tally
from mlpserve_client.scoring.output.parts import PartWriter
from mlpserve_client.scoring.output.plan import Part
from mlpserve_client.scoring.running.scorer import Scored, Scorer
from mlpserve_client.scoring.running.task import Task
from mlpserve_client.scoring.summary import Busy
from mlpserve_client.scoring.truth import Truth

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
AHEAD = 2  # chunks read beyond what the workers have


class _Asked(NamedTuple):
    """A chunk that a worker decodes and asks for."""

    part: Part
    chunk: Chunk
    scored: "Future[Scored]"


class _Failed(NamedTuple):
    """A part that could not be read."""

    part: Part
    error: Exception


# None: everything is read. A bare exception: the reader itself failed.
_Waiting = queue.Queue[_Asked | _Failed | BaseException | None]


class Pipeline:
    """Scores parts of a plan.

    Args:
        task: the job.
        inputs: opened, by their numbers in the plan.
        truth: true class ids of the parts' rows; None for none, or where the inputs have their own.

    Attributes:
        busy: what it was busy with.
        changed: what has changed, by the number of the input; none of its parts is written from there on.
        in_flight: most requests that were in flight, once it has run.
        refusals: times that a server was full or away, once it has run.
    """

    def __init__(self, task: Task, inputs: Mapping[int, Input], truth: Truth | None) -> None:
        self._task = task
        self._plan = task.plan
        self._inputs = inputs
        self._folder = Folder(task.output)
        self._truth = truth
        self._meaning = Meaning(task.plan.labels, task.plan.form.label_numbers)
        self._stop = threading.Event()
        self.busy = Busy()
        self.changed: dict[int, str] = {}
        self.in_flight = self.refusals = 0

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
        in_flight = self._task.in_flight
        waiting: _Waiting = queue.Queue(in_flight + AHEAD)
        scorer = Scorer(self._task, self.busy)
        with contextlib.closing(scorer), ThreadPoolExecutor(in_flight, "scoring") as pool:
            reader = threading.Thread(target=self._read, args=(parts, pool, scorer, waiting), daemon=True)
            reader.start()
            try:
                self._write(waiting, on_rows, on_part)
            finally:
                self.in_flight, self.refusals = scorer.window.largest, scorer.window.refusals
                self._stop.set()
                scorer.close()
                while reader.is_alive():  # it may wait for a place in the queue
                    _drain(waiting)
                    reader.join(0.05)
                _drain(waiting)

    def _read(self, parts: Iterable[Part], pool: ThreadPoolExecutor, scorer: Scorer, waiting: _Waiting) -> None:
        try:
            for part in parts:
                if part.input in self.changed:
                    continue
                try:
                    self._read_part(part, pool, scorer, waiting)
                except Exception as error:  # whatever a reader raises for a file that nobody foresaw
                    waiting.put(_Failed(part, error))
                except BaseException as error:  # a panic of a compiled reader is no Exception
                    where = self._inputs[part.input].path
                    waiting.put(_Failed(part, ScoringError(f"{where}: {type(error).__name__}: {error}")))
                if self._stop.is_set():
                    return
            waiting.put(None)
        except BaseException as error:  # without a last word the writer would wait for ever
            waiting.put(error)

    def _read_part(self, part: Part, pool: ThreadPoolExecutor, scorer: Scorer, waiting: _Waiting) -> None:
        since = time.perf_counter()
        for chunk in self._inputs[part.input].read(part.start, part.stop, self._task.batch):
            self.busy.add("reading", since)
            if self._stop.is_set():
                return
            waiting.put(_Asked(part, chunk, pool.submit(scorer.score, chunk)))
            since = time.perf_counter()

    def _write(
        self, waiting: _Waiting, on_rows: Callable[[int], object], on_part: Callable[[Part, Tally], object]
    ) -> None:
        writer: PartWriter | None = None
        while True:
            since = time.perf_counter()
            item = waiting.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            part = item.part
            if part.input in self.changed:
                if isinstance(item, _Asked):
                    item.scored.cancel()
                continue
            try:
                if isinstance(item, _Failed):
                    raise item.error
                scored = item.scored.result()
                since = self.busy.add("waiting", since)
                if writer is None or writer.part is not part:
                    writer = PartWriter(self._plan, part, self._folder)
                self._add(writer, item.chunk, scored)
                self.busy.add("writing", since)
            except ServerError:
                raise
            except Exception as error:  # what an input holds that is being written may look like anything
                if self._has_changed(part):
                    continue
                raise self._named(part, error) from error
            on_rows(item.chunk.count)
            if writer.complete and part.input not in self.changed:
                on_part(part, writer.tally)

    def _add(self, writer: PartWriter, chunk: Chunk, scored: Scored) -> None:
        """Add a chunk to its part, and write the part when it is complete and its input what it was."""
        targets = self._targets(writer.part, chunk)
        writer.add(chunk, scored.decoded, scored.answers, scored.others, targets)
        if writer.complete and not self._has_changed(writer.part):
            writer.write()

    def _named(self, part: Part, error: Exception) -> MlpserveError:
        """An error that says what it is of."""
        if isinstance(error, MlpserveError):
            return error
        return ScoringError(f"{self._inputs[part.input].path}: {type(error).__name__}: {error}")

    def _has_changed(self, part: Part) -> bool:
        """Whether what a part was read from is no longer what it was when it was opened; noted if so."""
        words = self._inputs[part.input].changed(part.start, part.stop)
        if words:
            self.changed[part.input] = words
        return bool(words)

    def _targets(self, part: Part, chunk: Chunk) -> Ids | None:
        if chunk.targets is not None:
            return self._meaning.ids(chunk.targets, self._plan.inputs[part.input][0])
        if self._truth is None:
            return None
        return self._truth.rows(part.first_row + chunk.start - part.start, chunk.count)


def _keep_freed_memory() -> None:
    """Let the C library use a chunk's memory again for the next one.

    glibc gives blocks of this size back to the kernel at once, which clears every page anew: a fifth of a job's time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # bytes; the most that it accepts
        library.mallopt(M_TRIM_THRESHOLD, 128 << 20)


def _drain(waiting: _Waiting) -> None:
    """Forget what nobody will write."""
    while True:
        try:
            item = waiting.get_nowait()
        except queue.Empty:
            return
        if isinstance(item, _Asked):
            item.scored.cancel()

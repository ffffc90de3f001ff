"""The scoring job: read, send with a bounded number of requests in flight, write in order."""

import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from mlpserve.v1.artifact_pb2 import Preparation
from mlpserve_client.client import Client
from mlpserve_client.requests import ModelId, Predictions
from mlpserve_client.scoring.sinks import ParquetSink
from mlpserve_client.scoring.sources import Chunk, ScoringError, open_source, read_labels


@dataclass(frozen=True)
class Summary:
    """What a job came to.

    Attributes:
        rows: rows written.
        bad_rows: those with an error.
        seconds: wall-clock time of reading, sending and writing.
        model: what answered.
        accuracy: share of the good rows whose class is the labelled one, 0 to 1; None without labels.
        first_error: the first bad row and what is wrong with it; "" if there is none.
    """

    rows: int
    bad_rows: int
    seconds: float
    model: ModelId
    accuracy: float | None
    first_error: str


def score(
    client: Client,
    source: Path,
    output: Path,
    *,
    labels: Path | None = None,
    column: str = "",
    raw: bool | None = None,
    batch: int = 1024,
    in_flight: int = 4,
    timeout: float = 60.0,
) -> Summary:
    """Score every row of an input into a Parquet file with one row for each.

    Args:
        client: of the server that answers.
        source: IDX (.gz or not), .npy, .parquet, or a folder of images.
        output: the Parquet file; it appears when it is complete.
        labels: IDX or .npy file with the true class ids, for the accuracy.
        column: of the images in a Parquet file; "" to find it.
        raw: only scale pictures, do not look for ink; None: as the model's training images were made.
        batch: rows in one request.
        in_flight: most requests at a time.
        timeout: seconds for one request with its retries.

    Raises:
        ScoringError: the input, the labels or the output as a whole is wrong.
        ServerError: the server failed and kept failing; no output has appeared.
    """
    info = client.wait_ready(timeout)
    manifest = info.manifest
    if raw is None:
        raw = manifest.image.preparation != Preparation.PREPARATION_CENTRED_INK
    opened = open_source(source, manifest.image.rows, manifest.image.cols, chunk_rows=batch, column=column, raw=raw)
    truth = None if labels is None else read_labels(labels)
    if truth is not None and len(truth) != opened.rows:
        raise ScoringError(f"{labels} has {len(truth)} labels for {opened.rows} rows of {source}")
    model = ModelId(info.model.name, info.model.version, info.model.digest)
    tally = _Tally(truth)
    started = time.perf_counter()
    with (
        ParquetSink(output, manifest.labels, with_files=source.is_dir()) as sink,
        ThreadPoolExecutor(in_flight) as pool,
        tqdm(total=opened.rows, unit="row", disable=None, file=sys.stderr) as progress,
    ):
        waiting: deque[tuple[Chunk, Future[Predictions] | None]] = deque()

        def finish_first() -> None:
            chunk, future = waiting.popleft()
            predictions = None if future is None else future.result()
            if predictions is not None and predictions.model != model:
                raise ScoringError(
                    f"the server changed from version {model.version} to {predictions.model.version} during the job; "
                    "nothing was written. Run it again, with --version to pin one"
                )
            sink.write(chunk, predictions)
            tally.add(chunk, predictions)
            progress.update(chunk.count)

        for chunk in opened.chunks:
            future = pool.submit(client.predict, chunk.images, timeout=timeout) if len(chunk.images) else None
            waiting.append((chunk, future))
            # One chunk beyond what is in flight is read ahead, so that senders do not wait for the reader.
            if len(waiting) > in_flight + 1:
                finish_first()
        while waiting:
            finish_first()
    seconds = time.perf_counter() - started
    return Summary(tally.rows, tally.bad_rows, seconds, model, tally.accuracy(), tally.first_error)


class _Tally:
    """Counts over the job's rows."""

    def __init__(self, truth: npt.NDArray[np.int64] | None) -> None:
        self._truth = truth
        self._right = 0
        self.rows = 0
        self.bad_rows = 0
        self.first_error = ""

    def add(self, chunk: Chunk, predictions: Predictions | None) -> None:
        if chunk.errors and not self.bad_rows:
            offset = min(chunk.errors)
            self.first_error = f"row {chunk.start + offset}: {chunk.errors[offset]}"
        self.rows += chunk.count
        self.bad_rows += len(chunk.errors)
        if self._truth is not None and predictions is not None:
            good = [chunk.start + offset for offset in range(chunk.count) if offset not in chunk.errors]
            self._right += int((self._truth[good] == predictions.class_ids).sum())

    def accuracy(self) -> float | None:
        good = self.rows - self.bad_rows
        return self._right / good if self._truth is not None and good else None

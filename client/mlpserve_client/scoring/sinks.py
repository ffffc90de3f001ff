"""The output of a scoring job: one Parquet file that appears when it is complete."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from mlpserve_client.requests import Predictions
from mlpserve_client.scoring.sources import Chunk, ScoringError


class ParquetSink:
    """Writes chunks in order to a temporary file beside `path`, and renames it at the end.

    Columns: row int64, file string (folders only), class_id int32, label string, score float32, error string,
    model_version int32, model_digest string. A bad row has an error and nulls.

    Args:
        path: the output.
        labels: class labels by class id.
        with_files: whether rows have files.
    """

    def __init__(self, path: Path, labels: Sequence[str], with_files: bool) -> None:
        fields = [("row", pa.int64())]
        fields += [("file", pa.string())] if with_files else []
        fields += [
            ("class_id", pa.int32()),
            ("label", pa.string()),
            ("score", pa.float32()),
            ("error", pa.string()),
            ("model_version", pa.int32()),
            ("model_digest", pa.string()),
        ]
        if path.is_dir() or not path.name:
            raise ScoringError(f"{path}: is a folder; expected the name of a Parquet file to write")
        self._path = path
        self._labels = labels
        self._schema = pa.schema(fields)
        self._unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            self._writer = pq.ParquetWriter(self._unfinished, self._schema, compression="zstd")
        except OSError as error:
            raise ScoringError(f"{path}: cannot be written ({error.strerror or error})") from error

    def write(self, chunk: Chunk, predictions: Predictions | None) -> None:
        """Append a chunk; `predictions` has one answer for each good row, None if there are none.

        Raises:
            ScoringError: the disk is full or fails.
        """
        class_ids: list[int | None] = [None] * chunk.count
        scores: list[float | None] = [None] * chunk.count
        good = [offset for offset in range(chunk.count) if offset not in chunk.errors]
        if predictions is not None:
            for offset, class_id, score in zip(
                good, predictions.class_ids.tolist(), predictions.scores.tolist(), strict=True
            ):
                class_ids[offset], scores[offset] = class_id, score
        model = predictions.model if predictions else None
        columns = {
            "row": range(chunk.start, chunk.start + chunk.count),
            # A file's name need not be text.
            "file": chunk.files and [name.encode(errors="replace").decode() for name in chunk.files],
            "class_id": class_ids,
            "label": [None if class_id is None else self._labels[class_id] for class_id in class_ids],
            "score": scores,
            "error": [chunk.errors.get(offset) for offset in range(chunk.count)],
            "model_version": [None if c is None or model is None else model.version for c in class_ids],
            "model_digest": [None if c is None or model is None else model.digest for c in class_ids],
        }
        arrays = [pa.array(columns[field.name], field.type) for field in self._schema]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        except OSError as error:
            raise ScoringError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def __enter__(self) -> "ParquetSink":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if error is None:
                self._unfinished.replace(self._path)
        except OSError as failure:
            if error is None:
                raise ScoringError(f"{self._path}: cannot be written ({failure.strerror or failure})") from failure
        finally:
            self._unfinished.unlink(missing_ok=True)

"""Parts of the output: a Parquet file each, and beside it what says that it is finished; columns.py has its columns.

Nothing in a part or its sidecar depends on when or how often it was written, so a job that was interrupted ends with
the same bytes as one that was not.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mlpserve.files.names import text
from mlpserve_client.messages.predictions import Predictions
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import Folder
from mlpserve_client.scoring.inputs import Chunk, Decoded
from mlpserve_client.scoring.inputs.meaning import Ids
from mlpserve_client.scoring.output.columns import table as made
from mlpserve_client.scoring.output.evaluation import Tally
from mlpserve_client.scoring.output.plan import Part, Plan
from mlpserve_client.scoring.truth import Truth


class PartWriter:
    """Gathers one part's rows, and writes it.

    Args:
        plan: of the job.
        part: which one.
        folder: the output.

    Attributes:
        part: which one.
        tally: of its rows, complete when it is written.
    """

    def __init__(self, plan: Plan, part: Part, folder: Folder) -> None:
        self._plan = plan
        self.part = part
        self._folder = folder
        count = part.stop - part.start
        self._class_ids = np.full(count, -1, np.int32)
        self._scores = np.zeros(count, np.float32)
        self._others = np.full(count, -1, np.int32)
        self._other_scores = np.zeros(count, np.float32)
        self._targets = np.full(count, -1, np.int32)
        self._has_targets = False
        self._errors: dict[int, str] = {}
        self._names: list[str] = []
        self._slices: list[Any] = []
        self._kept: list[pa.Table] = []
        self._done = 0
        self.tally = Tally()

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self._done == len(self._class_ids)

    def add(
        self,
        chunk: Chunk,
        decoded: Decoded,
        answers: Predictions | None,
        others: Predictions | None,
        targets: Ids | None,
    ) -> None:
        """Add the next rows.

        Args:
            chunk: the rows.
            decoded: their images and errors.
            answers: one for each good row; None if there are none.
            others: the second version's.
            targets: true class ids of all rows, -1 where there is none; None without labels.
        """
        start = chunk.start - self.part.start
        self.tally.first_pages += decoded.first_pages
        rows = slice(start, start + chunk.count)
        if chunk.names is not None:
            self._names.extend(chunk.names)
        if chunk.slices is not None:
            self._slices.extend(chunk.slices)
        if chunk.kept is not None:
            self._kept.append(chunk.kept)
        for offset in sorted(decoded.errors):
            reason, message = decoded.errors[offset]
            self._errors[start + offset] = message
            self.tally.reasons[reason] += 1
            row = self.part.first_row + start + offset
            self.tally.first_error = self.tally.first_error or f"row {row}: {message}"
        if targets is not None:
            self._has_targets = True
            self._targets[rows] = targets
        if answers is not None:
            good: slice | npt.NDArray[np.intp] = rows
            if decoded.errors:
                good = start + np.delete(np.arange(chunk.count), sorted(decoded.errors))
            self._class_ids[good] = answers.class_ids
            self._scores[good] = answers.scores
            if others is not None:
                self._others[good] = others.class_ids
                self._other_scores[good] = others.scores
        self._done += chunk.count

    def _count(self) -> None:
        """Sum the part up, once it is complete."""
        good = self._class_ids >= 0
        self.tally.rows, self.tally.bad_rows = len(good), int((~good).sum())
        self.tally.add(
            self._class_ids[good].astype(np.int64),
            self._scores[good],
            self._targets[good].astype(np.int64) if self._has_targets else None,
            [value for value, ok in zip(self._slices, good, strict=True) if ok] if self._slices else None,
            self._others[good].astype(np.int64) if self._plan.compared is not None else None,
        )

    def write(self) -> None:
        """Let the part appear, then its sidecar.

        Raises:
            ScoringError: the output cannot be written.
        """
        self._count()
        sink = pa.BufferOutputStream()
        table = self._table()
        # A dictionary of row numbers or scores would only be built to be thrown away.
        unlike = {"row", "score", "other_score", "file"} | {name for name, _ in self._plan.kept}
        repeated = [name for name in table.column_names if name not in unlike]
        pq.write_table(table, sink, compression="zstd", use_dictionary=repeated)
        content = sink.getvalue().to_pybytes()
        path, _, fingerprint = self._plan.inputs[self.part.input]
        sidecar = {
            "part": asdict(self.part),
            "input": path,
            "input_fingerprint": fingerprint,
            "model": asdict(self._plan.model),
            "compared": None if self._plan.compared is None else asdict(self._plan.compared),
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "tally": self.tally.to_json(),
        }
        if self._plan.truth:
            sidecar["truth"] = _digest(self._targets)
        self._folder.write(self.part.name, content)
        self._folder.write(self.part.sidecar, json.dumps(sidecar, indent=1, sort_keys=True).encode() + b"\n")

    def _table(self) -> pa.Table:
        plan, part, count = self._plan, self.part, len(self._class_ids)
        bad, unknown = self._class_ids < 0, self._targets < 0
        first = part.first_row
        columns: dict[str, Callable[[], Any]] = {
            "row": lambda: pa.array(np.arange(first, first + count, dtype=np.int64)),
            "input": lambda: pa.repeat(pa.scalar(text(plan.inputs[part.input][0])), count),
            "file": lambda: pa.array(self._names, pa.string()) if self._names else pa.nulls(count, pa.string()),
            "predicted": lambda: self._labels(self._class_ids, bad),
            "score": lambda: pa.array(self._scores, mask=bad),
            "true": lambda: self._labels(self._targets, unknown),
            "error": lambda: self._said(count),
            "model_version": lambda: pa.array(np.full(count, plan.model.version, np.int64), mask=bad),
            "model_digest": lambda: _repeated(plan.model.digest, count, bad),
            "other_predicted": lambda: self._labels(self._others, bad),
            "other_score": lambda: pa.array(self._other_scores, mask=bad),
            "class_id": lambda: pa.array(self._class_ids, mask=bad),
            "label": lambda: self._labels(self._class_ids, bad),
            "target": lambda: pa.array(self._targets, mask=unknown),
            "other_class_id": lambda: pa.array(self._others, mask=bad),
        }
        kept = pa.concat_tables(self._kept).combine_chunks() if self._kept else None
        return made(plan, columns, kept)

    def _said(self, count: int) -> Any:
        """What is wrong with each row."""
        errors: list[str | None] = [None] * count
        for offset, message in self._errors.items():
            errors[offset] = text(message)
        return pa.array(errors, pa.string())

    def _labels(self, class_ids: npt.NDArray[np.int32], bad: npt.NDArray[np.bool_]) -> Any:
        indices = pa.array(np.maximum(class_ids, 0), mask=bad)
        return pa.DictionaryArray.from_arrays(indices, pa.array(self._plan.labels, pa.string())).cast(pa.string())


def _repeated(value: str, count: int, mask: npt.NDArray[np.bool_]) -> Any:
    indices = pa.array(np.zeros(count, np.int8), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, [value]).cast(pa.string())


def _digest(targets: npt.NDArray[np.int32]) -> str:
    """SHA-256 of true class ids."""
    return hashlib.sha256(targets.tobytes()).hexdigest()


def finished(plan: Plan, part: Part, folder: Folder, names: set[str], truth: Truth | None) -> Tally | None:
    """What a part came to, if it is finished and whole; None if it must be scored.

    Args:
        plan: of the job.
        part: which one.
        folder: the output.
        names: of its files.
        truth: true class ids of all rows from a file; None for none.

    Raises:
        ScoringError: it is of another job, or has other true labels.
    """
    if part.name not in names or part.sidecar not in names:
        return None
    try:
        sidecar = json.loads(folder.read(part.sidecar) or b"")
        same = (
            sidecar["part"] == asdict(part)
            and sidecar["input_fingerprint"] == plan.inputs[part.input][2]
            and sidecar["model"] == asdict(plan.model)
        )
        tally = Tally.from_json(sidecar["tally"])
        digest = sidecar["sha256"]
        labels = sidecar.get("truth")
    except (ValueError, KeyError, TypeError):
        return None
    if not same:
        raise ScoringError(f"{folder.path}/{part.sidecar} is of another job; name another folder, or give --overwrite")
    if truth is not None and labels != _digest(truth.rows(part.first_row, part.stop - part.start).astype(np.int32)):
        raise ScoringError(
            f"{folder.path}/{part.name} was scored with other true labels: those of the rows that are there come first "
            "in the file, in their order, and the new rows' behind them. Put them so, or give --overwrite"
        )
    content = folder.read(part.name)
    return tally if content is not None and hashlib.sha256(content).hexdigest() == digest else None

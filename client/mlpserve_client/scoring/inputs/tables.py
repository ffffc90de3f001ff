"""Parquet files with a column of images, and perhaps of labels."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mlpserve.files.arrays import BadArrayError, tensors_of
from mlpserve.files.folders import partitions
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs.arrays import DAMAGE
from mlpserve_client.scoring.inputs.footprint import Footprint
from mlpserve_client.scoring.inputs.rows import CHUNK_BYTES, Chunk, Collector, Decoded, Form, without_scaled
from mlpserve_client.scoring.inputs.values import Column

IMAGE_COLUMNS = ("image", "images", "pixels", "img")
LARGE_CHUNK = 4 * CHUNK_BYTES
BAD_FILE = (*DAMAGE, pa.ArrowException)


class TableInput:
    """One Parquet file.

    Args:
        file: the file.
        form: what images must be, and the columns.

    Raises:
        ScoringError: it is no Parquet file, or a column is missing.
    """

    named = False

    def __init__(self, file: File, form: Form) -> None:
        self.path, self.fingerprint = file.path, file.fingerprint
        self._file = file
        self._form = form
        if form.folders_are_labels:
            raise ScoringError(f"{file.path}: has no folders; labels for it come from --label-column or --labels FILE")
        self._stream = file.open()
        try:
            # Otherwise whole row groups are held, which may be all of the file.
            self._table = pq.ParquetFile(self._stream, pre_buffer=False, buffer_size=1 << 20)
        except BAD_FILE as error:
            self._stream.close()
            raise ScoringError(f"{file.path}: not a readable Parquet file ({error})") from error
        self._from_path = partitions(file.path)
        try:
            self._image = self._find(IMAGE_COLUMNS if not form.column else (form.column,), "--column")
            tensors_of(self._table.schema_arrow.field(self._image).type)
            self._columns = [self._image]
            beside = ((form.label_column, "--label-column"), (form.slice_column, "--slice-column"))
            for name, flag in (*beside, *((name, "--keep") for name in form.keep)):
                if name and (name in self._table.schema_arrow.names or name not in self._from_path):
                    self._columns.append(self._find((name,), flag))
            self._columns = list(dict.fromkeys(self._columns))
            if self._image in form.keep:
                raise ScoringError(f"{file.path}: --keep {self._image}: the images stay where they are; keep an id")
            self.kept = tuple((name, str(self._kept_type(name))) for name in form.keep)
            self._footprint = Footprint(file.path, self._table.schema, self._stream, self._columns)
        except BaseException as error:
            self.close()
            if isinstance(error, BadArrayError):
                raise ScoringError(f"{file.path}: column {self._image!r} is {error}") from error
            if isinstance(error, BAD_FILE):
                raise ScoringError(f"{file.path}: not a readable Parquet file ({error})") from error
            raise
        self.rows = int(self._table.metadata.num_rows)

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since it was opened, in words; "" for nothing."""
        return self._file.changed()

    def close(self) -> None:
        """Close the file."""
        self._table.close()
        self._stream.close()

    def _find(self, names: Sequence[str], flag: str) -> str:
        present = list(self._table.schema_arrow.names)
        for name in names:
            if name in present:
                return name
        raise ScoringError(
            f"{self.path}: no column {' or '.join(map(repr, names))} (columns: {', '.join(present)}); give {flag} NAME"
        )

    def _kept_type(self, name: str) -> pa.DataType:
        if name not in self._columns:
            return pa.string()
        kind = self._table.schema_arrow.field(name).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind  # whose values differ from file to file

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`; what lies before them in their row group is read over."""
        size = max(1, min(size, CHUNK_BYTES // self._form.pixels))
        first, groups = 0, []
        begin: int | None = None
        for group in range(self._table.metadata.num_row_groups):
            count = self._table.metadata.row_group(group).num_rows
            if first + count > start and first < stop:
                groups.append(group)
                begin = first if begin is None else begin
            first += count
        row = begin if begin is not None else start
        pending: list[pa.RecordBatch] = []
        rows = held = 0  # pending
        try:
            at_a_time = min(size, self._footprint.rows_at_a_time(groups))
            for whole in self._table.iter_batches(batch_size=at_a_time, row_groups=groups, columns=self._columns):
                for batch, each in _sliced(whole):
                    low, high = max(start - row, 0), min(stop - row, len(batch))
                    row += len(batch)
                    if low < high:
                        pending.append(batch.slice(low, high - low))
                        rows, held = rows + high - low, held + each
                    if rows >= size or held >= LARGE_CHUNK:
                        first = row - len(batch) + high - rows
                        yield from self._chunks(pending, first, size, whole=held < LARGE_CHUNK)
                        rows, held = sum(map(len, pending)), 0
            yield from self._chunks(pending, stop - rows, size, whole=False)
        except BAD_FILE as error:
            raise ScoringError(f"{self.path}: cannot be read ({' '.join(str(error).split())})") from error
        if row < stop:
            raise ScoringError(f"{self.path}: damaged, it says that it has {self.rows} rows but gives {row}")

    def _chunks(self, pending: list[pa.RecordBatch], start: int, size: int, *, whole: bool) -> Iterator[Chunk]:
        """Cut what has been read into chunks of `size`, so that they do not depend on the file's own pages.

        What is left is pending still; nothing is where not only whole ones are wanted.
        """
        if not pending:
            return
        table = pa.Table.from_batches(pending)
        first = 0
        while len(table) - first >= (size if whole else 1):
            part = table.slice(first, size)
            yield self._chunk(part.combine_chunks(), start + first)
            first += len(part)
        pending[:] = table.slice(first).to_batches() if first < len(table) else []

    def _chunk(self, table: pa.Table, start: int) -> Chunk:
        form = self._form
        column = table.column(self._image)
        values: Any = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        return Chunk(
            start,
            len(table),
            lambda: self._decode(values),
            targets=self._beside(table, form.label_column),
            slices=self._beside(table, form.slice_column),
            kept=self._kept(table) if form.keep else None,
        )

    def _kept(self, table: pa.Table) -> pa.Table:
        """The columns that go along with the answers."""
        columns = []
        for name in self._form.keep:
            if name in self._columns:
                columns.append(table.column(name).cast(self._kept_type(name)))
            else:
                columns.append(pa.repeat(pa.scalar(self._from_path[name]), len(table)))
        return pa.table(columns, names=list(self._form.keep))

    def _beside(self, table: pa.Table, name: str) -> list[Any] | None:
        """A column beside the images, or what a folder like label=cat says; None where none is asked for."""
        if not name:
            return None
        if name in self._columns:
            return cast(list[Any], table.column(name).to_pylist())
        return [self._from_path[name]] * len(table)

    def _decode(self, values: Any) -> Decoded:
        column = Column(values, self._form)
        if (plain := column.plain()) is not None:
            return without_scaled(plain)
        collector = Collector(self._form.pixels)
        for offset in range(len(values)):
            collector.add(offset, lambda offset=offset: column.prepared(offset))  # type: ignore[misc]
        return collector.decoded()


def _sliced(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
    """A batch in pieces that are not much larger than a large chunk, and their bytes."""
    size = max(batch.nbytes, 1)
    step = max(1, len(batch) * LARGE_CHUNK // size)
    if step >= len(batch):
        yield batch, size
        return
    for first in range(0, len(batch), step):
        piece = batch.slice(first, step)
        yield piece, piece.nbytes

"""Parquet files with a column of images, and perhaps of labels."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlpserve_client.errors import InvalidInputError
from mlpserve_client.pictures import NotAPictureError, TooLargeError
from mlpserve_client.prepare import from_bytes
from mlpserve_client.scoring.errors import BadRow, ScoringError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs.arrays import DAMAGE
from mlpserve_client.scoring.inputs.footprint import Footprint
from mlpserve_client.scoring.inputs.rows import CHUNK_BYTES, Chunk, Collector, Decoded, Form, Images

IMAGE_COLUMNS = ("image", "images", "pixels", "img")
PICTURE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
LARGE_CHUNK = 4 * CHUNK_BYTES
MOST_NUMBERS = 4  # times the model's pixels that a list may have to be looked at
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
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
        try:
            self._image = self._find(IMAGE_COLUMNS if not form.column else (form.column,), "--column")
            self._columns = [self._image]
            for name, flag in ((form.label_column, "--label-column"), (form.slice_column, "--slice-column")):
                if name:
                    self._columns.append(self._find((name,), flag))
            self._footprint = Footprint(file.path, self._table.schema, self._stream, self._columns)
        except BaseException as error:
            self.close()
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
            targets=table.column(form.label_column).to_pylist() if form.label_column else None,
            slices=table.column(form.slice_column).to_pylist() if form.slice_column else None,
        )

    def _decode(self, values: Any) -> Decoded:
        plain = _plain_pixels(values, self._form.pixels)
        if plain is not None:
            return Decoded(plain, {})
        collector = Collector(self._form.pixels)
        for offset in range(len(values)):
            collector.add(offset, lambda offset=offset: from_value(_python(values[offset], self._form), self._form))  # type: ignore[misc]
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


def _plain_pixels(values: Any, pixels: int) -> Images | None:
    """A column whose every value is raw pixels, without a copy; None if it is anything else."""
    if values.null_count or len(values) == 0:
        return None
    if pa.types.is_fixed_size_binary(values.type) and values.type.byte_width == pixels:
        data = np.frombuffer(values.buffers()[1], np.uint8, len(values) * pixels, values.offset * pixels)
    elif pa.types.is_fixed_size_list(values.type) and values.type.list_size == pixels:
        flat = values.flatten()
        if flat.type != pa.uint8() or flat.null_count:
            return None
        data = flat.to_numpy()
    elif pa.types.is_binary(values.type):
        offsets = np.frombuffer(values.buffers()[1], np.int32, len(values) + 1, values.offset * 4)
        if not (np.diff(offsets) == pixels).all():
            return None
        data = np.frombuffer(values.buffers()[2], np.uint8, len(values) * pixels, int(offsets[0]))
    else:
        return None
    images: Images = data.reshape(len(values), pixels)
    # A picture file may happen to be as long as an image.
    signs = [np.frombuffer(sign, np.uint8) for sign in PICTURE_SIGNATURES]
    if pixels >= 8 and any((images[:, : len(sign)] == sign).all(axis=1).any() for sign in signs):
        return None
    return images


def _python(scalar: Any, form: Form) -> Any:
    try:
        flat = scalar.values if isinstance(scalar, pa.ListScalar) else None
        while flat is not None and isinstance(flat.type, LISTS):
            flat = flat.flatten()
        if flat is not None and len(flat) > MOST_NUMBERS * form.pixels:  # a number of Python's takes 32 bytes
            raise BadRow("wrong size", f"{len(flat):,} pixels; the model takes {form.rows}x{form.cols}")
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        raise BadRow("not an image", f"the value cannot be read ({error})") from error


def from_value(value: Any, form: Form) -> Images:
    """One value: raw pixels as bytes or a list of numbers (nested or not), or an encoded picture.

    Raises:
        BadRow: it is none of them.
    """
    if isinstance(value, dict):  # {"bytes": …, "path": …}, as the datasets library writes pictures
        value = value.get("bytes")
    if value is None:
        raise BadRow("no image", "the image is null")
    if isinstance(value, bytes):
        if len(value) == form.pixels and not value.startswith(PICTURE_SIGNATURES):
            return np.frombuffer(value, np.uint8)
        return picture(value, form)
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise BadRow("not an image", f"a {type(value).__name__} is not an image") from error
    if len(numbers) != form.pixels:
        raise BadRow("wrong size", f"{len(numbers)} pixels; the model takes {form.rows}x{form.cols}")
    if not np.all((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))):
        raise BadRow("wrong values", "pixels are not all whole numbers from 0 to 255")
    return numbers.astype(np.uint8)


def picture(content: bytes, form: Form) -> Images:
    """An encoded picture as pixels [D].

    Raises:
        BadRow: it is no readable picture.
    """
    try:
        return from_bytes(content, form.rows, form.cols, raw=form.raw, max_pixels=form.max_pixels).ravel()
    except TooLargeError as error:
        raise BadRow("too large", str(error)) from error
    except NotAPictureError as error:
        message = f"{len(content)} bytes are neither {form.pixels} pixels nor a readable picture"
        raise BadRow("not a picture", f"{message}: {error}") from error
    except InvalidInputError as error:
        raise BadRow("nothing to see", str(error)) from error

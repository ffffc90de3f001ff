"""Inputs of a scoring job as chunks of rows, in order. A row that cannot be used carries its error along."""

import gzip
import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mlpserve_client.errors import InvalidInputError, MlpserveError
from mlpserve_client.prepare import UNREADABLE, from_image, read_image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
PICTURE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF")
DEFLATE_MOST = 1032  # bytes that one compressed byte can stand for
IDX_IMAGES, IDX_LABELS = 2051, 2049  # magic numbers: unsigned bytes in three dimensions, and in one

# What the readers raise for damaged files; numpy tokenizes an array's header.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError),
    *(tokenize.TokenError, zlib.error, struct.error, pa.ArrowException),
)


class ScoringError(MlpserveError):
    """The job cannot go on: the input or output as a whole is wrong."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows.

    Attributes:
        start: number of the first row, from 0.
        count: rows.
        images: uint8 [G, D], the good rows' images, in order.
        errors: offset in the chunk to what is wrong with that row.
        files: the rows' files, for a folder; otherwise None.
    """

    start: int
    count: int
    images: npt.NDArray[np.uint8]
    errors: dict[int, str]
    files: list[str] | None = None


@dataclass(frozen=True)
class Source:
    """An opened input.

    Attributes:
        rows: how many there are.
        chunks: the rows, to be read once.
    """

    rows: int
    chunks: Iterator[Chunk]


def open_source(path: Path, rows: int, cols: int, *, chunk_rows: int, column: str, raw: bool) -> Source:
    """Open an input by what it is: a folder, .npy, .parquet, or IDX, gzipped or not.

    Args:
        path: the input.
        rows: height of the model's images.
        cols: their width.
        chunk_rows: most rows in a chunk.
        column: of a Parquet file; "" to find it.
        raw: do not look for ink in pictures.

    Raises:
        ScoringError: it cannot be read, or has images of another size.
    """
    if not path.exists():
        raise ScoringError(f"{path}: no such file or folder")
    with _reading(path):
        if path.is_dir():
            source = _folder(path, rows, cols, chunk_rows, raw)
        elif path.suffix == ".npy":
            source = _npy(path, rows, cols, chunk_rows)
        elif path.suffix == ".parquet":
            source = _parquet(path, rows, cols, chunk_rows, column, raw)
        else:
            source = _idx(path, rows, cols, chunk_rows)
    return Source(source.rows, _guarded(path, source))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what the readers raise for a damaged input into a sentence."""
    try:
        yield
    except ScoringError:
        raise
    except DAMAGE as error:
        raise ScoringError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _guarded(path: Path, source: Source) -> Iterator[Chunk]:
    rows = 0
    with _reading(path):
        for chunk in source.chunks:
            rows += chunk.count
            yield chunk
        if rows != source.rows:
            raise ScoringError(f"{path}: damaged, it says that it has {source.rows} rows but gives {rows}")


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Class ids from an IDX label file, gzipped or not, or an .npy file of integers [N].

    Raises:
        ScoringError: it is neither.
    """
    try:
        if path.suffix == ".npy":
            labels = np.load(path, allow_pickle=False)
            if not isinstance(labels, np.ndarray):
                raise ScoringError(f"{path}: an archive of arrays; expected one .npy array")
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise ScoringError(f"{path}: expected integers in one dimension, got {labels.dtype} {labels.shape}")
            return np.asarray(labels, np.int64)
        with _open_idx(path) as file:
            magic, _ = struct.unpack(">II", file.read(8))
            if magic != IDX_LABELS:
                raise ScoringError(f"{path}: not an IDX label file (magic number {magic}, expected {IDX_LABELS})")
            return np.frombuffer(file.read(), np.uint8).astype(np.int64)
    except ScoringError:
        raise
    except DAMAGE as error:
        raise ScoringError(f"{path}: cannot be read as labels ({error})") from error


# --- arrays --------------------------------------------------------------------------------------------------------


def _open_idx(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb")


def _idx(path: Path, rows: int, cols: int, chunk_rows: int) -> Source:
    file = _open_idx(path)
    header = _read_up_to(file, 16)
    if len(header) < 16 or struct.unpack(">I", header[:4])[0] != IDX_IMAGES:
        raise ScoringError(
            f"{path}: not an input that is known. Expected an IDX file of images (.gz or not), .npy, .parquet, "
            "or a folder of images"
        )
    _, count, file_rows, file_cols = struct.unpack(">IIII", header)
    _check_size(path, (file_rows, file_cols), rows, cols)
    if count * rows * cols > DEFLATE_MOST * path.stat().st_size:
        raise ScoringError(f"{path}: its header says {count} images; so small a file cannot hold them")

    def chunks() -> Iterator[Chunk]:
        pixels = rows * cols
        with file:
            for start in range(0, count, chunk_rows):
                expected = min(chunk_rows, count - start)
                content = _read_up_to(file, expected * pixels)
                good = len(content) // pixels
                images = np.frombuffer(content[: good * pixels], np.uint8).reshape(good, pixels)
                missing = dict.fromkeys(range(good, expected), f"{path} ends before this row")
                yield Chunk(start, expected, images, missing)

    return Source(count, chunks())


def _read_up_to(file: IO[bytes], size: int) -> bytes:
    """Read `size` bytes, or what a cut-off file still gives."""
    parts: list[bytes] = []
    left = size
    try:
        while left and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass  # the caller counts what is missing
    return b"".join(parts)


def _npy(path: Path, rows: int, cols: int, chunk_rows: int) -> Source:
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise ScoringError(f"{path}: not a readable .npy array ({error})") from error
    if not isinstance(array, np.ndarray):
        raise ScoringError(f"{path}: an archive of arrays; expected one .npy array")
    if array.dtype != np.uint8:
        raise ScoringError(f"{path}: images have type {array.dtype}; expected uint8, raw pixels from 0 to 255")
    if array.ndim not in (2, 3):
        raise ScoringError(f"{path}: shape {array.shape}; expected [N, {rows}, {cols}] or [N, {rows * cols}]")
    if array.ndim == 3 or array.shape[1] != rows * cols:
        _check_size(path, array.shape[1:], rows, cols)
    flat = array.reshape(-1, rows * cols)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(flat), chunk_rows):
            images = np.ascontiguousarray(flat[start : start + chunk_rows])
            yield Chunk(start, len(images), images, {})

    return Source(len(flat), chunks())


def _check_size(path: Path, size: tuple[int, ...], rows: int, cols: int) -> None:
    if tuple(size) != (rows, cols):
        raise ScoringError(f"{path}: images are {'x'.join(map(str, size))}; the model takes {rows}x{cols}")


# --- pictures ------------------------------------------------------------------------------------------------------


def _folder(path: Path, rows: int, cols: int, chunk_rows: int, raw: bool) -> Source:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise ScoringError(f"{path}: no images in this folder (looked for {' '.join(IMAGE_SUFFIXES)})")

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(files), chunk_rows):
            part = files[start : start + chunk_rows]
            images, errors = [], {}
            for offset, file in enumerate(part):
                try:
                    images.append(read_image(file, rows, cols, raw=raw).ravel())
                except InvalidInputError as error:
                    errors[offset] = str(error)
            names = [str(file.relative_to(path)) for file in part]
            yield Chunk(start, len(part), _stack(images, rows * cols), errors, names)

    return Source(len(files), chunks())


def _parquet(path: Path, rows: int, cols: int, chunk_rows: int, column: str, raw: bool) -> Source:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ScoringError(f"{path}: not a readable Parquet file ({error})") from error
    name = _image_column(path, file.schema_arrow, column)

    def chunks() -> Iterator[Chunk]:
        start = 0
        for batch in file.iter_batches(batch_size=chunk_rows, columns=[name]):
            images, errors = [], {}
            for offset, value in enumerate(batch.column(0).to_pylist()):
                try:
                    images.append(_from_value(value, rows, cols, raw))
                except InvalidInputError as error:
                    errors[offset] = str(error)
            yield Chunk(start, len(batch), _stack(images, rows * cols), errors)
            start += len(batch)

    return Source(file.metadata.num_rows, chunks())


def _image_column(path: Path, schema: Any, column: str) -> str:
    names = list(schema.names)
    candidates = [column] if column else ["image", "images", "pixels"]
    for name in candidates:
        if name in names:
            return name
    raise ScoringError(
        f"{path}: no column {' or '.join(map(repr, candidates))} (columns: {', '.join(names)}); give --column NAME"
    )


def _from_value(value: Any, rows: int, cols: int, raw: bool) -> npt.NDArray[np.uint8]:
    """One Parquet value: raw pixels as bytes or a list of numbers (nested or not), or an encoded picture."""
    if isinstance(value, dict):  # {"bytes": …, "path": …}, as the datasets library writes pictures
        value = value.get("bytes")
    if value is None:
        raise InvalidInputError("the image is null")
    if isinstance(value, bytes):
        if len(value) == rows * cols and not value.startswith(PICTURE_SIGNATURES):
            return np.frombuffer(value, np.uint8)
        try:
            with Image.open(BytesIO(value)) as image:
                return from_image(image, rows, cols, raw=raw).ravel()
        except InvalidInputError:
            raise
        except UNREADABLE as error:
            raise InvalidInputError(
                f"{len(value)} bytes are neither {rows * cols} pixels nor a readable picture"
            ) from error
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a {type(value).__name__} is not an image") from error
    if len(numbers) != rows * cols:
        raise InvalidInputError(f"{len(numbers)} pixels; the model takes {rows}x{cols}")
    if not np.all((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))):
        raise InvalidInputError("pixels are not all whole numbers from 0 to 255")
    return numbers.astype(np.uint8)


def _stack(images: list[npt.NDArray[np.uint8]], pixels: int) -> npt.NDArray[np.uint8]:
    return np.stack(images) if images else np.empty((0, pixels), np.uint8)

"""IDX, .npy and .npz files: rows of pixels, one after another.

IDX files may be gzipped; those and compressed .npz members are read from the front only, so a reader that is asked for
later rows first reads over those before.
"""

import gzip
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, cast

import numpy as np

from mlpserve.files.arrays import BadArrayError, Layout, layout, npy_header, row_major
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs.rows import CHUNK_BYTES, Chunk, Decoded, Form, Kept, without_scaled

IDX_IMAGES = 2051  # magic number: unsigned bytes in three dimensions
DEFLATE_MOST = 1032  # bytes that one compressed byte can stand for
MEMBERS = ("images", "x", "x_test", "test_images", "x_train", "train_images")  # of an .npz, the first that is there
CUT = "the file ends early"

# What the readers raise for damaged files; numpy tokenizes an array's header.
DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, KeyError),
    *(tokenize.TokenError, zlib.error, struct.error, zipfile.BadZipFile, NotImplementedError, RuntimeError),
    lzma.LZMAError,
)


class ArrayInput:
    """Rows of D bytes in a stream, behind a header.

    Args:
        file: the file.
        form: what images must be.

    Raises:
        ScoringError: it is no array of images of the model's size.
    """

    named = False
    kept: Kept = ()

    def __init__(self, file: File, form: Form) -> None:
        self.path, self.fingerprint = file.path, file.fingerprint
        self._file = file
        self._form = form
        self._layout = Layout(form.rows, form.cols, (form.rows, form.cols))
        if form.label_column or form.slice_column or form.folders_are_labels:
            raise ScoringError(f"{file.path}: has no columns and no folders; labels for it come from --labels FILE")
        if form.keep:
            raise ScoringError(f"{file.path}: has no columns to keep; --keep is for Parquet files")
        self._open = ExitStack()  # the file and what reads through it
        try:
            self._stream, self.rows, self._in_order = self._opened()
        except BaseException:
            self.close()
            raise
        self._row_bytes = math.prod(self._layout.shape)
        self._position = 0  # row that the stream is at
        self._origin = 0 if self._in_order else self._stream.tell()

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since it was opened, in words; "" for nothing."""
        return self._file.changed()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _opened(self) -> tuple[IO[bytes], int, bool]:
        """The stream behind its header, the rows, and whether it can only be read from the front."""
        try:
            if self._file.suffix == ".npz":
                return self._open_npz()
            if self._file.suffix == ".npy":
                stream = self._open.enter_context(self._file.open())
                return stream, self._npy_rows(stream, self._file.size), False
            return self._open_idx()
        except DAMAGE as error:
            if isinstance(error, ScoringError):
                raise
            raise ScoringError(f"{self.path}: cannot be read ({' '.join(str(error).split())})") from error

    def _open_idx(self) -> tuple[IO[bytes], int, bool]:
        stream = self._open.enter_context(self._file.open())
        gzipped = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if gzipped:
            stream = self._open.enter_context(cast(IO[bytes], gzip.GzipFile(fileobj=stream, mode="rb")))
        header = _read_up_to(stream, 16)
        if len(header) < 16 or struct.unpack(">I", header[:4])[0] != IDX_IMAGES:
            raise ScoringError(
                f"{self.path}: not an input that is known. Expected an IDX file of images (.gz or not), .npy, .npz, "
                ".parquet, .tar, or a folder of them or of pictures"
            )
        _, count, rows, cols = struct.unpack(">IIII", header)
        _check_size(self.path, (rows, cols), self._form)
        if count * rows * cols > DEFLATE_MOST * self._file.size:
            raise ScoringError(f"{self.path}: its header says {count} images; so small a file cannot hold them")
        return stream, count, gzipped

    def _open_npz(self) -> tuple[IO[bytes], int, bool]:
        archive = self._open.enter_context(zipfile.ZipFile(self._open.enter_context(self._file.open())))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        found = next((f"{name}.npy" for name in MEMBERS if f"{name}.npy" in names), None)
        if found is None:
            held = ", ".join(name.removesuffix(".npy") for name in names) or "nothing"
            raise ScoringError(f"{self.path}: holds {held}; expected one of {', '.join(MEMBERS)}")
        if archive.getinfo(found).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ScoringError(f"{self.path}: not packed as numpy packs it; save it again with numpy.savez_compressed")
        stream = self._open.enter_context(archive.open(found))
        return stream, self._npy_rows(stream, archive.getinfo(found).file_size), True

    def _npy_rows(self, stream: IO[bytes], size: int) -> int:
        """Rows of the array whose header the stream begins with, and how its bytes lie."""
        self._layout, rows = _npy_layout(self.path, stream, self._form, size)
        return rows

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`."""
        size = max(1, min(size, CHUNK_BYTES // self._row_bytes))
        try:
            stream = self._at(start)
        except OSError as error:
            raise ScoringError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        for first in range(start, stop, size):
            count = min(size, stop - first)
            try:
                content = _read_up_to(stream, count * self._row_bytes)
            except OSError as error:
                raise ScoringError(f"{self.path}: cannot be read ({error.strerror or error})") from error
            self._position = first + count
            yield Chunk(first, count, lambda content=content, count=count: self._decode(content, count))  # type: ignore[misc]

    def _decode(self, content: bytes, count: int) -> Decoded:
        good = len(content) // self._row_bytes
        stored = np.frombuffer(content, np.uint8, good * self._row_bytes).reshape(good, *self._layout.shape)
        decoded = without_scaled(self._layout.grey(stored).reshape(good, self._form.pixels))
        cut = dict.fromkeys(range(good, count), (CUT, f"{self.path} ends before this row"))
        return Decoded(decoded.images, decoded.errors | cut)

    def _at(self, row: int) -> IO[bytes]:
        """The stream at a row."""
        if self._in_order and row < self._position:
            self.close()
            self._stream, _, _ = self._opened()
            self._position = 0
        if self._in_order:
            while self._position < row:
                step = min(1024, row - self._position)
                _read_up_to(self._stream, step * self._row_bytes)
                self._position += step
        else:
            self._stream.seek(self._origin + row * self._row_bytes)
        return self._stream


def _read_up_to(stream: IO[bytes], size: int) -> bytes:
    """Read `size` bytes, or what a cut-off file still gives."""
    # One raw read at a time, so that what came before a cut-off end is kept.
    read = getattr(stream, "read1", stream.read)
    parts: list[bytes] = []
    left = size
    try:
        while left and (part := read(left)):
            if not parts and len(part) == size:
                return part
            parts.append(part)
            left -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError):
        pass  # the caller counts what is missing
    return b"".join(parts)


def _npy_layout(path: str, stream: IO[bytes], form: Form, size: int) -> tuple[Layout, int]:
    """How each image of the array lies whose header the stream begins with, and how many there are."""
    try:
        shape, fortran, kind = npy_header(stream)
    except DAMAGE as error:
        raise ScoringError(f"{path}: not a readable .npy array ({error})") from error
    if kind != np.uint8:
        raise ScoringError(f"{path}: images have type {kind}; expected uint8, raw pixels from 0 to 255")
    if not row_major(shape, fortran):
        raise ScoringError(f"{path}: the array is in Fortran's order; save numpy.ascontiguousarray of it")
    expected = f"expected [N, {form.rows}, {form.cols}] or [N, {form.pixels}]"
    if len(shape) < 2:
        raise ScoringError(f"{path}: shape {shape}; {expected}")
    try:
        found = layout(shape[1:], (form.rows, form.cols))
    except BadArrayError as error:
        raise ScoringError(f"{path}: {error}") from error
    if not found.rows:
        raise ScoringError(f"{path}: shape {shape}; {expected}")
    _check_size(path, (found.rows, found.cols), form)
    if shape[0] < 0 or shape[0] * math.prod(shape[1:]) > size:
        raise ScoringError(f"{path}: its header says {shape[0]} images; so small a file cannot hold them")
    return found, int(shape[0])


def _check_size(path: str, size: tuple[int, ...], form: Form) -> None:
    if tuple(size) != (form.rows, form.cols):
        raise ScoringError(f"{path}: images are {'x'.join(map(str, size))}; the model takes {form.rows}x{form.cols}")

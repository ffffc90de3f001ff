"""IDX, .npy and .npz files: rows of pixels, one after another.

IDX files may be gzipped; those and compressed .npz members are read from the front only, so a reader that is asked for
later rows first reads over those before.
"""

import gzip
import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any, cast

import numpy as np

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File
from mlpserve_client.scoring.inputs.rows import CHUNK_BYTES, Chunk, Decoded, Form

IDX_IMAGES = 2051  # magic number: unsigned bytes in three dimensions
DEFLATE_MOST = 1032  # bytes that one compressed byte can stand for
MEMBERS = ("images", "x", "x_test", "test_images", "x_train", "train_images")  # of an .npz, the first that is there
LONGEST_HEADER = 65_535  # bytes of an .npy file's header
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

    def __init__(self, file: File, form: Form) -> None:
        self.path, self.fingerprint = file.path, file.fingerprint
        self._file = file
        self._form = form
        self._pixels = form.pixels
        if form.label_column or form.slice_column or form.folders_are_labels:
            raise ScoringError(f"{file.path}: has no columns and no folders; labels for it come from --labels FILE")
        self._open = ExitStack()  # the file and what reads through it
        try:
            self._stream, self.rows, self._in_order = self._opened()
        except BaseException:
            self.close()
            raise
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
                return stream, _npy_header(self.path, stream, self._form, self._file.size), False
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
        return stream, _npy_header(self.path, stream, self._form, archive.getinfo(found).file_size), True

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`."""
        size = max(1, min(size, CHUNK_BYTES // self._pixels))
        try:
            stream = self._at(start)
        except OSError as error:
            raise ScoringError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        for first in range(start, stop, size):
            count = min(size, stop - first)
            try:
                content = _read_up_to(stream, count * self._pixels)
            except OSError as error:
                raise ScoringError(f"{self.path}: cannot be read ({error.strerror or error})") from error
            self._position = first + count
            yield Chunk(first, count, lambda content=content, count=count: self._decode(content, count))  # type: ignore[misc]

    def _decode(self, content: bytes, count: int) -> Decoded:
        good = len(content) // self._pixels
        images = np.frombuffer(content, np.uint8, good * self._pixels).reshape(good, self._pixels)
        return Decoded(images, dict.fromkeys(range(good, count), (CUT, f"{self.path} ends before this row")))

    def _at(self, row: int) -> IO[bytes]:
        """The stream at a row."""
        if self._in_order and row < self._position:
            self.close()
            self._stream, _, _ = self._opened()
            self._position = 0
        if self._in_order:
            while self._position < row:
                step = min(1024, row - self._position)
                _read_up_to(self._stream, step * self._pixels)
                self._position += step
        else:
            self._stream.seek(self._origin + row * self._pixels)
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


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type of the array whose .npy header the stream begins with.

    Raises:
        ValueError: it begins with something else, or the header is too long to be one.
    """
    version = np.lib.format.read_magic(stream)
    field, read = ("<H", np.lib.format.read_array_header_1_0)
    if version != (1, 0):
        field, read = ("<I", np.lib.format.read_array_header_2_0)
    length = stream.read(struct.calcsize(field))
    count = struct.unpack(field, length)[0]
    if count > LONGEST_HEADER:  # numpy reads it before it looks
        raise ValueError(f"its header says that it is {count:,} bytes long itself")
    shape, fortran, kind = read(io.BytesIO(length + stream.read(count)))
    return shape, fortran, kind


def _npy_header(path: str, stream: IO[bytes], form: Form, size: int) -> int:
    """Rows of the array whose header the stream begins with."""
    try:
        shape, fortran, kind = npy_header(stream)
    except DAMAGE as error:
        raise ScoringError(f"{path}: not a readable .npy array ({error})") from error
    if kind != np.uint8:
        raise ScoringError(f"{path}: images have type {kind}; expected uint8, raw pixels from 0 to 255")
    if fortran and len(shape) > 1 and min(shape) > 1:
        raise ScoringError(f"{path}: the array is in Fortran's order; save numpy.ascontiguousarray of it")
    if len(shape) not in (2, 3):
        expected = f"[N, {form.rows}, {form.cols}] or [N, {form.pixels}]"
        raise ScoringError(f"{path}: shape {shape}; expected {expected}")
    if len(shape) == 3 or shape[1] != form.pixels:
        _check_size(path, shape[1:], form)
    if shape[0] < 0 or shape[0] * form.pixels > size:
        raise ScoringError(f"{path}: its header says {shape[0]} images; so small a file cannot hold them")
    return int(shape[0])


def _check_size(path: str, size: tuple[int, ...], form: Form) -> None:
    if tuple(size) != (form.rows, form.cols):
        raise ScoringError(f"{path}: images are {'x'.join(map(str, size))}; the model takes {form.rows}x{form.cols}")

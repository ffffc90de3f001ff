"""Compressed inputs within bounds: a small file may not fill the memory, or keep a job busy for a day."""

import bz2
import gzip
import io
import lzma
from typing import IO, cast

from mlpserve_client.scoring.errors import ScoringError

# What a file may unpack to: pictures hardly shrink, raw pixels to a tenth, empty ones to a thousandth.
UNPACKED_BASE, UNPACKED_RATIO = 64 << 20, 100
LARGEST_READ = 1 << 20  # bytes at a time; a tar archive's own headers are read whole
XZ_MEMORY = 128 << 20  # bytes; `xz -9` needs 65 MiB, a header may ask for 4 GiB
BLOCK = 1 << 16


def most_unpacked(packed: int) -> int:
    """Bytes that so many packed ones may become."""
    return UNPACKED_BASE + UNPACKED_RATIO * packed


def unpacking(path: str, raw: IO[bytes], size: int) -> "Bounded":
    """What a stream holds, unpacked if it is gzip, bzip2 or xz, from its front."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return Bounded(path, cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb")), most_unpacked(size))
    if start.startswith(b"BZh"):
        return Bounded(path, cast(IO[bytes], bz2.BZ2File(raw)), most_unpacked(size))
    if start == b"\xfd7zXZ\0":
        return Bounded(path, cast(IO[bytes], io.BufferedReader(_Xz(raw), BLOCK)), most_unpacked(size))
    return Bounded(path, raw, None)


class Bounded:
    """A stream for `tarfile`, of which no more than a bound is read, and no more than a little at a time.

    Args:
        path: names it in errors.
        stream: what is read.
        most: bytes that it may hold; None: it is not compressed and may be skipped over.

    Attributes:
        last: what was read last.
    """

    def __init__(self, path: str, stream: IO[bytes], most: int | None) -> None:
        self._path, self._stream, self._most = path, stream, most
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        """Bytes before the next one."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end only.

        Raises:
            ScoringError: it is more than the bounds allow.
        """
        if not 0 <= size <= LARGEST_READ:
            raise ScoringError(f"{self._path}: a header of {size:,} bytes; at most {LARGEST_READ:,} are read")
        if self._most is not None and self._position + size > self._most:
            raise ScoringError(
                f"{self._path}: unpacks to more than {self._most >> 20:,} MB ({UNPACKED_BASE >> 20} MB and "
                f"{UNPACKED_RATIO} times its own size). Unpack it yourself and score the .tar, if that is meant"
            )
        self.last = self._stream.read(size)
        self._position += len(self.last)
        return self.last

    def seek(self, position: int) -> int:
        """Go to a position; in a compressed stream it lies ahead."""
        if self._most is None:
            self._position = self._stream.seek(position)
            return self._position
        if position < self._position:
            raise ScoringError(f"{self._path}: damaged, it points back to {position:,} from {self._position:,}")
        while self._position < position:
            if not self.read(min(position - self._position, LARGEST_READ)):
                break  # as beyond the end of a file
        return self._position


class _Xz(io.RawIOBase):
    """lzma.LZMAFile, but within a bound on memory."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while True:
            if self._decoder.eof:  # another stream may follow, after zeros
                packed = self._decoder.unused_data.lstrip(b"\0")
                while not packed:
                    block = self._raw.read(BLOCK)
                    if not block:
                        return 0
                    packed = block.lstrip(b"\0")
                self._decoder = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            elif self._decoder.needs_input:
                packed = self._raw.read(BLOCK)
                if not packed:
                    raise EOFError("the file ends early")
            else:
                packed = b""
            content = self._decoder.decompress(packed, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)

"""Reading files that somebody else wrote: regular ones inside their folder, of a size that is known beforehand.

A pipe, a device or a link that leads elsewhere is refused without reading it, and no file is read beyond its size.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from mlpserve_server.errors import ArtifactError, StartupError, StoreError

CHUNK = 1 << 20  # bytes
LARGEST_READ = 1 << 30  # bytes; no system gives much more at a time
FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe without a writer must not block
# What is wrong with one file; anything else, such as too many open files, is not the file's fault.
OF_THE_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO),
}


def read(folder: Path | str, name: str, most: int) -> bytes:
    """A small file of a known kind, whose size nobody has promised.

    Args:
        folder: that it lies in.
        name: checked already, see `names`.
        most: bytes that such a file may have.

    Raises:
        ArtifactError: it is not a regular file in that folder, or is larger.
        OSError: it cannot be opened or read.
    """
    with _opened(folder, name) as (descriptor, size):
        content = _read(descriptor, size + 1) if size <= most else b""
        if size > most or len(content) > most:
            raise ArtifactError(f"{folder}/{name} is larger than the {most:,} bytes that such a file may have")
        return content


def read_listed(folder: Path, name: str, sha256: str, size: int) -> bytes:
    """The content of a file that a manifest lists.

    Raises:
        ArtifactError: it is missing, not a regular file in that folder, or not what the manifest says.
        StoreError: it cannot be read, for a reason that is not the file's.
    """
    with _explained(folder / name), _opened(folder, name) as (descriptor, found):
        _check_size(folder / name, found, size)
        content = _read(descriptor, size + 1)
        _check_size(folder / name, len(content), size)
    _check_digest(folder / name, hashlib.sha256(content).hexdigest(), sha256)
    return content


def verify_listed(folder: Path, name: str, sha256: str, size: int) -> None:
    """Check a file that a manifest lists, without holding it in memory; raises as `read_listed` does."""
    digest, left = hashlib.sha256(), size + 1
    with _explained(folder / name), _opened(folder, name) as (descriptor, found):
        _check_size(folder / name, found, size)
        while left and (chunk := os.read(descriptor, min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        _check_size(folder / name, size + 1 - left, size)
    _check_digest(folder / name, digest.hexdigest(), sha256)


def check_content(where: Path | str, content: bytes, sha256: str, size: int) -> None:
    """Check what came for a file that a manifest lists.

    Raises:
        ArtifactError: it is not what the manifest says.
    """
    _check_size(where, len(content), size)
    _check_digest(where, hashlib.sha256(content).hexdigest(), sha256)


def explained(error: OSError, path: Path | str) -> StartupError:
    """An error of the operating system as a sentence that says whose fault it is."""
    reason = error.strerror or str(error)
    if error.errno in OF_THE_FILE:
        return ArtifactError(f"{path} cannot be read: {reason}; publish the model again")
    return StoreError(f"{path} cannot be read just now: {reason}; the file itself may be as it should be")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error


@contextmanager
def _opened(folder: Path | str, name: str) -> Iterator[tuple[int, int]]:
    """Descriptor of a file opened for reading, and its size now."""
    path = f"{folder}/{name}"  # listings come here tens of thousands of times, for which Path and open() are slow
    descriptor = _descriptor(folder, name, path)
    try:
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is not a regular file; publish the model again")
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def _read(descriptor: int, most: int) -> bytes:
    """All that is left of a file, up to `most` bytes."""
    parts = []
    while most > 0 and (content := os.read(descriptor, min(most, LARGEST_READ))):
        parts.append(content)
        most -= len(content)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _descriptor(folder: Path | str, name: str, path: str) -> int:
    if "/" not in name:
        try:
            return os.open(path, FLAGS)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
    # Links are followed as far as they stay inside the version.
    real = os.path.realpath(path, strict=True)
    if not real.startswith(os.path.realpath(folder) + os.sep):
        raise ArtifactError(f"{path} is a link that leads out of the version; publish the model again")
    return os.open(real, FLAGS)


def _check_size(where: Path | str, found: int, expected: int) -> None:
    if found != expected:
        raise ArtifactError(
            f"{where} is damaged: it does not have the {expected:,} bytes that the manifest says. "
            "Publish the model again or serve another --version"
        )


def _check_digest(where: Path | str, found: str, expected: str) -> None:
    if found != expected:
        raise ArtifactError(
            f"{where} is damaged: its SHA-256 is not the one in the manifest. "
            "Publish the model again or serve another --version"
        )

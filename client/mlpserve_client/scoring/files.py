"""Files and folders where they are: on this machine, or wherever fsspec reaches (s3://, gs://, …)."""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.remote import asked, filesystem, is_remote, reason
from mlpserve_client.scoring.states import change, look

SAMPLES, SAMPLE_BYTES = 16, 65_536  # of a file's content that its fingerprint is made of


class File:
    """One input file.

    Args:
        path: local path, or URL.

    Attributes:
        size: bytes.

    Raises:
        ScoringError: it is not there, or is no file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._state = look(path)
        self.size = self._state.size

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """Lower-case ending with its dot."""
        return Path(self.name).suffix.lower()

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the file does: of its size, its time of change or what the store says, and samples of it.

        A copy has the same, on this machine or another.

        Raises:
            ScoringError: it cannot be read.
        """
        return digest([self.size, self._state.mark, self._sampled])

    def changed(self) -> str:
        """What has changed since the file was first looked at, in words; "" for nothing.

        Raises:
            ScoringError: it cannot be looked at.
        """
        words = change(self.path, self._state)
        if not words and not self._state.mark and self._samples() != self._sampled:
            return "it was written again"
        return words

    def open(self) -> IO[bytes]:
        """Open it for reading, with seek."""
        return opened(self.path)

    @cached_property
    def _sampled(self) -> str:
        return "" if is_remote(self.path) and self._state.mark else self._samples()

    def _samples(self) -> str:
        """SHA-256 of blocks from all over the file: another content with the same size and time is seen."""
        content = hashlib.sha256()
        try:
            with self.open() as stream:
                for number in range(SAMPLES):
                    stream.seek(max(self.size - SAMPLE_BYTES, 0) * number // (SAMPLES - 1))
                    content.update(stream.read(SAMPLE_BYTES))
                    if self.size <= SAMPLE_BYTES:
                        break
        except ScoringError:
            raise
        except Exception as error:  # every protocol's library has errors of its own
            raise ScoringError(f"{self.path}: cannot be read ({reason(error)})") from error
        return content.hexdigest()


class Folder:
    """The output: a folder in which each file appears whole or not at all.

    Args:
        path: local path, or URL; created when the first file is written.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        self._remote = filesystem(path) if is_remote(path) else None

    def names(self) -> set[str]:
        """Names of its files.

        Raises:
            ScoringError: it is a file, or cannot be read.
        """
        if self._remote is not None:
            if not asked(self.path, self._remote.exists):
                return set()
            listed = asked(self.path, lambda path: self._remote.ls(path, detail=False))
            return {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in listed}
        try:
            return set(os.listdir(self.path))  # noqa: PTH208
        except FileNotFoundError:
            return set()
        except NotADirectoryError as error:
            raise ScoringError(f"{self.path}: is a file; the output is a folder, name one that is new") from error
        except OSError as error:
            raise ScoringError(f"{self.path}: cannot be read ({error.strerror})") from error

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        try:
            if self._remote is not None:
                return cast(bytes, self._remote.cat_file(f"{self.path}/{name}"))
            return (Path(self.path) / name).read_bytes()
        except FileNotFoundError:
            return None
        except Exception as error:  # every protocol's library has errors of its own
            raise ScoringError(f"{self.path}/{name}: cannot be read ({reason(error)})") from error

    def write(self, name: str, content: bytes) -> None:
        """Let a file appear: written under another name, synced, renamed. In an object store a put is whole anyway.

        Raises:
            ScoringError: the disk is full or fails.
        """
        try:
            if self._remote is not None:
                self._remote.pipe_file(f"{self.path}/{name}", content)
                return
            folder = Path(self.path)
            folder.mkdir(parents=True, exist_ok=True)
            unfinished = folder / f".{name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.unfinished"
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(folder / name)
            _sync(folder)
        except Exception as error:  # every protocol's library has errors of its own
            raise ScoringError(f"{self.path}/{name}: cannot be written ({reason(error)})") from error

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            if self._remote is not None:
                self._remote.rm_file(f"{self.path}/{name}")
            else:
                (Path(self.path) / name).unlink(missing_ok=True)
        except FileNotFoundError:
            pass
        except Exception as error:  # every protocol's library has errors of its own
            raise ScoringError(f"{self.path}/{name}: cannot be removed ({reason(error)})") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other jobs out while the block runs; in an object store nothing does.

        Raises:
            ScoringError: another job is writing here.
        """
        if self._remote is not None:
            yield
            return
        try:
            Path(self.path).mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise ScoringError(f"{self.path}: cannot be written ({error.strerror})") from error
        try:
            _lock(self.path, descriptor)
            yield
        finally:
            os.close(descriptor)


def _lock(path: str, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ScoringError(f"{path}: another job is writing there; wait for it, or name another folder") from error
    except OSError as error:  # a network file system without locks: nobody is kept out there
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise ScoringError(f"{path}: cannot be locked ({error.strerror})") from error


def opened(path: str) -> IO[bytes]:
    """A file for reading, with seek.

    Raises:
        ScoringError: it cannot be opened.
    """
    if is_remote(path):
        remote = filesystem(path)
        return cast(IO[bytes], asked(path, lambda path: remote.open(path, "rb")))
    try:
        return open(path, "rb")  # noqa: PTH123
    except OSError as error:
        raise ScoringError(f"{path}: {error.strerror}") from error


def expand(pattern: str) -> list[str]:
    """The files and folders that a path or glob names, in order.

    Raises:
        ScoringError: there are none.
    """
    if is_remote(pattern):
        remote = filesystem(pattern)
        scheme = pattern.split("://", 1)[0]
        if glob.has_magic(pattern) and not asked(pattern, remote.exists):
            found = [f"{scheme}://{path}" for path in sorted(asked(pattern, remote.glob))]
        else:
            found = [pattern] if asked(pattern, remote.exists) else []
    elif glob.has_magic(pattern) and not os.path.lexists(pattern):
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    else:
        found = [pattern] if os.path.lexists(pattern) else []
    if not found:
        raise ScoringError(f"{pattern}: no such file or folder")
    return found


def is_folder(path: str) -> bool:
    """Whether a path is a folder."""
    return bool(asked(path, filesystem(path).isdir)) if is_remote(path) else os.path.isdir(path)  # noqa: PTH112


def digest(content: Any) -> str:
    """SHA-256 of a value, by its JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode(errors="surrogateescape")).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

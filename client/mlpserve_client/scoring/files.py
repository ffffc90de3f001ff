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
from pathlib import Path
from typing import IO, Any, cast

from mlpserve_client.scoring.errors import ScoringError


class File:
    """One input file.

    Args:
        path: local path, or URL.

    Attributes:
        size: bytes.
        fingerprint: changes when the file does: of its size and time of change, or of what the object store says.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if is_remote(path):
            self._remote = _filesystem(path)
            info = _asked(path, self._remote.info)
            self.size = int(info.get("size") or 0)
            mark = (
                info.get("ETag")
                or info.get("etag")
                or info.get("md5Hash")
                or info.get("mtime")
                or info.get("LastModified")
            )
        else:
            try:
                status = Path(path).stat()
            except OSError as error:
                raise ScoringError(f"{path}: {error.strerror}") from error
            self.size = status.st_size
            mark = status.st_mtime_ns
        self.fingerprint = digest([self.size, str(mark)])

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def suffix(self) -> str:
        """Lower-case ending with its dot."""
        return Path(self.name).suffix.lower()

    def open(self) -> IO[bytes]:
        """Open it for reading, with seek."""
        if is_remote(self.path):
            return cast(IO[bytes], _asked(self.path, lambda path: self._remote.open(path, "rb")))
        try:
            return open(self.path, "rb")  # noqa: PTH123
        except OSError as error:
            raise ScoringError(f"{self.path}: {error.strerror}") from error


class Folder:
    """The output: a folder in which each file appears whole or not at all.

    Args:
        path: local path, or URL; created when the first file is written.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")
        self._remote = _filesystem(path) if is_remote(path) else None

    def names(self) -> set[str]:
        """Names of its files.

        Raises:
            ScoringError: it is a file, or cannot be read.
        """
        if self._remote is not None:
            if not _asked(self.path, self._remote.exists):
                return set()
            listed = _asked(self.path, lambda path: self._remote.ls(path, detail=False))
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
            raise ScoringError(f"{self.path}/{name}: cannot be read ({_reason(error)})") from error

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
            raise ScoringError(f"{self.path}/{name}: cannot be written ({_reason(error)})") from error

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
            raise ScoringError(f"{self.path}/{name}: cannot be removed ({_reason(error)})") from error

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


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def expand(pattern: str) -> list[str]:
    """The files and folders that a path or glob names, in order.

    Raises:
        ScoringError: there are none.
    """
    if is_remote(pattern):
        remote = _filesystem(pattern)
        scheme = pattern.split("://", 1)[0]
        if glob.has_magic(pattern):
            found = [f"{scheme}://{path}" for path in sorted(_asked(pattern, remote.glob))]
        else:
            found = [pattern] if _asked(pattern, remote.exists) else []
    elif glob.has_magic(pattern) and not os.path.lexists(pattern):
        found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
    else:
        found = [pattern] if os.path.lexists(pattern) else []
    if not found:
        raise ScoringError(f"{pattern}: no such file or folder")
    return found


def is_folder(path: str) -> bool:
    """Whether a path is a folder."""
    return bool(_asked(path, _filesystem(path).isdir)) if is_remote(path) else os.path.isdir(path)  # noqa: PTH112


def walk(path: str) -> list[str]:
    """All files below a folder, by their paths inside it, in order."""
    if is_remote(path):
        remote = _filesystem(path)
        root = str(remote._strip_protocol(path)).rstrip("/") + "/"
        return sorted(str(name).removeprefix(root) for name in _asked(path, remote.find))
    folder = Path(path)
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def digest(content: Any) -> str:
    """SHA-256 of a value, by its JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode(errors="surrogateescape")).hexdigest()


def _filesystem(path: str) -> Any:
    scheme = path.split("://", 1)[0]
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ModuleNotFoundError as error:
        raise ScoringError(
            f"{path}: {error.name} is not installed; {scheme}:// needs: pip install 'mlpserve[s3]'"
        ) from error
    except (ImportError, ValueError) as error:
        raise ScoringError(f"{path}: {error}") from error


def _asked(path: str, ask: Any) -> Any:
    try:
        return ask(path)
    except FileNotFoundError as error:
        raise ScoringError(f"{path}: no such file or folder") from error
    except Exception as error:  # every protocol's library has errors of its own
        raise ScoringError(f"{path}: cannot be reached ({type(error).__name__}: {_reason(error)})") from error


def _reason(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

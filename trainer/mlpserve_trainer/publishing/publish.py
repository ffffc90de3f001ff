"""Publish a version atomically: a reader sees all of it or nothing.

The files are written to a hidden folder next to the versions and synced to disk, the manifest last; then one rename
gives the folder its version number. A publisher that is killed leaves its hidden folder behind; the next one removes
it.

    STORE/MODEL/VERSION/{model.onnx, model.int8.onnx, golden.binpb, report.html, MODEL_CARD.md, pictures/…,
                         manifest.sha256, manifest.json}
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import json_format

from mlpserve.artifact import CHECKSUM, FORMAT, LARGEST_MANIFEST, LARGEST_NUMBER, MANIFEST, version_number
from mlpserve.v1.artifact_pb2 import ArtifactFile, FileRole, Manifest
from mlpserve_trainer.errors import PublishError

_UNFINISHED = ".publishing-"


def check_store(store: Path, model: str) -> None:
    """Check before training that the store is writable.

    Raises:
        PublishError: the store cannot be created or written, or has no number for another version.
    """
    folder = store / model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _next_version(folder)
    except OSError as error:
        raise PublishError(f"--store {store} cannot be written: {error.strerror}") from error


def publish(
    store: Path,
    model: str,
    manifest: Manifest,
    files: dict[str, tuple[FileRole, bytes]],
    sign: Callable[[Path], None] | None = None,
) -> Path:
    """Publish files as the model's next version.

    Args:
        store: the store; created if it is missing.
        model: name to publish under.
        manifest: complete except for format, model, version and files, which are filled in here.
        files: path inside the artifact to role and content.
        sign: adds a signature to the complete folder; None for unsigned versions.

    Returns:
        The folder of the new version.

    Raises:
        PublishError: the disk is full or the store is not writable; no version was published.
    """
    folder = store / model
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _sole_publisher(folder):
            version = max(versions(folder), default=0) + 1
            if version > LARGEST_NUMBER:
                raise PublishError(
                    f"{folder / str(version - 1)} has the highest possible version number; remove that folder"
                )
            manifest.format, manifest.model, manifest.version = FORMAT, model, version
            unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
            try:
                _write_version(unfinished, manifest, files)
                if sign is not None:
                    sign(unfinished)
                    _sync(unfinished)
                unfinished.rename(folder / str(version))
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            _sync(folder)
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise PublishError(f"cannot publish to {folder}: {reason}. No version was published") from error
    return folder / str(version)


def latest(store: Path, model: str) -> Path | None:
    """The folder of a model's newest version; None if there is none. An empty folder is none.

    Raises:
        PublishError: the store cannot be read.
    """
    folder = store / model
    try:
        numbers = versions(folder) if folder.is_dir() else []
    except OSError as error:
        raise PublishError(f"--store {store} cannot be read: {error.strerror}") from error
    return next((found for number in reversed(numbers) if ((found := folder / str(number)) / MANIFEST).is_file()), None)


def versions(folder: Path) -> list[int]:
    """Numbers of the folders of versions in a model's folder, in ascending order, those without a manifest included."""
    numbers = (version_number(path.name) for path in folder.iterdir() if path.is_dir())
    return sorted(number for number in numbers if number is not None)


def _next_version(folder: Path) -> int:
    version = max(versions(folder), default=0) + 1
    if version > LARGEST_NUMBER:
        raise PublishError(f"{folder / str(version - 1)} has the last number that there is; remove that folder")
    return version


@contextmanager
def _sole_publisher(folder: Path) -> Iterator[None]:
    """Lock the model against other publishers, and remove what killed ones left behind."""
    # Follow no link and write nothing into the file, because somebody else may have put it there.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(folder / ".lock", flags, 0o666), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
        for leftover in folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _write_version(folder: Path, manifest: Manifest, files: dict[str, tuple[FileRole, bytes]]) -> None:
    del manifest.files[:]
    for name, (role, content) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
        digest = hashlib.sha256(content).hexdigest()
        manifest.files.append(ArtifactFile(role=role, path=name, sha256=digest, size_bytes=len(content)))
    for subfolder in {(folder / name).parent for name in files}:
        _sync(subfolder)
    content = json_format.MessageToJson(manifest, indent=2).encode() + b"\n"
    if len(content) > LARGEST_MANIFEST:
        raise PublishError(
            f"the manifest would have {len(content):,} bytes, mostly labels; servers read at most "
            f"{LARGEST_MANIFEST:,}. No version was published; use shorter class names"
        )
    # In sha256sum's form, so that `sha256sum -c manifest.sha256` works.
    _write(folder / CHECKSUM, f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode())
    _write(folder / MANIFEST, content)
    folder.chmod(0o755)  # mkdtemp's 0700 would hide the version from a server under another user
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

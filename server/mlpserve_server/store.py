"""Published versions on disk: finding one, reading its manifest, checking its files.

STORE/MODEL/VERSION/manifest.json and the files that it lists
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf import json_format

from mlpserve.v1.artifact_pb2 import FileRole, Manifest
from mlpserve_server.errors import ArtifactError, StoreError, VersionMissing

MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"
PROMOTED = "promoted.json"
FORMAT = 1


@dataclass(frozen=True)
class Version:
    """One published version.

    Attributes:
        folder: where its files are.
        manifest: what was recorded when it was published.
        digest: SHA-256 of manifest.json in lower-case hexadecimal; it names the whole artifact.
        fetch: brings the files that the manifest lists into the folder, where they are not there yet.
    """

    folder: Path
    manifest: Manifest
    digest: str
    fetch: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)

    def read(self, role: FileRole) -> bytes:
        """The content of the file with a role, checked against the manifest.

        Raises:
            ArtifactError: there is no such file, or it is damaged.
        """
        for entry in self.manifest.files:
            if entry.role == role:
                return _read_checked(self.folder, entry.path, entry.sha256)
        raise ArtifactError(f"{self.folder}: the manifest lists no {FileRole.Name(role)}; publish the model again")

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises:
            ArtifactError: a file is missing or damaged; the message names it.
        """
        for entry in self.manifest.files:
            _read_checked(self.folder, entry.path, entry.sha256)


class Store:
    """A folder of published models.

    Args:
        root: the folder.

    Attributes:
        location: as people name it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's published versions, newest first.

        Raises:
            StoreError: the store or the model is not there.
        """
        try:
            return self._versions(model)
        except OSError as error:
            raise StoreError(
                f"--store {self.location}: cannot be read ({error.strerror}); check its permissions"
            ) from error

    def _versions(self, model: str) -> list[int]:
        if not self.root.is_dir():
            raise StoreError(
                f"--store {self.root}: no such folder; train a model with: mlpserve-train --store {self.root}"
            )
        folder = self.root / model
        if not folder.is_dir():
            models = ", ".join(sorted(path.name for path in self.root.iterdir() if path.is_dir())) or "none"
            raise StoreError(f"no model {model!r} in {self.root} (models there: {models})")
        names = [path.name for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
        return sorted(map(int, names), reverse=True)

    def open(self, model: str, version: int = 0) -> Version:
        """Open a version; 0 is the latest.

        Raises:
            StoreError: the store cannot be read, or has nothing of the model.
            VersionMissing: the store does not have this version.
            ArtifactError: its manifest is damaged.
        """
        published = self.versions(model)
        if not published:
            raise StoreError(
                f"model {model!r} in {self.location} has no published version; train it with mlpserve-train"
            )
        if version and version not in published:
            listing = ", ".join(map(str, published))
            raise VersionMissing(f"model {model!r} in {self.location} has no version {version} (published: {listing})")
        return self._read(model, version or published[0])

    def _read(self, model: str, number: int) -> Version:
        folder = self.root / model / str(number)
        path = folder / MANIFEST
        try:
            content = path.read_bytes()
            checksum = (folder / CHECKSUM).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{folder}: the manifest cannot be read ({error}); publish the model again") from error
        digest = hashlib.sha256(content).hexdigest()
        if checksum != f"{digest}  {MANIFEST}\n":
            raise ArtifactError(
                f"{path} does not match {CHECKSUM}: one of the two was changed after it was published. "
                "Publish the model again or serve another --version"
            )
        try:
            manifest = json_format.Parse(content, Manifest(), ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(f"{path} is not a manifest: {error}") from error
        if manifest.format != FORMAT:
            raise ArtifactError(f"{path}: artifact format {manifest.format}; this server reads format {FORMAT}")
        if (manifest.model, manifest.version) != (model, number):
            raise ArtifactError(
                f"{path} is of {manifest.model} version {manifest.version}; the folder was moved or copied"
            )
        if len(manifest.labels) < 2 or not manifest.image.rows or not manifest.image.cols:
            raise ArtifactError(f"{path}: image size or labels are missing; publish the model again")
        return Version(folder, manifest, digest)

    def read_promotion(self, model: str) -> bytes | None:
        """What promoted.json holds; None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            return (self.root / model / PROMOTED).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def sole_writer(self, model: str) -> Iterator[None]:
        """Wait for other writers; the publisher takes the same lock.

        Raises:
            StoreError: the store cannot be written.
        """
        self.versions(model)  # says what is wrong with the store or the name
        folder = self.root / model
        try:
            with (folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}; nothing was changed") from error

    def write_promotion(self, model: str, content: bytes | None) -> None:
        """Replace promoted.json by one rename, or remove it; under `sole_writer`.

        Raises:
            OSError: the store cannot be written.
        """
        folder = self.root / model
        if content is None:
            (folder / PROMOTED).unlink(missing_ok=True)
            return
        descriptor, name = tempfile.mkstemp(prefix=".promoted-", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)  # servers may run as another user
                os.fsync(file.fileno())
            Path(name).rename(folder / PROMOTED)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _read_checked(folder: Path, name: str, sha256: str) -> bytes:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise ArtifactError(f"{folder}: the manifest lists {name!r}, which is outside the artifact")
    path = folder / relative
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}; publish the model again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(
            f"{path} is damaged: its SHA-256 is not the one in the manifest. "
            "Publish the model again or serve another --version"
        )
    return content

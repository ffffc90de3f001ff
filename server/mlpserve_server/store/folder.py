"""Published versions on disk: finding one, reading its manifest, checking its files.

STORE/MODEL/VERSION/manifest.json and the files that it lists

A version does not change once it is published; it may be deleted. Opening one touches that one only.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlpserve.artifact import CHECKSUM, LARGEST_MANIFEST, MANIFEST, PROMOTED, SIGNATURE, version_number
from mlpserve.v1.artifact_pb2 import ArtifactFile, FileRole, Manifest
from mlpserve_server import names
from mlpserve_server.errors import ArtifactError, StartupError, StoreError, VersionMissing
from mlpserve_server.store import files
from mlpserve_server.store.manifest import LARGEST_CHECKSUM, Document, parse

LARGEST_PROMOTION = 1 << 16  # bytes of promoted.json
NAMED = 20  # versions, or models, that a message lists


@dataclass(frozen=True)
class Version:
    """One published version.

    Attributes:
        folder: where its files are.
        manifest: what was recorded when it was published.
        digest: SHA-256 of manifest.json in lower-case hexadecimal; it names the whole artifact.
        document: manifest.json as it was read.
        fetch: brings the files that the manifest lists into the folder, where they are not there yet.
    """

    folder: Path
    manifest: Manifest
    digest: str
    document: Document = field(repr=False)
    fetch: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)

    def read(self, role: FileRole) -> bytes:
        """The content of the file with a role, checked against the manifest.

        Raises:
            ArtifactError: there is no such file, or it is damaged.
            StoreError: it cannot be read, for a reason that is not the file's.
        """
        for entry in self.manifest.files:
            if entry.role == role:
                return self.content(entry)
        raise ArtifactError(f"{self.folder}: the manifest lists no {FileRole.Name(role)}; publish the model again")

    def content(self, entry: ArtifactFile) -> bytes:
        """The content of a file that the manifest lists; raises as `read` does."""
        return files.read_listed(self.folder, entry.path, entry.sha256, entry.size_bytes)

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises:
            ArtifactError: a file is missing or damaged; the message names it.
            StoreError: one cannot be read, for a reason that is not the file's.
        """
        for entry in self.manifest.files:
            files.verify_listed(self.folder, entry.path, entry.sha256, entry.size_bytes)

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of everything that was published but the signature, each checked; raises as `read` does."""
        for entry in self.manifest.files:
            yield entry.path, self.content(entry)
        yield MANIFEST, self.document.content
        yield CHECKSUM, self.document.checksum

    def unlisted(self) -> str | None:
        """A file in the folder that was not published with the version; None if there is none."""
        known = {entry.path for entry in self.manifest.files} | {MANIFEST, CHECKSUM, SIGNATURE}
        for where, _, found in os.walk(self.folder):
            for name in found:
                path = os.path.relpath(os.path.join(where, name), self.folder)  # noqa: PTH118
                if path not in known:
                    return path
        return None


class Store:
    """A folder of published models.

    Args:
        root: the folder.

    Attributes:
        location: as people name it.
        look_seconds: how long a listing may go on with what it saw last; longer than nothing where a look is dear.
    """

    look_seconds = 0.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.location = str(root)

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's published versions, newest first.

        Raises:
            StoreError: the store or the model is not there.
        """
        names.check_model(model)
        try:
            found = self._folders(model)
        except OSError as error:
            raise StoreError(
                f"--store {self.location}: cannot be read ({error.strerror}); check its permissions"
            ) from error
        numbers = (version_number(name) for name in found)
        return sorted((number for number in numbers if number is not None), reverse=True)

    def _folders(self, model: str) -> list[str]:
        if not self.root.is_dir():
            raise StoreError(
                f"--store {self.root}: no such folder; train a model with: mlpserve-train --store {self.root}"
            )
        folder = self.root / model
        if not folder.is_dir():
            models = sorted(path.name for path in self.root.iterdir() if path.is_dir() and names.is_model(path.name))
            raise StoreError(f"no model {model!r} in {self.root} (models there: {_listed(models)})")
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.isdecimal() and entry.is_dir()]

    def open(self, model: str, version: int = 0) -> Version:
        """Open a version; 0 is the latest.

        Raises:
            StoreError: the store cannot be read, or has nothing of the model.
            VersionMissing: the store does not have this version.
            ArtifactError: its manifest is damaged.
        """
        names.check_model(model)
        number = version or self.newest_first(model)[0]
        document = self.documents(model, [number])[0]
        if isinstance(document, VersionMissing):
            published = _listed(self.newest_first(model))
            raise VersionMissing(f"model {model!r} in {self.location} has no version {number} (published: {published})")
        if isinstance(document, StartupError):
            raise document
        manifest, digest = parse(document, model, number)
        return self._version(Version(self.root / model / str(number), manifest, digest, document))

    def newest_first(self, model: str) -> list[int]:
        """As `versions`, of a model that has some.

        Raises:
            StoreError: the store or the model is not there, or nothing is published.
        """
        published = self.versions(model)
        if not published:
            others = self._other_folders(model)
            beside = f"; no versions are {_listed(others)}: a version is a number from 1 without zeros in front"
            raise StoreError(
                f"model {model!r} in {self.location} has no published version; train it with mlpserve-train"
                f"{beside if others else ''}"
            )
        return published

    def _other_folders(self, model: str) -> list[str]:
        """Folders that somebody may take for versions."""
        try:
            found = self._folders(model)
        except OSError:
            return []
        return sorted(name for name in found if version_number(name) is None)

    def _version(self, version: Version) -> Version:
        return version

    def documents(self, model: str, numbers: Iterable[int]) -> list[Document | StartupError]:
        """The manifests of versions, or why each cannot be read: ArtifactError, VersionMissing or StoreError."""
        return [self._document(f"{self.root}/{model}/{number}") for number in numbers]

    def _document(self, folder: str) -> Document | StartupError:
        try:
            content = files.read(folder, MANIFEST, LARGEST_MANIFEST)
            return Document(folder, content, files.read(folder, CHECKSUM, LARGEST_CHECKSUM))
        except ArtifactError as error:
            return error
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not Path(folder).is_dir():
                return VersionMissing(f"{folder} is not there")
            reason = files.explained(error, error.filename or f"{folder}/{MANIFEST}")
            if isinstance(reason, ArtifactError):
                return ArtifactError(f"{folder}: the manifest cannot be read ({reason})")
            return reason

    def stamp(self, model: str, number: int) -> Hashable:
        """Changes when a version's manifest is replaced, which does not happen to a published one; None without it."""
        folder = f"{self.root}/{model}/{number}"
        try:
            found = [os.stat(f"{folder}/{name}", follow_symlinks=False) for name in (MANIFEST, CHECKSUM)]  # noqa: PTH116
        except OSError:
            return None
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)

    def read_promotion(self, model: str) -> bytes | None:
        """What promoted.json holds; None where there is none.

        Raises:
            ArtifactError: it is larger than `promote` writes it, or no regular file.
            StoreError: the storage does not give it.
            OSError: it cannot be read.
        """
        names.check_model(model)
        try:
            return files.read(self.root / model, PROMOTED, LARGEST_PROMOTION)
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
            # Not through a link, and nothing is written into it: it may not be what it seems.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(folder / ".lock", flags, 0o666), "rb") as lock:
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


def _listed(values: list[str] | list[int]) -> str:
    """A few of many, for a message."""
    more = f", … {len(values) - NAMED:,} more" if len(values) > NAMED else ""
    return ", ".join(map(str, values[:NAMED])) + more or "none"

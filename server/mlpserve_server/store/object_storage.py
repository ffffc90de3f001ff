"""A store in object storage (s3://…, gs://…, …): listed there, copied to a local folder when a version is loaded.

An object appears whole or not at all, so `manifest.sha256`, written last, is what completes a version, and one object,
`promoted.json`, is the promotion. Nothing is fetched but what the manifest lists, no more of it than the manifest says,
and nothing is kept that is not what the manifest says.
"""

import contextlib
import shutil
import weakref
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mlpserve import temporary
from mlpserve.artifact import CHECKSUM, LARGEST_MANIFEST, MANIFEST, PROMOTED, SIGNATURE
from mlpserve_server import names
from mlpserve_server.errors import ArtifactError, ConfigError, StartupError, StoreError, VersionMissing
from mlpserve_server.store import files
from mlpserve_server.store.folder import LARGEST_PROMOTION, Store, Version
from mlpserve_server.store.manifest import LARGEST_CHECKSUM, LARGEST_SIGNATURE, Document

AT_ONCE = 50  # manifests asked for at a time


def open_store(location: str | Path) -> Store:
    """The store at a path, or at a URL that fsspec knows.

    Raises:
        ConfigError: fsspec or its package for this kind of URL is not installed.
    """
    scheme, separator, rest = str(location).partition("://")
    if separator and scheme not in ("file", "local"):
        return RemoteStore(str(location))
    return Store(Path(rest if separator else location))


class RemoteStore(Store):
    """A store behind a URL.

    Args:
        url: with the scheme, for example "s3://bucket/models". Credentials and endpoints are taken from where the
            scheme's package looks for them (AWS_… variables, instance roles, …).

    Raises:
        ConfigError: fsspec or its package for this kind of URL is not installed.
    """

    look_seconds = 1.0

    def __init__(self, url: str) -> None:
        copies = temporary.make("store")
        weakref.finalize(self, temporary.remove, copies)  # also when the process ends
        super().__init__(copies)
        self.location = url.rstrip("/")
        try:
            import fsspec

            self._files, self._path = fsspec.core.url_to_fs(self.location, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"--store {url}: {error}; stores in object storage need 'mlpserve[s3]', or fsspec with the package for "
                "this kind of URL"
            ) from error

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """Turn what the storage's libraries raise into a sentence."""
        try:
            yield
        except StartupError:
            raise
        except Exception as error:
            # They share no base below Exception; any of them means that the storage does not give what was asked for.
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> StoreError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return StoreError(f"--store {self.location}: {reason[:300]}")

    def _folders(self, model: str) -> list[str]:
        with self._talking():
            try:
                entries: list[dict[str, Any]] = self._files.ls(f"{self._path}/{model}", detail=True)
            except FileNotFoundError as error:
                raise StoreError(f"no model {model!r} in {self.location}") from error
        return [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]

    def documents(self, model: str, numbers: Iterable[int]) -> list[Document | StartupError]:  # noqa: D102
        found: list[Document | StartupError] = []
        left = iter(numbers)
        while part := list(islice(left, AT_ONCE)):
            keys = [f"{self._path}/{model}/{number}/{name}" for number in part for name in (MANIFEST, CHECKSUM)]
            ends = [LARGEST_MANIFEST + 1, LARGEST_CHECKSUM + 1] * len(part)
            with self._talking():
                contents = self._files.cat_ranges(keys, [0] * len(keys), ends, on_error="return")
            for number, manifest, checksum in zip(part, contents[::2], contents[1::2], strict=True):
                found.append(self._document_of(f"{self.location}/{model}/{number}", manifest, checksum))
        return found

    def _document_of(self, where: str, *contents: bytes | Exception) -> Document | StartupError:
        missing = [isinstance(content, FileNotFoundError) for content in contents]
        if all(missing):
            return VersionMissing(f"{where} is not there")
        for name, content, gone, most in zip(
            (MANIFEST, CHECKSUM), contents, missing, (LARGEST_MANIFEST, LARGEST_CHECKSUM), strict=True
        ):
            if gone:
                return ArtifactError(f"{where}: the manifest cannot be read (no {name}); it may not be whole yet")
            if isinstance(content, Exception):
                return self._failure(content)
            if len(content) > most:
                return ArtifactError(f"{where}/{name} is larger than the {most:,} bytes that such a file may have")
        manifest, checksum = contents
        assert isinstance(manifest, bytes) and isinstance(checksum, bytes)
        return Document(where, manifest, checksum)

    def stamp(self, model: str, number: int) -> Hashable:
        """Always the same: to look costs as much as to read, and a published version does not change."""
        return True

    def _version(self, version: Version) -> Version:
        return replace(version, fetch=lambda: self._fetch(version))

    def _fetch(self, version: Version) -> None:
        """Copy what the manifest lists, checked, and the signature; forget the copies of other versions.

        Raises:
            ArtifactError: a file is missing, or not what the manifest says; nothing of the version is kept.
            StoreError: the storage does not answer.
        """
        target = version.folder
        try:
            self._copy(version)
        except StartupError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        for folder in target.parent.iterdir():
            if folder != target:
                shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, version: Version) -> None:
        target = version.folder
        where = f"{version.manifest.model}/{version.manifest.version}"
        for entry in version.manifest.files:
            content = b""  # storage refuses to give a part of nothing
            if entry.size_bytes:
                content = self._content(f"{where}/{entry.path}", entry.size_bytes)
            files.check_content(f"{self.location}/{where}/{entry.path}", content, entry.sha256, entry.size_bytes)
            self._keep(target / entry.path, content)
        with contextlib.suppress(ArtifactError):  # not signed; `signing` says so to those who ask for it
            self._keep(target / SIGNATURE, self._content(f"{where}/{SIGNATURE}", LARGEST_SIGNATURE))
        self._keep(target / MANIFEST, version.document.content)
        self._keep(target / CHECKSUM, version.document.checksum)

    def _content(self, name: str, most: int) -> bytes:
        """An object, and one byte more than it may have where it has too many.

        Raises:
            ArtifactError: it is not there.
            StoreError: the storage does not give it.
        """
        with self._talking():
            try:
                content: bytes = self._files.cat_file(f"{self._path}/{name}", start=0, end=most + 1)
            except FileNotFoundError as error:
                raise ArtifactError(f"{self.location}/{name} cannot be read: no such object") from error
        return content

    def _keep(self, path: Path, content: bytes) -> None:
        with self._talking():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def read_promotion(self, model: str) -> bytes | None:  # noqa: D102
        names.check_model(model)
        try:
            content = self._content(f"{model}/{PROMOTED}", LARGEST_PROMOTION)
        except ArtifactError:
            return None
        if len(content) > LARGEST_PROMOTION:
            raise ArtifactError(f"it is larger than {LARGEST_PROMOTION:,} bytes")
        return content

    def write_promotion(self, model: str, content: bytes | None) -> None:  # noqa: D102
        names.check_model(model)
        path = f"{self._path}/{model}/{PROMOTED}"
        with self._talking():
            if content is not None:
                self._files.pipe_file(path, content)
            elif self._files.exists(path):
                self._files.rm_file(path)

    @contextlib.contextmanager
    def sole_writer(self, model: str) -> Iterator[None]:
        """Object storage has no locks: of two promotions at a time, the later one holds."""
        self.versions(model)
        yield

    def push(self, version: Version) -> None:
        """Copy a version of another store here; its checksum comes last, and completes it.

        Raises:
            StoreError: it is here already, or the storage refuses.
            ArtifactError: a file of it is damaged.
        """
        model, number = version.manifest.model, version.manifest.version
        prefix = f"{self._path}/{model}/{number}"
        with self._talking():
            if self._files.exists(f"{prefix}/{CHECKSUM}"):
                raise StoreError(f"{self.location} has version {number} of {model!r} already; nothing was written")
            with contextlib.suppress(FileNotFoundError):
                signature = files.read(version.folder, SIGNATURE, LARGEST_SIGNATURE)
                self._files.pipe_file(f"{prefix}/{SIGNATURE}", signature)
            for name, content in version.parts():
                self._files.pipe_file(f"{prefix}/{name}", content)

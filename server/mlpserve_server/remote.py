"""A store in object storage (s3://…, gs://…, …): listed there, copied to a local folder when a version is loaded.

An object appears whole or not at all, so `manifest.sha256`, written last, is what completes a version, and one object,
`promoted.json`, is the promotion.
"""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlpserve_server.errors import ConfigError, StartupError, StoreError
from mlpserve_server.store import CHECKSUM, MANIFEST, PROMOTED, Store, Version


def open_store(location: str | Path) -> Store:
    """The store at a path, or at a URL that fsspec knows.

    Raises:
        ConfigError: fsspec or its package for this kind of URL is not installed.
    """
    return RemoteStore(str(location)) if "://" in str(location) else Store(Path(location))


class RemoteStore(Store):
    """A store behind a URL.

    Args:
        url: with the scheme, for example "s3://bucket/models". Credentials and endpoints are taken from where the
            scheme's package looks for them (AWS_… variables, instance roles, …).

    Raises:
        ConfigError: fsspec or its package for this kind of URL is not installed.
    """

    def __init__(self, url: str) -> None:
        copies = Path(tempfile.mkdtemp(prefix="mlpserve-store-"))
        weakref.finalize(self, shutil.rmtree, copies, ignore_errors=True)  # also when the process ends
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
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(f"--store {self.location}: {reason[:300]}") from error

    def _versions(self, model: str) -> list[int]:
        with self._talking():
            try:
                entries: list[dict[str, Any]] = self._files.ls(f"{self._path}/{model}", detail=True)
            except FileNotFoundError as error:
                raise StoreError(f"no model {model!r} in {self.location}") from error
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _read(self, model: str, number: int) -> Version:
        with self._talking():
            for name in (MANIFEST, CHECKSUM):
                with contextlib.suppress(FileNotFoundError):  # what is missing is missed in words below
                    self._copy(f"{model}/{number}/{name}")
        version = super()._read(model, number)
        return Version(version.folder, version.manifest, version.digest, lambda: self._fetch(model, number))

    def _fetch(self, model: str, number: int) -> None:
        """Copy every file of a version, and forget the copies of others."""
        prefix = f"{self._path}/{model}/{number}"
        with self._talking():
            for path in self._files.find(prefix):
                self._copy(f"{model}/{number}/{path[len(prefix) + 1 :]}")
        for folder in (self.root / model).iterdir():
            if folder.name != str(number):
                shutil.rmtree(folder, ignore_errors=True)

    def _copy(self, name: str) -> None:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = self._files.cat_file(f"{self._path}/{name}")
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.rename(target)

    def read_promotion(self, model: str) -> bytes | None:  # noqa: D102
        with self._talking():
            try:
                content: bytes = self._files.cat_file(f"{self._path}/{model}/{PROMOTED}")
            except FileNotFoundError:
                return None
        return content

    def write_promotion(self, model: str, content: bytes | None) -> None:  # noqa: D102
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
        """
        model, number = version.manifest.model, version.manifest.version
        prefix = f"{self._path}/{model}/{number}"
        with self._talking():
            if self._files.exists(f"{prefix}/{CHECKSUM}"):
                raise StoreError(f"{self.location} has version {number} of {model!r} already; nothing was written")
            files = [path for path in sorted(version.folder.rglob("*")) if path.is_file() and path.name != CHECKSUM]
            for path in [*files, version.folder / CHECKSUM]:
                self._files.pipe_file(f"{prefix}/{path.relative_to(version.folder)}", path.read_bytes())

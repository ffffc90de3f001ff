"""What names from outside may be: a model's, a version's, and a file's inside a version.

Every such name becomes part of a path or of a key in object storage, so it passes here first.
"""

import re
from collections.abc import Iterable

from mlpserve.artifact import CHECKSUM, MANIFEST, PROMOTED, SIGNATURE
from mlpserve_server.errors import ArtifactError, StoreError

LARGEST_FILE = 1 << 30  # bytes
LARGEST_VERSION = 2 << 30  # bytes of all its files
MOST_FILES = 1000
MOST_PARTS = 8  # folders and name of one file

MODEL_RULE = "letters, digits, '-', '_' and '.', a letter or digit first, 64 at most"
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_PATH = re.compile(rf"{_PART}(?:/{_PART}){{0,{MOST_PARTS - 1}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_model(name: str) -> bool:
    """Whether a model may have this name."""
    return _MODEL.fullmatch(name) is not None


def check_model(name: str) -> None:
    """Refuse a name that no model can have.

    Raises:
        StoreError: it is one.
    """
    if not is_model(name):
        raise StoreError(f"{name[:80]!r} cannot be the name of a model; expected {MODEL_RULE}")


def check_files(where: str, files: Iterable[tuple[str, str, int]]) -> None:
    """Refuse what a manifest may not list, before anything of it is read or fetched.

    Args:
        where: the version, for the message.
        files: path, SHA-256 and bytes of each file.

    Raises:
        ArtifactError: a path could lead out of the version or take the place of another file, a digest is none, or
            there is more than a version may have.
    """
    taken: set[str] = set()
    folders: set[str] = set()
    total = 0
    for count, (path, sha256, size) in enumerate(files, 1):
        if not _PATH.fullmatch(path):
            raise ArtifactError(
                f"{where}: the manifest lists {path[:200]!r}, which may lie outside the artifact; expected names of "
                "letters, digits, '-', '_' and '.', with '/' between folders"
            )
        if path in (MANIFEST, CHECKSUM, SIGNATURE, PROMOTED):
            raise ArtifactError(f"{where}: the manifest lists {path!r}, which is not a file of the model")
        above = _folders(path)
        if path in taken or path in folders or not taken.isdisjoint(above):
            raise ArtifactError(f"{where}: the manifest lists {path!r} twice, or as a file and as a folder")
        if not _SHA256.fullmatch(sha256):
            raise ArtifactError(f"{where}: the manifest has no SHA-256 for {path!r}")
        total += size
        if size > LARGEST_FILE or total > LARGEST_VERSION or count > MOST_FILES:
            raise ArtifactError(
                f"{where}: the manifest lists {count:,} files up to {path!r} ({size:,} bytes); this server takes up to "
                f"{MOST_FILES:,} files, {LARGEST_FILE:,} bytes in one and {LARGEST_VERSION:,} in all"
            )
        taken.add(path)
        folders.update(above)


def _folders(path: str) -> list[str]:
    """Every folder on the way to a file."""
    found, end = [], path.find("/")
    while end > 0:
        found.append(path[:end])
        end = path.find("/", end + 1)
    return found

"""Temporary folders that do not stay behind: a process that is killed leaves its own to the next one of the same user.

Whoever has a folder holds a lock on a file in it, which ends with the process, however that ends.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX, ALIVE = "mlpserve-", ".alive"
NEW_SECONDS = 60.0  # during which a folder may have no lock yet

_held: dict[Path, int] = {}  # descriptors of the locks


def make(kind: str) -> Path:
    """A new folder for this process alone; removes those whose processes are gone.

    Args:
        kind: a word for its name.

    Raises:
        OSError: there is no place for it.
    """
    _remove_dead(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
    descriptor = os.open(folder / ALIVE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[folder] = descriptor
    return folder


def remove(folder: Path) -> None:
    """Remove a folder that `make` made."""
    shutil.rmtree(folder, ignore_errors=True)
    descriptor = _held.pop(folder, None)
    if descriptor is not None:
        os.close(descriptor)


@contextlib.contextmanager
def folder(kind: str) -> Iterator[Path]:
    """A temporary folder for the block; what is in it is the caller's, in a folder of its own.

    Raises:
        OSError: there is no place for it.
    """
    made = make(kind)
    try:
        inside = made / "files"
        inside.mkdir()
        yield inside
    finally:
        remove(made)


def _remove_dead(place: Path) -> None:
    with contextlib.suppress(OSError):  # what cannot be looked at stays
        for found in place.glob(f"{PREFIX}*/{ALIVE}"):
            with contextlib.suppress(OSError):
                _remove_if_dead(found)


def _remove_if_dead(alive: Path) -> None:
    state = alive.parent.lstat()
    # Of this user and no link, so that nobody has anything removed that is not his.
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or time.time() - state.st_mtime < NEW_SECONDS:
        return
    descriptor = os.open(alive, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives
        shutil.rmtree(alive.parent, ignore_errors=True)
    finally:
        os.close(descriptor)

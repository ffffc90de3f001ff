"""Files that are read again when they change, so that certificates are renewed and tokens revoked without a restart."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlpserve_server.host import unread_files

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the files
LONG_SECONDS = 5.0  # of a look, or without the files, after which the log says so


class Unread(Exception):
    """What the files hold now cannot be used, and the log says why."""


class WatchedFiles:
    """Some files that are read again when they have changed.

    A thread of its own looks and reads, because a network mount that has died would hold the calls. While the files
    cannot be read, what was read before stays in effect: the log says so once, `unread_files` counts them.

    Args:
        name: of them, for the log.
        read: reads them, or raises Unread; called in that thread.
        paths: of the files.
    """

    def __init__(self, name: str, read: Callable[[], None], *paths: str) -> None:
        self._name = name
        self._read = read
        self._paths = [Path(path) for path in paths]
        self._seen = self._stamps()
        self._began = 0.0
        self._complained = False
        self._missing_since = 0.0  # 0: they are there
        self._useless = False  # what they hold
        self._looking = threading.Lock()

    def look(self) -> None:
        """Begin to look, at most once in `LOOK_SECONDS`; waits for nothing."""
        now = time.monotonic()
        if now - self._began < LOOK_SECONDS:
            return
        if not self._looking.acquire(blocking=False):
            if now - self._began > LONG_SECONDS and not self._complained:
                self._complained = True
                unread_files.note(self._name, unread=True)
                log.error(
                    "%s cannot be checked for changes: the disk does not answer; what was read before stays in effect",
                    self._name,
                )
            return
        self._began, self._complained = now, False
        try:
            threading.Thread(target=self._look, name=f"looking at {self._name}", daemon=True).start()
        except RuntimeError:  # no more threads are to be had
            self._looking.release()

    def _look(self) -> None:
        try:
            seen = self._stamps()
            if seen is None:
                self._miss()
                return
            self._missing_since = 0.0
            if seen != self._seen:
                self._seen, self._useless = seen, True
                self._read()
                self._useless = False
            unread_files.note(self._name, unread=self._useless)
        except Unread:
            unread_files.note(self._name, unread=True)
        finally:
            self._looking.release()

    def _miss(self) -> None:
        """A file is not there: for a moment while it is replaced, or for good."""
        now = time.monotonic()
        if not self._missing_since:
            self._missing_since = now
            return
        if now - self._missing_since > LONG_SECONDS and unread_files.note(self._name, unread=True):
            log.error(
                "%s is not there or cannot be read any longer: what was read before stays in effect, and nothing is "
                "revoked or renewed until the file is back",
                self._name,
            )

    def _stamps(self) -> list[tuple[int, int, int]] | None:
        """What changes with the files; None while they are being replaced."""
        try:
            return [(s.st_mtime_ns, s.st_ino, s.st_size) for s in (path.stat() for path in self._paths)]
        except OSError:
            return None

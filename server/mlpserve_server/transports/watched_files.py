"""Files that are read again when they change, so that certificates are renewed and tokens revoked without a restart."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at the files
LONG_SECONDS = 5.0  # of a look, after which the log says so


class WatchedFiles:
    """Some files that are read again when they have changed.

    A thread of its own looks and reads, because a network mount that has died would hold the calls.

    Args:
        name: of them, for the log.
        read: reads them; called in that thread.
        paths: of the files.
    """

    def __init__(self, name: str, read: Callable[[], None], *paths: str) -> None:
        self._name = name
        self._read = read
        self._paths = [Path(path) for path in paths]
        self._seen = self._stamps()
        self._began = 0.0
        self._complained = False
        self._looking = threading.Lock()

    def look(self) -> None:
        """Begin to look, at most once in `LOOK_SECONDS`; waits for nothing."""
        now = time.monotonic()
        if now - self._began < LOOK_SECONDS:
            return
        if not self._looking.acquire(blocking=False):
            if now - self._began > LONG_SECONDS and not self._complained:
                self._complained = True
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
            if seen != self._seen and seen is not None:
                self._seen = seen
                self._read()
        finally:
            self._looking.release()

    def _stamps(self) -> list[tuple[int, int, int]] | None:
        """What changes with the files; None while they are being replaced."""
        try:
            return [(s.st_mtime_ns, s.st_ino, s.st_size) for s in (path.stat() for path in self._paths)]
        except OSError:
            return None

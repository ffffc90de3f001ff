"""Who waits for the store, and for how long already.

A network mount that has died blocks whoever reads from it, without an error and without an end. Nothing can be done
about such a thread; but it is said what it waits for, and the process can end without it.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)

LONG_SECONDS = 5.0  # after which a wait is logged

_waits: dict[object, tuple[float, str]] = {}  # of each wait: time.monotonic() of its beginning, and what for


@contextlib.contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Ask the store for something; when that takes long, the log says so."""
    wait, asked = object(), time.monotonic()
    _waits[wait] = asked, what
    long = threading.Timer(LONG_SECONDS, log.error, ("the store does not answer: waiting for %s", what))
    long.daemon = True
    with contextlib.suppress(RuntimeError):  # no more threads are to be had
        long.start()
    try:
        yield
    finally:
        long.cancel()
        del _waits[wait]
        if (seconds := time.monotonic() - asked) > LONG_SECONDS:
            log.warning("the store took %.1f s for %s", seconds, what)


def longest() -> str:
    """A sentence about who has waited longest, for a process that ends; empty if nobody waits."""
    waits = sorted(_waits.copy().values())
    if not waits:
        return ""
    asked, what = waits[0]
    return f"the store does not answer: it was asked {time.monotonic() - asked:.1f} s ago for {what}"

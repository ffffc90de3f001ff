"""Steps of a shutdown that may hang, each with a bound."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


def within(seconds: float, what: str, work: Callable[[], object]) -> bool:
    """Do something in a thread of its own; what fails or takes longer is logged and left behind.

    Args:
        seconds: to wait for it.
        what: it is, for the log.
        work: to do.

    Returns:
        Whether it ended in time.
    """
    ended = threading.Event()

    def run() -> None:
        try:
            work()
        except Exception:
            log.exception("%s failed", what)
        finally:
            ended.set()

    try:
        thread = threading.Thread(target=run, name=what, daemon=True)
        thread.start()
    except RuntimeError as error:  # no more threads are to be had
        log.error("%s is left out: %s", what, error)
        return False
    if not ended.wait(seconds):
        log.error("%s has not ended within %g s; it is left behind", what, seconds)
        return False
    thread.join(seconds)
    return True

"""Whether the server still works: readiness from a recent proof, and an end to a loop that is stuck.

The batching loop proves its model every few seconds. When the last proof is too old, because a Run hangs or the answers
are no longer the golden ones, health says NOT_SERVING; when the loop has been silent for much longer, the process is of
no use and says so.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from mlpserve_server.bounded import within

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
TELL_SECONDS = 2.0  # for the transport to be told of another readiness


class Liveness:
    """Watches one batching loop.

    Args:
        proved: time.monotonic() of the last proof.
        stale: seconds without a proof after which the server is not ready.
        stuck: seconds without a proof after which the process should end.
        set_ready: told when readiness changes; begins as ready.
        on_stuck: called once, with why, when the process should end.
    """

    def __init__(
        self,
        proved: Callable[[], float],
        *,
        stale: float,
        stuck: float,
        set_ready: Callable[[bool], None],
        on_stuck: Callable[[str], None],
    ) -> None:
        self._proved = proved
        self._stale = stale
        self._stuck = stuck
        self._set_ready = set_ready
        self._on_stuck = on_stuck
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="liveness", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():  # not before `start`, and a thread that starts now ends by itself
            self._thread.join(2 * TELL_SECONDS)

    def _watch(self) -> None:
        ready, last = True, time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            now = time.monotonic()
            late, last = now - last > 4 * LOOK_SECONDS, now
            if late:
                continue  # the whole process was held up; the loop gets its time first
            age = now - self._proved()
            if age > self._stuck:
                self._on_stuck(f"the model has not proven itself for {age:.1f} s; this process ends")
                return
            if ready != (age <= self._stale):
                ready = not ready
                within(TELL_SECONDS, "telling callers of the readiness", partial(self._set_ready, ready))
                if ready:
                    log.info("the model has proven itself again: SERVING")
                else:
                    log.error("the model has not proven itself for %.1f s: NOT_SERVING", age)

"""Whether the server still works: readiness from recent proofs, and an end to a process that is of no use.

The batching loop proves its model every few seconds, and the transport looks at its port. When a proof is too old,
because a Run hangs, the answers are no longer the golden ones, or connections are not taken, health says NOT_SERVING;
when there has been none for much longer, the process is of no use and says so.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from mlpserve_server.host.bounded import within

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
TELL_SECONDS = 2.0  # for the transport to be told of another readiness


class Liveness:
    """Watches one server.

    Args:
        proofs: what is wrong without a proof → gives time.monotonic() of the last one.
        stale: seconds without a proof after which the server is not ready.
        stuck: seconds without a proof after which the process should end.
        set_ready: told when readiness changes; begins as ready.
        on_stuck: called once, with why, when the process should end.
    """

    def __init__(
        self,
        proofs: Mapping[str, Callable[[], float]],
        *,
        stale: float,
        stuck: float,
        set_ready: Callable[[bool], None],
        on_stuck: Callable[[str], None],
    ) -> None:
        self._proofs = proofs
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
            age, complaint = max((now - proved(), complaint) for complaint, proved in self._proofs.items())
            if age > self._stuck:
                self._on_stuck(f"{complaint} for {age:.1f} s; this process ends")
                return
            if ready != (age <= self._stale):
                ready = not ready
                within(TELL_SECONDS, "telling callers of the readiness", partial(self._set_ready, ready))
                if ready:
                    log.info("the server works again: SERVING")
                else:
                    log.error("%s for %.1f s: NOT_SERVING", complaint, age)

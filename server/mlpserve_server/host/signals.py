"""SIGTERM and SIGINT, as something to wait for."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from mlpserve_server.host import streams

SIGNALS = (signal.SIGTERM, signal.SIGINT)

T = TypeVar("T")


class Stop:
    """An event that a signal may set at any moment.

    `threading.Event` is not that: Python runs a handler only between two steps of its own, so a signal that comes after
    the last step before a wait for a lock is acted on when that wait has ended, which is never. Reading a pipe that the
    interpreter's own C handler writes to (`signal.set_wakeup_fd`) has no such moment.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._is_set = False

    def set(self) -> None:
        """Let `wait` return; called from handlers and threads."""
        self._is_set = True
        self.wake()

    def wake(self) -> None:
        """Let `wait` look at its condition."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so that `wait` is about to look anyway
            os.write(self._writer, b"\0")

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until it is set, or a condition holds; that is looked at after each `wake`."""
        while not self._is_set and not until():
            os.read(self._reader, 1)

    def on_signals(self, handler: Callable[[int, object], None]) -> None:
        """Call a handler on SIGTERM and SIGINT, however the main thread waits for this."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, handler)

    def attempt(self, work: Callable[[], T]) -> "T | None":
        """Do something that may hang in a thread of its own.

        Returns:
            What it returns; None if this was set before, and then its thread is left behind.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(work())
            except BaseException as error:
                outcome.set_exception(error)
            self.wake()

        threading.Thread(target=run, name="starting", daemon=True).start()
        self.wait(outcome.done)
        return outcome.result() if outcome.done() else None


def stop_on_signals(stop: Stop) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    stop.on_signals(lambda *_: stop.set())


def stop_or_end_on_signals(stop: Stop, on_second: Callable[[], None] = lambda: None) -> None:
    """Set `stop` on the first SIGTERM or SIGINT; on the second call `on_second` and end the process."""

    def handle(number: int, _: object) -> None:
        if stop.is_set():
            on_second()
            streams.write_now("mlpserve-server: a second signal: ending at once\n")
            os._exit(128 + number)
        stop.set()

    stop.on_signals(handle)

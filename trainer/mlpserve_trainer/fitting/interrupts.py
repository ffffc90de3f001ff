"""Ctrl-C that is never lost."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Remembers SIGINT while it is entered, for a loop that asks between its steps.

    Python drops a KeyboardInterrupt that it raises inside a finalizer or a callback from C ("Exception ignored in").
    The handler raises as Python's own does, and `check` raises again where that was lost. Does nothing where another
    handler than Python's own is set, or outside the main thread.
    """

    def __init__(self) -> None:
        self._seen = False
        self._ours = False

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        self._ours = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if SIGINT came since this was entered."""
        if self._seen:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        raise KeyboardInterrupt

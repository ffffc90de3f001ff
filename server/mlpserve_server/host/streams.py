"""Standard output and standard error that nobody waits for.

A pipe that nobody reads blocks whoever writes to it, for ever: a log collector that stalls would take the server with
it. So Python's own writes go through a bounded queue to a thread that may block alone; what does not fit is dropped and
counted. Libraries in C write to the descriptor itself: on a pipe or a terminal it is made one that refuses in place of
blocking. Ends of processes are here too, because what is queued has to be written first.
"""

import atexit
import contextlib
import io
import logging
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from typing import NoReturn

log = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 20  # of one stream, waiting to be written
REPORT_SECONDS = 1.0  # between two lines that say how much was dropped
END_SECONDS = 2.0  # for what is queued at the end, and as long again for what other modules do then
STDOUT, STDERR = 1, 2

_ending = threading.Lock()


class Unblocked(io.TextIOBase):
    """A text stream whose writers never wait.

    A write of one or more whole lines is written whole or dropped whole.

    Args:
        descriptor: where it goes.
        name: of it, for people.

    Attributes:
        dropped: lines that were not written.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._begun = threading.local()  # each thread's line that has no end yet
        self._changed = (
            threading.Condition()
        )  # its lock may be taken again: a finaliser may write in the middle of a write
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self.dropped = 0
        threading.Thread(target=self._write_all, name=f"writing {name}", daemon=True).start()

    def writable(self) -> bool:  # noqa: D102
        return True

    def fileno(self) -> int:  # noqa: D102
        return self._descriptor

    def isatty(self) -> bool:  # noqa: D102
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Queue every whole line; what comes after the last one waits for its end, or for `flush`."""
        lines, newline, rest = (getattr(self._begun, "text", "") + text).rpartition("\n")
        self._begun.text = rest
        if newline:
            self._put(lines + newline)
        return len(text)

    def flush(self) -> None:
        """Queue what the calling thread has begun; waits for nothing, see `drain`."""
        begun, self._begun.text = getattr(self._begun, "text", ""), ""
        if begun:
            self._put(begun)

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written.

        Returns:
            Whether it was, within so many seconds.
        """
        self.flush()
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _put(self, text: str) -> None:
        data = text.encode(self.encoding, self.errors)
        with self._changed:
            if self._bytes + len(data) > QUEUE_BYTES:
                self.dropped += data.count(b"\n") or 1
                return
            self._waiting.append(data)
            self._bytes += len(data)
            self._changed.notify_all()

    def _write_all(self) -> None:
        reported, next_report = 0, 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]  # it counts as waiting until it is written
            written = write_all(self._descriptor, data)
            with self._changed:
                self._waiting.popleft()
                self._bytes -= len(data)
                self.dropped += 0 if written else data.count(b"\n") or 1
                new, idle = self.dropped - reported, not self._waiting
                self._changed.notify_all()
            if written and new and (idle or time.monotonic() >= next_report):
                reported, next_report = reported + new, time.monotonic() + REPORT_SECONDS
                log.warning("%d lines were dropped, because nobody reads %s", new, self._name)


def write_all(descriptor: int, data: bytes) -> bool:
    """Write everything, however long that takes; False if it cannot be written."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()
        except OSError:  # nobody is there any longer, or the disk is full
            return False
    return True


def unblock() -> None:
    """Let nobody in this process wait for standard output or standard error from now on."""
    for descriptor in (STDOUT, STDERR):
        with contextlib.suppress(
            OSError
        ):  # none is open, or it is of another user: then only Python's own writes are safe
            _refuse_to_block(descriptor)
    if not isinstance(sys.stderr, Unblocked):
        sys.stdout, sys.stderr = Unblocked(STDOUT, "standard output"), Unblocked(STDERR, "standard error")
        atexit.register(drain)  # an end that does not come by `end`


def _refuse_to_block(descriptor: int) -> None:
    """Put a descriptor of the same pipe or terminal in its place, of which only this process and its children know.

    O_NONBLOCK belongs to the open file, which other processes may share; so it is opened once more. A file that is no
    pipe and no terminal stays: opened again, it would be written from its beginning.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind) or os.isatty(descriptor):
        opened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            os.dup2(opened, descriptor)
        finally:
            os.close(opened)


def drain() -> None:
    """Give what is queued a moment to be written."""
    deadline = time.monotonic() + END_SECONDS
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Unblocked):
            stream.drain(max(0.0, deadline - time.monotonic()))


def dropped() -> int:
    """Lines that this process could not write to standard error."""
    return sys.stderr.dropped if isinstance(sys.stderr, Unblocked) else 0


def end(code: int) -> NoReturn:
    """End the process, whatever its other threads are doing.

    An orderly exit waits for threads, and one that waits for a store that does not answer would hold it for ever.
    """
    if not _ending.acquire(blocking=False):
        threading.Event().wait()  # for the thread that came first
    atexit.unregister(drain)  # it comes last, and once
    # Temporary folders are removed by functions that were registered; one of them may hang as well.
    others = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads are to be had
        others.start()
        others.join(END_SECONDS)
    drain()
    os._exit(code)


def write_now(text: str) -> None:
    """Write to standard error from a signal handler, if that can be done at once."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    with contextlib.suppress(OSError):
        if ready.poll(0):
            os.write(STDERR, text.encode())

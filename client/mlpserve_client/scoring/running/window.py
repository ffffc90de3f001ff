"""How many requests a job has in flight: as many as the servers answer without delay.

Additive increase, multiplicative decrease (Chiu and Jain 1989; what TCP does), as with TCP Vegas driven by delay as
well as by refusals: a round of answers that are not slower than the fastest seen lets one more request out, a refusal
or answers that take several times as long take some back.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SLOW, TOO_SLOW = 2.0, 4.0  # times the fastest answer: requests begin to wait for one another, and only wait
START = 2
REST = 0.25  # seconds after a decrease in which further refusals are of the same event


class Window:
    """A bound on requests in flight that adapts. Any thread may use it.

    Args:
        most: upper bound.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(min(START, most))
        self._in_flight = 0
        self._fastest = float("inf")
        self._decreased = 0.0
        self._changed = threading.Condition()
        self.largest = int(self._size)
        self.refusals = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a free place, and hold it while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._in_flight < int(self._size))
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def answered(self, seconds: float, rows: int) -> None:
        """Count an answer."""
        each = seconds / max(rows, 1)
        with self._changed:
            self._fastest = min(self._fastest * 1.001, each)  # forgets slowly: servers come and go
            if each > TOO_SLOW * self._fastest:
                self._decrease(0.8)
            elif each < SLOW * self._fastest and self._size < self._most:
                self._size = min(self._most, self._size + 1 / self._size)
                self.largest = max(self.largest, int(self._size))
                self._changed.notify_all()

    def refused(self) -> None:
        """Count a refusal."""
        with self._changed:
            self.refusals += 1
            self._decrease(0.5)

    def _decrease(self, factor: float) -> None:
        now = time.monotonic()
        if now - self._decreased > REST:
            self._decreased = now
            self._size = max(1.0, self._size * factor)

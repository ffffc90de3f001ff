"""`mlpserve` whose scoring jobs have a fixed number of requests in flight: `bench.jobs.in_flight` compares with it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mlpserve_client import cli
from mlpserve_client.scoring.running import scorer


class FixedWindow:
    """`Window` that never changes."""

    def __init__(self, most: int) -> None:
        self.largest, self.refusals = most, 0
        self._places = threading.Semaphore(most)
        self._lock = threading.Lock()

    @contextmanager
    def slot(self) -> Iterator[None]:
        with self._places:
            yield

    def answered(self, seconds: float, rows: int) -> None:
        pass

    def refused(self) -> None:
        with self._lock:
            self.refusals += 1


if __name__ == "__main__":
    scorer.Window = FixedWindow
    cli.main()

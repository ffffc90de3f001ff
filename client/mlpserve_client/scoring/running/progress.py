"""How far a job is: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

INTERVAL = 5.0  # seconds between two lines


class Progress:
    """Told of rows as they are answered.

    Args:
        rows: of the whole job.
        done: of them before this run.
        shown: whether anything is said.
    """

    def __init__(self, rows: int, done: int, *, shown: bool = True) -> None:
        self._shown = shown
        self._rows, self._done = rows, done
        self._begun_with = done
        self._bar = (
            tqdm(total=rows, initial=done, unit="row", unit_scale=True, file=sys.stderr)
            if shown and sys.stderr.isatty()
            else None
        )
        self._started = self._said = time.monotonic()

    def add(self, rows: int) -> None:
        """Count answered rows."""
        self._done += rows
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(rows)
        elif self._shown and now - self._said >= INTERVAL:
            self._said = now
            rate = (self._done - self._begun_with) / (now - self._started)
            left = (self._rows - self._done) / rate if rate else 0.0
            print(
                f"{self._done:,} of {self._rows:,} rows, {rate:,.0f} a second, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

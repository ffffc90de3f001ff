"""How far the trainer's long steps are: on a terminal a bar, in a log a line now and then; nothing for quick ones."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from tqdm import tqdm

from mlpserve import terminal

Item = TypeVar("Item")

_shown = True


def show(on: bool) -> None:
    """Say whether this process shows progress; of several that train together one does."""
    global _shown
    _shown = on


def shown() -> bool:
    """Whether this process shows progress."""
    return _shown


def during(what: str) -> AbstractContextManager[None]:
    """Say what is going on, if the block takes more than two seconds."""
    return terminal.during(what, shown=_shown)


def counted(items: Iterable[Item], what: str, count: int, unit: str) -> Iterator[Item]:
    """The same items, while it is said how far they are, if they take more than two seconds.

    Args:
        items: to go through.
        what: is done with them, as "Reading pictures".
        count: how many there are.
        unit: what each is.
    """
    if not _shown:
        yield from items
    elif sys.stderr.isatty():
        bar = tqdm(items, what, count, leave=False, unit=f" {unit}s", delay=terminal.PATIENCE, file=sys.stderr)
        yield from bar
    else:
        due = time.monotonic() + terminal.PATIENCE
        for number, item in enumerate(items):
            if time.monotonic() >= due:
                sys.stderr.write(f"{what}: {number:,} of {count:,}\n")
                sys.stderr.flush()
                due = time.monotonic() + terminal.INTERVAL
            yield item

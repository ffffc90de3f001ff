"""The one way to wait until something holds."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(
    holds: Callable[[], Result],
    what: str | Callable[[], str],
    seconds: float = 60,
    *,
    every: float = 0.05,
    not_yet: tuple[type[Exception], ...] = (),
) -> Result:
    """Ask again and again until the answer is true.

    Args:
        holds: what is asked.
        what: is waited for, as a sentence; a function is called for it when the time is up, to say how things stand.
        seconds: at most.
        every: seconds between two questions.
        not_yet: exceptions of `holds` that count as no.

    Returns:
        The first true answer.

    Raises:
        AssertionError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        reason: Exception | None = None
        try:
            if answer := holds():
                return answer
        except not_yet as error:
            reason = error
        if time.monotonic() >= deadline:
            waited = what() if callable(what) else what
            raise AssertionError(f"waited {seconds:g} s in vain: {waited}") from reason
        time.sleep(every)

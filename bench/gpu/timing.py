"""How long a call takes."""

import statistics
import time
from collections.abc import Callable

LEAST, MOST = 5, 2000  # calls


def median_seconds(call: Callable[[], object], budget: float = 0.15) -> float:
    """Median seconds of a call, of as many as there is time for, after a third of that time as warm-up."""
    end = time.perf_counter() + budget / 3
    for number in range(MOST):
        call()
        if number >= 2 and time.perf_counter() > end:
            break
    seconds: list[float] = []
    end = time.perf_counter() + budget
    while len(seconds) < LEAST or (time.perf_counter() < end and len(seconds) < MOST):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)

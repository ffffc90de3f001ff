"""A histogram that one thread writes: no lock, no label look-up."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class Histogram:
    """Counts of values by bucket; written by one thread.

    Args:
        bounds: upper bounds of the buckets, ascending.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.sum = 0.0
        self._edges = np.array(bounds)
        self._single = [0] * (len(bounds) + 1)
        self._together = np.zeros(len(bounds) + 1, np.int64)

    @property
    def counts(self) -> list[int]:
        """Values in each bucket; the last one is of those above all bounds."""
        return [a + b for a, b in zip(self._single, self._together.tolist(), strict=True)]

    def observe(self, value: float, times: int = 1) -> float:
        """Count a value, and return what that adds to the sum."""
        self._single[bisect_left(self.bounds, value)] += times
        added = value * times
        self.sum += added
        return added

    def observe_all(self, values: npt.NDArray[np.float64]) -> float:
        """Count values [N], and return what they add to the sum."""
        self._together += np.bincount(self._edges.searchsorted(values), minlength=len(self._together))
        added = float(values.sum())
        self.sum += added
        return added

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add another histogram with the same bounds."""
        self._single = [ours + theirs for ours, theirs in zip(self._single, counts, strict=True)]
        self.sum += total

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: (upper bound, count of values up to it)."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets

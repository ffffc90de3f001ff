"""How fast the queues empty, and what small batches cost, judging by recent ones."""

from mlpserve_server.batching.scheduling import SMALL
from mlpserve_server.calls import BATCH

LONGEST_SECONDS = 60.0  # that are said to anybody
LEAST_PART = 0.01  # of the images that batch traffic is taken to get
FORGOTTEN = 0.98  # what is left of a small batch's seconds after a full one


class Capacity:
    """Estimates how long images of a class take.

    Args:
        max_batch: most images in a batch.
        share: part of the images that is batch traffic's while it waits.
    """

    def __init__(self, max_batch: int, share: float) -> None:
        self._max_batch = max_batch
        self._share = share
        self._part = 1.0  # that batch traffic has had lately of the images of batches, while it waited
        self._images_per_second = 0.0
        self._small_seconds = 0.0  # of a small batch

    def observe(self, images: int, batch_images: int, seconds: float, batch_waits: bool) -> None:
        """Learn from a batch.

        Args:
            images: in it.
            batch_images: of them batch traffic's.
            seconds: that it took.
            batch_waits: whether more batch traffic was left waiting.
        """
        if images >= self._max_batch // 2:  # smaller ones say little of how fast a long queue empties
            rate = images / max(seconds, 1e-6)
            self._images_per_second = 0.8 * self._images_per_second + 0.2 * rate if self._images_per_second else rate
            self._small_seconds *= FORGOTTEN  # so that small batches that did not pay are tried again
        elif images <= self._max_batch // SMALL:
            self._small_seconds += 0.2 * (seconds - self._small_seconds)
        if batch_waits:
            weight = 0.1 * images / self._max_batch
            self._part = (1.0 - weight) * self._part + weight * batch_images / images

    @property
    def small_pays(self) -> bool:
        """Whether a small batch takes at most half as long as a full one, as far as is known: on GPUs it may not."""
        return 2 * self._small_seconds * self._images_per_second <= self._max_batch

    def seconds(self, traffic: int, images: int, batch_waits: bool) -> float:
        """Until so many images of a class have run; 0 while nothing is known.

        Args:
            traffic: INTERACTIVE or BATCH.
            images: of that class, which is ahead of the other one or behind it.
            batch_waits: whether batch traffic waits, and has its share.
        """
        if not self._images_per_second:
            return 0.0
        if traffic == BATCH:
            part = max(self._part, self._share, LEAST_PART)
        else:
            part = 1.0 - self._share if batch_waits else 1.0
        return min(images / (self._images_per_second * part), LONGEST_SECONDS)

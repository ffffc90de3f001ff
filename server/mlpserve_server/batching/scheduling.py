"""Which images run next: interactive ones first, then slices of batch traffic, and callers in turn within each.

Where more waits than one batch takes, callers with few images do not wait for a full one either: every other batch is
theirs alone, and small. Beside a caller that floods the queue of interactive calls, all batches are shorter while they
keep calling, for they wait for the rest of the one that runs. Batch traffic that waits has a guaranteed share of the
images. Knows nothing of calls, clocks and models, so that what it promises can be tested by itself.
"""

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from mlpserve_server.batching.fair import FairQueue, Many, Selection, Work
from mlpserve_server.calls import BATCH, INTERACTIVE

T = TypeVar("T")

TURNS = 16  # in a batch: so many callers of one class have their turn in it
SMALL = 4  # small batches have at most this part of a full one's images
SHORTER = 2  # batches beside a flood have at most this part
REMEMBERED = 64  # full batches whose images run until callers beside a flood are forgotten, a tenth of a second or so


class Scheduler(Generic[T]):
    """What waits, and what of it makes the next batch.

    Args:
        max_batch: most images in a batch.
        share: part of all images that run while batch traffic waits which is batch traffic's, 0 to below 1.

    Attributes:
        queues: of each class.
    """

    def __init__(self, max_batch: int, share: float) -> None:
        self._max_batch = max_batch
        self._share = share
        self._owed = 0.0  # images of its share that batch traffic has not had
        self._was_small = False  # the batch before
        self._beside_flood = 0  # images until callers with few beside a caller with many are forgotten
        quantum = max(1, max_batch // TURNS)
        self.queues: tuple[FairQueue[T], FairQueue[T]] = (
            FairQueue(max_batch, quantum),
            FairQueue(max_batch, quantum),
        )

    def __bool__(self) -> bool:
        """Whether anything waits."""
        interactive, batch = self.queues
        return interactive.images > 0 or batch.images > 0

    def add(self, item: T, traffic: int, caller: Hashable, size: int, group: object) -> None:
        """Let an item wait.

        Args:
            item: what it is.
            traffic: INTERACTIVE or BATCH.
            caller: whose it is.
            size: its images, at least 1.
            group: only items of the same group (by identity) run together.
        """
        whole = traffic == INTERACTIVE and size <= self._max_batch
        self.queues[traffic].add(caller, Work(item, size, group, whole))

    def add_many(self, many: Many, traffic: int, caller: Hashable, group: object) -> None:
        """Let single images of one caller wait, as if each had been added by itself.

        Args:
            many: they; a selection has parts of them.
            traffic: as for `add`.
            caller: whose they are.
            group: as for `add`.
        """
        self.queues[traffic].add(caller, Work(cast(T, many), len(many), group, True, many))

    def take(
        self,
        alive: Callable[[T], bool],
        living: Callable[[Any], npt.NDArray[np.bool_]] | None = None,
        *,
        small_pays: bool = True,
    ) -> Selection[T]:
        """The next batch; empty if nothing that is alive waits.

        Args:
            alive: whether an item is still to be run; asked before each of its slices is taken.
            living: the same of each of `Many`, [N]; None if none were added.
            small_pays: whether small batches are much faster than full ones, so that there may be some between them.
        """
        batch = self.queues[BATCH]
        selection: Selection[T] = Selection(self._max_batch, alive, living)
        waited = batch.images > 0
        overdue = waited and self._owed >= self._max_batch
        of_batch = 0
        self._was_small = small_pays and not overdue and not self._was_small and self._take_small(selection)
        if not self._was_small and small_pays and not waited and self._beside_flood > 0:
            self.queues[INTERACTIVE].take(selection, max(1, self._max_batch // SHORTER))
        elif not self._was_small:
            of_batch = self._take_full(selection, overdue)
        self._beside_flood = max(0, self._beside_flood - selection.images)
        owed = self._owed + self._share * selection.images - of_batch
        self._owed = max(owed, 0.0) if waited and batch.images else 0.0
        return selection

    def _take_small(self, selection: Selection[T]) -> bool:
        """Let interactive images of callers with few run by themselves, if others would fill a batch with them."""
        interactive, batch = self.queues
        if interactive.images + batch.images > self._max_batch:
            few = interactive.prefer_few(self._max_batch // SMALL)
            if few:
                if interactive.flooded:
                    self._beside_flood = REMEMBERED * self._max_batch
                interactive.take(selection, few)
        return not selection.empty

    def _take_full(self, selection: Selection[T], overdue: bool) -> int:
        """Fill a batch; returns how many of its images are batch traffic's."""
        interactive, batch = self.queues
        of_batch = 0
        if overdue:
            # Its share could not be had beside interactive images, such as those of another version.
            of_batch = batch.take(selection, selection.room)
        reserved = min(int(self._owed), batch.images)
        interactive.take(selection, max(0, selection.room - reserved))
        if batch.images:
            of_batch += batch.take(selection, selection.room)
        fill = selection.room
        if overdue and of_batch:
            # Few images of batch traffic may fit together; interactive ones beside them must not add to what is owed.
            fill = min(fill, max(0, int(of_batch / self._share) - selection.images))
        if interactive.images and fill:
            interactive.take(selection, fill)
        return of_batch

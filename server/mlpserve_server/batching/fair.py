"""Work of one class that waits: callers take turns, by deficit round robin in images.

A caller whose turn it is may take its quantum of images, and what it takes above that it goes without later. So a
caller with ten thousand requests waits behind itself, and one with a single request waits for a few turns. Knows
nothing of calls, clocks and models.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sized
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class Many(Protocol):
    """Single images that wait as one piece of work, and run and leave one by one."""

    @property
    def block(self) -> Sized:
        """What keeps them in memory, and with them images of others that may have run."""

    def __len__(self) -> int:
        """How many."""

    def part(self, which: "slice | npt.NDArray[Any]") -> Any:
        """Some of them, in order, in the same block."""

    def own(self) -> Any:
        """The same ones in a block of their own."""


class Work(Generic[T]):
    """Something that waits.

    Args:
        item: what it is.
        size: its images, at least 1.
        group: only work of the same group (by identity) runs together.
        whole: run it in one piece, if it fits into an empty batch.

    Attributes:
        many: the item, if it is `Many` that run by themselves.
        begun: images that have been handed out.
    """

    __slots__ = ("begun", "group", "item", "many", "size", "whole")

    def __init__(self, item: T, size: int, group: object, whole: bool, many: Many | None = None) -> None:
        self.item = item
        self.many = many
        self.size = size
        self.group = group
        self.whole = whole
        self.begun = 0

    @property
    def left(self) -> int:
        """Images that have not been handed out."""
        return self.size - self.begun


class Slice(NamedTuple, Generic[T]):
    """Some of an item's images, from `start` to `stop`, and how many it has."""

    item: T
    start: int
    stop: int
    size: int


class Selection(Generic[T]):
    """What is taken for a batch.

    Args:
        room: most images.
        alive: whether an item is still to be run.
        living: the same of each of `Many`.

    Attributes:
        group: of everything in it; None while it is empty.
        whole: items all of whose images are in it, in the order in which they were taken; parts of `Many` as well.
        slices: of items of which others run before or after.
        dead: items that were found not to be alive; their images will not run, or not the rest of them.
    """

    def __init__(
        self, room: int, alive: Callable[[T], bool], living: Callable[[Any], npt.NDArray[np.bool_]] | None = None
    ) -> None:
        self.room = self._size = room
        self.alive = alive
        self.living = living
        self.group: object = None
        self.whole: list[T] = []
        self.slices: list[Slice[T]] = []
        self.dead: list[T] = []

    @property
    def images(self) -> int:
        """How many have been taken."""
        return self._size - self.room

    @property
    def empty(self) -> bool:
        """Whether nothing has been taken yet."""
        return not self.whole and not self.slices


class _Caller(Generic[T]):
    """A caller's waiting work, oldest first, its images, and how many it may still take in its turn."""

    __slots__ = ("deficit", "images", "key", "works")

    def __init__(self, key: Hashable, quantum: int) -> None:
        self.key = key
        self.works: deque[Work[T]] = deque()
        self.images = 0
        self.deficit = quantum


class FairQueue(Generic[T]):
    """See the module.

    Args:
        batch: images in each of which every caller has a turn, if they are few enough.
        quantum: least images of a turn.

    Attributes:
        images: waiting.
    """

    def __init__(self, batch: int, quantum: int) -> None:
        self._batch = batch
        self._quantum = quantum
        self._callers: dict[Hashable, _Caller[T]] = {}
        self._turns: deque[_Caller[T]] = deque()  # the same ones; the first one's turn is next
        self.images = 0

    def add(self, caller: Hashable, work: Work[T]) -> None:
        """Let work of a caller wait behind what it has waiting already."""
        mine = self._callers.get(caller)
        if mine is None:
            mine = self._callers[caller] = _Caller(caller, self._quantum)
            self._turns.append(mine)
        mine.works.append(work)
        mine.images += work.size
        self.images += work.size

    def of(self, caller: Hashable) -> int:
        """Images of a caller that wait."""
        mine = self._callers.get(caller)
        return mine.images if mine else 0

    @property
    def turn(self) -> int:
        """Images of a turn: the more the fewer callers have work, for few large pieces run faster than many small."""
        return max(self._quantum, self._batch // max(1, len(self._turns)))

    @property
    def callers(self) -> int:
        """How many callers have work waiting, or have had more than their turn a moment ago."""
        return len(self._turns)

    @property
    def flooded(self) -> bool:
        """Whether one caller alone has a full batch waiting."""
        return any(caller.images >= self._batch for caller in self._turns)

    def prefer_few(self, most: int) -> int:
        """Let callers go first all of whose images fit into what they may take now.

        Where there are more callers than have a turn in each batch nobody goes first: looking at all would take longer
        than it saves.

        Args:
            most: images that may go first.

        Returns:
            How many do; 0 if those would be more.
        """
        if self.images <= most:
            return self.images
        if len(self._turns) * self._quantum > self._batch:
            return 0
        few = [caller for caller in self._turns if 0 < caller.images <= caller.deficit]
        images = sum(caller.images for caller in few)
        if not 0 < images <= most:
            return 0
        self._turns = deque([*few, *(caller for caller in self._turns if caller not in few)])
        return images

    def take(self, selection: Selection[T], room: int) -> int:
        """Move work into a selection, until nothing that comes next fits.

        Args:
            selection: gets it.
            room: most images to take, at most what the selection has room for.

        Returns:
            How many images were taken.
        """
        before, least, passed = selection.room, selection.room - room, 0
        while self.images and selection.room > least:
            caller = self._turns[0]
            if not caller.works or caller.deficit <= 0:
                passed = self._pass(caller, passed)
                continue
            passed = 0
            if not self._take_of(caller, selection, least):
                break
        if not self.images:
            self._callers.clear()
            self._turns.clear()
        return before - selection.room

    def _take_of(self, caller: _Caller[T], selection: Selection[T], least: int) -> bool:
        """Let a caller take its turn; False if the selection has no room for what comes next."""
        works, alive, whole, group = caller.works, selection.alive, selection.whole, selection.group
        alone = len(self._turns) == 1
        most = selection.room - least
        turn = most if alone else caller.deficit
        taken, fits = 0, True
        while works and taken < turn:
            work = works[0]
            if taken >= most or (work.group is not group and group is not None):
                fits = False
                break
            if work.many is not None:
                taken += self._take_many(caller, work, work.many, selection, min(turn, most) - taken)
                group = selection.group
                continue
            item = work.item
            if not alive(item):
                selection.dead.append(item)
                self._forget(caller, work)
                works.popleft()
                continue
            group = selection.group = work.group
            size = work.size - work.begun
            if size > most - taken:
                # Alone in a batch it may go beyond what was left to its class, or it could wait for ever.
                if not work.whole:
                    size = most - taken
                elif not (selection.empty and size <= selection.room):
                    size = 0
                if size <= 0:
                    fits = False
                    break
            taken += size
            if size == work.size:
                whole.append(item)
                works.popleft()
                continue
            start, work.begun = work.begun, work.begun + size
            selection.slices.append(Slice(item, start, work.begun, work.size))
            if work.begun == work.size:
                works.popleft()
        selection.room -= taken
        caller.images -= taken
        self.images -= taken
        caller.deficit = self._quantum if alone else caller.deficit - taken
        return fits

    def _take_many(self, caller: _Caller[T], work: Work[T], many: Many, selection: Selection[T], room: int) -> int:
        """Let some of many run; returns how many of those that were looked at are alive."""
        assert selection.living is not None
        start, work.begun = work.begun, min(work.begun + room, work.size)
        part = many.part(slice(start, work.begun)) if work.begun - start < len(many) else many
        living = selection.living(part)
        taken = int(np.count_nonzero(living))
        dead = work.begun - start - taken
        if dead:
            selection.dead.append(part.part(~living))
            part = part.part(living)
            caller.images -= dead
            self.images -= dead
        if taken:
            selection.group = work.group
            selection.whole.append(cast(T, part))
        if work.begun == work.size:
            caller.works.popleft()
        return taken

    def _pass(self, caller: _Caller[T], passed: int) -> int:
        """End a caller's turn; returns how many turns have ended since somebody took something."""
        caller.deficit += self.turn
        if not caller.works and caller.deficit > 0:
            self._turns.popleft()
            del self._callers[caller.key]
            return passed
        self._turns.rotate(-1)
        passed += 1
        if passed >= len(self._turns):
            # Nobody may take anything for some rounds: they end at once.
            turn = self.turn
            rounds = min(-each.deficit // turn + 1 for each in self._turns if each.works)
            if rounds > 0:
                for each in self._turns:
                    each.deficit += rounds * turn
            return 0
        return passed

    def _forget(self, caller: _Caller[T], work: Work[T]) -> None:
        caller.images -= work.left
        self.images -= work.left

    def drop_last(self, caller: Hashable) -> Iterator[T]:
        """Give up what one caller has waiting, newest first; what has begun stays. Of `Many`, one at a time."""
        mine = self._callers[caller]
        while mine.works and (mine.works[-1].many is not None or not mine.works[-1].begun):
            work = mine.works[-1]
            if work.many is not None and work.left > 1:
                work.size -= 1
                mine.images -= 1
                self.images -= 1
                yield work.many.part(slice(work.size, work.size + 1))
                continue
            mine.works.pop()
            self._forget(mine, work)
            yield work.item if work.many is None else work.many.part(slice(work.begun, work.size))

    def compact(self, factor: int) -> None:
        """Keep no more in memory than `factor` times the `Many` that wait: those that have run go, if need be."""
        pieces = [work for caller in self._turns for work in caller.works if work.many is not None]
        blocks = {id(work.many.block): len(work.many.block) for work in pieces if work.many is not None}
        if sum(blocks.values()) <= factor * sum(work.left for work in pieces):
            return
        for work in pieces:
            assert work.many is not None
            own = work.many.part(slice(work.begun, work.size)).own()
            work.item = work.many = own
            work.size, work.begun = work.left, 0

    def longest(self) -> Hashable:
        """The caller with the most images waiting; there is one."""
        return max(self._turns, key=lambda caller: caller.images).key

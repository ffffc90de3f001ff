"""Headers of messages that were read before, so that the next ones like them are only cut."""

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

MOST, LONGEST, OF_ONE_LENGTH = 256, 1024, 8  # headers kept, bytes of one, those before messages of one length
MOST_HITS = 16  # that are remembered of one


class _Known(Generic[T]):
    __slots__ = ("header", "hits", "length", "meaning")

    def __init__(self, header: bytes, length: int, meaning: T) -> None:
        self.header = header
        self.length = length
        self.meaning = meaning
        self.hits = 0


class KnownHeaders(Generic[T]):
    """Headers and what they mean. One that is used stays; those that are sent once make room for it."""

    def __init__(self) -> None:
        self._by_length: dict[int, list[_Known[T]]] = {}
        self._all: deque[_Known[T]] = deque()  # the next to go is looked for from its beginning

    def find(self, payload: bytes) -> tuple[bytes, T] | None:
        """The header that a message begins with, and its meaning; None if it is not known."""
        for known in self._by_length.get(len(payload), ()):
            if payload.startswith(known.header):
                if known.hits < MOST_HITS:
                    known.hits += 1
                return known.header, known.meaning
        return None

    def keep(self, header: bytes, length: int, meaning: T) -> None:
        """Keep a header, in the place of one that is used less; not one that is too long.

        Args:
            header: not kept yet.
            length: of the message that it began.
            meaning: of it.
        """
        if len(header) > LONGEST:
            return
        alike = self._by_length.setdefault(length, [])
        if len(alike) >= OF_ONE_LENGTH:
            self._forget(_least_used(alike))
        elif len(self._all) >= MOST:
            self._forget(_least_used(self._all))
        known = _Known(header, length, meaning)
        self._by_length.setdefault(length, []).append(known)
        self._all.append(known)

    def _forget(self, known: _Known[T]) -> None:
        self._all.remove(known)
        alike = self._by_length[known.length]
        alike.remove(known)
        if not alike:
            del self._by_length[known.length]

    def __len__(self) -> int:
        return len(self._all)


def _least_used(entries: "Sequence[_Known[T]] | deque[_Known[T]]") -> _Known[T]:
    """The oldest of those with the fewest hits; the others' count half of theirs from now on."""
    least = min(entries, key=lambda known: known.hits)
    for known in entries:
        known.hits >>= 1
    return least

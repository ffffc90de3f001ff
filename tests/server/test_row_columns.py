"""Rows: parts of them are places in columns that arrived together, and are copied when they run."""

import math

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpserve_server.batching.fair import FairQueue, Selection, Work
from mlpserve_server.calls import Call, PlainFormat, Rows, joined


class Everybody:
    """Callers of rows, all of whom wait."""

    def alive(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return np.ones(len(numbers), np.bool_)

    def call(self, rows: Rows, place: int) -> Call:
        raise AssertionError("no test here makes calls of rows")


def _together(first: int, count: int) -> Rows:
    """Rows that arrived together: each has its number as its image, and one of three callers."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    pixels = np.repeat(numbers.astype(np.uint8)[:, None], 4, axis=1)
    form = PlainFormat(0, b"x", 4)
    return Rows(Everybody(), form, pixels, numbers, numbers % 3, np.zeros(count), np.full(count, math.inf))


def _check(rows: Rows, numbers: list[int]) -> None:
    assert rows.numbers.tolist() == numbers
    assert rows.callers.tolist() == [number % 3 for number in numbers]
    assert rows.pixels.tolist() == [[number % 256] * 4 for number in numbers]
    assert len(rows) == len(rows.arrived) == len(rows.deadlines) == len(numbers)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.data()), min_size=1, max_size=4))
def test_parts_of_rows_are_the_rows_that_were_asked_for(blocks: list[tuple[int, st.DataObject]]) -> None:
    parts, expected = [], []
    for number, (count, data) in enumerate(blocks):
        rows, numbers = _together(100 * number, count), list(range(100 * number, 100 * number + count))
        for _ in range(data.draw(st.integers(0, 3))):
            which = data.draw(st.one_of(st.slices(len(numbers)), st.lists(st.booleans()).map(tuple)))
            if isinstance(which, tuple):
                mask = [place < len(which) and which[place] for place in range(len(numbers))]
                rows = rows.part(np.array(mask, np.bool_))
                numbers = [value for value, wanted in zip(numbers, mask, strict=True) if wanted]
            else:
                rows, numbers = rows.part(which), numbers[which]
        _check(rows, numbers)
        _check(rows.own(), numbers)
        assert len(rows.own().block) == len(numbers)
        if numbers:
            by_caller = {caller: part.numbers.tolist() for caller, part in rows.by_caller()}
            assert by_caller == {number % 3: [one for one in numbers if one % 3 == number % 3] for number in numbers}
        parts.append(rows)
        expected += numbers
    _check(joined(parts), expected)


def test_rows_that_wait_do_not_keep_in_memory_those_that_have_run() -> None:
    queue: FairQueue[Rows] = FairQueue(64, 4)
    model = object()
    for number in range(50):
        waits = _together(1000 * number, 100).part(slice(7, 10))
        queue.add(0, Work(waits, len(waits), model, True, waits))
    selection = Selection[Rows](1, lambda _: True, lambda rows: rows.living(0.0))
    queue.take(selection, 1)
    assert selection.whole[0].numbers.tolist() == [7]
    waiting = [work for caller in queue._turns for work in caller.works]
    queue.compact(100)
    assert {len(work.item.block) for work in waiting} == {100}
    queue.compact(4)
    assert sum(len(work.item.block) for work in waiting) == queue.images == 149
    selection = Selection[Rows](149, lambda _: True, lambda rows: rows.living(0.0))
    queue.take(selection, 149)
    _check(joined(selection.whole), [8, 9] + [1000 * number + place for number in range(1, 50) for place in (7, 8, 9)])

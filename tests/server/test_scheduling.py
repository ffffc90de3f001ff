"""What the scheduler promises, whatever waits and whoever leaves: by properties, without a server."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlpserve_server.batching.capacity import Capacity
from mlpserve_server.batching.fair import Selection, Slice
from mlpserve_server.batching.scheduling import REMEMBERED, SHORTER, SMALL, Scheduler
from mlpserve_server.calls import BATCH, INTERACTIVE

MODELS = (object(), object())


@dataclass(eq=False)
class Item:
    traffic: int
    caller: int
    size: int
    model: int = 0
    alive: bool = True


items = st.builds(
    Item, st.sampled_from([INTERACTIVE, BATCH]), st.integers(0, 4), st.integers(1, 40), st.sampled_from([0, 0, 0, 1])
)
# What happens: items arrive, one of those that have arrived leaves, a batch is taken.
happenings = st.lists(st.one_of(items, st.integers(0, 30), st.none()), max_size=80)


def _add(scheduler: Scheduler[Item], item: Item) -> None:
    scheduler.add(item, item.traffic, item.caller, item.size, MODELS[item.model])


def _take(scheduler: Scheduler[Item]) -> Selection[Item]:
    return scheduler.take(lambda item: item.alive)


def _parts(selection: Selection[Item]) -> list[Slice[Item]]:
    return [*(Slice(item, 0, item.size, item.size) for item in selection.whole), *selection.slices]


@settings(max_examples=300, deadline=None)
@given(happenings, st.integers(1, 24), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_image_runs_once_and_in_order_or_its_item_is_said_to_be_dead(
    what: list[Item | int | None], max_batch: int, share: float
) -> None:
    scheduler: Scheduler[Item] = Scheduler(max_batch, share)
    arrived: list[Item] = []
    ran: dict[int, int] = defaultdict(int)
    dead: list[Item] = []

    def take() -> Selection[Item]:
        selection = _take(scheduler)
        assert selection.images == sum(part.stop - part.start for part in _parts(selection)) <= max_batch
        assert len({part.item.model for part in _parts(selection)}) <= 1
        for item, start, stop, size in _parts(selection):
            assert item.alive
            assert start == ran[id(item)] < stop <= size == item.size, "slices follow one another"
            if item.traffic == INTERACTIVE and item.size <= max_batch:
                assert stop - start == item.size, "an interactive call that fits into a batch is not cut"
            ran[id(item)] = stop
        assert not any(item.alive for item in selection.dead)
        dead.extend(selection.dead)
        return selection

    for happening in what:
        if isinstance(happening, Item):
            arrived.append(happening)
            _add(scheduler, happening)
        elif happening is None:
            take()
        elif happening < len(arrived):
            arrived[happening].alive = False
    for _ in range(sum(item.size for item in arrived) + 1):
        if not scheduler:
            break
        take()
    assert not scheduler, "every take runs something or finds somebody dead"
    assert len(set(map(id, dead))) == len(dead)
    for item in arrived:
        assert (ran[id(item)] == item.size) != any(item is other for other in dead)
    assert [queue.images for queue in scheduler.queues] == [0, 0]
    assert [queue.callers for queue in scheduler.queues] == [0, 0]


@example(6, 0.3, [(1, 0)], [(1, 0), (1, 1)])  # one image of batch traffic at a time, every other beside calls
@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 64),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 1)), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 1)), min_size=1, max_size=5),
)
def test_batch_traffic_has_its_share_while_interactive_traffic_could_take_all(
    max_batch: int, share: float, calls: list[tuple[int, int]], jobs: list[tuple[int, int]]
) -> None:
    """Also when each of the two is for a model of its own, so that they cannot run together."""
    scheduler: Scheduler[Item] = Scheduler(max_batch, share)
    images = of_batch = added = 0
    for _ in range(300):
        while scheduler.queues[INTERACTIVE].images < 4 * max_batch:
            size, model = calls[added % len(calls)]
            _add(scheduler, Item(INTERACTIVE, added % 3, size, model))
            added += 1
        while scheduler.queues[BATCH].images < 4 * max_batch:
            size, model = jobs[added % len(jobs)]
            _add(scheduler, Item(BATCH, added % 2, size, model))
            added += 1
        selection = _take(scheduler)
        images += selection.images
        of_batch += sum(part.stop - part.start for part in _parts(selection) if part.item.traffic == BATCH)
        assert of_batch >= share * images - 2 * max_batch
    assert images > of_batch or max_batch == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 256), st.lists(st.integers(1, 256), min_size=1, max_size=6))
def test_callers_that_always_have_more_get_the_same_of_a_class(max_batch: int, sizes: list[int]) -> None:
    sizes = [min(size, max_batch) for size in sizes]
    scheduler: Scheduler[Item] = Scheduler(max_batch, 0.1)
    got = [0] * len(sizes)
    for _ in range(200):
        for caller, size in enumerate(sizes):
            while scheduler.queues[INTERACTIVE].of(caller) < 4 * max_batch:
                _add(scheduler, Item(INTERACTIVE, caller, size))
        for part in _parts(_take(scheduler)):
            got[part.item.caller] += part.stop - part.start
    assert max(got) - min(got) <= 4 * max_batch


@settings(max_examples=50, deadline=None)
@given(st.integers(16, 256), st.integers(1, 12), st.integers(1, 16))
def test_a_polite_caller_runs_in_the_next_batch_whatever_others_have_waiting(
    max_batch: int, others: int, size: int
) -> None:
    scheduler: Scheduler[Item] = Scheduler(max_batch, 0.1)
    for number in range(5000):
        _add(scheduler, Item(INTERACTIVE, number % others, 1))
    _take(scheduler)
    polite = Item(INTERACTIVE, 99, min(size, max_batch // 16))
    _add(scheduler, polite)
    batches = 0
    while True:
        batches += 1
        if any(part.item is polite for part in _parts(_take(scheduler))):
            break
    # Each of the others has a turn of a sixteenth of a batch before.
    assert batches <= 1 + -(-others * (max_batch // 16) // max_batch)


def test_few_interactive_calls_do_not_wait_for_slices_that_would_fill_their_batch() -> None:
    scheduler: Scheduler[Item] = Scheduler(256, 0.1)
    job = Item(BATCH, 1, 4096)
    _add(scheduler, job)
    assert [part[1:] for part in _parts(_take(scheduler))] == [(0, 256, 4096)]
    _add(scheduler, Item(INTERACTIVE, 2, 1))
    assert [part[1:] for part in _parts(_take(scheduler))] == [(0, 1, 1)]
    _add(scheduler, Item(INTERACTIVE, 2, 1))
    assert [part[1:] for part in _parts(_take(scheduler))] == [(0, 1, 1), (256, 511, 4096)]
    _add(scheduler, Item(INTERACTIVE, 2, 100))
    assert [part[1:] for part in _parts(_take(scheduler))] == [(0, 100, 100), (511, 667, 4096)]


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 256), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), min_size=1, max_size=30))
def test_of_two_batches_one_is_full_while_jobs_wait(max_batch: int, calls: list[tuple[int, int]]) -> None:
    """So small batches cost jobs no more than every other Run, and calls wait for one full batch at most."""
    scheduler: Scheduler[Item] = Scheduler(max_batch, 0.1)
    sizes, small = [], 0
    for _ in range(4):
        for caller, size in calls:
            while scheduler.queues[BATCH].images < 4 * max_batch:
                _add(scheduler, Item(BATCH, 99, 5 * max_batch))
            call = Item(INTERACTIVE, caller, min(size, max_batch // SMALL))
            _add(scheduler, call)
            selection = _take(scheduler)
            assert any(item is call for item in selection.whole), "it runs in the next batch"
            sizes.append(selection.images)
            small += selection.images < max_batch
    assert all(images == max_batch for images in np.maximum(sizes, [max_batch, *sizes[:-1]]).tolist())
    assert small >= len(sizes) // 2


def test_where_a_small_batch_takes_as_long_as_a_full_one_there_are_none() -> None:
    capacity = Capacity(256, 0.1)
    assert capacity.small_pays, "as long as nothing is known"
    for seconds, pays in ((0.0002, True), (0.0008, False), (0.0004, True)):
        for _ in range(50):
            capacity.observe(256, 256, 0.001, batch_waits=True)
            capacity.observe(2, 0, seconds, batch_waits=True)
        assert capacity.small_pays == pays
        for _ in range(50):
            capacity.observe(256, 256, 0.001, batch_waits=True)
        assert capacity.small_pays, "they are tried again"
    scheduler: Scheduler[Item] = Scheduler(256, 0.1)
    _add(scheduler, Item(BATCH, 1, 4096))
    _add(scheduler, Item(INTERACTIVE, 2, 1))
    assert scheduler.take(lambda item: item.alive, small_pays=False).images == 256


def test_a_caller_with_few_images_does_not_wait_for_those_of_a_flood() -> None:
    scheduler: Scheduler[Item] = Scheduler(256, 0.1)
    for _ in range(5000):
        _add(scheduler, Item(INTERACTIVE, 1, 1))
    for caller in (2, 3):
        _add(scheduler, Item(INTERACTIVE, caller, 2))
    assert [item.caller for item in _take(scheduler).whole] == [2, 3]
    _add(scheduler, Item(INTERACTIVE, 2, 2))
    batch = _take(scheduler)
    assert batch.images == 256 // SHORTER
    assert 2 in {item.caller for item in batch.whole}


def _flooded(max_batch: int, *others: Item) -> Scheduler[Item]:
    scheduler: Scheduler[Item] = Scheduler(max_batch, 0.1)
    for _ in range((REMEMBERED + 4) * max_batch):
        _add(scheduler, Item(INTERACTIVE, 1, 1))
    for item in others:
        _add(scheduler, item)
    return scheduler


def test_batches_of_a_flood_are_shorter_while_others_call_and_full_again_afterwards() -> None:
    scheduler = _flooded(64)
    assert _take(scheduler).images == 64, "it is alone"
    _add(scheduler, Item(INTERACTIVE, 2, 1))
    assert _take(scheduler).images == 1
    sizes = [_take(scheduler).images for _ in range(REMEMBERED * SHORTER + 1)]
    assert sizes == [64 // SHORTER] * (REMEMBERED * SHORTER) + [64]


def test_batches_are_not_shorter_where_that_does_not_help() -> None:
    few, job, whole = Item(INTERACTIVE, 2, 1), Item(BATCH, 3, 4096), Item(INTERACTIVE, 2, 60)
    scheduler = _flooded(64, few)
    assert scheduler.take(lambda item: item.alive, small_pays=False).images == 64, "a small one takes as long"
    scheduler = _flooded(64, few, job)
    assert [_take(scheduler).images for _ in range(2)] == [1, 64], "a job's slices are full"
    scheduler = _flooded(64, few)
    assert _take(scheduler).images == 1
    _add(scheduler, whole)
    taken = [_take(scheduler) for _ in range(4)]
    assert any(whole in batch.whole for batch in taken), "a call that is longer than that is not cut, and runs"


@pytest.mark.parametrize("waiting", [32, 63])
def test_callers_who_are_all_alike_get_full_batches(waiting: int) -> None:
    """None has a full batch waiting, so there is no flood, though one may have few waiting for a moment."""
    scheduler: Scheduler[Item] = Scheduler(64, 0.1)
    sizes = []
    for number in range(200):
        for caller in range(8):
            for _ in range(waiting - scheduler.queues[INTERACTIVE].of(caller) - (number % 8 == caller) * (waiting - 1)):
                _add(scheduler, Item(INTERACTIVE, caller, 1))
        sizes.append(_take(scheduler).images)
    assert all(max(pair) == 64 for pair in pairwise(sizes))


def test_jobs_take_turns_batch_by_batch() -> None:
    scheduler: Scheduler[Item] = Scheduler(256, 0.1)
    for caller in (1, 2):
        for _ in range(2):
            _add(scheduler, Item(BATCH, caller, 4096))
    turns = [part.item.caller for _ in range(16) for part in _parts(_take(scheduler))]
    assert turns == [1, 2] * 8


def test_what_is_given_up_for_others_is_the_newest_that_has_not_begun() -> None:
    scheduler: Scheduler[Item] = Scheduler(4, 0.1)
    sent = [Item(BATCH, 1, 6) for _ in range(3)]
    for item in sent:
        _add(scheduler, item)
    _take(scheduler)
    queue = scheduler.queues[BATCH]
    assert queue.longest() == 1
    assert list(queue.drop_last(1)) == [sent[2], sent[1]]
    assert queue.images == 2
    assert [part[1:] for part in _parts(_take(scheduler))] == [(4, 6, 6)]
    assert not scheduler


@pytest.mark.parametrize(("of_batch", "seconds"), [(256, 10.0), (64, 40.0)])
def test_the_estimate_for_batch_traffic_follows_what_it_gets(of_batch: int, seconds: float) -> None:
    capacity = Capacity(256, 0.1)
    assert capacity.seconds(BATCH, 1000, True) == 0
    for _ in range(200):
        capacity.observe(256, of_batch, 0.256, batch_waits=True)
    assert capacity.seconds(BATCH, 10_000, True) == pytest.approx(seconds)
    assert capacity.seconds(INTERACTIVE, 9000, True) == pytest.approx(10.0)
    assert capacity.seconds(INTERACTIVE, 9000, False) == pytest.approx(9.0)


class Images(list[Item]):
    """Single images of one caller, added together."""

    def part(self, which: "slice | npt.NDArray[np.bool_]") -> "Images":
        if isinstance(which, slice):
            return Images(self[which])
        return Images(item for item, chosen in zip(self, which.tolist(), strict=True) if chosen)


arrivals = st.tuples(
    st.sampled_from([INTERACTIVE, BATCH]), st.integers(0, 3), st.integers(1, 40), st.sampled_from([0, 0, 1])
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            arrivals, arrivals, items, st.tuples(st.just("leaves"), st.integers(0, 200)), st.just("drop"), st.none()
        ),
        max_size=60,
    ),
    st.integers(1, 24),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_single_images_that_are_added_together_run_as_if_each_were_by_itself(
    what: list[Any], max_batch: int, share: float
) -> None:
    """Also when they leave, make room for others, or wait among larger calls and for several models."""
    apart: Scheduler[Any] = Scheduler(max_batch, share)
    together: Scheduler[Any] = Scheduler(max_batch, share)
    arrived: list[Item] = []

    def each(found: Iterable[Any]) -> list[Item]:
        return [item for one in found for item in (one if isinstance(one, Images) else (one,))]

    def take(scheduler: Scheduler[Any]) -> tuple[list[Item], list[Any], list[Item], int]:
        selection = scheduler.take(
            lambda item: item.alive, lambda images: np.array([item.alive for item in images], bool)
        )
        for one in selection.whole:
            assert not isinstance(one, Images) or one, "no part is empty"
        return each(selection.whole), selection.slices, each(selection.dead), selection.images

    while what or apart:
        happening = what.pop(0) if what else None
        if isinstance(happening, Item):
            arrived.append(happening)
            _add(apart, happening)
            _add(together, happening)
        elif happening is None:
            assert take(apart) == take(together)
        elif happening == "drop":
            for traffic in (INTERACTIVE, BATCH):
                queues = apart.queues[traffic], together.queues[traffic]
                if queues[0].images:
                    longest = queues[0].longest()
                    assert queues[1].longest() == longest
                    dropped = [list(islice(queue.drop_last(longest), 5)) for queue in queues]
                    assert dropped[0] == each(dropped[1])
        elif happening[0] == "leaves":
            if happening[1] < len(arrived):
                arrived[happening[1]].alive = False
        else:
            traffic, caller, count, model = happening
            images = Images(Item(traffic, caller, 1, model) for _ in range(count))
            arrived += images
            for item in images:
                _add(apart, item)
            together.add_many(images, traffic, caller, MODELS[model])
        assert [queue.images for queue in apart.queues] == [queue.images for queue in together.queues]
        assert [queue.callers for queue in apart.queues] == [queue.callers for queue in together.queues]
    assert not together

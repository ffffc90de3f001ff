"""Which calls wait, and which are told at once why they cannot.

Each class of traffic has its own queue, bounded in images, so jobs never take the room of interactive calls; and calls
that are dead by the time their batch forms cost no Run.

    arrived ──▶ decoded ──▶ nothing waits and all fit ──▶ batch
                   │                                        ▲
                   └────────▶ queue of its class ──▶ scheduler
"""

import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mlpserve_server.batching.batch import Batch, Part, form, form_part
from mlpserve_server.batching.capacity import LONGEST_SECONDS, Capacity
from mlpserve_server.batching.failures import Failure
from mlpserve_server.batching.fair import FairQueue, Slice
from mlpserve_server.batching.scheduling import Scheduler
from mlpserve_server.calls import BATCH, INTERACTIVE, TRAFFIC, TRAFFIC_KEY, Call, Rows, each
from mlpserve_server.catalog import Catalog, Served
from mlpserve_server.codecs.base import Request
from mlpserve_server.codecs.naming import named_model
from mlpserve_server.codecs.predict import IMAGES_TAG
from mlpserve_server.errors import CallError, Draining, Expired, InvalidRequest, NotReady, Overloaded, UnknownModel
from mlpserve_server.observe.metrics import Metrics

DRAINING = Draining("the server is shutting down; call another one, or this one again later")
MOST_KEPT = 4  # rows in memory for each row that waits
NOT_READY = NotReady("the model is still being loaded; try again in a moment")


class Admission:
    """The queues, and who is let into them. For one thread at a time, except `observe`.

    Args:
        catalog: knows which model answers a call.
        metrics: told of every call that arrives, and of what waits.
        max_batch: most images in a batch.
        max_queue: most images of interactive calls waiting.
        batch_queue: most images of batch traffic waiting.
        batch_share: part of the images that is batch traffic's while it waits.
    """

    def __init__(
        self,
        catalog: Catalog,
        metrics: Metrics,
        *,
        max_batch: int,
        max_queue: int,
        batch_queue: int,
        batch_share: float,
    ) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._max_batch = max_batch
        self._bounds = (max_queue, batch_queue)
        self._scheduler: Scheduler[Call | Rows] = Scheduler(max_batch, batch_share)
        self._queues = self._scheduler.queues
        self._capacity = Capacity(max_batch, batch_share)
        self._at_once: Batch | None = None  # is the next one
        self._closed = False
        self._rows_since = 0  # the queues were compacted

    def __bool__(self) -> bool:
        """Whether a call waits."""
        interactive, batch = self._queues
        return self._at_once is not None or interactive.images > 0 or batch.images > 0

    def close(self) -> None:
        """Let no call in from now on."""
        self._closed = True

    def observe(self, images: int, batch_images: int, seconds: float) -> None:
        """Learn from a batch how fast the queues empty.

        Args:
            images: in it.
            batch_images: of them batch traffic's.
            seconds: that it took.
        """
        self._capacity.observe(images, batch_images, seconds, self._queues[BATCH].images > 0)

    def admit(self, arrived: Sequence[Call | Rows], failures: list[Failure]) -> None:
        """Queue calls, each with what answers it: the model that serves now, so a new one takes over between batches.

        Args:
            arrived: calls as they came.
            failures: gets those that are not let in.
        """
        serving = self._catalog.versions().serving
        now = time.monotonic()
        if serving is not None and not self._closed and not self:
            batch = self._at_once = self._form_at_once(arrived, serving, now)
            if batch is not None:
                return
        self._count_started(arrived)
        if self._closed or serving is None:
            error, dropped = (DRAINING, "draining") if self._closed else (NOT_READY, "not_ready")
            failures.extend(Failure(call, error, dropped) for call in each(arrived))
            return
        for item in arrived:
            if not isinstance(item, Rows):
                self._admit_call(item, serving, now, failures)
            elif not self._admit_rows(item, serving, now, failures):
                for call in item.calls():
                    self._admit_call(call, serving, now, failures)
        self._count()

    def take(self, failures: list[Failure]) -> Batch | None:
        """The next batch, if any call is alive.

        Args:
            failures: gets the dead.
        """
        if self._at_once is not None:
            batch, self._at_once = self._at_once, None
            return batch
        if not self._scheduler:
            return None
        now = time.monotonic()

        def alive(item: Call | Rows) -> bool:
            call = cast(Call, item)
            return call.alive and call.deadline > now and not (call.progress and call.progress.over)

        def living(rows: Rows) -> npt.NDArray[np.bool_]:
            return rows.living(now)

        selection = self._scheduler.take(alive, living, small_pays=self._capacity.small_pays)
        dead = [call for call in each(selection.dead) if call.progress is None or call.progress.end()]
        failures.extend(_dead(call, now) for call in dead)
        self._count()
        if selection.empty:
            return None
        return form(cast(Served, selection.group), selection.whole, cast("list[Slice[Call]]", selection.slices))

    def _form_at_once(self, arrived: Sequence[Call | Rows], serving: Served, now: float) -> Batch | None:
        """A batch of all of them, if all are good, and fit into one of the model that serves; counts them then."""
        if len(arrived) > self._max_batch:
            return None
        codecs, images, method, alike = serving.codecs, 0, arrived[0].method, True
        requests: list[Request[Any]] = []
        for call in arrived:
            if isinstance(call, Rows):
                images += len(call)
                if images > self._max_batch or not _plain(call, serving) or call.traffic == BATCH:
                    return None
                if not call.living(now).all():
                    return None
                alike = False
                continue
            try:
                request = codecs[call.method].decode(call.payload)
            except CallError:
                return None
            images += request.size
            if images > self._max_batch or call.deadline <= now or not call.alive:
                return None
            if request.traffic is not None or call.said or call.only_batch:
                return None
            if call.method != method:
                alike = False
            call.request, call.images, call.traffic = request, request.size, INTERACTIVE
            requests.append(request)
        if alike:
            self._metrics.started[method] += len(requests)
            return form_part(serving, Part(method, INTERACTIVE, cast("list[Call]", arrived), requests))
        self._count_started(arrived)
        return form(serving, arrived, [])

    def _count_started(self, arrived: Sequence[Call | Rows]) -> None:
        for item in arrived:
            self._metrics.started[item.method] += len(item) if isinstance(item, Rows) else 1

    def _admit_call(self, call: Call, serving: Served, now: float, failures: list[Failure]) -> None:
        try:
            served = self._served(call.payload, serving)
            self._decode(call, served)
            self._admit(call, served, now, failures)
        except CallError as error:
            failures.append(Failure(call, error, "not_ready" if isinstance(error, NotReady) else "invalid"))

    def _admit_rows(self, rows: Rows, serving: Served, now: float, failures: list[Failure]) -> bool:
        """Let rows wait; False, and none of them do, if some may have to be refused: each is to be asked by itself."""
        try:
            served = self._served(rows.form.prefix, serving)
        except NotReady:
            return False
        if not _plain(rows, served):
            return False
        assert rows.traffic is not None
        queue, count = self._queues[rows.traffic], len(rows)
        if queue.images + count > self._bounds[rows.traffic]:
            return False
        if queue.images + count > 2 * self._max_batch and rows.deadlines.min() < now + LONGEST_SECONDS:
            return False
        self._rows_since += count
        if self._rows_since > queue.images + 8 * self._max_batch:
            # Rows of a caller with many waiting keep those of others that came with them, which have run long ago.
            self._rows_since = 0
            for each_queue in self._queues:
                each_queue.compact(MOST_KEPT)
        for caller, part in rows.by_caller():
            if len(part) > 1:
                self._scheduler.add_many(part, rows.traffic, caller, served)
            else:
                self._admit_call(part.calls()[0], serving, now, failures)
        return True

    def _served(self, message: bytes, serving: Served) -> Served:
        """What answers a message that begins like this, and may name a version.

        Raises:
            NotReady: it is still being loaded.
        """
        # Good enough before the message is parsed: everything but the images is shorter than one image.
        versions = self._catalog.versions()
        if message.startswith(IMAGES_TAG) or not (versions.kept or versions.pending):
            return serving
        try:
            return self._catalog.find(*named_model(message))
        except UnknownModel:
            return serving  # the codec reads all of the message, and says so if that is what it says

    def _decode(self, call: Call, served: Served) -> None:
        """Read a call's request, and find its class.

        Raises:
            CallError: it cannot be answered.
        """
        call.images = len(call.payload) // served.model.pixels or 1
        request = call.request = served.codecs[call.method].decode(call.payload)
        call.images = request.size
        traffic = request.traffic
        if traffic is None and call.said:
            if call.said not in TRAFFIC:
                raise InvalidRequest("", f"metadata {TRAFFIC_KEY}: expected {' or '.join(TRAFFIC)}")
            traffic = TRAFFIC.index(call.said)
        if traffic is None:
            traffic = BATCH if request.size > self._max_batch else INTERACTIVE
        call.traffic = BATCH if call.only_batch else traffic

    def _admit(self, call: Call, served: Served, now: float, failures: list[Failure]) -> None:
        """Let a decoded call wait, or say why it cannot."""
        assert call.traffic is not None
        queue = self._queues[call.traffic]
        if queue.images + call.images > self._bounds[call.traffic] and not self._make_room(queue, call, failures):
            failures.append(Failure(call, self._overloaded(call.traffic), "overload"))
            return
        if queue.images > 2 * self._max_batch:
            wait = self._wait(queue, call)
            if call.deadline < now + wait:
                failures.append(Failure(call, _hopeless(call.traffic, call.deadline - now, wait), "hopeless"))
                return
        self._scheduler.add(call, call.traffic, call.caller, call.images, served)

    def _make_room(self, queue: FairQueue[Call | Rows], call: Call, failures: list[Failure]) -> bool:
        """Turn away calls of whoever has most waiting, for a caller that has less than its part of a full queue."""
        assert call.traffic is not None
        bound, mine = self._bounds[call.traffic], queue.of(call.caller)
        fair = bound // (queue.callers + (mine == 0))
        longest = queue.longest() if queue.images else None
        if longest is None or mine + call.images > fair or queue.of(longest) <= fair:
            return False
        error = self._overloaded(call.traffic)
        for other in each(queue.drop_last(longest)):
            failures.append(Failure(other, error, "overload"))
            if queue.images + call.images <= bound:
                return True
        return False

    def _wait(self, queue: FairQueue[Call | Rows], call: Call) -> float:
        """Seconds until a call would run: after what its caller has waiting, and the turns of others meanwhile."""
        assert call.traffic is not None
        ahead = min(queue.images, (queue.of(call.caller) + queue.turn) * (queue.callers + 1))
        return self._capacity.seconds(call.traffic, ahead, self._queues[BATCH].images > 0)

    def _overloaded(self, traffic: int) -> Overloaded:
        images = self._queues[traffic].images
        message = f"{images} images of {TRAFFIC[traffic]} calls are waiting, at most {self._bounds[traffic]} may"
        wait = self._capacity.seconds(traffic, images, self._queues[BATCH].images > 0)
        return Overloaded(message, wait or 0.1)

    def _count(self) -> None:
        for traffic, queue in enumerate(self._queues):
            self._metrics.queued_images[traffic] = queue.images


def _plain(rows: Rows, served: Served) -> bool:
    """Whether a model reads rows as the transport has cut them; says their class and what they ask for then."""
    plain = served.codecs[rows.method].plain().get(rows.form.prefix)
    if plain is None or rows.form.pixels != served.model.pixels:
        return False
    said = INTERACTIVE if plain.traffic is None else plain.traffic
    rows.asked, rows.traffic = plain.form, BATCH if rows.only_batch else said
    return True


def _hopeless(traffic: int, left: float, wait: float) -> Overloaded:
    message = (
        f"the queue of {TRAFFIC[traffic]} calls takes about {wait:.3f} s, and the call's deadline is in {left:.3f} s"
    )
    return Overloaded(message, max(wait - left, 0.001))


def _dead(call: Call, now: float) -> Failure:
    """Why a call is not run, or not to its end: nobody waits for it any longer."""
    dropped = "expired" if call.deadline <= now else "cancelled"
    error: CallError | None = None
    if call.alive:
        done = f", {call.progress.done} of its {call.images} images answered" if call.progress else ""
        error = Expired(f"the deadline passed while the call waited in the queue{done}")
    return Failure(call, error, dropped)

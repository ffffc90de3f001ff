"""Coalesce many small concurrent calls into few requests.

There is no timer. With nothing in flight, a call is sent in the next iteration of the event loop, together with the
other calls of the same iteration; while requests are in flight, later calls are collected. The server batches by the
same rule.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import numpy as np

from mlpserve_client.errors import ClientClosedError
from mlpserve_client.messages.encoding import Images, Options
from mlpserve_client.messages.predictions import Predictions

MAX_IMAGES = 256  # per request; a larger array is sent on its own
MAX_IN_FLIGHT = 2  # requests: the next one is on its way while one is answered

Send = Callable[[Images, Options, float], Awaitable[Predictions]]


class _Waiting(NamedTuple):
    images: Images
    deadline: float
    answer: "asyncio.Future[Predictions]"


class Coalescer:
    """Coalesces the calls of one event loop.

    Args:
        send: makes one request of images [N, D], options and a timeout in seconds.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        # Calls with different options or image sizes cannot share a request.
        self._waiting: dict[tuple[Options, int], deque[_Waiting]] = {}
        self._in_flight: dict[asyncio.Task[None], list[_Waiting]] = {}
        self._flush_is_due = False
        # One timer for the earliest deadline: a timer per call would cost as much as everything else together.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def predict(self, images: Images, options: Options, timeout: float) -> "asyncio.Future[Predictions]":
        """The answer to images [N, D], from a request that other calls may share.

        Returns:
            A future of the answer. It fails with TimeoutError when the timeout passes first, with the error of the
            shared request, or with ClientClosedError if the task that sends the request is cancelled.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Predictions] = loop.create_future()
        deadline = loop.time() + timeout
        self._waiting.setdefault((options, images.shape[1]), deque()).append(_Waiting(images, deadline, answer))
        if not self._flush_is_due and len(self._in_flight) < MAX_IN_FLIGHT:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        if deadline < self._timer_due:
            self._set_timer(deadline)
        return answer

    def _set_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._expire) if due < math.inf else None

    def _expire(self) -> None:
        """Fail the calls whose deadline has passed, and wait for the next deadline."""
        now, due = self._timer_due, math.inf
        for call in self._open():
            if call.deadline <= now:
                call.answer.set_exception(TimeoutError())
            else:
                due = min(due, call.deadline)
        self._set_timer(due)

    def _open(self) -> Iterator[_Waiting]:
        for calls in (*self._waiting.values(), *self._in_flight.values()):
            yield from (call for call in calls if not call.answer.done())

    def _flush(self) -> None:
        """Send the waiting calls while the limit of requests in flight allows."""
        self._flush_is_due = False
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            kind, calls = next(iter(self._waiting.items()))
            batch = _take(calls)
            if not calls:
                del self._waiting[kind]
            if batch:
                task = asyncio.ensure_future(self._request(batch, kind[0]))
                self._in_flight[task] = batch
                task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        """Fail what is left of a request whose task has ended in any way, possibly before it began."""
        batch = self._in_flight.pop(task)
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, Exception):
            error = ClientClosedError("the task that sends this call's request was cancelled or ended; call again")
        for call in batch:
            if not call.answer.done():
                call.answer.set_exception(error)
        self._flush()

    async def _request(self, calls: list[_Waiting], options: Options) -> None:
        """Send one request for several calls, with the latest of their deadlines."""
        images = calls[0].images if len(calls) == 1 else np.concatenate([call.images for call in calls])
        timeout = max(call.deadline for call in calls) - asyncio.get_running_loop().time()
        whole = await self._send(images, options, timeout)
        stop = 0
        for call in calls:
            start, stop = stop, stop + len(call.images)
            if not call.answer.done():
                call.answer.set_result(whole.rows(start, stop))

    def close(self, error: Exception) -> None:
        """Fail all calls, including those in flight."""
        for call in self._open():
            call.answer.set_exception(error)
        self._waiting.clear()
        self._set_timer(math.inf)


def _take(calls: deque[_Waiting]) -> list[_Waiting]:
    """The next calls that fit into one request; calls whose caller has gone are dropped."""
    batch: list[_Waiting] = []
    images = 0
    while calls and (not batch or images + len(calls[0].images) <= MAX_IMAGES):
        call = calls.popleft()
        if not call.answer.done():
            batch.append(call)
            images += len(call.images)
    return batch

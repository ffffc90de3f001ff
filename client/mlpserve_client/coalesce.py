"""Many concurrent small calls as few requests.

No timer delays anything: with nothing in flight a call is sent at the next turn of the event loop, together with those
that were made in the same turn; while requests are in flight, later calls gather. It is the server's own rule.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from mlpserve_client.requests import Images, Predictions

MAX_IMAGES = 256  # in one request; an array that is larger by itself is sent alone
MAX_IN_FLIGHT = 2  # requests: one is answered while the next one is on its way

Options = tuple[int, bool]  # top_k, probabilities: calls that differ in them cannot share a request
Send = Callable[[Images, int, bool, float], Awaitable[Predictions]]


@dataclass(frozen=True)
class _Waiting:
    images: Images
    deadline: float
    answer: "asyncio.Future[Predictions]"


class Coalescer:
    """Gathers calls of one event loop.

    Args:
        send: makes one request of images [N, D], top_k, probabilities and a timeout in seconds.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: dict[Options, deque[_Waiting]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._flush_is_due = False

    async def predict(self, images: Images, top_k: int, probabilities: bool, timeout: float) -> Predictions:
        """The answer to images [N, D], from a request that other calls may share.

        Raises:
            TimeoutError: the timeout passed first.
            MlpserveError: the shared request failed.
        """
        loop = asyncio.get_running_loop()
        call = _Waiting(images, time.monotonic() + timeout, loop.create_future())
        self._waiting.setdefault((top_k, probabilities), deque()).append(call)
        if not self._flush_is_due and len(self._in_flight) < MAX_IN_FLIGHT:
            self._flush_is_due = True
            loop.call_soon(self._flush)
        async with asyncio.timeout(timeout):
            return await call.answer

    def _flush(self) -> None:
        """Send what waits, as long as there may be more requests in flight."""
        self._flush_is_due = False
        while self._waiting and len(self._in_flight) < MAX_IN_FLIGHT:
            options, calls = next(iter(self._waiting.items()))
            batch = _take(calls)
            if not calls:
                del self._waiting[options]
            if batch:
                task = asyncio.ensure_future(self._request(batch, *options))
                self._in_flight.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._in_flight.discard(task)
        self._flush()

    async def _request(self, calls: list[_Waiting], top_k: int, probabilities: bool) -> None:
        """One request for several calls; the longest of their deadlines is its own."""
        images = calls[0].images if len(calls) == 1 else np.concatenate([call.images for call in calls])
        timeout = max(call.deadline for call in calls) - time.monotonic()
        try:
            whole = await self._send(images, top_k, probabilities, timeout)
        except Exception as error:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(error)
            return
        stop = 0
        for call in calls:
            start, stop = stop, stop + len(call.images)
            if not call.answer.done():
                call.answer.set_result(whole.rows(start, stop))


def _take(calls: deque[_Waiting]) -> list[_Waiting]:
    """The next calls that fit one request; those whose caller has gone are dropped."""
    batch: list[_Waiting] = []
    images = 0
    while calls and (not batch or images + len(calls[0].images) <= MAX_IMAGES):
        call = calls.popleft()
        if not call.answer.done():
            batch.append(call)
            images += len(call.images)
    return batch

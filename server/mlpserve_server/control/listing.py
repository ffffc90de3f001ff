"""ListModels: pages of the store's versions, read by a thread that no other call waits for.

Whatever was asked while one look at the store was under way is answered by the next look, so that any number of callers
costs one look at a time, and none of them is told what was so before it asked.
"""

import asyncio
import logging
import threading
import time
from bisect import bisect_right
from contextlib import suppress
from typing import NamedTuple

from mlpserve.artifact import version_number
from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.catalog import Catalog
from mlpserve_server.errors import CallError, InvalidRequest, Overloaded, StartupError, StoreSilent, VersionMissing
from mlpserve_server.store import promotion
from mlpserve_server.store.folder import Store
from mlpserve_server.store.summaries import Summaries
from mlpserve_server.store.waiting import waiting_for

log = logging.getLogger(__name__)

DEFAULT_SIZE, LARGEST_SIZE = 100, 1000  # versions on a page; the contract says so
LONGEST_DETAIL = 500  # characters
MOST_WAITING = 1000  # calls
PATIENCE = 10.0  # seconds for the store to answer

Answer = pb.ListModelsResponse | Exception


class Look(NamedTuple):
    """What the store had at one time: all numbers, newest first, the promoted one or 0, and when that was."""

    numbers: list[int]
    promoted: int
    at: float


class Wish(NamedTuple):
    """A page that was asked for: most versions, and the number below which they are, or 0."""

    size: int
    below: int


class Listing:
    """The store's versions with what this server does with each.

    Args:
        store: to look at.
        catalog: knows what this server does with each version of its model.
    """

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._model = catalog.model
        self._summaries = Summaries(store, catalog.model)
        self._last: Look | None = None  # belongs to the thread that looks
        self._lock = threading.Lock()
        self._waiting: list[tuple[Wish, asyncio.Future[pb.ListModelsResponse]]] = []
        self._looking = False

    async def page(self, size: int = 0, token: str = "") -> pb.ListModelsResponse:
        """A page; the arguments are those of ListModelsRequest.

        Raises:
            InvalidRequest: the size is negative, or the token not one of ours.
            Overloaded: too many calls wait for the store.
            StoreSilent: it does not answer.
            StoreError: it cannot be read.
        """
        if size < 0:
            raise InvalidRequest("page_size", f"{size}; expected 0 for {DEFAULT_SIZE}, or up to {LARGEST_SIZE}")
        below = version_number(token) if token else 0
        if below is None:
            raise InvalidRequest("page_token", "not one that this server gave; begin with an empty one")
        wish = Wish(min(size or DEFAULT_SIZE, LARGEST_SIZE), below)
        answer: asyncio.Future[pb.ListModelsResponse] = asyncio.get_running_loop().create_future()
        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise Overloaded(f"{MOST_WAITING} calls wait for the store's listing already", retry_after=1.0)
            self._waiting.append((wish, answer))
            if not self._looking:
                self._looking = True
                # A daemon, which no exit waits for: a store may hang.
                threading.Thread(target=self._answer_all, name="listing", daemon=True).start()
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError as error:
            raise StoreSilent(f"the store has not answered for {PATIENCE:g} s; predictions are not affected") from error

    def _answer_all(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                self._looking = bool(waiting)
            if not waiting:
                return
            answers: dict[Wish, Answer] = {}
            for wish, future in waiting:
                if future.cancelled():
                    continue
                if wish not in answers:
                    answers[wish] = self._answer(wish, first=not answers)
                with suppress(RuntimeError):  # its event loop has ended
                    future.get_loop().call_soon_threadsafe(_resolve, future, answers[wish])

    def _answer(self, wish: Wish, first: bool) -> Answer:
        try:
            with waiting_for(f"a listing of {self._model}"):
                if first or self._last is None:
                    self._last = self._look(self._last)
                return self._page(self._last, wish)
        except (CallError, StartupError) as error:
            return error
        except Exception as error:
            log.exception("listing the store hit a bug")
            return error

    def _look(self, last: Look | None) -> Look:
        if last is not None and time.monotonic() - last.at < self._store.look_seconds:
            return last
        promoted = promotion.read(self._store, self._model)
        numbers = self._store.versions(self._model)
        self._summaries.forget_all_but(numbers)
        return Look(numbers, promoted.version if promoted else 0, time.monotonic())

    def _page(self, look: Look, wish: Wish) -> pb.ListModelsResponse:
        start = bisect_right(look.numbers, -wish.below, key=lambda number: -number) if wish.below else 0
        numbers = look.numbers[start : start + wish.size]
        response = pb.ListModelsResponse(total_size=len(look.numbers))
        if start + len(numbers) < len(look.numbers):
            response.next_page_token = str(numbers[-1])
        ours = self._catalog.versions(self._model)
        for number, found in zip(numbers, self._summaries.of(numbers), strict=True):
            if isinstance(found, VersionMissing):
                continue  # deleted a moment ago
            summary = response.models.add(model=pb.ModelRef(name=self._model, version=number))
            summary.promoted = number == look.promoted
            if isinstance(found, StartupError):
                summary.state, summary.detail = pb.MODEL_STATE_UNREADABLE, str(found)[:LONGEST_DETAIL]
                continue
            summary.model.digest, summary.test_accuracy = found.digest, found.test_accuracy
            serves = ours.serving is not None and ours.serving.model.ref == summary.model
            summary.state = pb.MODEL_STATE_SERVING if serves else pb.MODEL_STATE_AVAILABLE
            kept = ours.kept.get(number)
            if not serves and kept is not None and kept.model.ref == summary.model:
                summary.state = pb.MODEL_STATE_KEPT
            elif number in ours.refused and not serves:
                summary.state, summary.detail = pb.MODEL_STATE_REFUSED, ours.refused[number][:LONGEST_DETAIL]
        return response


def _resolve(future: "asyncio.Future[pb.ListModelsResponse]", answer: Answer) -> None:
    if future.done():
        return  # nobody waits any longer
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

"""How many bytes of messages and how many streams a grpc.aio server holds at a time, and for how long.

gRPC itself limits one message and the calls of one connection, and nothing else: it reads every message as far as it
comes and waits for the rest for ever. So a message is read here only when there is room for the largest one, its bytes
count until the call is answered, and one that does not arrive ends its call. Until then a call has what fits into its
first HTTP/2 window (`LIMIT_OPTIONS`).
"""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import grpc

from mlpserve_server.errors import CallError, Expired, InvalidRequest, Overloaded, Unsupported

MOST_PENDING = 8192  # as of eight connections with as many calls as they may have
FIRST_BYTES = 16384  # of a message, which may come before it is read
LIMIT_OPTIONS = [
    # gRPC ends calls with a bare CANCELLED once so many have not reached their handlers, by default 1,000 to 3,000. A
    # burst is the queue's to take or to refuse, with a status that says so; but calls that are reset wait there too.
    ("grpc.server.max_pending_requests", MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING),
    # What a call may send before it is read. With the probe gRPC would widen it to what the caller could use at most.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", FIRST_BYTES),
]
ARRIVED: ContextVar[float] = ContextVar("ARRIVED")  # time.monotonic() of a unary call's message, for its method
READ_SECONDS = 30.0  # for a message to arrive, and for one to be let in
PRESSED_SECONDS = 5.0  # the same while others wait for its room
NEWCOMER_SECONDS = 1.0  # the same while a caller waits that has nothing under way, and this one has more
MAX_WAITING = 8192  # calls whose message has no room yet
STREAMS_OF_ONE = 16  # on one connection: a channel needs one for each name that it watches
RETRY_SECONDS = 1.0


class Limits(grpc.aio.ServerInterceptor):
    """Belongs to one event loop; the last one of the interceptors, so that it sees the method itself.

    Args:
        max_message: bytes of the largest message.
        room: bytes of messages that may be in memory; at least `max_message`.
        max_streams: most streams: health watches, reflection, ModelStreamInfer. Unary calls have no such limit.
        on_dropped: told why a call was ended: "slow", "unread" or "streams".
    """

    def __init__(self, max_message: int, room: int, max_streams: int, on_dropped: Callable[[str], None]) -> None:
        self._max_message = max_message
        self._room = max(room, max_message)
        self._max_streams = max_streams
        self._on_dropped = on_dropped
        self._limited: dict[str, tuple[Any, Any]] = {}  # by method: as it is, and limited
        self._reading: dict[Any, tuple[float, str]] = {}  # by context, oldest first: since when, and its caller
        self._taken: Counter[str] = Counter()  # by caller: rooms for messages that are not there yet
        self._waiting: dict[str, dict[asyncio.Future[None], float]] = {}  # by caller, oldest first: since when
        self._streams: Counter[str] = Counter()  # by caller
        self._ending: set[asyncio.Task[None]] = set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Pass a call on to its method, within the limits."""
        handler = await continuation(handler_call_details)
        known, limited = self._limited.get(handler_call_details.method, (None, None))
        if known is not handler:
            limited = self._limit(handler)
            self._limited[handler_call_details.method] = handler, limited
        return limited

    def sweep(self) -> None:
        """End the calls whose message has been on its way for too long; to be called a few times a second."""
        now = asyncio.get_running_loop().time()
        most = PRESSED_SECONDS if self._waiting else READ_SECONDS
        newcomers = sum(not self._taken[caller] for caller in self._waiting)
        for context, (began, caller) in list(self._reading.items()):
            gives_way = newcomers > 0 and now - began > NEWCOMER_SECONDS and self._taken[caller] > 1
            newcomers -= gives_way
            if gives_way or now - began > most:
                del self._reading[context]
                self._start_ending(context, _too_slow(now - began))
        for turns in list(self._waiting.values()):
            for turn, since in list(turns.items()):
                if now - since > READ_SECONDS and not turn.done():
                    turn.set_exception(_no_room(self._max_message))

    def _start_ending(self, context: Any, error: CallError) -> None:
        task = asyncio.get_running_loop().create_task(_end(context, error))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        self._on_dropped("slow")

    def _limit(self, handler: Any) -> Any:
        if handler is None:
            return None
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(handler), None, handler.response_serializer)
        assert not handler.request_streaming, "no method of ours is like that"
        return grpc.stream_unary_rpc_method_handler(self._unary(handler), None, handler.response_serializer)

    def _unary(self, handler: Any) -> Callable[[Any, Any], Awaitable[Any]]:
        behaviour, deserialize = handler.unary_unary, handler.request_deserializer

        async def answer(_: Any, context: Any) -> Any:
            size, began = 0, time.monotonic()
            try:
                message = await self._read(context)
                if message is None:
                    raise _no_message()
                size = len(message)
                # What fits into the first window has come with the call, before the event loop got round to reading it.
                ARRIVED.set(began if size <= FIRST_BYTES else time.monotonic())
                answering = behaviour(parsed(message, deserialize), context)
                del message  # an aborted call is a cycle of references, which may stay for long
                return await answering
            except CallError as error:
                await context.abort(error.code, str(error), error.trailing_metadata())
            finally:
                self._give_back(size)

        return answer

    def _stream(self, handler: Any) -> Callable[[Any, Any], Awaitable[None]]:
        behaviour = handler.stream_stream or handler.unary_stream

        async def serve(_: Any, context: Any) -> None:
            caller = context.peer()
            if self._streams.total() >= self._max_streams or self._streams[caller] >= STREAMS_OF_ONE:
                self._on_dropped("streams")
                error = too_many_streams(self._max_streams, STREAMS_OF_ONE, watch=not handler.request_streaming)
                await context.abort(error.code, str(error), error.trailing_metadata())
            self._streams[caller] += 1
            try:
                if handler.request_streaming and handler.request_deserializer is None:
                    request: Any = _all_of(context)  # it counts and bounds them itself, and may be idle
                elif handler.request_streaming:
                    request = self._requests(context, handler.request_deserializer)
                elif (request := await self._short(context, handler.request_deserializer)) is None:
                    raise _no_message()
                answering = behaviour(request, context)
                if inspect.isasyncgen(answering):
                    async for response in answering:
                        await context.write(response)
                else:
                    await answering
            except CallError as error:
                await context.abort(error.code, str(error), error.trailing_metadata())
            finally:
                self._streams[caller] -= 1
                if not self._streams[caller]:
                    del self._streams[caller]

        return serve

    async def _requests(self, context: Any, deserialize: Any) -> AsyncIterator[Any]:
        while (request := await self._short(context, deserialize)) is not None:
            yield request

    async def _short(self, context: Any, deserialize: Any) -> Any:
        """A stream's next message, which no longer counts once it has been read; None: there is none."""
        message = await self._read(context)
        if message is None:
            return None
        self._give_back(len(message))
        return parsed(message, deserialize)

    async def _read(self, context: Any) -> bytes | None:
        """A call's next message, once there is room for it; its bytes are to be given back. None: there is none.

        Raises:
            CallError: there was none in time.
        """
        caller = context.peer()
        if self._waiting or self._room < self._max_message:
            await self._wait(caller)
        else:
            self._take(caller)
        unused = self._max_message
        self._reading[context] = asyncio.get_running_loop().time(), caller
        try:
            message = await context.read()
            if not isinstance(message, bytes):  # grpc.aio.EOF
                return None
            unused -= len(message)
            return message
        finally:
            self._reading.pop(context, None)
            self._untake(caller, unused)

    def _take(self, caller: str) -> None:
        self._taken[caller] += 1
        self._room -= self._max_message

    def _untake(self, caller: str, unused: int) -> None:
        self._taken[caller] -= 1
        if not self._taken[caller]:
            del self._taken[caller]
        self._give_back(unused)

    async def _wait(self, caller: str) -> None:
        """Wait until the room for a message has been taken for this caller."""
        if sum(map(len, self._waiting.values())) >= MAX_WAITING:
            self._turn_away(caller)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        turns = self._waiting.setdefault(caller, {})
        turns[turn] = loop.time()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # the room was taken already
                self._untake(caller, self._max_message)
            raise
        except CallError:
            self._on_dropped("unread")
            raise
        finally:
            self._leave(caller, turn)

    def _turn_away(self, caller: str) -> None:
        """End the newest waiting call of whoever has most of them, so that a flood keeps nobody else out.

        Raises:
            CallError: that is this caller.
        """
        longest = max(self._waiting, key=lambda waiting: len(self._waiting[waiting]))
        turns = self._waiting[longest]
        if len(turns) <= len(self._waiting.get(caller, ())) + 1:
            self._on_dropped("unread")
            raise _no_room(self._max_message)
        turn = next(reversed(turns))
        self._leave(longest, turn)
        if not turn.done():
            turn.set_exception(_no_room(self._max_message))

    def _leave(self, caller: str, turn: "asyncio.Future[None]") -> None:
        turns = self._waiting.get(caller, {})
        if turns.pop(turn, None) is not None and not turns:
            del self._waiting[caller]

    def _give_back(self, size: int) -> None:
        """Make room, and let in whoever waits for it: first the callers with the fewest messages under way."""
        self._room += size
        while self._waiting and self._room >= self._max_message:
            caller = min(self._waiting, key=lambda waiting: self._taken[waiting])
            turn = next(iter(self._waiting[caller]))
            self._leave(caller, turn)
            if caller in self._waiting:  # others with as few come first the next time
                self._waiting[caller] = self._waiting.pop(caller)
            if not turn.done():
                self._take(caller)
                turn.set_result(None)


def _no_message() -> CallError:
    # gRPC says the same of a caller who has left meanwhile, and nobody reads it then.
    return Unsupported("the method takes one message, and none was sent")


async def _all_of(context: Any) -> AsyncIterator[bytes]:
    while isinstance(message := await context.read(), bytes):  # and not grpc.aio.EOF
        yield message


def too_many_streams(most: int, of_one: int, *, watch: bool) -> CallError:
    """The error for a stream that is one too many.

    Args:
        most: that there may be.
        of_one: that one connection may have.
        watch: it is a health watch.
    """
    message = (
        f"this server holds at most {most} streams (health Watch, reflection, ModelStreamInfer), {of_one} on a "
        "connection; ask with Check, or close some"
    )
    # gRPC's clients send no call to a server that refuses their watch, unless it says that it has none: whoever holds
    # all of them would keep everybody else out.
    return Unsupported(message) if watch else Overloaded(message, RETRY_SECONDS)


def parsed(message: bytes, deserialize: Callable[[bytes], Any] | None) -> Any:
    """A call's request message; the bytes themselves where the method takes bytes.

    Raises:
        InvalidRequest: the bytes are not that message.
    """
    if deserialize is None:
        return message
    try:
        return deserialize(message)
    except Exception as error:  # protobuf's DecodeError, whose place differs between its versions
        raise InvalidRequest("", f"the bytes are not the method's request message: {error}") from error


async def _end(context: Any, error: CallError) -> None:
    with suppress(grpc.aio.BaseError):
        await context.abort(error.code, str(error), error.trailing_metadata())


def _too_slow(seconds: float) -> Expired:
    return Expired(f"the message did not arrive within {seconds:.0f} s; send fewer images at a time")


def _no_room(size: int) -> Overloaded:
    return Overloaded(
        f"the server holds as many messages as it has room for ({size} bytes are kept for each)", RETRY_SECONDS
    )

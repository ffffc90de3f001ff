"""Calls of the wire that do not go to the batching loop: what a grpc.aio server would do with them."""

import asyncio
import inspect
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import grpc

from mlpserve_server.errors import CallError
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.limits import STREAMS_OF_ONE, parsed, too_many_streams
from mlpserve_server.transports.tokens import OPEN_TO_ALL
from mlpserve_wire import Event, Kind, Method, Wire, WireCall

log = logging.getLogger(__name__)

CONTROL_MESSAGE = 1 << 14  # bytes of the largest request; those are short
EVENTS_SECONDS = 1.0  # longest wait for an event before the thread looks whether it should end

Metadata = Iterable[tuple[str, str | bytes]]


class Handlers:
    """Collects what is registered with it as with a grpc.aio server."""

    def __init__(self) -> None:
        self.by_path: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        """Do nothing: the same handlers are registered by name too."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Add a service's methods."""
        self.by_path |= {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}

    def methods(self, largest: Mapping[str, int]) -> list[Method]:
        """Their methods, in their order.

        Args:
            largest: path → bytes of a method's largest request, where those are not short.
        """
        return [
            Method(
                path,
                Kind.STREAM if handler.request_streaming else Kind.CONTROL,
                largest.get(path, CONTROL_MESSAGE),
                open=path.startswith(OPEN_TO_ALL),
            )
            for path, handler in self.by_path.items()
        ]


class ControlCalls:
    """Answers a wire's events on an asyncio loop.

    Args:
        handlers: of the methods.
        first: the place of the first of them among the wire's methods.
        aio: whose loop it is.
        max_streams: most streams: health watches and reflection.
        on_dropped: told "streams" of each call that is one too many.
    """

    def __init__(
        self, handlers: Handlers, first: int, aio: AioThread, max_streams: int, on_dropped: Callable[[str], None]
    ) -> None:
        self._handlers = list(handlers.by_path.values())
        self._first = first
        self._aio = aio
        self._max_streams = max_streams
        self._on_dropped = on_dropped
        self._open: dict[int, _Context] = {}  # by number; belongs to the loop, as does the next
        self._streams: Counter[int] = Counter()  # by caller
        self._ending = False

    def start(self, wire: Wire) -> None:
        """Begin to take a wire's events."""
        self._wire = wire
        self._thread = threading.Thread(target=self._read, name="control", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """End; the wire has been stopped."""
        self._ending = True
        self._thread.join()

    def _read(self) -> None:
        while not self._ending:
            if events := self._wire.events(EVENTS_SECONDS):
                with suppress(RuntimeError):  # the loop has ended, and with it the server
                    self._aio.loop.call_soon_threadsafe(self._take, events)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            number = event.call.number
            if event.kind == "call":
                handler = self._handlers[event.call.method - self._first]
                context = self._open[number] = _Context(self._wire, event.call, handler.response_serializer)
                context.task = self._aio.loop.create_task(self._answer(handler, context, event.call))
                context.task.add_done_callback(partial(self._forget, number))
            elif (known := self._open.get(number)) is not None:
                if event.kind == "gone":
                    known.task.cancel()
                else:
                    known.messages.put_nowait(event.call.payload if event.kind == "message" else None)

    def _forget(self, number: int, _: "asyncio.Task[None]") -> None:
        del self._open[number]

    async def _answer(self, handler: Any, context: "_Context", call: WireCall) -> None:
        """Run a call's handler; whatever it does, the call ends with a status."""
        code, message = grpc.StatusCode.UNKNOWN, "the server failed; its log says why"
        trailing: Metadata = ()
        try:
            async with asyncio.timeout_at(call.deadline):  # the loop's clock is the wire's
                await self._serve(handler, context, call)
            code, message = grpc.StatusCode.OK, ""
        except _Aborted as aborted:
            code, message, trailing = aborted.code, aborted.details, aborted.trailing
        except CallError as error:
            code, message, trailing = error.code, str(error), tuple(error.trailing_metadata())
        except TimeoutError:
            code, message = grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed"
        except asyncio.CancelledError:
            code, message = grpc.StatusCode.CANCELLED, ""
            raise
        except Exception:
            log.exception("a control call failed")
        finally:
            self._wire.finish([call.number], code.value[0], message, trailing)

    async def _serve(self, handler: Any, context: "_Context", call: WireCall) -> None:
        if not handler.response_streaming:
            response = await handler.unary_unary(parsed(call.payload, handler.request_deserializer), context)
            await context.write(response)
            return
        self._count_stream(call.caller, watch=not handler.request_streaming)
        try:
            if handler.request_streaming:
                answering = handler.stream_stream(context.requests(handler.request_deserializer), context)
            else:
                answering = handler.unary_stream(parsed(call.payload, handler.request_deserializer), context)
            if inspect.isasyncgen(answering):
                async for response in answering:
                    await context.write(response)
            else:
                await answering
        finally:
            self._streams[call.caller] -= 1
            if not self._streams[call.caller]:
                del self._streams[call.caller]

    def _count_stream(self, caller: int, *, watch: bool) -> None:
        if self._streams.total() >= self._max_streams or self._streams[caller] >= STREAMS_OF_ONE:
            self._on_dropped("streams")
            raise too_many_streams(self._max_streams, STREAMS_OF_ONE, watch=watch)
        self._streams[caller] += 1


class _Context:
    """What handlers use of a grpc.aio.ServicerContext."""

    task: "asyncio.Task[None]"

    def __init__(self, wire: Wire, call: WireCall, serialize: Callable[[Any], bytes] | None) -> None:
        self._wire = wire
        self.call = call
        self._serialize = serialize or bytes
        self.messages: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, response: Any) -> None:
        self._wire.write(self.call.number, self._serialize(response))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        raise _Aborted(code, details, trailing_metadata)

    def invocation_metadata(self) -> Metadata:
        return self.call.metadata

    async def requests(self, deserialize: Callable[[bytes], Any] | None) -> AsyncIterator[Any]:
        while True:
            self._wire.ask(self.call.number)
            message = await self.messages.get()
            if message is None:
                return
            yield parsed(message, deserialize)


class _Aborted(Exception):
    """A handler ends its call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Metadata) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing = tuple(trailing)

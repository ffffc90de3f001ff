"""Transport over grpcio's own asyncio server.

The handler keeps messages as bytes; the batching loop's thread answers a whole batch with one hand-over to the event
loop.
"""

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import grpc

from mlpserve_server.calls import METHODS, MODEL_INFER, MODEL_STREAM_INFER, Answer, Call, PlainFormat
from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.control.services import ControlServices
from mlpserve_server.control.stream_infer import StreamInfer
from mlpserve_server.errors import CallError, Draining, ListenError
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.limits import ARRIVED, LIMIT_OPTIONS, Limits
from mlpserve_server.transports.listening import Listening, hang_up
from mlpserve_server.transports.sent_calls import AwaitedCall, resolve
from mlpserve_server.transports.settings import HANDSHAKE_SECONDS, KEEPALIVE_SECONDS, LOOK_SECONDS, MAX_HEADER_BYTES
from mlpserve_server.transports.tls import server_credentials
from mlpserve_server.transports.tokens import TokenInterceptor, Tokens, said_traffic

log = logging.getLogger(__name__)

# In flight on one connection. grpc.aio serves calls in the order in which they came, so others wait for all of them; it
# is no faster with more.
MAX_STREAMS = 128
READING_BYTES = 64 << 20  # of messages beside those of a full queue
QUIET_SECONDS, LONGEST_QUIETING = 0.1, 1.0
FLUSH_SECONDS = 0.2  # grace for statuses on their way; open Watch streams are cut off after it


class GrpcioTransport:
    """See `Transport`.

    Args:
        config, services, max_message, on_dropped, share_port: as for `open_transport`.
        tokens: that callers must show, or None.
    """

    name = "grpcio"

    def __init__(
        self,
        config: ServerConfig,
        services: ControlServices,
        max_message: int,
        tokens: Tokens | None,
        on_dropped: Callable[[str], None],
        share_port: bool,
    ) -> None:
        self._config = config
        self._credentials = server_credentials(config) if config.tls_cert else None
        pixels = max_message // config.max_request  # at least, of an image
        room = (config.max_queue + config.batch_queue) * pixels + max(READING_BYTES, 4 * max_message)
        self._limits = Limits(max_message, room, config.max_watches, on_dropped)
        self._tokens = tokens
        guards = [TokenInterceptor(tokens, partial(on_dropped, "unauthenticated"))] if tokens else []
        self._interceptors = [*guards, self._limits]
        self._services = services
        self._max_message = max_message
        self._share_port = share_port
        self._aio = AioThread()
        self._arrived: queue.SimpleQueue[list[AwaitedCall]] = queue.SimpleQueue()
        self._streams = StreamInfer(self._submit, max_message)
        self._gathered: list[AwaitedCall] = []  # belongs to the event loop, as do the next three
        self._open_calls = 0
        self._stopping = self._serving = False
        self._last_call = 0.0
        self._listening, self._missing = Listening(), 0

    def start(self) -> str:  # noqa: D102
        host, port = split_address(self._config.listen, "--listen")
        host = f"[{host}]" if ":" in host else host
        self._aio.start()
        try:
            port = self._aio.run(self._open(f"{host}:{port}"))
        except ListenError:
            self._aio.stop()
            raise
        self._host = host
        self._aio.keep_doing(self._look_after, LOOK_SECONDS)
        return f"{host}:{port}"

    async def _open(self, address: str) -> int:
        server = grpc.aio.server(interceptors=self._interceptors, options=self._options())
        try:
            if self._credentials:
                port = server.add_secure_port(address, self._credentials)
            else:
                port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ListenError(
                f"--listen {address}: the address is in use or cannot be bound; take another address"
            ) from error
        carried: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            path: grpc.unary_unary_rpc_method_handler(partial(self._carry, index)) for index, path in enumerate(METHODS)
        }
        carried[MODEL_STREAM_INFER] = grpc.stream_stream_rpc_method_handler(self._streams.serve)
        await self._services.register(server, carried)
        await server.start()
        self._server, self._listening.port = server, port
        self._listening.look()
        return port

    async def _look_after(self) -> None:
        self._limits.sweep()
        # Twice in a row: a listing of descriptors that change meanwhile may miss one.
        self._missing = 0 if self._listening.look() else self._missing + 1
        if self._missing >= 2 and not self._stopping:
            await self._open_again(f"{self._host}:{self._listening.port}")
            self._missing = 0

    async def _open_again(self, address: str) -> None:
        """Open the server again: grpc.aio ends it on one call whose method is no UTF-8."""
        log.error("gRPC's server has ended by itself, as on a malformed call; it is opened again")
        await self._open(address)
        await self._services.set_serving(self._serving)

    def listened(self) -> float:  # noqa: D102
        return self._listening.seen

    def _options(self) -> list[tuple[str, int]]:
        config = self._config
        max_streams = config.max_streams or MAX_STREAMS
        options = [
            # gRPC's default of 1 would let a second server start on this port, and share its connections.
            ("grpc.so_reuseport", int(self._share_port)),
            ("grpc.max_receive_message_length", self._max_message),
            ("grpc.max_concurrent_streams", max_streams),
            *LIMIT_OPTIONS,
            # A caller that resets its calls has so many more of them at a time; those that keep to the limit need it,
            # because a call counts for a while after its end.
            ("grpc.http2.max_deallocating_streams", max_streams),
            ("grpc.max_metadata_size", MAX_HEADER_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
            # A caller that is gone without a word is noticed, and one that stalls in its handshake does not stay.
            ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            # Many meshes ask every ten seconds, and now and then a little sooner.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ]
        if config.max_connections:
            options.append(("grpc.max_allowed_incoming_connections", config.max_connections))
        if config.max_connection_idle:
            options.append(("grpc.max_connection_idle_ms", round(config.max_connection_idle * 1000)))
        if config.max_connection_age:
            options.append(("grpc.max_connection_age_ms", round(config.max_connection_age * 1000)))
            options.append(("grpc.max_connection_age_grace_ms", round(config.drain_timeout * 1000)))
        return options

    async def _carry(self, method: int, payload: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        if self._stopping:
            await context.abort(Draining.code, "the server has shut down")
        call = self._arrive(method, payload, context, ARRIVED.get())
        del payload
        try:
            result = await call.answer
        except asyncio.CancelledError:
            call.alive = False
            raise
        finally:
            self._open_calls -= 1
            call.payload = b""  # an aborted call is a cycle of references, which may stay for long
        if isinstance(result, CallError):
            await context.abort(result.code, str(result), result.trailing_metadata())
        return result

    def _arrive(
        self, method: int, payload: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]", arrived: float
    ) -> AwaitedCall:
        """Hand the batching loop a call; it counts as open until it has been answered."""
        now = self._last_call = time.monotonic()
        call = AwaitedCall(payload, arrived, None, method, context.peer())
        if (left := context.time_remaining()) is not None:
            call.deadline = now + left
        call.answer = self._aio.loop.create_future()
        call.sent = context.invocation_metadata() or ()  # gRPC frees it when the call ends
        call.said = said_traffic(call.sent)
        if self._tokens is not None and (bearer := self._tokens.find(call.sent)) is not None:
            call.caller, call.only_batch = bearer
        self._open_calls += 1
        if not self._gathered:
            self._aio.loop.call_soon(self._hand_over)
        self._gathered.append(call)
        return call

    def _hand_over(self) -> None:
        """Wake the batching loop once for all that has arrived in one turn of the event loop."""
        calls, self._gathered = self._gathered, []
        if calls:
            self._arrived.put(calls)

    def _submit(self, payload: bytes, context: Any) -> AwaitedCall:
        """A request of a stream; see `StreamInfer`."""
        if self._stopping:
            raise Draining("the server has shut down")
        call = self._arrive(METHODS.index(MODEL_INFER), payload, context, time.monotonic())
        call.answer.add_done_callback(self._submitted_ended)
        return call

    def _submitted_ended(self, _: "asyncio.Future[bytes | CallError]") -> None:
        self._open_calls -= 1

    def expect(self, formats: Sequence[PlainFormat]) -> None:
        """Nothing: every call is an object here."""

    def receive(self, timeout: float) -> list[Call]:  # noqa: D102
        calls: list[Call] = []
        try:
            calls += self._arrived.get(timeout=timeout) if timeout > 0 else self._arrived.get_nowait()
            while True:
                calls += self._arrived.get_nowait()
        except queue.Empty:
            return calls

    def send(self, answers: Sequence[Answer]) -> float:  # noqa: D102
        # After a drain that took too long the event loop is gone, and so are the callers.
        with suppress(RuntimeError):
            self._aio.loop.call_soon_threadsafe(resolve, answers)
        return time.monotonic()  # gRPC does not say when it has sent them

    def set_serving(self, serving: bool) -> None:  # noqa: D102
        self._serving = serving
        self._aio.run(self._services.set_serving(serving))

    def stop(self) -> None:  # noqa: D102
        self._aio.run(self._stop())
        self._aio.stop()

    async def _stop(self) -> None:
        self._stopping = True
        self._hand_over()
        # Whatever has come since the loop ended was not accepted, so its caller may safely go elsewhere.
        resolve([(call, Draining("the server has shut down")) for call in self.receive(0)])
        # grpc.aio ends a call that comes while it stops with CANCELLED, which no caller expects. So callers are told
        # UNAVAILABLE until they have stopped coming; those that do not stop are hung up on, which is UNAVAILABLE too.
        deadline = time.monotonic() + LONGEST_QUIETING
        while self._open_calls or time.monotonic() - self._last_call < QUIET_SECONDS:
            if time.monotonic() >= deadline:
                hang_up(self._listening.port)
                break
            await asyncio.sleep(0.005)
        await self._server.stop(grace=FLUSH_SECONDS)

"""Transport over grpcio's own asyncio server.

The handler keeps messages as bytes; the batching loop's thread answers a whole batch with one hand-over to the event
loop.
"""

import asyncio
import logging
import os
import queue
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import CallError, Draining, ListenError
from mlpserve_server.methods import METHODS
from mlpserve_server.security import TokenInterceptor, Tokens, server_credentials
from mlpserve_server.services import BURST_OPTIONS, ControlServices
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.base import (
    HANDSHAKE_SECONDS,
    KEEPALIVE_SECONDS,
    MAX_HEADER_BYTES,
    Answer,
    Call,
)

log = logging.getLogger(__name__)

LISTENING_CHECK_SECONDS = 0.25
QUIET_SECONDS, LONGEST_QUIETING = 0.1, 1.0
FLUSH_SECONDS = 0.2  # grace for statuses on their way; open Watch streams are cut off after it


class GrpcioTransport:
    """See `Transport`.

    Args:
        config, services, max_message, on_denied, share_port: as for `open_transport`.
        tokens: that callers must show, or None.
    """

    name = "grpcio"

    def __init__(
        self,
        config: ServerConfig,
        services: ControlServices,
        max_message: int,
        tokens: Tokens | None,
        on_denied: Callable[[], None],
        share_port: bool,
    ) -> None:
        self._config = config
        self._credentials = server_credentials(config) if config.tls_cert else None
        self._interceptors = [TokenInterceptor(tokens, on_denied)] if tokens else []
        self._services = services
        self._max_message = max_message
        self._share_port = share_port
        self._aio = AioThread()
        self._arrived: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._open_calls = 0  # belongs to the event loop, as do the next two
        self._stopping = self._serving = False
        self._last_call = 0.0

    def start(self) -> str:  # noqa: D102
        host, port = split_address(self._config.listen, "--listen")
        host = f"[{host}]" if ":" in host else host
        self._aio.start()
        try:
            port = self._aio.run(self._open(f"{host}:{port}"))
            self._keeping = self._aio.run(self._start_keeping(host))
        except ListenError:
            self._aio.stop()
            raise
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
        await self._services.register(server, carried)
        await server.start()
        self._server, self._bound_port = server, port
        return port

    async def _start_keeping(self, host: str) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self._keep(host))

    async def _keep(self, host: str) -> None:
        """Open the server again when it has ended by itself: grpc.aio does, on one call whose method is no UTF-8."""
        missing = 0
        while not self._stopping:
            await asyncio.sleep(LISTENING_CHECK_SECONDS)
            listening = any(_is_listening(shared) for shared in _sockets(self._bound_port))
            # Twice in a row: a listing of descriptors that change meanwhile may miss one.
            missing = 0 if listening else missing + 1
            if not self._stopping and missing >= 2:
                missing = 0
                log.error("gRPC's server has ended by itself, as on a malformed call; it is opened again")
                try:
                    await self._open(f"{host}:{self._bound_port}")
                    await self._services.set_serving(self._serving)
                except ListenError as error:
                    log.error("it cannot be opened again: %s", error)

    def _options(self) -> list[tuple[str, int]]:
        config = self._config
        options = [
            # gRPC's default of 1 would let a second server start on this port, and share its connections.
            ("grpc.so_reuseport", int(self._share_port)),
            ("grpc.max_receive_message_length", self._max_message),
            ("grpc.max_concurrent_streams", config.max_streams),
            # It refuses calls while those before them are still closing, though callers keep to the limit.
            ("grpc.http.overload_protection", 0),
            ("grpc.max_metadata_size", MAX_HEADER_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES),
            # A caller that is gone without a word is noticed, and one that stalls in its handshake does not stay.
            ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
            *BURST_OPTIONS,
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
        self._last_call = time.monotonic()
        if self._stopping:
            await context.abort(Draining.code, "the server has shut down")
        answer: asyncio.Future[bytes | CallError] = self._aio.loop.create_future()
        sent = context.invocation_metadata()  # gRPC frees it when the call ends
        call = Call(payload, self._last_call, context.time_remaining(), answer, method, sent)
        self._open_calls += 1
        self._arrived.put(call)
        try:
            result = await answer
        except asyncio.CancelledError:
            call.alive = False
            raise
        finally:
            self._open_calls -= 1
        if isinstance(result, CallError):
            await context.abort(result.code, str(result), result.trailing_metadata())
        return result

    def receive(self, timeout: float) -> list[Call]:  # noqa: D102
        calls = []
        try:
            calls.append(self._arrived.get(timeout=timeout) if timeout > 0 else self._arrived.get_nowait())
            while True:
                calls.append(self._arrived.get_nowait())
        except queue.Empty:
            return calls

    def send(self, answers: list[Answer]) -> None:  # noqa: D102
        # After a drain that took too long the event loop is gone, and so are the callers.
        with suppress(RuntimeError):
            self._aio.loop.call_soon_threadsafe(_resolve, answers)

    def metadata(self, call: Call) -> Mapping[str, str]:  # noqa: D102
        return {key: value for key, value in call.context or () if isinstance(value, str)}

    def set_serving(self, serving: bool) -> None:  # noqa: D102
        self._serving = serving
        self._aio.run(self._services.set_serving(serving))

    def stop(self) -> None:  # noqa: D102
        self._aio.run(self._stop())
        self._aio.stop()

    async def _stop(self) -> None:
        self._stopping = True
        self._keeping.cancel()
        # Whatever has come since the loop ended was not accepted, so its caller may safely go elsewhere.
        _resolve([(call, Draining("the server has shut down")) for call in self.receive(0)])
        # grpc.aio ends a call that comes while it stops with CANCELLED, which no caller expects. So callers are told
        # UNAVAILABLE until they have stopped coming; those that do not stop are hung up on, which is UNAVAILABLE too.
        deadline = time.monotonic() + LONGEST_QUIETING
        while self._open_calls or time.monotonic() - self._last_call < QUIET_SECONDS:
            if time.monotonic() >= deadline:
                _hang_up(self._bound_port)
                break
            await asyncio.sleep(0.005)
        await self._server.stop(grace=FLUSH_SECONDS)


def _hang_up(port: int) -> None:
    """End every TCP connection to a port of this process, and stop listening on it."""
    for shared in _sockets(port):
        with suppress(OSError):
            shared.shutdown(socket.SHUT_RDWR)


def _is_listening(shared: socket.socket) -> bool:
    return bool(shared.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _sockets(port: int) -> Iterator[socket.socket]:
    """This process's TCP sockets on a port of its own; gRPC does not hand them out."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not entry.is_socket():
                continue
            shared = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue  # gone in the meantime
        with shared, suppress(OSError):
            if shared.family in (socket.AF_INET, socket.AF_INET6) and shared.getsockname()[1] == port:
                yield shared


def _resolve(answers: list[Answer]) -> None:
    for call, answer in answers:
        if not call.handle.done():
            call.handle.set_result(answer)

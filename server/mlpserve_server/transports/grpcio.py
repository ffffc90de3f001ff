"""Transport over grpcio's own asyncio server.

The handler keeps messages as bytes; the batching loop's thread answers a whole batch with one hand-over to the event
loop.
"""

import asyncio
import queue
import time
from contextlib import suppress

import grpc

from mlpserve_server.errors import CallError, Draining, ListenError
from mlpserve_server.services import BURST_OPTIONS, ControlServices
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.base import Answer, Call

QUIET_SECONDS, LONGEST_QUIETING = 0.1, 1.0
FLUSH_SECONDS = 0.2  # grace for statuses on their way; open Watch streams are cut off after it


class GrpcioTransport:
    """See `Transport`.

    Args:
        host, port: where to listen.
        services: everything but Predict.
        max_message: largest request in bytes.
        share_port: let other processes listen on the same port (SO_REUSEPORT).
    """

    name = "grpcio"

    def __init__(self, host: str, port: int, services: ControlServices, max_message: int, share_port: bool) -> None:
        self._host, self._port = host, port
        self._services = services
        self._max_message = max_message
        self._share_port = share_port
        self._aio = AioThread()
        self._arrived: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._open_calls = 0  # belongs to the event loop, as do the next two
        self._stopping = False
        self._last_call = 0.0

    def start(self) -> str:  # noqa: D102
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._aio.start()
        try:
            port = self._aio.run(self._start(f"{host}:{self._port}"))
        except ListenError:
            self._aio.stop()
            raise
        return f"{host}:{port}"

    async def _start(self, address: str) -> int:
        self._server = grpc.aio.server(
            options=[
                # gRPC's default of 1 would let a second server start on this port, and share its connections.
                ("grpc.so_reuseport", int(self._share_port)),
                ("grpc.max_receive_message_length", self._max_message),
                *BURST_OPTIONS,
            ]
        )
        await self._services.register(self._server, predict=grpc.unary_unary_rpc_method_handler(self._predict))
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ListenError(
                f"--listen {address}: the address is in use or cannot be bound; take another address"
            ) from error
        await self._server.start()
        return port

    async def _predict(self, payload: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        self._last_call = time.monotonic()
        if self._stopping:
            await context.abort(Draining.code, "the server has shut down")
        answer: asyncio.Future[bytes | CallError] = self._aio.loop.create_future()
        call = Call(payload, self._last_call, context.time_remaining(), answer)
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

    def set_serving(self, serving: bool) -> None:  # noqa: D102
        self._aio.run(self._services.set_serving(serving))

    def stop(self) -> None:  # noqa: D102
        self._aio.run(self._stop())
        self._aio.stop()

    async def _stop(self) -> None:
        self._stopping = True
        # Whatever has come since the loop ended was not accepted, so its caller may safely go elsewhere.
        _resolve([(call, Draining("the server has shut down")) for call in self.receive(0)])
        # grpc.aio ends a call that comes while it stops with CANCELLED, which no caller expects. So callers are told
        # UNAVAILABLE until they have stopped coming.
        deadline = time.monotonic() + LONGEST_QUIETING
        while time.monotonic() < deadline and (self._open_calls or time.monotonic() - self._last_call < QUIET_SECONDS):
            await asyncio.sleep(0.005)
        await self._server.stop(grace=FLUSH_SECONDS)


def _resolve(answers: list[Answer]) -> None:
    for call, answer in answers:
        if not call.handle.done():
            call.handle.set_result(answer)

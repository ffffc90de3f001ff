"""When a call is taken to have arrived over grpcio, which does not say."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from mlpserve_server.transports.limits import ARRIVED, FIRST_BYTES, Limits

READING = 0.05  # seconds that the event loop takes to come round to a message


class _Context:
    """As gRPC gives it, with a message that is read after a while."""

    def __init__(self, message: bytes) -> None:
        self._message = message

    def peer(self) -> str:
        return "a caller"

    async def read(self) -> bytes:
        await asyncio.sleep(READING)
        return self._message


@pytest.mark.parametrize(
    ("size", "while_reading"), [(784, True), (FIRST_BYTES, True), (FIRST_BYTES + 1, False)], ids=str
)
def test_arrival(size: int, while_reading: bool) -> None:
    """What comes with the call has arrived when that has; what needs more than the first window, when it is read."""
    arrived: list[float] = []

    async def method(_: bytes, __: Any) -> bytes:
        arrived.append(ARRIVED.get())
        return b""

    async def call() -> float:
        limits = Limits(1 << 20, 1 << 20, 1, lambda reason: None)

        async def continuation(_: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(method)

        class Details:
            method = "/a.Service/Method"

        handler = await limits.intercept_service(continuation, Details())  # type: ignore[arg-type]
        began = time.monotonic()
        await handler.stream_unary(None, _Context(bytes(size)))
        return began

    began = asyncio.run(call())
    assert (arrived[0] - began < READING) == while_reading

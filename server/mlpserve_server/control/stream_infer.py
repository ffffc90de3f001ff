"""ModelStreamInfer: requests on one call, each on the path of ModelInfer, answered in their order.

requests ──▶ _read ──▶ submit: the batching loop ──▶ their answers, the oldest first ──▶ write
▲                                                                    │
└────────── as long as not too many are under way ◀──────────────────┘
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from google.protobuf.message import DecodeError

from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.codecs.protobuf import field
from mlpserve_server.errors import CallError, Draining, Overloaded

STREAM_BYTES = 256 << 20  # of messages that all streams may hold
MOST_UNDER_WAY = 256  # requests of one stream
ANSWER_TAG = b"\x12"  # of ModelStreamInferResponse: field 2, length-delimited
RETRY_SECONDS = 1.0
ERRORS_END = ("triton_grpc_error", "true")  # metadata by which Triton's clients ask for a status instead of a message


class Submitted(Protocol):
    """A call that the batching loop has got.

    Attributes:
        payload: the request message's bytes.
        alive: False once nobody waits for the answer.
        answer: what comes back.
    """

    payload: bytes
    alive: bool
    answer: "asyncio.Future[bytes | CallError]"


Submit = Callable[[bytes, Any], Submitted]


class StreamInfer:
    """Serves streams; belongs to one event loop.

    Args:
        submit: takes a request's bytes and its stream's context, and hands the batching loop a call for it.
        max_message: bytes of the largest request.
    """

    def __init__(self, submit: Submit, max_message: int) -> None:
        self._submit = submit
        self._max_message = max_message
        # One message may be arriving, and as many bytes be under way.
        self._most = max(1, STREAM_BYTES // (2 * max_message))
        self._open = 0

    async def serve(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Answer the requests of one stream.

        Args:
            requests: as they come; asked for only as long as not too many are under way.
            context: of the call: its metadata, and `write`.

        Raises:
            Overloaded: there are too many streams.
            CallError: what ends the stream: the server drains, or its caller wants errors so.
        """
        if self._open >= self._most:
            raise Overloaded(f"this server holds at most {self._most} streams of ModelStreamInfer", RETRY_SECONDS)
        self._open += 1
        conversation = _Conversation(self._submit, context, self._max_message)
        reading = asyncio.ensure_future(conversation.read(requests))
        try:
            await conversation.answer()
            await reading
        finally:
            self._open -= 1
            reading.cancel()
            conversation.leave()


class _Conversation:
    """One stream."""

    def __init__(self, submit: Submit, context: Any, most_bytes: int) -> None:
        self._submit = submit
        self._context = context
        self._most_bytes = most_bytes
        self._errors_end = ERRORS_END in {*(context.invocation_metadata() or ())}
        self._calls: asyncio.Queue[Submitted | None] = asyncio.Queue()
        self._under_way: set[Submitted] = set()  # what is not answered
        self._bytes = 0  # of it
        self._answered = asyncio.Event()

    async def read(self, requests: AsyncIterator[bytes]) -> None:
        try:
            async for payload in requests:
                call = self._submit(payload, self._context)
                self._under_way.add(call)
                self._bytes += len(payload)
                self._calls.put_nowait(call)
                while self._bytes >= self._most_bytes or len(self._under_way) >= MOST_UNDER_WAY:
                    self._answered.clear()
                    await self._answered.wait()
        finally:
            self._calls.put_nowait(None)

    async def answer(self) -> None:
        while (call := await self._calls.get()) is not None:
            payload = call.payload
            result = await call.answer
            self._under_way.discard(call)
            self._bytes -= len(payload)
            self._answered.set()
            if isinstance(result, bytes):
                await self._context.write(field(ANSWER_TAG, result))
            elif self._errors_end or isinstance(result, Draining):
                raise result
            else:
                await self._context.write(_refusal(payload, result))

    def leave(self) -> None:
        """Let nobody run what nobody waits for."""
        for call in self._under_way:
            call.alive = False


def _refusal(payload: bytes, error: CallError) -> bytes:
    response = oip.ModelStreamInferResponse(error_message=f"{error.code.name}: {error}")
    try:
        response.infer_response.id = oip.ModelInferRequest.FromString(payload).id
    except DecodeError:
        response.infer_response.SetInParent()
    return response.SerializeToString()

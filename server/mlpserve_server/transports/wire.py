"""Transport over mlpserve-wire: HTTP/2, gRPC, TLS and every limit in a compiled module, outside the GIL.

All methods are on the one port: calls of METHODS are received in batches, the others are events for `ControlCalls`.
"""

import os
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt
from grpc import StatusCode

import mlpserve_wire
from mlpserve_server.calls import (
    METHODS,
    MODEL_INFER,
    MODEL_STREAM_INFER,
    TRAFFIC_KEY,
    Answer,
    Call,
    PlainFormat,
    Rows,
)
from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.control.services import ControlServices
from mlpserve_server.control.stream_infer import StreamInfer
from mlpserve_server.errors import CallError, ConfigError, ListenError, Overloaded
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.control_calls import ControlCalls, Handlers
from mlpserve_server.transports.limits import RETRY_SECONDS
from mlpserve_server.transports.sent_calls import AwaitedCall, NumberedCall, resolve
from mlpserve_server.transports.settings import HANDSHAKE_SECONDS, KEEPALIVE_SECONDS, LOOK_SECONDS, MAX_HEADER_BYTES
from mlpserve_server.transports.tls import Pem, watch
from mlpserve_server.transports.tokens import Tokens, said_traffic
from mlpserve_wire import Column, Kind, Limits, Method, Wire, WireCall, listening_socket

INTERFACE = 2
if getattr(mlpserve_wire, "INTERFACE", 1) != INTERFACE:
    raise ImportError("the mlpserve-wire that is installed is not this server's")

READING_BYTES = 64 << 20  # of messages beside those of a full queue
CALL_BYTES = 2560  # that the wire counts for a call beside its message, with usual metadata
FLUSH_SECONDS = 1.0  # for callers to read the last statuses
# How long the batching loop may be away before the wire's own thread reads and writes, which on one CPU would only take
# time from the Run.
TAKEOVER_SECONDS = 0.0002 if cpu_count() > 1 else 0.002
TELLING = (
    TRAFFIC_KEY,
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
)  # headers of calls that the server reads
# Counts of the wire, each with the reason for which its calls were dropped.
DROPPED = {"unauthenticated": "unauthenticated", "slow": "slow", "unread": "unread"}


class WireTransport:
    """See `Transport`.

    Args:
        config, services, max_message, on_dropped, share_port: as for `open_transport`.
        tokens: that callers must show, or None.
    """

    name = "wire"

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
        self._services = services
        self._max_message = max_message
        self._tokens = tokens
        self._on_dropped = on_dropped
        self._share_port = share_port
        self._aio = AioThread()
        self._calls: dict[int, Call] = {}
        self._streams = StreamInfer(self._submit, max_message)
        self._submitted: queue.SimpleQueue[AwaitedCall] = queue.SimpleQueue()  # requests of streams
        self._counted = dict.fromkeys(DROPPED, 0)
        self._certificates = watch(config, self._use) if config.tls_cert else None
        self._digests: list[bytes] | None = None

    def start(self) -> str:  # noqa: D102
        host, port = split_address(self._config.listen, "--listen")
        target = f"[{host}]" if ":" in host else host
        try:
            listening = listening_socket(f"{target}:{port}", share_port=self._share_port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise ListenError(f"--listen {target}:{port}: {reason}; take another address") from error
        port = listening.getsockname()[1]
        self._aio.start()
        handlers = Handlers()
        streams: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._streams.serve)
        self._aio.run(self._services.register(handlers, {MODEL_STREAM_INFER: streams}))
        hot = [Method(path, Kind.HOT, self._max_message) for path in METHODS]
        control = handlers.methods({MODEL_STREAM_INFER: self._max_message})
        self._wire = Wire(self._limits(), [*hot, *control], telling=TELLING, takeover=TAKEOVER_SECONDS)
        self._control = ControlCalls(handlers, len(hot), self._aio, self._config.max_watches, self._on_dropped)
        busy = Overloaded("the server holds as many messages as it has room for", RETRY_SECONDS)
        self._wire.set_no_room(str(busy), busy.trailing_metadata())
        if self._certificates:
            self._use(self._certificates[0])
        self._look_at_tokens()
        self._wire.listen(listening.detach())
        self._wire.start()
        self._control.start(self._wire)
        self._aio.keep_doing(self._look_after, LOOK_SECONDS)
        return f"{target}:{port}"

    def _limits(self) -> Limits:
        config = self._config
        pixels = self._max_message // config.max_request  # at least, of an image
        waiting = (config.max_queue + config.batch_queue) * pixels + config.max_queue * CALL_BYTES
        room = waiting + max(READING_BYTES, 4 * self._max_message)
        defaults = Limits()
        return Limits(
            max_connections=config.max_connections or defaults.max_connections,
            max_streams=config.max_streams or defaults.max_streams,
            max_header_bytes=MAX_HEADER_BYTES,
            room=room,
            room_of_one=room // 2,
            handshake_seconds=HANDSHAKE_SECONDS,
            idle_seconds=config.max_connection_idle,
            age_seconds=config.max_connection_age,
            grace_seconds=config.drain_timeout,
            keepalive_seconds=KEEPALIVE_SECONDS,
        )

    def _use(self, pem: Pem) -> None:
        try:
            self._wire.set_tls(*pem)
        except ValueError as error:  # OpenSSL's own rules, which Python's do not have
            raise ConfigError(f"--tls-cert {self._config.tls_cert}: {error}") from error

    def _look_at_tokens(self) -> None:
        if self._tokens is not None and (digests := self._tokens.digests()) != self._digests:
            self._digests = digests
            self._wire.set_tokens(digests)

    async def _look_after(self) -> None:
        if self._certificates:
            self._certificates[1].look()
        self._look_at_tokens()
        self._count_dropped()

    def _count_dropped(self) -> None:
        counters = self._wire.counters()
        for name, reason in DROPPED.items():
            for _ in range(counters[name] - self._counted[name]):
                self._on_dropped(reason)
            self._counted[name] = counters[name]

    def listened(self) -> float:  # noqa: D102
        return self._wire.listened()

    def expect(self, formats: Sequence[PlainFormat]) -> None:  # noqa: D102
        self._wire.set_plain([mlpserve_wire.PlainFormat(*form) for form in formats])

    def receive(self, timeout: float) -> Sequence[Call | Rows]:  # noqa: D102
        arrived = self._wire.receive(timeout)
        calls = [self._call(item) if isinstance(item, WireCall) else self._rows(item) for item in arrived.items]
        if len(arrived.gone):  # some of them may have come just now
            gone = arrived.gone.tolist()
            for number in gone:
                if (call := self._calls.pop(number, None)) is not None:
                    call.alive = False
            self._wire.finish(gone, StatusCode.CANCELLED.value[0], "", ())  # nobody is to be told, but all are owed it
        while not self._submitted.empty():  # this thread alone takes from it
            calls.append(self._submitted.get_nowait())
        return calls

    def _submit(self, payload: bytes, context: Any) -> AwaitedCall:
        """A request of a stream; see `StreamInfer`."""
        stream: WireCall = context.call
        call = AwaitedCall(payload, time.monotonic(), None, METHODS.index(MODEL_INFER), stream.caller)
        call.deadline, call.sent = stream.deadline, stream.metadata
        call.said = said_traffic(stream.metadata)
        if stream.bearer and self._tokens is not None:
            call.caller, call.only_batch = self._tokens.bearer(stream.bearer)
        call.answer = self._aio.loop.create_future()
        self._submitted.put(call)
        self._wire.nudge()
        return call

    def _call(self, sent: WireCall) -> Call:
        call = NumberedCall(sent.payload, sent.arrived, None, sent.method, sent.caller)
        call.deadline, call.number, call.sent = sent.deadline, sent.number, sent.metadata
        call.said = said_traffic(sent.metadata) if sent.metadata else ""
        if sent.bearer and self._tokens is not None:
            call.caller, call.only_batch = self._tokens.bearer(sent.bearer)
        self._calls[call.number] = call
        return call

    def _rows(self, column: Column) -> Rows:
        pixels = column.pixels
        form = PlainFormat(column.method, column.prefix, pixels.shape[1])
        rows = Rows(self, form, pixels, column.numbers, column.callers, column.arrived, column.deadlines)
        if column.bearer and self._tokens is not None:
            rows.caller, rows.only_batch = self._tokens.bearer(column.bearer)
        return rows

    def alive(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:  # noqa: D102
        return self._wire.alive(numbers)

    def call(self, rows: Rows, place: int) -> Call:  # noqa: D102
        payload = rows.form.prefix + rows.pixels[place].tobytes()
        call = NumberedCall(payload, float(rows.arrived[place]), None, rows.method)
        call.deadline, call.number, call.sent = float(rows.deadlines[place]), int(rows.numbers[place]), ()
        self._calls[call.number] = call
        if not self._wire.is_alive(call.number):  # asked now, for who leaves later is told of
            call.alive = False
            del self._calls[call.number]
        return call

    def send(self, answers: Sequence[Answer]) -> float:  # noqa: D102
        sent = 0.0
        replies: list[tuple[int, bytes]] = []
        awaited: list[Answer] = []
        for calls, answer in answers:
            if isinstance(calls, Rows):
                sent = self._wire.send_rows(calls.numbers, cast("npt.NDArray[np.uint8]", answer))
                continue
            if isinstance(calls, AwaitedCall):
                awaited.append((calls, cast("bytes | CallError", answer)))
                continue
            number = cast(NumberedCall, calls).number  # `_call` has made it
            self._calls.pop(number, None)
            if isinstance(answer, CallError):
                self._wire.finish([number], answer.code.value[0], str(answer), answer.trailing_metadata())
            else:
                replies.append((number, cast(bytes, answer)))
        if replies:
            sent = self._wire.send(replies)
        if awaited:
            with suppress(RuntimeError):  # after a drain that took too long the event loop is gone
                self._aio.loop.call_soon_threadsafe(resolve, awaited)
        return sent or time.monotonic()

    def set_serving(self, serving: bool) -> None:  # noqa: D102
        self._aio.run(self._services.set_serving(serving))

    def stop(self) -> None:  # noqa: D102
        self._wire.stop(FLUSH_SECONDS)
        self._control.join()
        self._aio.stop()

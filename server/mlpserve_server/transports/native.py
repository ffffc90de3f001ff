"""Transport over pygrpc-native: HTTP/2 and gRPC run in Rust, outside the GIL.

Predict and ModelInfer calls are received in batches. Every other method goes to a grpc.aio server on a Unix socket
behind it. It has no TLS and buffers a message before its size can be checked: an exposed port belongs to the grpcio
transport or behind a proxy.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

import grpc
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from mlpserve_server.calls import METHODS, Answer, Call
from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.control.services import ControlServices
from mlpserve_server.errors import CallError, ListenError, MessageTooLarge
from mlpserve_server.host.cpus import cpu_count
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.limits import LIMIT_OPTIONS, Limits
from mlpserve_server.transports.listening import Listening
from mlpserve_server.transports.sent_calls import NumberedCall
from mlpserve_server.transports.settings import KEEPALIVE_SECONDS, LOOK_SECONDS, MAX_HEADER_BYTES
from mlpserve_server.transports.tokens import DENIED, Metadata, TokenInterceptor, Tokens, said_traffic

MAX_EVENTS = 4096  # of one receive; more wait for the next one
IO_THREADS = min(2, max(1, cpu_count() - 1))  # one CPU is the batching loop's
# Bytes: largest request of the other methods, and of all of them. Those are short, and with room for few of them a
# caller that never finishes some, whom the front does not tell from the others, would keep out the checks of health.
CONTROL_MESSAGE, CONTROL_ROOM = 1 << 14, 64 << 20
FRONT_LOGGER, REPEAT_SECONDS = "pygrpc_native.server", 10.0
NO_DETAILS: "tuple[Metadata, Hashable, float | None]" = ((), "", None)
FLUSH_SECONDS = 0.05  # from the last answer to closing the connections, for the Rust threads to write it


class NativeTransport:
    """See `Transport`.

    Args:
        config, services, max_message, on_dropped, share_port: as for `open_transport`.
        tokens: that callers must show, or None.
    """

    name = "native"

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
        self._tokens = tokens
        self._on_dropped = on_dropped
        self._max_message = max_message
        self._share_port = share_port
        # Its callers are one socket to it, so it cannot tell them apart.
        most = config.max_watches
        self._limits = Limits(CONTROL_MESSAGE, CONTROL_ROOM, most, on_dropped, streams_of_one=most)
        self._listening = Listening()
        self._aio = AioThread()
        self._calls: dict[int, Call] = {}

    def start(self) -> str:  # noqa: D102
        host, port = split_address(self._config.listen, "--listen")
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        front_logger = logging.getLogger(FRONT_LOGGER)
        if not any(isinstance(present, _OnceInAWhile) for present in front_logger.filters):
            front_logger.addFilter(_OnceInAWhile())
        with ExitStack() as opened:
            self._aio.start()
            opened.callback(self._aio.stop)
            try:
                folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="mlpserve-"))
                fallback = Path(folder) / "control.sock"
                self._aio.run(self._start_fallback(f"unix:{fallback}"))
            except (OSError, RuntimeError) as error:
                raise ListenError(
                    f"the native transport cannot make its control socket ({error}); it needs a writable temporary "
                    "folder with a path below 90 characters (TMPDIR), or use --transport grpcio"
                ) from error
            opened.callback(lambda: self._aio.run(self._server.stop(grace=0)))
            try:
                # Without call_details the front reports neither deadlines nor cancellations.
                self._front = NativeGrpcFront(
                    target,
                    [(method, False) for method in METHODS],
                    io_threads=IO_THREADS,
                    call_details=True,
                    reuse_port=self._share_port,
                    max_concurrent_streams=self._config.max_streams,
                    max_metadata_size=MAX_HEADER_BYTES,
                    keepalive_time_ms=KEEPALIVE_SECONDS * 1000,
                )
                opened.callback(self._front.close)
                self._front.set_fallback(str(fallback))
                self._front.start()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else error.strerror
                raise ListenError(f"--listen {target}: {reason}; take another address") from error
            self._listening.port = self._front.bound_port
            self._aio.keep_doing(self._look_after, LOOK_SECONDS)
            self._opened = opened.pop_all()
        return f"{target.rpartition(':')[0]}:{self._front.bound_port}"

    async def _start_fallback(self, address: str) -> None:
        guards = [TokenInterceptor(self._tokens, partial(self._on_dropped, "unauthenticated"))] if self._tokens else []
        options = [*LIMIT_OPTIONS, ("grpc.max_receive_message_length", CONTROL_MESSAGE)]
        self._server = grpc.aio.server(interceptors=[*guards, self._limits], options=options)
        await self._services.register(self._server)
        self._server.add_insecure_port(address)
        await self._server.start()

    async def _look_after(self) -> None:
        self._limits.sweep()
        self._listening.look()

    def listened(self) -> float:  # noqa: D102
        return self._listening.seen

    def receive(self, timeout: float) -> list[Call]:  # noqa: D102
        calls: list[Call] = []
        events = self._front.recv_batch_details(MAX_EVENTS, int(timeout * 1000)) or ()
        now = time.monotonic()
        for kind, call_id, method, payload, _, details in events:
            if kind == EVENT_CALL and payload is not None:
                metadata, caller, time_left = details or NO_DETAILS
                only_batch = False
                if self._tokens is not None:
                    bearer = self._tokens.find(metadata)
                    if bearer is None:
                        self._on_dropped("unauthenticated")
                        self._fail(call_id, DENIED)
                        continue
                    caller, only_batch = bearer
                if len(payload) > self._max_message:
                    self._fail(call_id, _too_large(len(payload), self._max_message))
                    continue
                call = NumberedCall(payload, now, time_left, method, caller)
                call.number, call.sent, call.only_batch = call_id, metadata, only_batch
                call.said = said_traffic(metadata)
                self._calls[call_id] = call
                calls.append(call)
            elif (cancelled := self._calls.pop(call_id, None)) is not None:
                cancelled.alive = False
        return calls

    def send(self, answers: list[Answer]) -> None:  # noqa: D102
        for call, answer in cast("list[tuple[NumberedCall, bytes | CallError]]", answers):  # `receive` has made them
            self._calls.pop(call.number, None)
            if isinstance(answer, bytes):
                self._front.respond(call.number, answer)
            else:
                self._fail(call.number, answer)

    def _fail(self, call_id: int, error: CallError) -> None:
        self._front.fail(call_id, error.code.value[0], str(error), error.trailing_metadata())

    def set_serving(self, serving: bool) -> None:  # noqa: D102
        self._aio.run(self._services.set_serving(serving))

    def stop(self) -> None:  # noqa: D102
        time.sleep(FLUSH_SECONDS)
        self._opened.close()


class _OnceInAWhile(logging.Filter):
    """Lets a message pass once in a while; the front says twenty times a second that it cannot accept."""

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._due.get(record.msg, 0.0):
            return False
        self._due = {record.msg: now + REPEAT_SECONDS}
        return True


def _too_large(size: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the message has {size} bytes; this server takes at most {limit}. Send fewer images at a time"
    )

"""What hostile callers do to a port, each in a process of its own.

    python -m tests.support.abuses NAME ADDRESS SECONDS [TOKEN]

Prints what the abuse saw of the server as a line of JSON. ABUSES names them all.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grpc
from support.grpc_calls import PREDICT
from tests.support import http2

MB = 1 << 20
LARGEST = 784 * 4096
IMAGE = b"\x1a\x90\x06" + bytes(784)  # a PredictRequest of one image
BATCH = b"\x1a\x80\x80\xc4\x01" + bytes(LARGEST)  # of 4,096
WATCH = "/grpc.health.v1.Health/Watch"
PATIENCE = 0.05  # seconds that a shut window is waited for
UNREAD = struct.pack(">HI", http2.INITIAL_WINDOW_SIZE, http2.LARGEST_WINDOW)


class Abuse(NamedTuple):
    """One kind of abuse.

    Attributes:
        words: for the table.
        run: does it once or for a while; called again and again until the time is up.
        encrypted: only a port with TLS has it.
        needs_body: without a token its calls end before there is anything to abuse.
    """

    words: str
    run: "Callable[[Target], None]"
    encrypted: bool = False
    needs_body: bool = False


class Target:
    """The port, and what was seen of it.

    Args:
        address: HOST:PORT.
        seconds: that there are.
        token: to be shown; empty: none.
    """

    def __init__(self, address: str, seconds: float, token: str) -> None:
        self.address = address
        self.end = time.monotonic() + seconds
        self.more = [(b"authorization", f"Bearer {token}".encode())] if token else []
        self.seen: Counter[str] = Counter()

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        self.seen["connections"] += 1
        return socket.create_connection((host, int(port)), timeout=5)

    def left(self) -> float:
        return self.end - time.monotonic()

    def headers(self, path: str, *more: tuple[bytes, bytes]) -> bytes:
        return http2.headers(path.encode(errors="surrogateescape")) + b"".join(
            http2.literal(*pair) for pair in [*self.more, *more]
        )

    def begin(self, connection: http2.Connection, stream: int, *more: tuple[bytes, bytes], path: str = PREDICT) -> None:
        self.seen["calls"] += 1
        connection.send(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, self.headers(path, *more)))

    @contextlib.contextmanager
    def connections(self, count: int) -> Iterator[list[http2.Connection]]:
        with contextlib.ExitStack() as opened:
            self.seen["connections"] += count
            yield [opened.enter_context(http2.Connection(self.address)) for _ in range(count)]

    def rest(self) -> None:
        """Let what has been done stand for a while."""
        time.sleep(max(0.0, min(self.left(), 60.0)))


def _claims(target: Target) -> None:
    with target.connections(8) as connections:
        for stream in range(1, 200, 2):
            for connection in connections:
                target.begin(connection, stream)
                connection.send_data(stream, http2.message(2**31 - 1, bytes(1000)), PATIENCE)
            if target.left() < 0:
                return


def _bomb(size: int) -> bytes:
    """Gzip that becomes so many zeros; nobody gets as far as its checksum."""
    packer = zlib.compressobj(9, wbits=31)
    first = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)  # starts afresh, so it may be repeated
    return first + block * (size // MB - 1) + packer.flush()


def _bombs(target: Target) -> None:
    bombs = [_bomb(size) for size in (256 * MB, 408 * MB, 2500 * MB)]
    while target.left() > 0:
        with target.connections(3) as connections:
            for stream in (1, 3, 5):
                for connection, bomb in zip(connections, bombs, strict=True):
                    target.begin(connection, stream, (b"grpc-encoding", b"gzip"))
                    content = b"\1" + struct.pack(">I", len(bomb)) + bomb
                    if connection.send_data(stream, content, PATIENCE) == len(content):
                        connection.send(http2.frame(http2.DATA, http2.END_STREAM, stream))
                        target.seen["bombs that were taken whole"] += 1


def _unfinished(target: Target) -> None:
    with target.connections(2) as connections:
        for stream in range(1, 154, 2):
            for connection in connections:
                target.begin(connection, stream)
        for stream in range(1, 154, 2):
            for connection in connections:
                connection.send_data(stream, http2.message(LARGEST + 5, BATCH[:-1000]), PATIENCE)
        target.rest()


def _halves(target: Target) -> None:
    with target.connections(200) as connections:
        for connection in connections:
            target.begin(connection, 1)
        for connection in connections:
            connection.send_data(1, http2.message(LARGEST + 5, BATCH[: LARGEST // 2]), 0.01)
        target.rest()


def _expired(target: Target) -> None:
    live = [*range(1, 140, 14)]
    with target.connections(1) as (connection,):
        first = 0
        while target.left() > 0:
            content = b""
            for stream in range(1, 140, 2):
                timeout = b"20S" if stream in live else b"1n"
                block = target.headers(PREDICT, (b"grpc-timeout", timeout))
                content += http2.frame(http2.HEADERS, http2.END_HEADERS, first + stream, block)
                content += http2.frame(http2.DATA, http2.END_STREAM, first + stream, http2.message(len(IMAGE), IMAGE))
            resets = [first + stream for stream in range(1, 140, 2) if stream not in live]
            content += b"".join(http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL) for stream in resets)
            connection.send(content)
            target.seen["calls"] += 70
            waiting = {first + stream for stream in live}
            until = time.monotonic() + 5
            while not waiting <= connection.ended and time.monotonic() < until and not connection.closed:
                time.sleep(0.002)
            target.seen["live calls that got no answer"] += len(waiting - connection.ended)
            target.seen["GOAWAY"] += connection.frames[http2.GOAWAY]
            first += 140
            if connection.closed:
                return
            time.sleep(0.3)  # within the documented rate of cancellations


def _grpc(target: Target, run: "Callable[[grpc.aio.Channel, tuple[tuple[str, str], ...]], object]") -> None:
    async def main() -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        metadata = tuple((name.decode(), value.decode()) for name, value in target.more)
        async with grpc.aio.insecure_channel(target.address, options=options) as channel:
            await run(channel, metadata)  # type: ignore[misc]

    asyncio.run(main())


def _keep_asking(
    target: Target, in_flight: int, content: bytes, timeout: float, pause: float
) -> "Callable[[grpc.aio.Channel, tuple[tuple[str, str], ...]], object]":
    async def run(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        method = channel.unary_unary(PREDICT)

        async def ask() -> None:
            while target.left() > 0:
                try:
                    target.seen["calls"] += 1
                    await method(content, timeout=min(timeout, target.left() + 1), metadata=metadata)
                    target.seen["answered"] += 1
                except grpc.aio.AioRpcError as error:
                    target.seen[error.code().name] += 1
                    await asyncio.sleep(pause)

        await asyncio.gather(*(ask() for _ in range(in_flight)))

    return run


def _large(target: Target) -> None:
    _grpc(target, _keep_asking(target, 16, BATCH, 60, 0.01))


def _flood(target: Target) -> None:
    _grpc(target, _keep_asking(target, 10_000, IMAGE, 60, 0.5))


def _short(target: Target) -> None:
    _grpc(target, _keep_asking(target, 1_000, IMAGE, 0.005, 0.0))


def _huge(target: Target) -> None:
    content = http2.message(500 * MB, bytes(16 * MB))
    with target.connections(4) as connections:
        for stream in range(1, 2000, 2):
            for connection in connections:
                target.begin(connection, stream)
                connection.send_data(stream, content, PATIENCE)
            if target.left() < 0:
                return


def _stalled(target: Target) -> None:
    with target.connections(10) as connections:
        for stream in range(1, 2000, 2):
            for connection in connections:
                target.begin(connection, stream)
                connection.send_data(stream, http2.message(len(IMAGE), IMAGE[:400]), PATIENCE)
        target.rest()


def _idle(target: Target) -> None:
    greeting = http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) + http2.frame(http2.SETTINGS, http2.ACK, 0)
    with contextlib.ExitStack() as opened:
        for _ in range(10_000):
            try:
                made = opened.enter_context(target.connect())
                made.sendall(greeting)
            except OSError:
                target.seen["refused"] += 1
            if target.left() < 0:
                return
        target.rest()


def _resets(target: Target) -> None:
    block = target.headers(PREDICT)
    while target.left() > 0 and target.seen["calls"] < 100_000:
        with target.connections(1) as (connection,), contextlib.suppress(OSError):
            for first in range(1, 100_000, 200):
                calls = [
                    http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
                    + http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL)
                    for stream in range(first, first + 200, 2)
                ]
                connection.send(b"".join(calls))
                target.seen["calls"] += 100
                if target.left() < 0 or connection.closed:
                    break
    target.rest()


def _frames(content: bytes, begin: bytes = b"") -> "Callable[[Target], None]":
    def run(target: Target) -> None:
        with target.connections(1) as (connection,), contextlib.suppress(OSError):
            connection.send(begin)
            while target.left() > 0 and not connection.closed:
                connection.send(content * 100)
                target.seen["frames"] += 100

    return run


def _continuation(target: Target) -> None:
    block = http2.literal(b"a", b"b") * 10
    begin = http2.frame(http2.HEADERS, 0, 1, target.headers(PREDICT))
    _frames(http2.frame(9, 0, 1, block), begin)(target)


def _never_reads(target: Target) -> None:
    greeting = http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, UNREAD)
    greeting += http2.frame(
        http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", http2.LARGEST_WINDOW - http2.WINDOW)
    ) + http2.frame(http2.SETTINGS, http2.ACK, 0)
    block, body = target.headers(PREDICT), http2.message(len(IMAGE) + 2, IMAGE + b"\x30\x01")  # with probabilities
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(target.connect()) for _ in range(16)]
        for made in sockets:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.sendall(greeting)
            made.settimeout(0.2)
        for stream in range(1, 2**20, 2):
            content = http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
            content += http2.frame(http2.DATA, http2.END_STREAM, stream, body)
            for made in sockets[:]:
                try:
                    made.sendall(content)
                    target.seen["calls"] += 1
                except OSError:
                    sockets.remove(made)
            if not sockets:
                target.rest()
            if target.left() < 0:
                return


def _garbage(target: Target) -> None:
    pieces = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n{",
        os.urandom(4096),
        http2.PREFACE + os.urandom(4096),
        b"\x16\x03\x01\x02\x00" + os.urandom(512),
        bytes(65536),
    ]
    while target.left() > 0:
        for piece in pieces:
            with contextlib.suppress(OSError), target.connect() as made:
                made.sendall(piece)
                made.settimeout(0.05)
                made.recv(4096)


def _silent(target: Target) -> None:
    with contextlib.ExitStack() as opened:
        for number in range(2000):
            with contextlib.suppress(OSError):
                made = opened.enter_context(target.connect())
                made.sendall(b"\x16\x03\x01\x02\x00\x01\x00"[: number % 8])
        target.rest()


def _watches(target: Target) -> None:
    with target.connections(20) as connections:
        for stream in range(1, 2000, 2):
            for connection in connections:
                target.begin(connection, stream, path=WATCH)
                connection.send(http2.frame(http2.DATA, http2.END_STREAM, stream, http2.message(0, b"")))
            if target.left() < 0:
                return
        target.rest()


def _methods(target: Target) -> None:
    with target.connections(1) as (connection,):
        for stream in range(1, 10_000, 2):
            if target.left() < 0 or connection.closed:
                return
            target.begin(connection, stream, path="/mlpserve.v1.ClassifierService/\udcff")
            time.sleep(1)


PING = http2.frame(http2.PING, 0, 0, bytes(8))
ABUSES = {
    "claims": Abuse("messages that claim 2 GB", _claims, needs_body=True),
    "bombs": Abuse("gzip of 0.26, 0.4 and 2.5 MB that becomes 0.26, 0.4 and 2.5 GB", _bombs, needs_body=True),
    "unfinished": Abuse("154 requests of 3.2 MB without their last bytes", _unfinished, needs_body=True),
    "halves": Abuse("200 connections, each with half of a 3.2 MB message", _halves, needs_body=True),
    "expired": Abuse("60 expired calls in one write beside ten live ones, again and again", _expired, needs_body=True),
    "large": Abuse("16 requests of 4,096 images in flight", _large, needs_body=True),
    "flood": Abuse("10,000 single images in flight on one connection", _flood, needs_body=True),
    "short": Abuse("1,000 calls in flight with deadlines of 5 ms", _short, needs_body=True),
    "huge": Abuse("messages of 500 MB", _huge, needs_body=True),
    "stalled": Abuse("10,000 bodies that stall", _stalled, needs_body=True),
    "idle": Abuse("10,000 idle connections", _idle),
    "resets": Abuse("100,000 calls that are reset at once", _resets),
    "continuation": Abuse("CONTINUATION frames without end", _continuation),
    "pings": Abuse("PING frames without end", _frames(PING)),
    "settings": Abuse("SETTINGS frames without end", _frames(http2.frame(http2.SETTINGS, 0, 0))),
    "never-reads": Abuse("16 callers that never read", _never_reads, needs_body=True),
    "garbage": Abuse("HTTP/1.1 and garbage", _garbage),
    "watches": Abuse("20,000 health watches", _watches),
    "methods": Abuse("a malformed method name once a second", _methods),
    "handshakes": Abuse("2,000 TLS handshakes that stall", _silent, encrypted=True),
}


def main() -> None:
    name, address, seconds, *token = sys.argv[1:]
    os.nice(5)
    threading.stack_size(256 << 10)
    target = Target(address, float(seconds), *token or [""])
    while target.left() > 0:
        try:
            ABUSES[name].run(target)
        except OSError:  # it was hung up on
            target.seen["hung up on"] += 1
            time.sleep(0.01)
    print(json.dumps(target.seen))


if __name__ == "__main__":
    main()

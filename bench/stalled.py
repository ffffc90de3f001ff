"""Callers that send half of a large message each and stall: the memory that they take, and what others notice."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import numpy as np

from bench.asking import encode, wait_for_answer
from bench.contenders import PREDICT, Contender, memory_mb, running
from bench.generator import open_loop

CALLERS, MESSAGE = 200, 3_000_000  # bytes
RATE, SECONDS = 500.0, 4.0  # of the others
OTHER_CORE = "1"
# What the wire keeps for messages with default settings, see transports/wire.py: --max-queue images with their calls
# and the room for large messages. Half of it may be one connection's.
ALLOWED_MB = (16_384 * (784 + 2560) + (64 << 20)) / (1 << 20)


def measure(
    contender: Contender, store: Path, images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]"
) -> dict[str, float]:
    """Megabytes that the stalled bodies take and may take, and the others' 99th percentile with and without them."""
    body = encode(contender, images[:1])
    with running(contender, store, store / "mnist/1/model.onnx") as (port, process):
        wait_for_answer(contender, port, process, images, store / "mnist/1")

        def others() -> tuple[float, int]:
            outcome = open_loop(
                port, contender.path, body, wire=contender.wire, rate=RATE, seconds=SECONDS, core=OTHER_CORE
            )
            return outcome.percentiles([99])[0], sum(outcome.failed.values())

        others()  # so that everything has run once
        quiet, _ = others()
        before = memory_mb(process)
        with _stalled(port):
            taken = memory_mb(process) - before
            p99, failed = others()
            taken = max(taken, memory_mb(process) - before)
    return {
        "taken_mb": taken,
        "allowed_mb": ALLOWED_MB,
        "quiet_p99_ms": quiet,
        "p99_ms": p99,
        "others_failed": float(failed),
    }


@contextlib.contextmanager
def _stalled(port: int) -> Iterator[None]:
    """CALLERS connections, each with half of a message sent as far as the server lets it, while the block runs."""
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        callers = [_Caller(port) for _ in range(CALLERS)]
        for caller in callers:
            stack.callback(caller.socket.close)
            selector.register(caller.socket, selectors.EVENT_READ, caller)
        quiet = time.monotonic()
        until = quiet + 10
        while time.monotonic() < min(until, quiet + 1):  # until the server has asked for nothing more for a second
            for key, _ in selector.select(0.1):
                if not key.data.read():
                    selector.unregister(key.fileobj)
            for caller in callers:
                if caller.write():
                    quiet = time.monotonic()
        yield


class _Caller:
    """One connection with one call, of whose message half is sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._http.initiate_connection()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", PREDICT), (":authority", "localhost")]
        self._http.send_headers(1, [*fields, ("content-type", "application/grpc"), ("te", "trailers")])
        self._unsent = b"\0" + MESSAGE.to_bytes(4, "big") + bytes(MESSAGE // 2)
        self._open = True

    def read(self) -> bool:
        """Take in what has come; False once the connection has ended."""
        with contextlib.suppress(OSError):
            if received := self.socket.recv(1 << 16):
                for event in self._http.receive_data(received):
                    if isinstance(event, h2.events.StreamReset | h2.events.StreamEnded):
                        self._unsent = b""  # the call was refused
                return True
        self._open = False
        return False

    def write(self) -> bool:
        """Send what the server has room for; whether that was anything of the message."""
        if not self._open:
            return False
        sent = False
        while self._unsent and (room := min(self._http.local_flow_control_window(1), 16_384, len(self._unsent))) > 0:
            self._http.send_data(1, self._unsent[:room])
            self._unsent, sent = self._unsent[room:], True
        with contextlib.suppress(OSError):
            self.socket.sendall(self._http.data_to_send())
        return sent

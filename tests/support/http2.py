"""HTTP/2 by hand: what a gRPC library would not send."""

import contextlib
import socket
import struct
import threading
from collections import Counter
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, WINDOW, LARGEST_WINDOW, LARGEST_FRAME = 3, 4, 65535, 2**31 - 1, 16384
CANCEL = struct.pack(">I", 8)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(path: bytes) -> bytes:
    """The header block of a gRPC call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(literal(name, value) for name, value in fields)


def message(size: int, payload: bytes) -> bytes:
    """A gRPC message that says it has `size` bytes."""
    return b"\0" + struct.pack(">I", size) + payload


class Connection:
    """One connection, whose answers are counted by a thread.

    Attributes:
        frames: received, by kind.
        ended: streams that the server has ended.
        settings: of the server, by number.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._changed = threading.Condition()
        self._initial, self._windows = WINDOW, Counter({0: WINDOW})
        self._closed = False
        self.frames: Counter[int] = Counter()
        self.ended: set[int] = set()
        self.settings: dict[int, int] = {}
        self.send(
            PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - WINDOW))
        )
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    @property
    def closed(self) -> bool:
        """Whether the server has hung up."""
        return self._closed

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def call(self, stream: int, path: str) -> None:
        """Begin a call."""
        self.send(frame(HEADERS, END_HEADERS, stream, headers(path.encode())))

    def send_data(self, stream: int, content: bytes, patience: float) -> int:
        """Send as much as the server's windows allow, until they are shut for `patience` seconds: how much that was."""
        sent = 0
        while sent < len(content):
            with self._changed:
                if not self._changed.wait_for(lambda: self._closed or self._open(stream) > 0, patience) or self._closed:
                    break
                size = min(LARGEST_FRAME, len(content) - sent, self._open(stream))
                self._windows[0] -= size
                self._windows[stream] -= size
            self.send(frame(DATA, 0, stream, content[sent : sent + size]))
            sent += size
        return sent

    def _open(self, stream: int) -> int:
        return min(self._windows[0], self._initial + self._windows[stream])

    def _receive(self) -> None:
        pending = b""
        with contextlib.suppress(OSError):
            while chunk := self._socket.recv(65536):
                pending += chunk
                while len(pending) >= 9 and len(pending) >= (end := 9 + int.from_bytes(pending[:3], "big")):
                    kind, flags, stream = pending[3], pending[4], int.from_bytes(pending[5:9], "big")
                    self._take(kind, flags, stream, pending[9:end])
                    pending = pending[end:]
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        with self._changed:
            self.frames[kind] += 1
            if kind == WINDOW_UPDATE:
                self._windows[stream] += int.from_bytes(payload, "big")
            elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                self.ended.add(stream)
            elif kind == SETTINGS and not flags & ACK:
                self.settings |= dict(struct.iter_unpack(">HI", payload))
                for name, value in struct.iter_unpack(">HI", payload):
                    if name == INITIAL_WINDOW_SIZE:
                        self._initial = value
            self._changed.notify_all()
        if kind in (SETTINGS, PING) and not flags & ACK:
            self.send(frame(kind, ACK, 0, payload if kind == PING else b""))

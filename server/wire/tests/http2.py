"""A caller that may send what no gRPC library would, on h2."""

import socket
import ssl
import struct
from collections import defaultdict
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.settings

WAIT = 10.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def message(payload: bytes, flag: int = 0) -> bytes:
    """A message as gRPC frames it."""
    return struct.pack(">BI", flag, len(payload)) + payload


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Answer:
    """What came back on one stream.

    Attributes:
        headers: of the response.
        trailers: of the response; the headers where there is one frame only.
        data: its body.
        ended: whether the server has ended the stream.
        reset: the code of an RST_STREAM, or None.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.trailers: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.trailers["grpc-status"])


class Caller:
    """One connection."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None, *, greet: bool = True) -> None:
        host, _, port = address.rpartition(":")
        made = socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket: socket.socket = context.wrap_socket(made, server_hostname="localhost") if context else made
            self._begin(greet)
        except BaseException:
            (self.socket if hasattr(self, "socket") else made).close()
            raise

    def _begin(self, greet: bool) -> None:
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.closed = False
        self.pings = 0
        if greet:
            self.h2.initiate_connection()
            self.h2.update_settings({h2.settings.SettingCodes.ENABLE_PUSH: 0})
            self.flush()
            self.read_until(lambda: self.h2.remote_settings.max_concurrent_streams < 2**31)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, path: str, *more: tuple[str, str], end: bool = False, **changed: str | None) -> int:
        """Send a call's headers.

        Args:
            path: of the method.
            more: headers beside the usual ones.
            end: whether nothing follows.
            changed: other values of the usual ones, `_` for their `-` and ':' left out; None: without it.
        """
        usual = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        for name, value in changed.items():
            key = ":method" if name == "method" else name.replace("_", "-")
            if value is None:
                del usual[key]
            else:
                usual[key] = value
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*usual.items(), *more], end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send what the windows allow at once, and the rest as they open."""
        while True:
            allowed = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if allowed or not data:
                self.h2.send_data(stream, data[:allowed], end_stream=end and allowed == len(data))
                self.flush()
                data = data[allowed:]
                if not data:
                    return
            else:
                self.read()

    def call(self, path: str, data: bytes, *more: tuple[str, str], **changed: str | None) -> Answer:
        """A whole call."""
        stream = self.begin(path, *more, **changed)
        self.send(stream, data, end=True)
        return self.answer(stream)

    def answer(self, stream: int) -> Answer:
        self.read_until(lambda: self.answers[stream].ended or self.answers[stream].reset is not None)
        return self.answers[stream]

    def read_until(self, holds: "object") -> None:
        while not holds():  # type: ignore[operator]
            assert not self.closed, "the server has closed the connection"
            self.read()

    def read_to_the_end(self) -> None:
        """Read until the server closes the connection."""
        while not self.closed:
            self.read()

    def read(self) -> None:
        try:
            received = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        if not received:
            self.closed = True
            return
        for event in self.h2.receive_data(received):
            self._take(event)
        if not self.closed:
            try:
                self.flush()
            except OSError:
                self.closed = True

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            answer = self.answers[event.stream_id]
            answer.headers = answer.trailers = dict(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            self.answers[event.stream_id].trailers = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.answers[event.stream_id].data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.answers[event.stream_id].reset = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1

"""The compiled part."""

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlpserve_wire.limits import Limits
from mlpserve_wire.methods import Method, PlainFormat

class WireCall:
    """A call with its message. Whoever gets one owes an answer, even if the caller has left."""

    @property
    def number(self) -> int:
        """By which it is answered."""
    @property
    def caller(self) -> int:
        """The number of the connection that it came on."""
    @property
    def method(self) -> int:
        """Its method's place among those of the `Wire`."""
    @property
    def payload(self) -> bytes:
        """The request message, decompressed; of a STREAM's call empty."""
    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the caller sent beside it; of a HOT method only the `telling` headers. Never `authorization`."""
    @property
    def arrived(self) -> float:
        """time.monotonic() when the kernel got its last byte; over TLS, when that was read."""
    @property
    def deadline(self) -> float:
        """time.monotonic() after which nobody waits for the answer; inf without one."""
    @property
    def bearer(self) -> bytes:
        """The SHA-256 of the caller's token; empty where none is needed."""

class Column:
    """Calls of one plain format with one token; N of them, at least two, of D pixels each."""

    @property
    def method(self) -> int:
        """Their method's place among those of the `Wire`."""
    @property
    def prefix(self) -> bytes:
        """What stood before the pixels in each message."""
    @property
    def bearer(self) -> bytes:
        """The SHA-256 of the token; empty where none is needed."""
    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """[N, D], and this caller's to keep."""
    @property
    def numbers(self) -> npt.NDArray[np.uint64]:
        """[N]; an answer is owed to each."""
    @property
    def callers(self) -> npt.NDArray[np.uint64]:
        """[N], the numbers of the connections that they came on."""
    @property
    def arrived(self) -> npt.NDArray[np.float64]:
        """[N], time.monotonic() of each call's last byte."""
    @property
    def deadlines(self) -> npt.NDArray[np.float64]:
        """[N], inf for calls without one."""

class Arrived:
    """What has arrived since the last time."""

    @property
    def items(self) -> list[WireCall | Column]:
        """Calls of HOT methods in the order of their arrival; plain ones between two others are together in columns.

        A plain call that comes by itself is an object too: a column of one would take longer.
        """
    @property
    def gone(self) -> npt.NDArray[np.uint64]:
        """Numbers of earlier calls whose callers have left. Answers are owed all the same."""

class Event:
    """Something of a call that is not of a HOT method."""

    @property
    def kind(self) -> Literal["call", "message", "end", "gone"]:
        """What has happened.

        "call": it has begun, with its message unless it is a STREAM's. "message": of a STREAM. "end": of a STREAM's
        messages. "gone": the caller has left, or the wire has ended the call; `finish` is owed all the same.
        """
    @property
    def call(self) -> WireCall:
        """The call. But for kind "call" only `number`, `method` and `payload` mean something."""

class Wire:
    """A gRPC server's transport.

    Every method may be called from any thread. `receive` is for one thread at a time, and so is `events`. The thread
    that waits in `receive` does the work of all connections meanwhile; while it is away for longer than `takeover`
    seconds a thread of the wire's own does.

    A number is good for one answer: those that were answered already, or that no call has, are ignored.

    Args:
        limits: what callers may take.
        methods: what may be called; everything else is UNIMPLEMENTED.
        telling: headers, in lower case, that `metadata` of HOT calls is to have. A call with one is never a row.
        takeover: seconds.
    """

    def __init__(self, limits: Limits, methods: list[Method], *, telling: Sequence[str], takeover: float) -> None: ...
    def listen(self, descriptor: int) -> None:
        """Take connections from a socket that listens, and own its descriptor. To be called before `start`.

        Raises:
            RuntimeError: it is not a descriptor of a socket.
        """
    def set_tls(self, certificates: bytes, key: bytes, authorities: bytes) -> None:
        """Speak TLS 1.2 or 1.3 on connections from now on; those that are open keep what they have.

        Args:
            certificates: PEM, the server's own first.
            key: PEM, not encrypted.
            authorities: PEM of those that sign callers' certificates; empty: callers need none.

        Raises:
            ValueError: they cannot be used, with why.
        """
    def set_tokens(self, digests: list[bytes] | None) -> None:
        """Answer calls without one of these bearer tokens with UNAUTHENTICATED, before their message is read.

        Args:
            digests: the tokens' SHA-256; None: no token is needed.

        Raises:
            ValueError: one of them has another length.
        """
    def set_plain(self, formats: list[PlainFormat]) -> None:
        """Which requests are rows from now on."""
    def set_no_room(self, message: str, trailing: Iterable[tuple[str, str | bytes]]) -> None:
        """What calls are told that are refused with RESOURCE_EXHAUSTED for want of room.

        Args:
            message: for people.
            trailing: metadata, as of `finish`.
        """
    def start(self) -> None:
        """Begin to serve."""
    def receive(self, seconds: float) -> Arrived:
        """What has arrived, as soon as something has; nothing after so many seconds."""
    def nudge(self) -> None:
        """Let `receive` return at once, with nothing if nothing has arrived: the one that waits, or else the next."""
    def events(self, seconds: float) -> list[Event]:
        """The same for calls that are not of HOT methods. After `stop` it returns at once."""
    def send_rows(self, numbers: npt.NDArray[np.uint64], rows: npt.NDArray[np.uint8]) -> float:
        """Answer calls with one reply message each.

        Args:
            numbers: [N].
            rows: [N, R], contiguous; one message each.

        Returns:
            time.monotonic() when the last one was given to a socket.

        Raises:
            ValueError: their lengths differ.
        """
    def send(self, answers: list[tuple[int, bytes]]) -> float:
        """Answer calls, each by its number, with one reply message; returns as `send_rows`."""
    def write(self, number: int, message: bytes) -> None:
        """Send one of several reply messages."""
    def finish(
        self, numbers: Sequence[int], status: int, message: str, trailing: Iterable[tuple[str, str | bytes]]
    ) -> None:
        """End calls with a status, after the messages that were written.

        Args:
            numbers: of the calls.
            status: gRPC's code.
            message: for people.
            trailing: metadata; the values of names that end with -bin are bytes.
        """
    def ask(self, number: int) -> None:
        """Have a STREAM's next message, or its end, come as an event."""
    def alive(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Whether callers still wait for their answers, [N]."""
    def is_alive(self, number: int) -> bool:
        """Whether a caller still waits for its answer."""
    def listened(self) -> float:
        """time.monotonic() of when connections were last seen to be taken."""
    def counters(self) -> dict[str, int]:
        """How often what has happened since the start, and how much there is of what now.

        `connections` and `room_used` (bytes) are of now. Counted are `accepted`, `refused_connections`,
        `failed_handshakes`, `calls`, `cancelled`, `unauthenticated`, `too_large`, `slow`, `unread` (no room), `refused`
        (for other reasons, such as an unknown method), `floods` and `stalled` (connections).
        """
    def drain(self, grace: float) -> None:
        """Stop listening, ask callers to go elsewhere, and end each connection with its calls.

        Args:
            grace: seconds after which what is left is cut off.
        """
    def stop(self, seconds: float) -> None:
        """Answer what is left with UNAVAILABLE and close; waits so long for callers to read it."""

def versions() -> dict[str, str]:
    """Of the libraries that are used: nghttp2, openssl."""

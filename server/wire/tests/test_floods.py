"""Callers that send, reset or leave unread more than they may."""

import contextlib
import struct
import time

import h2.errors
import pytest

from attacks import CALM, CONTINUATION, HEADERS, MB, PING, PRIORITY, SETTINGS, UNKNOWN, resident, works
from http2 import Caller, frame, message
from mlpserve_wire import Limits
from served import ECHO, HOT, TALK, Served, serving


def floods(served: Served, flood: bytes, times: int = 1) -> bool:
    """Whether a connection ends with ENHANCE_YOUR_CALM while it sends something again and again."""
    with Caller(served.address) as caller:
        sent = 0
        caller.socket.setblocking(False)
        pending = b""
        received = bytearray()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            pending = pending or (flood * times if sent < 400_000 else b"")
            try:
                count = caller.socket.send(pending) if pending else 0
                pending, sent = pending[count:], sent + count
            except BlockingIOError:
                pass
            except OSError:
                break
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                part = caller.socket.recv(65536)
                received += part
                if not part:
                    break
        return any(frame == 7 and payload[4:8] == struct.pack(">I", CALM) for frame, payload in _frames(received))


def _frames(received: bytearray) -> "list[tuple[int, bytes]]":
    frames, place = [], 0
    while place + 9 <= len(received):
        size = int.from_bytes(received[place : place + 3], "big")
        frames.append((received[place + 3], bytes(received[place + 9 : place + 9 + size])))
        place += 9 + size
    return frames


STRICT = Limits(pings_per_minute=100, resets_per_minute=100, empty_frames_per_minute=100)


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, 0, 0, bytes(8)),
        frame(SETTINGS, 0, 0),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(UNKNOWN, 0, 0, b"what?"),
    ],
)
def test_floods_of_frames_end_the_connection(flood: bytes) -> None:
    with serving(STRICT) as served, Caller(served.address) as other:
        assert floods(served, flood, 50)
        assert works(other)
        served.wait_for_counter("floods")


def test_empty_data_frames_end_the_connection() -> None:
    with serving(STRICT) as served, Caller(served.address) as caller, Caller(served.address) as other:
        stream = caller.begin(HOT)
        for _ in range(200):
            caller.send(stream, b"")
        caller.read_until(lambda: caller.goaway is not None)
        assert caller.goaway is not None
        assert caller.goaway.error_code == CALM
        assert works(other)


def test_endless_headers_end_the_connection(served: Served) -> None:
    with Caller(served.address) as caller, Caller(served.address) as other:
        block = b"\x00\x01a\x01b"
        caller.socket.sendall(frame(HEADERS, 0, 1, block))
        with contextlib.suppress(OSError):
            for _ in range(100_000):
                caller.socket.sendall(frame(CONTINUATION, 0, 1, block * 10))
        caller.read_to_the_end()
        assert works(other)


def test_calls_that_are_reset_end_the_connection() -> None:
    with serving(STRICT) as served, Caller(served.address) as caller, Caller(served.address) as other:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                stream = caller.begin(HOT)
                caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                caller.flush()
        caller.read_to_the_end()
        assert works(other)
        served.wait_for_counter("floods")
        assert served.wire.counters()["cancelled"] < 150


def test_answers_make_up_for_resets_and_pings() -> None:
    with serving(STRICT) as served, Caller(served.address) as caller:
        for _ in range(300):
            caller.call(ECHO, message(b"x"))
            stream = caller.begin(HOT)
            caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            caller.h2.ping(bytes(8))
            caller.flush()
        assert works(caller)


def test_expired_calls_take_no_live_ones_with_them(served: Served) -> None:
    """Sixty calls of one write that have expired, and ten that have not."""
    with Caller(served.address) as caller:
        live, expired = [], []
        for number in range(70):
            stream = caller.h2.get_next_available_stream_id()
            alive = number % 7 == 0
            (live if alive else expired).append(stream)
            fields = {":method": "POST", ":scheme": "http", ":path": HOT, ":authority": "x"}
            more = {"te": "trailers", "content-type": "application/grpc", "grpc-timeout": "10S" if alive else "1n"}
            caller.h2.send_headers(stream, [*fields.items(), *more.items()])
            caller.h2.send_data(stream, message(b"x"), end_stream=True)
        caller.flush()
        for stream in expired:
            caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        caller.flush()
        assert [caller.answer(stream).data for stream in live] == [message(b"object:x")] * 10
        assert caller.goaway is None


def test_a_caller_that_never_reads_ends() -> None:
    limits = Limits(unsent_of_one=4 * MB, stalled_seconds=0.5)
    with serving(limits) as served, Caller(served.address) as caller, Caller(served.address) as other:
        before = resident()
        caller.h2.update_settings({4: 2**31 - 1})
        caller.h2.increment_flow_control_window(2**31 - 1 - 65535)
        caller.flush()
        caller.socket.settimeout(0.1)
        with contextlib.suppress(OSError):  # the server has stopped reading, or has hung up
            for _ in range(1000):
                caller.send(caller.begin(HOT), message(b"x" * 60_000), end=True)
        served.wait_for_counter("stalled")
        assert works(other)
        assert resident() - before < 48 * MB


def test_a_caller_whose_window_stays_shut_ends() -> None:
    with serving(Limits(stalled_seconds=0.5)) as served, Caller(served.address) as caller:
        caller.h2.update_settings({4: 0})
        caller.flush()
        caller.send(caller.begin(ECHO), message(b"x"), end=True)
        caller.read_to_the_end()
        served.wait_for_counter("stalled")


def test_replies_of_a_stream_that_are_not_read() -> None:
    with serving(Limits(stalled_seconds=30)) as served, Caller(served.address) as caller:
        caller.h2.update_settings({4: 1000})
        caller.flush()
        stream = caller.begin(TALK)
        word = message(b"x" * 16_000)
        with pytest.raises(AssertionError, match="closed"):
            caller.socket.settimeout(0.5)
            for _ in range(1000):
                allowed = caller.h2.local_flow_control_window(stream)
                if allowed >= len(word):
                    caller.send(stream, word)
                else:
                    try:
                        caller.read()
                    except TimeoutError:
                        break
            raise AssertionError("closed: by then the caller was held back, or the stream was ended")
        assert served.wire.counters()["room_used"] < MB

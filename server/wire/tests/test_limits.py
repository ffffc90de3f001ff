"""What callers may take, and what others see meanwhile."""

import contextlib
import dataclasses
import os
import resource
import socket
import struct
import time
import zlib
from pathlib import Path

import grpc
import h2.errors
import pytest

from http2 import PREFACE, WAIT, Caller, frame, message
from mlpserve_wire import Limits
from served import ECHO, HELD, HOT, LARGEST, LARGEST_CONTROL, PIXELS, PREFIX, TALK, Served, serving

OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 0, 4, 8
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, CONTINUATION, UNKNOWN = 0, 1, 2, 3, 4, 6, 9, 0xBB
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
MB = 1 << 20


def resident() -> int:
    """Bytes of this process; 0 where a sanitizer has its own ways with memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 0 if "LD_PRELOAD" in os.environ else pages * resource.getpagesize()


def works(caller: Caller) -> bool:
    """Whether a row and an event are answered."""
    row = caller.call(HOT, message(PREFIX + bytes([1]) * PIXELS)).data == message(bytes([PIXELS]))
    return row and caller.call(ECHO, message(b"x")).data == message(b"x")


def claim(caller: Caller, path: str, size: int, sent: int = 0) -> int:
    """Begin a call whose message says that it has a size, and send some of it."""
    stream = caller.begin(path)
    caller.send(stream, struct.pack(">BI", 0, size) + bytes(sent))
    return stream


@pytest.mark.parametrize(("path", "largest"), [(HOT, LARGEST), (ECHO, LARGEST_CONTROL)])
@pytest.mark.parametrize("more", [1, (1 << 31), (1 << 32) - 1])
def test_a_large_message_is_refused_at_its_length(served: Served, path: str, largest: int, more: int) -> None:
    size = min(largest + more, (1 << 32) - 1)
    with Caller(served.address) as caller:
        before = resident()
        answer = caller.answer(claim(caller, path, size))
        assert answer.status == RESOURCE_EXHAUSTED
        assert f"has {size} bytes; this server takes at most {largest}" in answer.trailers["grpc-message"]
        assert resident() - before < MB
        assert works(caller)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MB)) for _ in range(size // MB)) + packer.flush()


def test_a_bomb_is_refused_when_it_has_reached_the_limit(served: Served) -> None:
    packed = bomb(512 * MB)
    with Caller(served.address) as caller, Caller(served.address) as other:
        before = resident()
        streams = [caller.begin(HOT, grpc_encoding="gzip") for _ in range(20)]
        for stream in streams:
            caller.send(stream, message(packed, flag=1), end=True)
        assert works(other)
        for stream in streams:
            answer = caller.answer(stream)
            assert answer.status == RESOURCE_EXHAUSTED
            assert f"larger than {LARGEST} bytes" in answer.trailers["grpc-message"]
        assert resident() - before < 64 * MB
        assert works(caller)
    served.wait_for_counter("too_large", 20)


def test_bombs_in_a_stream_are_refused(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(TALK, grpc_encoding="gzip")
        caller.send(stream, message(bomb(8 * MB), flag=1), end=True)
        assert caller.answer(stream).status == RESOURCE_EXHAUSTED


def test_the_room_is_given_back(served: Served) -> None:
    with Caller(served.address) as caller:
        for _ in range(5):
            caller.call(HOT, message(b"x" * LARGEST))
            caller.call(HOT, message(bomb(MB), flag=1), grpc_encoding="gzip")
            caller.call(ECHO, message(b"x"))
            claim(caller, HOT, LARGEST, 1000)
        stream = caller.begin(TALK)
        caller.send(stream, message(b"x"), end=True)
        caller.answer(stream)
        assert works(caller)
    for _ in range(200):
        if served.wire.counters()["room_used"] == 0:
            return
        time.sleep(0.02)
    raise AssertionError(f"{served.wire.counters()}")


HALVES = Limits(room=16 * MB, room_of_one=4 * MB, message_seconds=30, pressed_seconds=5, newcomer_seconds=0.3)


def test_halves_of_large_messages_leave_room_for_small_ones() -> None:
    with serving(HALVES) as served, contextlib.ExitStack() as opened:
        before = resident()
        hostile = [opened.enter_context(Caller(served.address)) for _ in range(40)]
        for caller in hostile:
            claim(caller, HOT, MB, 20_000)
        served.wait_for_counter("calls", 40)
        other = opened.enter_context(Caller(served.address))
        for _ in range(20):
            assert works(other)
        assert served.wire.counters()["room_used"] <= HALVES.room
        assert resident() - before < 24 * MB


def test_a_newcomer_takes_the_room_of_halves_of_others() -> None:
    with serving(HALVES) as served, contextlib.ExitStack() as opened:
        hostile = [opened.enter_context(Caller(served.address)) for _ in range(3)]
        streams = [(caller, claim(caller, HOT, MB, 20_000)) for caller in hostile for _ in range(5)]
        other = opened.enter_context(Caller(served.address))
        assert other.call(HOT, message(b"x" * MB)).data == message(b"object:" + b"x" * MB)
        caller, stream = streams[0]
        answer = caller.answer(stream)
        assert answer.status == DEADLINE_EXCEEDED
        assert "did not arrive" in answer.trailers["grpc-message"]
        served.wait_for_counter("slow")


def test_one_connection_has_a_share_of_the_room() -> None:
    with serving(HALVES) as served, Caller(served.address) as caller, Caller(served.address) as other:
        for _ in range(16):
            claim(caller, HOT, MB, 20_000)
        began = served.wire.counters()["slow"]
        assert other.call(HOT, message(b"x" * MB)).data == message(b"object:" + b"x" * MB)
        assert served.wire.counters()["slow"] == began, "there is room without anybody's giving way"


def test_waiting_messages_get_their_turn() -> None:
    with serving(HALVES) as served, Caller(served.address) as caller, Caller(served.address) as other:
        streams = [(one, claim(one, HOT, MB, 1000)) for one in (caller, other) for _ in range(10)]
        rest = bytes(MB - 1000)
        # Not in the order in which they began: none depends on another.
        for one, stream in reversed(streams[:4] + streams[10:14]):
            one.send(stream, rest, end=True)
        for one, stream in streams[4:10] + streams[14:]:
            one.send(stream, rest, end=True)
        for one, stream in streams:
            assert one.answer(stream).data == message(b"object:" + bytes(MB))


def test_too_many_waiting_messages_are_refused() -> None:
    limits = dataclasses.replace(HALVES, max_waiting=3)
    with serving(limits) as served, Caller(served.address) as caller:
        streams = [claim(caller, HOT, MB, 1000) for _ in range(8)]
        answer = caller.answer(streams[-1])
        assert answer.status == RESOURCE_EXHAUSTED
        assert "as it has room for" in answer.trailers["grpc-message"]
        assert answer.trailers["retry-bin"] == "c29vbg"
        served.wait_for_counter("unread")
        assert works(caller)


def test_small_messages_without_room_are_refused_and_others_come_later() -> None:
    limits = Limits(room=MB, pressed_seconds=0.3)
    with serving(limits) as served, Caller(served.address) as caller, Caller(served.address) as other:
        for _ in range(16):
            claim(caller, HOT, 60_000, 100)
        served.wait_for_counter("room_used", 16 * 60_000)
        answer = other.call(HOT, message(b"x" * 60_000))
        assert answer.status == RESOURCE_EXHAUSTED
        time.sleep(0.6)
        assert other.call(HOT, message(b"x" * 60_000)).status == OK


def test_a_message_that_does_not_arrive_ends_its_call() -> None:
    with serving(Limits(message_seconds=0.3)) as served, Caller(served.address) as caller:
        for stream in (claim(caller, HOT, 1000, 10), claim(caller, ECHO, 100, 10), caller.begin(HOT)):
            answer = caller.answer(stream)
            assert answer.status == DEADLINE_EXCEEDED
        assert works(caller)
        served.wait_for_counter("slow", 3)


def test_a_deadline_ends_a_call_whose_message_has_not_arrived(served: Served) -> None:
    with Caller(served.address) as caller:
        stream = caller.begin(HOT, grpc_timeout="100m")
        answer = caller.answer(stream)
        assert answer.status == DEADLINE_EXCEEDED
        assert "deadline passed before the message" in answer.trailers["grpc-message"]


def test_calls_beyond_the_limit_end_the_connection() -> None:
    with serving(Limits(max_streams=5)) as served, Caller(served.address) as caller:
        assert caller.h2.remote_settings.max_concurrent_streams == 5
        caller.h2.remote_settings.max_concurrent_streams = 100
        caller.h2.remote_settings.acknowledge()
        for _ in range(5):
            caller.send(caller.begin(HOT), message(HELD), end=True)
        caller.begin(HOT)
        caller.read_to_the_end()
        assert caller.goaway is not None
        assert caller.goaway.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR


def test_reset_calls_count_until_python_has_answered_them() -> None:
    with serving(Limits(max_streams=5)) as served, Caller(served.address) as caller:
        for _ in range(5):
            stream = caller.begin(HOT)
            caller.send(stream, message(HELD), end=True)
            caller.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            caller.flush()
        served.wait_for(lambda: len(served.gone) == 5)
        assert caller.answer(caller.begin(HOT)).reset == h2.errors.ErrorCodes.REFUSED_STREAM
        served.release()
        for _ in range(100):
            if works(caller):
                return
        raise AssertionError("the calls were answered, and others are refused all the same")


def test_connections_beyond_the_limit_are_hung_up_on() -> None:
    with serving(Limits(max_connections=3)) as served, contextlib.ExitStack() as opened:
        callers = [opened.enter_context(Caller(served.address)) for _ in range(3)]
        late = socket.create_connection(("127.0.0.1", served.port), timeout=WAIT)
        with late:
            assert late.recv(100) == b""
        served.wait_for_counter("refused_connections")
        assert all(works(caller) for caller in callers)
        callers[0].socket.close()
        for _ in range(200):
            with contextlib.suppress(OSError, AssertionError), Caller(served.address) as caller:
                assert works(caller)
                return
            time.sleep(0.02)
        raise AssertionError("there is space again")


def test_without_descriptors_callers_are_hung_up_on() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving() as served, Caller(served.address) as caller, contextlib.ExitStack() as opened:
        late = [opened.enter_context(socket.socket()) for _ in range(3)]
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            filling = []
            with contextlib.suppress(OSError):
                while True:
                    filling.append(opened.enter_context(socket.socket()))
            for one in late:
                one.settimeout(WAIT)
                one.connect(("127.0.0.1", served.port))
                with contextlib.suppress(ConnectionResetError):
                    assert one.recv(100) == b""
            assert works(caller)
            since = served.wire.listened()
            time.sleep(0.6)
            assert served.wire.listened() == since, "callers are not taken"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert served.wire.counters()["refused_connections"] == 3
        for _ in range(200):
            if served.wire.listened() > since:
                return
            time.sleep(0.02)
        raise AssertionError("callers are taken again")


def test_a_handshake_that_stalls_ends() -> None:
    with serving(Limits(handshake_seconds=0.3)) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as silent:
            assert _ends(silent)
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as slow:
            slow.sendall(PREFACE[:10])
            assert _ends(slow)
        served.wait_for_counter("failed_handshakes", 2)


def _ends(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(4096):
            pass
    return True


def test_an_idle_connection_ends() -> None:
    with serving(Limits(idle_seconds=0.4)) as served, Caller(served.address) as caller:
        caller.send(caller.begin(HOT), message(HELD), end=True)
        time.sleep(0.8)
        assert works(caller), "a call is under way"
        served.release()
        caller.read_to_the_end()
        assert caller.goaway is not None
        assert caller.goaway.error_code == h2.errors.ErrorCodes.NO_ERROR


def test_an_old_connection_ends_and_grpc_goes_on() -> None:
    with serving(Limits(age_seconds=0.3, grace_seconds=5)) as served:
        with grpc.insecure_channel(served.address) as channel:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                assert channel.unary_unary(ECHO)(b"x", timeout=WAIT) == b"x"
        assert served.wire.counters()["accepted"] > 1


def test_an_old_connection_ends_with_its_calls_or_after_the_grace() -> None:
    with serving(Limits(age_seconds=0.2, grace_seconds=0.5)) as served, Caller(served.address) as caller:
        caller.send(caller.begin(HOT), message(HELD), end=True)
        caller.read_to_the_end()
        assert not any(answer.ended for answer in caller.answers.values())


def test_a_caller_that_is_not_there_any_longer_is_noticed() -> None:
    with serving(Limits(keepalive_seconds=0.3, keepalive_timeout=0.3)) as served, Caller(served.address) as caller:
        time.sleep(0.6)
        caller.read_until(lambda: caller.pings == 1)  # and answers
        assert works(caller)
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as silent:
            silent.sendall(PREFACE + frame(SETTINGS, 0, 0))
            assert _ends(silent)
        served.wait_for_counter("stalled")


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


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("max_connections", 0, "max_connections must be at least 1"),
        ("max_streams", 0, "max_streams must be at least 1"),
        ("window", 100, "window must be at least 1024"),
        ("window", 1 << 31, "window must fit into 31 bits"),
        ("room", 1000, "room must hold at least eight windows"),
        ("idle_seconds", -1, "idle_seconds must not be negative"),
    ],
)
def test_limits_that_cannot_work(name: str, value: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(Limits(), **{name: value})

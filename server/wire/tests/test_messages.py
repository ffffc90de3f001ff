"""How much memory messages may take, and for how long."""

import contextlib
import dataclasses
import time

import pytest

from attacks import DEADLINE_EXCEEDED, HALVES, MB, OK, RESOURCE_EXHAUSTED, bomb, claim, resident, works
from http2 import Caller, message
from mlpserve_wire import Limits
from served import DICTATE, ECHO, HOT, LARGEST, LARGEST_CONTROL, TALK, Served, serving


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


def test_a_streams_large_message_has_its_room_and_its_time() -> None:
    """Only as much as there is room for may arrive, in time; then it is given back."""
    with serving(Limits(room=8 * MB, message_seconds=0.5)) as served, Caller(served.address) as caller:
        halves = [claim(caller, DICTATE, LARGEST, 60_000) for _ in range(8)]
        answers = [caller.answer(half) for half in halves]
        assert sorted({answer.status for answer in answers}) == [DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED]
        assert works(caller)
        for _ in range(200):
            if served.wire.counters()["room_used"] == 0:
                return
            time.sleep(0.02)
        raise AssertionError(f"{served.wire.counters()}")


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

"""How many calls and connections there may be, and for how long."""

import contextlib
import dataclasses
import resource
import socket
import time
from pathlib import Path

import grpc
import h2.errors
import pytest

from attacks import SETTINGS, works
from http2 import PREFACE, WAIT, Caller, frame, message
from mlpserve_wire import Limits
from served import ECHO, HELD, HOT, serving


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


def test_idle_connections_give_way_and_those_in_use_stay() -> None:
    """With every connection taken by strangers that greet and ask for nothing, a newcomer is served."""
    with serving(Limits(max_connections=8)) as served, contextlib.ExitStack() as opened:
        used = [opened.enter_context(Caller(served.address)) for _ in range(2)]
        idle = [opened.enter_context(Caller(served.address)) for _ in range(6)]
        assert all(works(caller) for caller in used)
        waiting = used[1].begin(HOT)
        used[1].send(waiting, message(HELD), end=True)
        served.wait_for(lambda: len(served.held) == 1)
        time.sleep(5.1)  # connections are new, or in use, for so long
        assert works(used[0])
        for _ in range(6):
            assert works(opened.enter_context(Caller(served.address)))
        for caller in idle:
            caller.read_to_the_end()
            assert caller.goaway is None or caller.goaway.error_code == h2.errors.ErrorCodes.NO_ERROR
        with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT) as late:
            assert late.recv(100) == b"", "all others are in use"
        assert works(used[0])
        served.release()
        assert used[1].answer(waiting).data == message(b"released")


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

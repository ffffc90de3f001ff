"""What callers may hold at a time: streams, messages that do not arrive, calls that they reset."""

import asyncio
import re
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import PREDICT, channel, stub
from support.processes import ServerProcess, free_port, scrape
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import CallError
from mlpserve_server.healthcheck import is_serving
from mlpserve_server.server import Server
from mlpserve_server.transports import limits

ROOT = Path(__file__).resolve().parents[2]
ONE = pb.PredictRequest(images=bytes(784))
SERVING = health_pb2.HealthCheckResponse.SERVING
SECONDS = 30.0
LARGEST = 784 * 4096


def _watch(opened: grpc.Channel) -> grpc.Call:
    return health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=60)


def test_watches_are_bounded(transport: str, store: Path, tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--workers", 1, "--max-watches", 12, "--metrics-listen", metrics]
    with ServerProcess(tmp_path, store, *flags) as process, ExitStack() as opened:
        first, second = (opened.enter_context(channel(process.address)) for _ in range(2))
        streams = [_watch(first if index % 2 else second) for index in range(12)]
        assert [next(stream).status for stream in streams] == [SERVING] * 12
        with pytest.raises(grpc.RpcError) as caught:
            next(_watch(first))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "at most 12 streams" in caught.value.details()
        assert is_serving(process.address), "Check must go on working"
        assert scrape(metrics)['mlpserve_dropped_total{reason="streams",traffic=""}'] == 1
        streams.pop().cancel()
        # The server hears of the end a moment later.
        again = wait_until(lambda: next(_watch(second)), "a watch is free again", not_yet=(grpc.RpcError,))
        assert again.status == SERVING
        process.terminate()
        assert process.wait(10) == 0, "open streams must not hold the exit"
        assert "Traceback" not in process.log
        assert "destroyed" not in process.log


def test_one_connection_has_a_share_of_the_watches(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", "grpcio", "--workers", 1) as process, ExitStack() as opened:
        first, second = (opened.enter_context(channel(process.address)) for _ in range(2))
        streams = [_watch(first) for _ in range(limits.STREAMS_OF_ONE)]
        assert [next(stream).status for stream in streams] == [SERVING] * limits.STREAMS_OF_ONE
        with pytest.raises(grpc.RpcError) as caught:
            next(_watch(first))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert f"{limits.STREAMS_OF_ONE} on a connection" in caught.value.details()
        assert next(_watch(second)).status == SERVING


def test_clients_are_served_while_others_hold_all_watches(transport: str, store: Path) -> None:
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport, max_watches=1)
    with Server(config) as server, channel(server.address) as opened:
        stream = _watch(opened)
        assert next(stream).status == SERVING
        with Client(server.address, timeout=SECONDS) as client:
            assert len(client.predict(np.zeros((1, 28, 28), np.uint8)).class_ids) == 1
        assert server.metrics.dropped["streams", ""] >= 1
        stream.cancel()


@pytest.mark.slow
def test_callers_that_ask_every_ten_seconds_stay(transport: str, store: Path) -> None:
    """With a call open and without one: each early ping would count, and the third would end the connection."""
    options = [
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport)
    with (
        Server(config) as server,
        grpc.insecure_channel(server.address, options=options) as watching,
        grpc.insecure_channel(server.address, options=options) as idle,
    ):
        states: list[grpc.ChannelConnectivity] = []
        check = health_pb2_grpc.HealthStub(idle).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
        idle.subscribe(states.append)
        stream = _watch(watching)
        assert next(stream).status == SERVING
        time.sleep(45)
        assert stream.is_active()
        assert {state for state in states if state is not grpc.ChannelConnectivity.READY} == set()
        stream.cancel()


class _Silent:
    """A call whose message never comes."""

    def __init__(self, caller: str) -> None:
        self.peer = lambda: caller

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


def test_a_call_that_is_cancelled_as_its_time_is_up_gives_back_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> int:
        limited = limits.Limits(100, 100, 1, lambda _: None)
        reading, waiting = (asyncio.create_task(limited._read(_Silent(caller))) for caller in "ab")
        await asyncio.sleep(0.01)
        monkeypatch.setattr(limits, "READ_SECONDS", -1.0)
        limited.sweep()  # both are too late
        waiting.cancel()
        await asyncio.wait([waiting])
        assert not limited._taken["b"]
        reading.cancel()
        await asyncio.wait([reading])
        return limited._room

    assert asyncio.run(scenario()) == 100


def test_a_flood_of_messages_that_wait_keeps_no_other_caller_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(limits, "MAX_WAITING", 8)
        dropped: list[str] = []
        limited = limits.Limits(100, 100, 1, dropped.append)
        flood = [asyncio.create_task(limited._read(_Silent("flood"))) for _ in range(9)]
        await asyncio.sleep(0.01)
        with pytest.raises(CallError, match="as many messages as it has room for"):
            await limited._read(_Silent("flood"))
        polite = asyncio.create_task(limited._read(_Silent("polite")))
        await asyncio.sleep(0.01)
        assert not polite.done(), "it waits in the place of one of the flood's"
        assert sum(task.done() for task in flood) == 1
        assert isinstance(flood[-1].exception(), CallError)
        assert dropped == ["unread", "unread"]
        for task in flood[:2]:  # one of the flood's turns, and then it is the other's
            task.cancel()
            await asyncio.sleep(0.01)
        assert limited._taken["polite"] == 1
        for task in (*flood, polite):
            task.cancel()
        await asyncio.gather(*flood, polite, return_exceptions=True)

    asyncio.run(scenario())


def test_health_is_told_beside_checks_that_never_finish(transport: str, store: Path) -> None:
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport)
    with Server(config) as server, http2.Connection(server.address) as connection:
        for stream in range(1, 401, 2):
            connection.call(stream, "/grpc.health.v1.Health/Check")
            connection.send_data(stream, http2.message(1000, bytes(500)), SECONDS)
        with channel(server.address) as opened:
            for _ in range(3):
                answer = health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert answer.status == SERVING


METHODS = [PREDICT, "/mlpserve.v1.ClassifierService/GetModel", "/grpc.health.v1.Health/Check"]


@pytest.mark.parametrize("method", [*METHODS, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"])
def test_a_message_that_does_not_arrive_ends_its_call(
    method: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport="grpcio")
    with Server(config) as server, http2.Connection(server.address) as connection:
        connection.call(1, method)
        connection.send_data(1, http2.message(1000, bytes(500)), SECONDS)
        wait_until(lambda: 1 in connection.ended, "the call is ended")
        assert server.metrics.dropped["slow", ""] == 1
        with stub(server.address) as caller:
            assert len(caller.Predict(ONE, timeout=SECONDS).class_ids) == 1


def test_a_caller_gets_in_beside_those_that_never_finish(store: Path) -> None:
    """Sixty large messages without their last bytes: they are not read beyond the room that there is."""
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport="grpcio")
    with Server(config) as server, http2.Connection(server.address) as connection:
        room = (config.max_queue + config.batch_queue) * 784 + (64 << 20) + LARGEST
        sent = 0
        for stream in range(1, 121, 2):
            connection.call(stream, PREDICT)
        for stream in range(1, 121, 2):
            sent += connection.send_data(stream, http2.message(LARGEST, bytes(LARGEST - 1000)), 0.05)
        assert sent < room + 60 * 16384
        with stub(server.address) as caller:
            for _ in range(3):
                assert len(caller.Predict(ONE, timeout=SECONDS).class_ids) == 1


def test_resets_do_not_stay_and_bursts_are_answered(store: Path, tmp_path: Path) -> None:
    """Calls beyond --max-streams that are still closing are refused only where their caller resets them."""
    flags = ["--transport", "grpcio", "--workers", 1, "--max-streams", 64]
    with ServerProcess(tmp_path, store, *flags) as process, stub(process.address) as caller:
        caller.Predict(ONE, timeout=SECONDS)
        calls = [caller.Predict.future(ONE, timeout=60) for _ in range(2000)]
        assert {call.exception() for call in calls} == {None}
        with http2.Connection(process.address) as connection:
            block = http2.headers(PREDICT.encode())
            for stream in range(1, 10_001, 2):
                connection.send(
                    http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
                    + http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL)
                )
            assert len(caller.Predict(ONE, timeout=SECONDS).class_ids) == 1
            assert connection.frames[http2.RST_STREAM] > 1000, "so many calls of one connection were taken"


@pytest.mark.parametrize("method", METHODS[1:])
def test_bytes_that_are_no_message(transport: str, method: str, store: Path) -> None:
    with Server(ServerConfig(store=store, listen="127.0.0.1:0", transport=transport)) as server:
        with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
            opened.unary_unary(method)(b"\xff\xff\xff\xff", timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "not the method's request message" in caught.value.details()


def test_grpc_knows_every_option_that_it_is_given() -> None:
    """It ignores others without a word."""
    library = Path(cygrpc.__file__).read_bytes()
    names = {
        name.encode(): path
        for folder in ("server", "client", "bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"\(\s*\"(grpc\.[a-z0-9_.]+)\",", path.read_text())
    }
    del names[b"grpc.aio"]  # a server's name in a report
    assert len(names) > 15
    assert not {name: path for name, path in names.items() if name + b"\0" not in library}

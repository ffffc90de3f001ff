"""A server that runs out of descriptors comes back, and one that no longer takes connections does not stay."""

import os
import resource
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from support.grpc_calls import stub
from support.processes import ServerProcess, take_descriptors
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.batching import loop as batching
from mlpserve_server.config import ServerConfig
from mlpserve_server.control import liveness
from mlpserve_server.errors import ListenError
from mlpserve_server.server import Server
from mlpserve_server.transports.aio_thread import AioThread
from mlpserve_server.transports.grpcio import GrpcioTransport
from mlpserve_server.transports.listening import Listening, hang_up

ONE = pb.PredictRequest(images=bytes(784))
SECONDS = 60.0


def _answers(address: str) -> bool:
    with stub(address) as caller:
        try:
            return len(caller.Predict(ONE, timeout=5).class_ids) == 1
        except grpc.RpcError:
            return False


def test_the_port_comes_back_after_descriptors_have_run_out(transport: str, store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport, "--workers", 1, "--poll", 0.2) as process:
        pid = process.process.pid
        assert _answers(process.address)
        allowed = take_descriptors(pid)
        host, _, port = process.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10):  # nobody takes it
            process.wait_for_log("Too many open files")
            time.sleep(1)  # some looks at the port
        resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)
        with http2.Connection(process.address) as connection:
            connection.send(http2.frame(http2.HEADERS, 5, 1, http2.headers(b"/\xff\xfe/x")))
            if transport == "grpcio":
                process.wait_for_log("it is opened again")
        wait_until(lambda: _answers(process.address), "the server answers")
        assert "write it again" not in process.log, "there is nothing wrong with the file"
        assert process.log.count("accept failed") <= 2, "the log is flooded"


def test_a_server_that_takes_no_connections_ends(transport: str, store: Path, tmp_path: Path) -> None:
    flags = ["--transport", transport, "--workers", 1, "--stall-timeout", 4]
    with ServerProcess(tmp_path, store, *flags) as process, ExitStack() as opened:
        take_descriptors(process.process.pid)
        host, _, port = process.address.rpartition(":")
        for _ in range(3):  # a front may have one descriptor left, or more
            opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
        assert process.wait(60) == 4
        assert "takes no connections" in process.log


def test_a_listener_that_is_gone_turns_health_and_ends_the_process(
    transport: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(batching, "PROBE_SECONDS", 0.1)

    async def fail(*_: object) -> int:
        raise ListenError("it cannot be opened: a reason of the test's own")

    ends = threading.Event()
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport, stall_timeout=4, drain_timeout=0.1)
    with Server(config, on_stuck=lambda *_: ends.set()) as server:
        assert _answers(server.address)
        monkeypatch.setattr(GrpcioTransport, "_open", fail)
        hang_up(int(server.address.rpartition(":")[2]))
        wait_until(lambda: not server.metrics.ready, "the server says that it is not ready")
        assert ends.wait(SECONDS)


def test_upkeep_goes_on_after_whatever_it_meets(caplog: pytest.LogCaptureFixture) -> None:
    errors = iter([OSError(24, "Too many open files"), ListenError("in use"), ValueError("a bug")])
    done = threading.Event()

    async def step() -> None:
        for error in errors:
            raise error
        done.set()

    thread = AioThread()
    thread.start()
    try:
        thread.keep_doing(step, 0.01)
        assert done.wait(SECONDS)
    finally:
        thread.stop()
    assert all(words in caplog.text for words in ("Too many open files", "in use", "a bug"))


def test_a_look_takes_no_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listening = Listening()
        listening.port = server.getsockname()[1]
        assert listening.look()
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.dup(0)
        os.close(spare)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (spare, allowed[1]))
            with pytest.raises(OSError, match="Too many open files"):
                os.dup(0)
            before = listening.seen
            assert listening.look()
            assert listening.seen > before
            taken = True
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
        assert taken
        with socket.create_connection(server.getsockname()):
            before = listening.seen
            assert listening.look()
            assert listening.seen == before, "a connection waits, and nobody takes it"
    assert not listening.look()

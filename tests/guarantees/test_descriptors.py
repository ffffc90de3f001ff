"""File descriptors that run out again and again, with calls in between that end gRPC's server, and once for good."""

import random
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.grpc_calls import stub
from support.processes import ServerProcess, take_descriptors
from support.waiting import wait_until
from tests.support import http2

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(600)]

ONE = pb.PredictRequest(images=bytes(784))
ROUNDS, STALL = 10, 4


def _seconds_until_answer(address: str) -> float:
    def answers() -> bool:
        with stub(address) as caller:  # a new connection each time
            return len(caller.Predict(ONE, timeout=5).class_ids) == 1

    started = time.monotonic()
    wait_until(answers, "the server answers", not_yet=(grpc.RpcError,))
    return time.monotonic() - started


def test_descriptors(transport: str, store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(5)
    flags = ["--transport", transport, "--workers", 1, "--poll", 0.2, "--stall-timeout", STALL]
    with ServerProcess(tmp_path, store, *flags) as process, ExitStack() as opened:
        pid, waits = process.process.pid, []
        for _ in range(ROUNDS):
            _seconds_until_answer(process.address)
            allowed = take_descriptors(pid)
            time.sleep(random_.uniform(0.3, 2.0))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, allowed)
            with http2.Connection(process.address) as connection:
                connection.send(http2.frame(http2.HEADERS, 5, 1, http2.headers(b"/\xff\xfe/x")))
                time.sleep(0.3)
            waits.append(_seconds_until_answer(process.address))
        figures |= {"rounds": ROUNDS, "seconds until it answers, at most": max(waits)}
        figures["log lines"] = process.log.count("\n")
        take_descriptors(pid)
        started = time.monotonic()
        host, _, port = process.address.rpartition(":")
        for _ in range(3):
            opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
        assert process.wait(60) == 4
        figures["seconds until it ends for good"] = time.monotonic() - started
    assert max(waits) < 30

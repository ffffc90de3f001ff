"""Nobody reads what the server writes, as when a log collector stalls: calls, health and the end wait for nobody."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from support.grpc_calls import PREDICT, channel, stub
from support.processes import free_port, scrape
from tests.support.unread import full_pipe, unread_server

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.healthcheck import is_serving

ONE = pb.PredictRequest(images=bytes(784))


def test_calls_are_answered_and_sigterm_ends_it(store: Path, transport: str) -> None:
    with full_pipe() as (_, writer), unread_server(writer, store, "--transport", transport) as (process, address):
        with channel(address) as opened, stub(address) as caller:
            for _ in range(5):
                with pytest.raises(grpc.RpcError):  # a line in the log
                    opened.unary_unary(PREDICT)(b"\x1a\x01x", timeout=10)
                assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
        assert is_serving(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_workers_serve_and_end(store: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    flags = ("--workers", 2, "--metrics-listen", metrics)
    with full_pipe() as (_, writer), unread_server(writer, store, *flags) as (process, address):
        for _ in range(5):
            with stub(address) as caller:
                assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
        assert scrape(metrics)["mlpserve_ready"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_a_start_that_fails_and_a_second_signal_end_too(store: Path, tmp_path: Path) -> None:
    with full_pipe() as (_, writer):
        for flags, code in ((["--store", tmp_path / "none"], 1), (["--max-batch", 0], 2), (["--nonsense"], 2)):
            command = [sys.executable, "-m", "mlpserve_server.cli", *map(str, flags)]
            assert subprocess.run(command, stdout=writer, stderr=writer, timeout=60, check=False).returncode == code
        with unread_server(writer, store, "--drain-delay", 60) as (process, address):
            process.send_signal(signal.SIGTERM)
            while is_serving(address):
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_what_nobody_takes_is_dropped_counted_and_told() -> None:
    program = """
import logging, os, sys
from mlpserve_server.observe import log_format
from mlpserve_server.host import streams
log_format.configure("json")
for number in range(5000):
    logging.info("line %d %s", number, "y" * 1000)
try:
    os.write(2, b"what a library in C does")
except BlockingIOError:
    pass
before = streams.dropped()
os.write(3, b"%d\\n" % before)
sys.stdin.read()  # until somebody reads
sys.stderr.drain(30)
logging.info("written again")
streams.end(0)
"""
    with full_pipe() as (reader, writer):
        told, tell = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-c", f"import os; os.dup2({tell}, 3)\n{program}"],
            stdin=subprocess.PIPE,
            stdout=writer,
            stderr=writer,
            pass_fds=(tell,),
        )
        os.close(tell)
        with os.fdopen(told) as answer:
            dropped = int(answer.readline())
        assert 3500 < dropped < 5000
        assert process.stdin is not None
        process.stdin.close()
        text = b""
        while b"written again" not in text:
            text += os.read(reader, 65536)
        assert process.wait(timeout=30) == 0
    lines = [json.loads(line) for line in text.lstrip(b".").decode().splitlines()]
    numbers = [int(line["message"].split()[1]) for line in lines if line["message"].startswith("line ")]
    assert numbers == list(range(len(numbers))), "what was written is whole and in order"
    assert len(numbers) + dropped == 5000
    (said,) = [line["message"] for line in lines if "dropped" in line["message"]]
    assert said == f"{dropped} lines were dropped, because nobody reads standard error"

"""A store that never answers, as a network mount that has died: the server serves, and ends when it is told to."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.grpc_calls import call_until_refused, stub
from support.processes import BIN, ServerProcess
from support.waiting import wait_until
from tests.support.unread import hanging, prepare_dead_mount

from mlpserve.v1 import classifier_pb2 as pb

ONE = pb.PredictRequest(images=bytes(784))


def test_sigterm_drains_while_the_follower_hangs(
    store: Path, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[grpc.StatusCode] = []
    fifo = prepare_dead_mount(tmp_path, "promoted.json", monkeypatch)
    with ServerProcess(tmp_path, store, "--transport", transport, "--poll", 0.05) as process:
        os.mkfifo(fifo)
        with hanging(fifo), stub(process.address) as caller:
            thread = threading.Thread(target=call_until_refused, args=(caller, ONE, outcomes))
            thread.start()
            wait_until(lambda: grpc.StatusCode.OK in outcomes, "a call is answered")
            process.terminate()
            assert process.wait(timeout=30) == 0
            thread.join()
        assert outcomes.count(grpc.StatusCode.OK) == len(outcomes) - 1 > 0
        assert outcomes[-1] is grpc.StatusCode.UNAVAILABLE
        assert "the store does not answer: it was asked" in process.log
        assert process.log.rstrip().endswith("drained; every accepted request was answered")
        assert "Traceback" not in process.log


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("file", ["promoted.json", "1/manifest.json", "1/model.onnx"])
def test_a_start_that_hangs_ends_at_the_first_sigterm(
    store: Path, tmp_path: Path, workers: int, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = prepare_dead_mount(tmp_path, f"mnist/{file}", monkeypatch)
    os.mkfifo(fifo)
    with contextlib.ExitStack() as opened, _starting(tmp_path, ["--store", str(store), "--workers", str(workers)]):
        opened.enter_context(hanging(fifo))  # left after the server has ended


def test_object_storage_that_takes_connections_and_says_nothing(tmp_path: Path) -> None:
    with contextlib.ExitStack() as opened, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with _starting(tmp_path, ["--store", "s3://models/published", "--workers", "1"], environment):
            silent.settimeout(60)
            opened.enter_context(silent.accept()[0])


@contextlib.contextmanager
def _starting(folder: Path, flags: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Start a server, wait in the block until it hangs, give it a SIGTERM, and look how it ends."""
    temporary = folder / "temporary"
    temporary.mkdir()
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / "mlpserve-server"), "--listen", "127.0.0.1:0", *flags],
            stderr=file,
            env={**os.environ, **(environment or {}), "TMPDIR": str(temporary)},
        )
    try:
        yield
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
    finally:
        process.kill()
        process.wait()
    assert "stopped before it was ready" in log.read_text()
    assert "the store does not answer: it was asked" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not list(temporary.iterdir()), "nothing is left behind"

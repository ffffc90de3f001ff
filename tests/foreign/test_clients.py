"""Other people's gRPC clients: a real call with a deadline, an error with details, a cancelled call of each."""

import json
import os
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.waiting import wait_until
from tests.foreign.conftest import ROOT, Target

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PROGRAMS = Path(__file__).with_name("programs")
BAD_REQUEST = ["INVALID_ARGUMENT", "google.rpc.BadRequest"]
PREDICT = "mlpserve.v1.ClassifierService/Predict"


def run_program(*command: object) -> Any:
    """What a program found, as it prints it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "proto")}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _hold(target: Target, found: Any, before: float, error: list[str] = BAD_REQUEST) -> None:
    assert found["answer"] == target.expected
    assert found["deadline"] == "DEADLINE_EXCEEDED"
    assert found["error"] == error
    assert found["cancelled"] == "CANCELLED"
    wait_until(lambda: target.cancelled() > before, "the server counts the call that was cancelled")


@pytest.mark.parametrize("program", ["grpcio_client.py", "aio_client.py"])
def test_grpcio(target: Target, program: str) -> None:
    before = target.cancelled()
    _hold(target, run_program(sys.executable, PROGRAMS / program, target.address, target.images), before)


def test_grpclib(target: Target, foreign_python: Path) -> None:
    before = target.cancelled()
    _hold(target, run_program(foreign_python, PROGRAMS / "grpclib_client.py", target.address, target.images), before)


def test_node(target: Target, node_program: Path) -> None:
    before = target.cancelled()
    _hold(target, run_program("node", node_program, target.address, target.images, ROOT / "proto"), before)


def test_triton_client(target: Target, foreign_python: Path) -> None:
    before = target.cancelled()
    found = run_program(foreign_python, PROGRAMS / "triton_client.py", target.address, target.images)
    said = "inputs: 'images' has shape [5, 5]; expected [N, 784] or [N, 28, 28]"
    _hold(target, found, before, ["INVALID_ARGUMENT", said])
    assert found["stream"] == ["INVALID_ARGUMENT" if number == 7 else f"r{number}" for number in range(20)]
    assert found["statistics"] == ["slow", True]
    assert found["config"] == 4096


# --- programs that speak HTTP/2 and no gRPC ------------------------------------------------------------------------

RESET = 92  # curl's code: grpcio's server resets a call that has expired, the wire gives it a status
HEADERS = ("content-type: application/grpc", "te: trailers")


@pytest.fixture
def bodies(target: Target, tmp_path: Path) -> dict[str, Path]:
    """Messages as gRPC frames them."""
    images = target.images.read_bytes()
    written = {}
    for name, pixels in (("good", images), ("bad", b"x"), ("large", images[:784] * 4096)):
        message = pb.PredictRequest(images=pixels).SerializeToString()
        written[name] = tmp_path / name
        written[name].write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return written


def _answer(body: bytes) -> list[int]:
    flag, size = struct.unpack(">BI", body[:5])
    assert (flag, size) == (0, len(body) - 5)
    return list(pb.PredictResponse.FromString(body[5:]).class_ids)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(target: Target, bodies: dict[str, Path], tmp_path: Path) -> None:
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this curl speaks no HTTP/2")
    before = target.cancelled()
    url = f"http://{target.address}/{PREDICT}"

    def curl(body: Path, *more: str, headers: tuple[str, ...] = HEADERS) -> tuple[int, str, bytes]:
        said = [part for header in headers for part in ("--header", header)]
        command = ["curl", "--silent", "--http2-prior-knowledge", "--dump-header", str(tmp_path / "headers"), *said]
        command += ["--output", str(tmp_path / "body"), "--data-binary", f"@{body}", *more, url]
        code = subprocess.run(command, timeout=60, check=False).returncode
        answered = (tmp_path / "body").read_bytes() if (tmp_path / "body").exists() else b""
        return code, (tmp_path / "headers").read_text(), answered

    code, headers, body = curl(bodies["good"], headers=(*HEADERS, "grpc-timeout: 30S"))
    assert (code, _answer(body)) == (0, target.expected)
    assert "grpc-status: 0" in headers
    _, headers, _ = curl(bodies["bad"])
    assert "grpc-status: 3" in headers
    assert "grpc-status-details-bin: " in headers
    code, headers, _ = curl(bodies["large"], headers=(*HEADERS, "grpc-timeout: 1m"))
    assert "grpc-status: 4" in headers or code == RESET

    def given_up() -> bool:  # on a busy machine curl may give up before its message has left
        curl(bodies["large"], "--max-time", "0.5")
        return target.cancelled() > before

    wait_until(given_up, "the server counts the call that was cancelled")


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="nghttp is not installed (apt-get install nghttp2-client)")
def test_nghttp(target: Target, bodies: dict[str, Path]) -> None:
    before = target.cancelled()

    def nghttp(body: Path, *headers: str) -> str:
        said = [part for header in (*HEADERS, *headers) for part in ("--header", header)]
        command = [
            "nghttp",
            "--verbose",
            "--null-out",
            *said,
            "--data",
            str(body),
            f"http://{target.address}/{PREDICT}",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "grpc-status: 0" in nghttp(bodies["good"], "grpc-timeout: 30S")
    refused = nghttp(bodies["bad"])
    assert "grpc-status: 3" in refused
    assert "grpc-status-details-bin: " in refused
    expired = nghttp(bodies["large"], "grpc-timeout: 1m")
    assert "grpc-status: 4" in expired or "recv RST_STREAM" in expired
    command = ["nghttp", *(part for header in HEADERS for part in ("--header", header))]
    command += ["--data", str(bodies["large"]), f"http://{target.address}/{PREDICT}"]

    def killed() -> bool:
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, timeout=0.5, check=False, stdout=subprocess.DEVNULL)
        return target.cancelled() > before

    wait_until(killed, "the server counts the call that was cancelled")

"""KServe's client over gRPC, and what people try first: `buf curl` by both versions of reflection."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.foreign.conftest import Target
from tests.foreign.test_clients import PREDICT, PROGRAMS, run_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_kserve_over_grpc(target: Target, foreign_python: Path) -> None:
    found = run_program(foreign_python, PROGRAMS / "kserve_client.py", "grpc", target.address, target.images)
    assert found["ready"] == [True, True, True]
    assert found["answer"] == target.expected
    assert found["error"] == "INVALID_ARGUMENT"
    assert found["deadline"] == "DEADLINE_EXCEEDED"


@pytest.mark.skipif(shutil.which("npx") is None, reason="node and npm are not installed")
@pytest.mark.parametrize("reflection", ["grpc-v1", "grpc-v1alpha"])
def test_buf_curl(target: Target, reflection: str) -> None:
    """It knows the method by the server's reflection alone."""
    pixels = base64.b64encode(target.images.read_bytes()).decode()
    command = ["npx", "--yes", "@bufbuild/buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    command += ["--reflect-protocol", reflection, "--data", json.dumps({"images": pixels})]
    done = subprocess.run(
        [*command, f"http://{target.address}/{PREDICT}"], capture_output=True, text=True, timeout=240, check=False
    )
    if any(word in done.stderr for word in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classIds"] == target.expected

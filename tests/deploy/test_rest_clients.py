"""The Open Inference Protocol's own REST clients, through the gateway."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess
from tests.support.envoy import Gateway

from mlpserve_client import Client

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT / ".venv-foreign/bin/python"
PROGRAMS = ROOT / "tests/foreign/programs"
IMAGES = mnist_images()[:5]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOREIGN.exists(), reason="no .venv-foreign: run `make test-all`, which makes it"),
]


def _run(*command: object) -> Any:
    done = subprocess.run([str(FOREIGN), *map(str, command)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.write_bytes(IMAGES.tobytes())
    return path


@pytest.fixture
def expected(server: ServerProcess) -> list[int]:
    with Client(server.address) as client:
        return client.predict(IMAGES).class_ids.tolist()


def test_kserve(gateway: Gateway, images: Path, expected: list[int]) -> None:
    found = _run(PROGRAMS / "kserve_client.py", "rest", f"http://{gateway.address}", images)
    assert found["ready"] == [True, True, True]
    assert found["absent"] is False
    assert found["json"] == found["binary"] == ["r7", expected]
    assert found["error"] == 400


def test_triton(gateway: Gateway, images: Path, expected: list[int]) -> None:
    found = _run(PROGRAMS / "triton_http_client.py", gateway.address, images)
    assert found["ready"] == [True, True, True]
    assert found["absent"] is False
    assert found["metadata"] == ["mlpserve", "images"]
    assert found["json"] == found["binary"] == ["r7", expected]
    assert found["error"][0] == "400"
    assert "shape [5, 5]" in found["error"][1]

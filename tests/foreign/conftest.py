"""What the tests with other people's clients need: a server of a slow model, and environments of their own."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape

from mlpserve_client import Client

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ROOT / ".venv-foreign/bin/python"
MODEL = "slow"


@dataclass(frozen=True)
class Target:
    """A server that other people's clients call.

    Attributes:
        address: HOST:PORT.
        metrics: where its metrics are.
        images: a file with the pixels of five images.
        expected: their classes.
    """

    address: str
    metrics: str
    images: Path
    expected: list[int]

    def cancelled(self) -> float:
        """Calls that their callers have cancelled, as the server counts."""
        return sum(value for name, value in scrape(self.metrics).items() if 'grpc_code="Canceled"' in name)


@pytest.fixture(scope="session", params=["wire", "grpcio"])
def target(
    request: pytest.FixtureRequest, slow_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """A server on each transport."""
    if request.param == "wire":
        pytest.importorskip("mlpserve_wire")
    folder = tmp_path_factory.mktemp("foreign")
    images = folder / "images"
    images.write_bytes(mnist_images()[:5].tobytes())
    metrics = f"127.0.0.1:{free_port()}"
    flags = ["--model", MODEL, "--transport", request.param, "--metrics-listen", metrics, "--workers", 1]
    with ServerProcess(folder, slow_store, *flags) as process:
        with Client(process.address, timeout=30) as client:
            expected = client.predict(mnist_images()[:5]).class_ids.tolist()
        yield Target(process.address, metrics, images, expected)
        assert "Traceback" not in process.log


@pytest.fixture(scope="session")
def foreign_python() -> Path:
    """The interpreter that has other people's Python clients."""
    if not FOREIGN.exists():
        pytest.skip("no .venv-foreign: run `make test-all`, which makes it")
    return FOREIGN


@pytest.fixture(scope="session")
def node_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """node_client.mjs with its packages beside it."""
    if shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copy(ROOT / "examples/node/package.json", folder)
    shutil.copy(Path(__file__).with_name("programs") / "node_client.mjs", folder)
    command = ["npm", "install", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    if any(word in installed.stderr for word in ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN")):
        pytest.skip("npm reaches no registry")
    assert installed.returncode == 0, installed.stderr
    return folder / "node_client.mjs"

"""The FastAPI service, under uvicorn, in front of a real server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from support.waiting import wait_until
from tests.support.examples import EXAMPLES, write_digits

from mlpserve_client import Client


@contextmanager
def web_service(server: str, folder: Path) -> Iterator[httpx.Client]:
    """A client of the running service."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "web_service:app", "--app-dir", str(EXAMPLES), "--port", str(port)]
    with (folder / "log").open("w") as log:
        environment = {**os.environ, "MLPSERVE_SERVER": server}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:

            def answers() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                return client.get("/openapi.json").raise_for_status().is_success

            wait_until(answers, (folder / "log").read_text, not_yet=(httpx.ConnectError,))
            yield client
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_uploads_are_classified(address: str, tmp_path: Path) -> None:
    with Client(address) as client:
        expected = client.predict(mnist_images()[:20])
    with web_service(address, tmp_path) as service:
        for number, path in enumerate(write_digits(tmp_path / "digits", 20)):
            response = service.post("/classify", files={"file": path.read_bytes()})
            assert response.status_code == 200, response.text
            assert response.json()["label"] == str(expected.class_ids[number])
            assert abs(response.json()["score"] - float(expected.scores[number])) < 1e-6
            assert response.json()["model_version"] == 1
        response = service.post("/classify", files={"file": b"no picture"})
        assert response.status_code == 422
        assert "not a readable image" in response.json()["detail"]


def test_an_outage_is_503(store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store) as server, web_service(server.address, tmp_path) as service:
        (path,) = write_digits(tmp_path / "digits", 1)
        assert service.post("/classify", files={"file": path.read_bytes()}).status_code == 200
        server.process.kill()
        server.process.wait()
        response = service.post("/classify", files={"file": path.read_bytes()})
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"

"""The Python service of docs/how-to.md, started as it stands there."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from tests.support.documents import ADDRESS, ROOT, blocks

from mlpserve_client import Client


def test_the_python_service(server: ServerProcess, tmp_path: Path) -> None:
    (block,) = [block for block in blocks(ROOT / "docs/how-to.md") if "# service.py" in block.code]
    (tmp_path / "service.py").write_text(block.code.replace(ADDRESS, server.address))
    url = f"http://127.0.0.1:{(port := free_port())}/classify"
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port), "--log-level", "warning"]
    with (tmp_path / "log").open("w") as log:
        service = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": "."})
    try:
        with Client(server.address) as client:
            expected = client.predict(mnist_images()[:5]).class_ids.tolist()
        assert [_classify(url, image.tobytes()) for image in mnist_images()[:5]] == expected, (
            tmp_path / "log"
        ).read_text()
    finally:
        service.terminate()
        service.wait(timeout=20)


def _classify(url: str, pixels: bytes) -> int:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, pixels), timeout=10) as answer:
                return int(json.loads(answer.read())["digit"])
        except ConnectionError as error:
            assert time.monotonic() < deadline, error
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionError), error
            assert time.monotonic() < deadline, error
        time.sleep(0.1)

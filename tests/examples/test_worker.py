"""The asyncio worker: everything it takes is answered, also when it is asked to stop."""

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from support.mnist import mnist_images
from support.processes import free_port
from tests.support.examples import EXAMPLES, run_example, write_digits

from mlpserve_client import Client

WORKER = [sys.executable, str(EXAMPLES / "worker.py")]


def test_every_path_is_answered(address: str, tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "digits", 100)
    (broken := tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "paths").write_text("".join(f"{path}\n" for path in [broken, *digits]))
    with (tmp_path / "paths").open() as paths:
        worked = subprocess.run(
            [*WORKER, address], stdin=paths, capture_output=True, text=True, timeout=120, check=False
        )
    assert worked.returncode == 0, worked.stderr
    assert "worker: 101 pictures done" in worked.stderr
    answers = {Path(answer["path"]): answer for answer in map(json.loads, worked.stdout.splitlines())}
    assert "not a readable image" in answers.pop(broken)["error"]
    with Client(address) as client:
        expected = client.predict(mnist_images()[:100]).labels.tolist()
    assert [answers[path]["label"] for path in digits] == expected


def test_a_signal_finishes_what_was_taken(address: str, tmp_path: Path) -> None:
    (path,) = write_digits(tmp_path / "digits", 1)
    worker = subprocess.Popen(
        [*WORKER, address], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    endless = worker.stdin

    def feed() -> None:
        with suppress(BrokenPipeError):
            while True:
                endless.write(f"{path}\n".encode())

    feeding = threading.Thread(target=feed, daemon=True)
    with worker:
        feeding.start()
        lines = [worker.stdout.readline() for _ in range(200)]
        worker.send_signal(signal.SIGTERM)
        lines += worker.stdout.readlines()
        errors = worker.stderr.read().decode()
        assert worker.wait(timeout=60) == 0, errors
        feeding.join(timeout=60)
    answers = [json.loads(line) for line in lines]
    assert all("label" in answer for answer in answers)
    assert f"worker: {len(answers)} pictures done" in errors
    assert "Traceback" not in errors


def test_without_a_server_it_says_so(tmp_path: Path) -> None:
    worked = run_example("worker.py", f"127.0.0.1:{free_port()}", cwd=tmp_path)
    assert worked.returncode == 1
    assert worked.stderr.startswith("worker: ")
    assert "Traceback" not in worked.stderr

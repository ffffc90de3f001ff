"""One worker as its supervisor sees it: a process, and the pipes to and from it."""

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from mlpserve_server.config import ServerConfig
from mlpserve_server.started import Started

log = logging.getLogger(__name__)

END_SECONDS = 5.0  # for a process that was killed to be gone
NOT_A_WORD = "it ended before it was ready; its log is above"


class WorkerProcess:
    """One process and the thread that listens to it.

    Start it from a thread that lives as long as the supervisor: the kernel kills the process when that thread ends.

    Args:
        config: of the worker.
        on_news: called from another thread when it has said something new or has ended.

    Attributes:
        began: time.monotonic() of its start.
        started: what it serves, once it is ready.
        failure: why it cannot serve, once it has said so.
        served: whether it was let serve.

    Raises:
        OSError: the system has no process or no pipe for it.
    """

    def __init__(self, config: ServerConfig, on_news: Callable[[], None]) -> None:
        command = [sys.executable, "-m", "mlpserve_server.workers.worker", _to_json(config), str(os.getpid())]
        # A session of its own: Ctrl-C is the supervisor's to pass on.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
        )
        assert self._process.stdin is not None
        self._commands = self._process.stdin.fileno()
        os.set_blocking(self._commands, False)  # a worker that reads nothing must not hold the supervisor
        self._on_news = on_news
        self.began = self._heard = time.monotonic()
        self.started: Started | None = None
        self.failure = ""
        self.served = self.killed = False
        self._metrics: dict[str, Any] | None = None
        self._metrics_arrived = threading.Event()
        threading.Thread(target=self._listen, name="worker's answers", daemon=True).start()

    def tell(self, command: str) -> None:
        """Send a command; a worker that has ended, or reads none, is not told."""
        self.served = self.served or command == "serve"
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._commands, json.dumps({"do": command}).encode() + b"\n")

    def ask_metrics(self) -> None:
        """Ask for what `metrics` gives."""
        self._metrics_arrived.clear()
        self.tell("metrics")

    def metrics(self, seconds: float) -> dict[str, Any] | None:
        """The snapshot that was asked for; None if it has not come within so many seconds."""
        return self._metrics if self._metrics_arrived.wait(max(0.0, seconds)) else None

    def silence(self) -> float:
        """Seconds since it last said something; while it serves it is asked all the time."""
        return time.monotonic() - self._heard

    def code(self) -> int | None:
        """Its exit code; None while it lives."""
        return self._process.poll()

    def kill(self) -> None:
        """End it at once."""
        self.killed = True
        self._process.kill()

    def terminate(self) -> None:
        """Let it drain."""
        self._process.terminate()

    def wait(self, seconds: float) -> int | None:
        """Its exit code; it is killed after so many seconds. None if even that does not end it."""
        try:
            return self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.kill()
        try:
            return self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return None  # the kernel waits for a disk that does not answer

    def _listen(self) -> None:
        assert self._process.stdout is not None
        pending = b""
        while chunk := self._process.stdout.read(65536):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._hear(line)
        if self.started is None and not self.failure:
            self.failure = NOT_A_WORD
        self.wait(END_SECONDS)  # whoever closes this pipe is no worker any longer
        self._on_news()

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            log.error("worker %d said what cannot be read: %r", self._process.pid, line[:100])
            return
        self._heard = time.monotonic()
        if "metrics" in message:
            self._metrics = message["metrics"]
            self._metrics_arrived.set()
            return
        if "ready" in message:
            self.started = Started(**message["ready"])
        self.failure = message.get("failed", self.failure)
        self._on_news()


def _to_json(config: ServerConfig) -> str:
    values = dataclasses.asdict(config) | {"store": str(config.store), "metrics_listen": "", "workers": 1}
    return json.dumps(values)

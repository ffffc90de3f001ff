"""Several server processes on one port, and the process that keeps them.

The kernel spreads connections over the workers (SO_REUSEPORT), so this helps callers with several connections; calls on
one connection stay with one worker. The supervisor holds the port, starts each worker as a fresh process, replaces one
that dies or no longer answers, adds up their metrics, and drains them together. They talk over pipes, one JSON object a
line:

    supervisor → worker   {"do": "serve"}, {"do": "metrics"}; the end of the pipe means that the supervisor is gone
    worker → supervisor   {"ready": {…}}, {"failed": "why"}, {"metrics": {…}}

A worker is `python -m mlpserve_server.worker CONFIG_AS_JSON`.
"""

import dataclasses
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlpserve_server.config import ServerConfig, split_address
from mlpserve_server.errors import ListenError, StartupError
from mlpserve_server.metrics import Metrics, MetricsEndpoint
from mlpserve_server.resources import cpu_count

log = logging.getLogger(__name__)

READY_SECONDS = 120.0  # for a worker to prove its model
METRICS_SECONDS = 2.0  # for a worker to answer a scrape
WATCH_SECONDS = 1.0  # between two questions whether a worker is there
MAX_DEATHS, DEATHS_WITHIN = 5, 60.0  # more deaths in so many seconds end the server


class Supervisor:
    """Keeps `config.workers` servers on one port.

    Args:
        config: settings; each worker gets the same with the port that was found.
        on_failure: called from another thread when the workers die too often to go on.
    """

    def __init__(self, config: ServerConfig, on_failure: Callable[[], None]) -> None:
        self._config = config
        self._on_failure = on_failure
        self._workers: list[_Worker] = []
        self._deaths: list[float] = []
        self._stopping = False
        self._lock = threading.Lock()
        self._endpoint: MetricsEndpoint | None = None
        self.failed = False

    def start(self) -> dict[str, Any]:
        """Start all workers and let them serve once every one of them is ready.

        Returns:
            What is served: "model", "version", "address" and more.

        Raises:
            StartupError: the port cannot be had, or a worker cannot start.
        """
        self._reservation, address = _reserve(self._config.listen)
        threads = self._config.threads or max(1, cpu_count() // self._config.workers - 1)
        self._config = dataclasses.replace(self._config, listen=address, threads=threads)
        if self._config.metrics_listen:
            self._endpoint = MetricsEndpoint(self._collect, self._config.metrics_listen)
        first = self._spawn(0)
        facts = first.wait_ready()
        # The first one measures which file is faster; all must serve the same.
        self._config = dataclasses.replace(self._config, precision=facts["precision"])
        for index in range(1, self._config.workers):
            self._spawn(index)
        for worker in self._workers:
            worker.wait_ready()
        for worker in self._workers:
            worker.tell("serve")
        threading.Thread(target=self._watch, daemon=True).start()
        return facts | {"address": address}

    def stop(self) -> bool:
        """Drain all workers at the same time.

        Returns:
            Whether every one answered all that it had accepted.
        """
        with self._lock:
            self._stopping = True
        for worker in self._workers:
            worker.terminate()
        codes = [worker.wait(self._config.drain_timeout + 10) for worker in self._workers]
        if self._endpoint is not None:
            self._endpoint.close()
        if hasattr(self, "_reservation"):
            self._reservation.close()
        # One that was still starting had accepted nothing, however it ended.
        return all(code == 0 for worker, code in zip(self._workers, codes, strict=True) if worker.served)

    def _is_stopping(self) -> bool:
        return self._stopping

    def kill(self) -> None:
        """End all workers at once, whatever they are doing."""
        self._stopping = True
        for worker in self._workers:
            worker.kill()

    def _watch(self) -> None:
        """Kill workers that have not said anything for too long; `_died` replaces them."""
        while not self._stopping:
            time.sleep(WATCH_SECONDS)
            for index, worker in enumerate(self._workers):
                silence = worker.silence()
                if silence > self._config.stall_timeout and not self._stopping:
                    log.error("worker %d has not answered for %.0f s; killing it", index, silence)
                    worker.kill()
                elif worker.served:
                    worker.tell("metrics")

    def _spawn(self, index: int) -> "_Worker":
        worker = _Worker(self._config, lambda: self._died(index))
        if index < len(self._workers):
            self._workers[index] = worker
        else:
            self._workers.append(worker)
        return worker

    def _died(self, index: int) -> None:
        """Replace a worker that has ended; called by the thread that listened to it."""
        with self._lock:
            if self._stopping or not self._workers[index].served:
                return  # it was told to, or its start has failed and `start` reports that
            now = time.monotonic()
            self._deaths = [death for death in self._deaths if now - death < DEATHS_WITHIN] + [now]
            code = self._workers[index].wait(5)
            if len(self._deaths) > MAX_DEATHS:
                log.error("workers died %d times within %.0f s; giving up", len(self._deaths), DEATHS_WITHIN)
                self.failed = True
                self._on_failure()
                return
            log.error("worker %d ended with code %s; starting another", index, code)
            worker = self._spawn(index)
        try:
            worker.wait_ready()
            worker.tell("serve")
        except StartupError as error:
            if self._is_stopping():
                return  # it was told to end before it was ready
            log.error("worker %d cannot be replaced: %s", index, error)
            self.failed = True
            self._on_failure()

    def _collect(self) -> Iterator[Any]:
        """The workers' metrics, added up."""
        total = Metrics()
        snapshots = [snapshot for worker in self._workers if (snapshot := worker.metrics()) is not None]
        for snapshot in snapshots:
            total.add(snapshot)
        total.ready = bool(snapshots) and all(snapshot["ready"] for snapshot in snapshots)
        return total.collect()


class _Worker:
    """One process and the thread that listens to it.

    Args:
        config: of the worker.
        on_end: called when the process has ended.
    """

    def __init__(self, config: ServerConfig, on_end: Callable[[], None]) -> None:
        command = [sys.executable, "-m", "mlpserve_server.worker", _to_json(config)]
        # A session of its own: Ctrl-C is the supervisor's to pass on.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._on_end = on_end
        self._started = threading.Event()
        self._facts: dict[str, Any] | None = None
        self._failure = "it ended before it was ready; its log is above"
        self._metrics: dict[str, Any] | None = None
        self._metrics_arrived = threading.Event()
        self._heard = time.monotonic()
        self.served = False
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_ready(self) -> dict[str, Any]:
        """What the worker serves, once it is ready.

        Raises:
            StartupError: it failed, or took too long.
        """
        self._started.wait(READY_SECONDS)
        if self._facts is None:
            self._process.kill()
            raise StartupError(self._failure)
        return self._facts

    def tell(self, command: str) -> None:
        """Send a command; a worker that has ended is not told."""
        assert self._process.stdin is not None
        self.served = self.served or command == "serve"
        try:
            self._process.stdin.write(json.dumps({"do": command}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass

    def metrics(self) -> dict[str, Any] | None:
        """A fresh snapshot; None if the worker does not answer in time."""
        self._metrics_arrived.clear()
        self.tell("metrics")
        return self._metrics if self._metrics_arrived.wait(METRICS_SECONDS) else None

    def silence(self) -> float:
        """Seconds since it last said something, while it serves; it is asked for its metrics all the time."""
        return time.monotonic() - self._heard if self.served and self._process.poll() is None else 0.0

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def terminate(self) -> None:
        """Let it drain."""
        self._process.terminate()

    def wait(self, timeout: float) -> int:
        """Its exit code; it is killed after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            self._heard = time.monotonic()
            if "ready" in message:
                self._facts = message["ready"]
                self._started.set()
            elif "failed" in message:
                self._failure = message["failed"]
            elif "metrics" in message:
                self._metrics = message["metrics"]
                self._metrics_arrived.set()
        self._started.set()
        self._on_end()


def _reserve(listen: str) -> tuple[socket.socket, str]:
    """Hold a port for the workers to share: (socket, "HOST:PORT" with the real port)."""
    host, port = split_address(listen, "--listen")
    shown = f"[{host}]" if ":" in host else host
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))  # without SO_REUSEPORT: fails if anybody has the port
            port = probe.getsockname()[1]
        held = socket.socket(family)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        raise ListenError(f"--listen {shown}:{port}: {error.strerror or error}; take another address") from error
    return held, f"{shown}:{port}"


def _to_json(config: ServerConfig) -> str:
    values = dataclasses.asdict(config) | {"store": str(config.store), "metrics_listen": "", "workers": 1}
    return json.dumps(values)

"""Our executables as real processes, on free ports, always ended."""

import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from support.waiting import wait_until

BIN = Path(sys.executable).parent
START_SECONDS = 60
# Where servers run that are not told otherwise, and which they are: `make gpu-check` and `make test-cuda` run the
# conformance suite on a GPU.
DEVICE = os.environ.get("MLPSERVE_TEST_DEVICE", "cpu")
SERVER = Path(os.environ.get("MLPSERVE_TEST_SERVER", BIN / "mlpserve-server"))
# The transport that the tests are about; empty for all, and in tests that name none for the one that the server takes.
ONLY = os.environ.get("MLPSERVE_TEST_TRANSPORT", "")
PROVIDER = "CPUExecutionProvider" if DEVICE == "cpu" else "CUDAExecutionProvider"


def run(
    name: str, *arguments: object, timeout: float = 240, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of our executables to its end."""
    return subprocess.run(
        [str(BIN / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )


class Announced:
    """A process that says on its first line where it listens, which it does when the `with` block begins."""

    def __init__(self, command: Sequence[object], log: Path, says: str, env: dict[str, str] | None = None) -> None:
        self._command = [str(part) for part in command]
        self._log = log
        self._says = says
        self._env = {**os.environ, **(env or {})}

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._env)
        assert self.process.stdout is not None
        self.announced = self.process.stdout.readline()
        if not self.announced.startswith(self._says):
            self.process.wait(timeout=START_SECONDS)
            raise AssertionError(f"{self._command[0]} did not start:\n{self.log}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def log(self) -> str:
        return self._log.read_text()


class ServerProcess(Announced):
    """`mlpserve-server` on a free port."""

    def __init__(
        self, folder: Path, store: Path, *flags: object, program: Path = SERVER, env: dict[str, str] | None = None
    ) -> None:
        command = [program, "--store", store, "--listen", "127.0.0.1:0", *flags]
        if "--device" not in flags:
            command += ["--device", DEVICE]
        if ONLY and "--transport" not in flags:
            command += ["--transport", ONLY]
        super().__init__(command, folder / f"server-{time.monotonic_ns()}.log", "Serving ", env)

    @property
    def address(self) -> str:
        return self.announced.split()[-1]

    def wait_for_log(self, words: str, timeout: float = START_SECONDS) -> None:
        wait_until(lambda: words in self.log, lambda: f"the log says {words!r}:\n{self.log}", timeout)

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self, timeout: float = 60) -> int:
        return self.process.wait(timeout=timeout)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")  # each thread has its own
    return [int(child) for file in files for child in file.read_text().split()]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_mb(pid: int, most: bool = False) -> float:
    """Resident memory of a process, now or at most since its start."""
    name = "VmHWM:" if most else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def scrape(address: str) -> dict[str, float]:
    """Prometheus' samples as name{labels} → value."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def scrape_when(address: str, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """The samples once something holds: a server counts calls after it has answered them."""
    samples: dict[str, float] = {}

    def look() -> bool:
        samples.clear()
        samples.update(scrape(address))
        return holds(samples)

    wait_until(look, lambda: f"other metrics than {samples}")
    return samples


def take_descriptors(pid: int) -> tuple[int, int]:
    """Let a process open no more files; what it was allowed before."""
    allowed = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, allowed[1]))
    return allowed

"""The open-loop load generator of open_loop.cc, built the first time it is needed, and what it measured."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
SOURCE, PROGRAM = HERE / "open_loop.cc", HERE.parent / "out/open_loop"
UNPACKED = HERE.parents[1] / "build/wire/root/usr"  # headers that `make wire` has unpacked where none are installed
WARM = 0.5  # seconds before requests count
INSTALL = "apt-get install g++ libnghttp2-dev (Fedora: dnf install gcc-c++ libnghttp2-devel), or `make wire` before"
# The generator's name for each form of a request, and the content type.
KINDS = {
    "mlpserve": ("grpc", "application/grpc"),
    "oip": ("grpc", "application/grpc"),
    "oip-bytes": ("grpc", "application/grpc"),
    "h2": ("h2", "application/grpc"),
    "raw": ("h1", "application/octet-stream"),
    "json": ("h1", "application/json"),
}


@dataclass(frozen=True)
class OpenLoop:
    """What became of requests that were sent when they were due.

    Attributes:
        due: how many requests there were.
        seconds: from when each answered request was due to its answer.
        late: seconds from when each was due to when it was sent: what the generator itself, its core and HTTP/2's flow
            control add.
        answering: seconds from when each answered request was sent until the kernel had its answer; those of WARM are
            among them, as they are in what the server counts.
        failed: how many were not answered, by reason, such as "grpc-status 8".
    """

    due: int
    seconds: npt.NDArray[np.float64]
    late: npt.NDArray[np.float64]
    answering: npt.NDArray[np.float64]
    failed: dict[str, int]

    def percentiles(self, of: Sequence[float] = (50, 99, 99.9)) -> list[float]:
        """Percentiles of the latency in milliseconds; a request that failed took for ever."""
        every = np.concatenate([self.seconds, np.full(sum(self.failed.values()), np.inf)])
        return [float(value) * 1e3 for value in np.percentile(every, of, method="higher")]


@functools.cache
def program() -> Path:
    """The generator, built if its source is newer; ends the program with a sentence where it cannot be built."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > SOURCE.stat().st_mtime:
        return PROGRAM
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        sys.exit(f"the load generator needs a C++ compiler: {INSTALL}")
    PROGRAM.parent.mkdir(exist_ok=True)
    fresh = PROGRAM.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", "-std=c++17", f"-I{UNPACKED / 'include'}"]
    command += [f"-L{folder}" for folder in (UNPACKED / "lib").glob("*-linux-gnu")]
    done = subprocess.run([*command, "-o", fresh, SOURCE, "-lnghttp2"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the load generator does not compile: {INSTALL}\n{done.stderr[-2000:]}")
    fresh.rename(PROGRAM)
    return PROGRAM


@functools.cache
def ahead_of_others() -> list[str]:
    """What a command begins with so that it never waits for a core; empty where that takes rights that we do not have.

    Linux's real-time policy SCHED_FIFO, see sched(7).
    """
    command = ["chrt", "--fifo", "1"]
    allowed = (
        shutil.which("chrt") and not subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    )
    return command if allowed else []


def open_loop(
    port: int,
    path: str,
    body: bytes,
    *,
    wire: str,
    rate: float,
    seconds: float,
    connections: int = 8,
    core: str = "",
    seed: int = 1,
    ahead: bool = False,
) -> OpenLoop:
    """Send one message at random times, so many a second, whatever becomes of it.

    Args:
        port: on 127.0.0.1.
        path: of the requests.
        body: the message, without gRPC's prefix.
        wire: form of a request, one of KINDS.
        rate: requests a second.
        seconds: that count; WARM go before.
        connections: how many; over HTTP/1 the most requests that are in flight.
        core: the CPU that it is pinned to; empty: none.
        seed: of the times.
        ahead: have the generator ask for a core before everybody else (`ahead_of_others`), so that it sends and reads
            on time although servers and other callers keep the same cores busy, as a caller on another machine would.

    Raises:
        RuntimeError: the generator failed.
    """
    kind, content_type = KINDS[wire]
    framed = b"\0" + len(body).to_bytes(4, "big") + body if kind != "h1" else body
    with tempfile.NamedTemporaryFile() as file:
        file.write(framed)
        file.flush()
        command = ["taskset", "-c", core] if core else []
        command += ahead_of_others() if ahead else []
        command += [str(program()), str(port), path, file.name, kind, content_type]
        command += [str(rate), str(seconds), str(WARM), str(connections), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    found = json.loads(done.stdout)
    return OpenLoop(
        found["due"],
        np.array(found["latencies"], np.float64) / 1e6,
        np.array(found["lateness"], np.float64) / 1e6,
        np.array(found["answering"], np.float64) / 1e6,
        found["failed"],
    )

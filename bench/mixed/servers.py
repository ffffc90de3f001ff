"""A server that says what it measures, and scoring jobs that keep it busy."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.processes import ServerProcess, free_port, scrape

BIN = Path(sys.executable).parent
JOBS = 2
CHUNK = 4096  # images of a job's request
STARTED_SECONDS = 60.0

Samples = Mapping[str, float]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: of its calls, on 127.0.0.1.
        metrics: HOST:PORT.
    """

    port: int
    metrics: str

    def look(self) -> Samples:
        """What it exports."""
        return scrape(self.metrics)


@contextlib.contextmanager
def serving(folder: Path, store: Path, transport: str) -> Iterator[Server]:
    """One worker with the float32 file."""
    metrics = f"127.0.0.1:{free_port()}"
    common = ["--transport", transport, "--precision", "fp32", "--workers", "1", "--metrics-listen", metrics]
    with ServerProcess(folder, store, *common) as process:
        yield Server(int(process.address.rpartition(":")[2]), metrics)


@contextlib.contextmanager
def only_on(core: str) -> Iterator[None]:
    """Processes that the block starts stay on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def jobs(server: Server, images: Path, folder: Path, warm: float) -> Iterator[None]:
    """Two scoring jobs with their defaults that run while the block does.

    Args:
        server: that they call.
        images: a file that keeps them busy for longer than the block.
        folder: for what they write.
        warm: seconds from their first images to the block.
    """
    begun = server.look()
    running = []
    try:
        for number in range(JOBS):
            out = folder / f"scores-{time.monotonic_ns()}-{number}"
            command = [BIN / "mlpserve", "--server", f"127.0.0.1:{server.port}", "score", images, out]
            running.append(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until = time.monotonic() + STARTED_SECONDS
        while batch_images(begun, server.look()) < JOBS * CHUNK:
            _all_run(running)
            if time.monotonic() > until:
                raise SystemExit("the jobs do not start")
            time.sleep(0.1)
        time.sleep(warm)
        yield
        _all_run(running)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _all_run(running: list["subprocess.Popen[bytes]"]) -> None:
    if any(process.poll() is not None for process in running):
        raise SystemExit("a job ended while it was measured; give it more --images")


def batch_images(before: Samples, after: Samples) -> float:
    """Images of batch traffic that ran between two looks."""
    return _images("batch", before, after)


def interactive_images(before: Samples, after: Samples) -> float:
    """Images of interactive calls that ran between two looks."""
    return _images("interactive", before, after)


def _images(traffic: str, before: Samples, after: Samples) -> float:
    name = f'mlpserve_run_images_total{{traffic="{traffic}"}}'
    return after.get(name, 0) - before.get(name, 0)


def run_seconds(before: Samples, after: Samples) -> float:
    """Seconds of a batch between two looks, on average."""
    total, count = (
        after.get(f"mlpserve_run_seconds_{part}", 0) - before.get(f"mlpserve_run_seconds_{part}", 0)
        for part in ("sum", "count")
    )
    return total / max(count, 1)


def quantile(before: Samples, after: Samples, method: str, part: float) -> float:
    """What Prometheus' histogram_quantile says of the interactive calls of a method between two looks, in seconds."""
    path = f'grpc_method="{method.rpartition("/")[2]}"'
    buckets = sorted(
        (float(name.partition('le="')[2].partition('"')[0]), value - before.get(name, 0))
        for name, value in after.items()
        if name.startswith("grpc_server_handling_seconds_bucket") and path in name and 'traffic="interactive"' in name
    )
    wanted, low, below = part * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / max(count - below, 1)
        low, below = bound, count
    return low

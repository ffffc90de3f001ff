"""Load from h2load, pinned to one core, and what it measured."""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CORE = "1"
MISSING = "h2load is not installed: apt-get install nghttp2-client, or your system's nghttp2 package"


@dataclass(frozen=True)
class Load:
    """One case.

    Attributes:
        name: of the case.
        images: images in a request.
        connections: how many.
        streams: requests in flight on each connection.
        rate: requests a second in all, open loop; 0 for as many as are answered.
    """

    name: str
    images: int
    connections: int
    streams: int
    rate: int = 0


@dataclass(frozen=True)
class Measured:
    """What one run came to: requests a second, and percentiles of the latency in µs."""

    requests_per_second: float
    p50: float
    p99: float


def need_h2load() -> None:
    """End the program where there is no h2load, with a sentence that says what to install."""
    if shutil.which("h2load") is None:
        sys.exit(MISSING)


def run(
    load: Load,
    url: str,
    body: bytes,
    *,
    wire: str,
    reply_size: int,
    seconds: float,
    core: str = CORE,
    may_fail: bool = False,
    threads: int = 1,
) -> Measured:
    """Load a server for some seconds, from one core; from several with more threads.

    A gRPC error is an HTTP 200 without data, so the bytes that came back are held against `reply_size`, the size of one
    good reply; `may_fail` takes whatever came back.

    Raises:
        RuntimeError: a request failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "body", Path(folder) / "log"
        grpc = wire in ("mlpserve", "oip", "oip-bytes", "h2")
        # A gRPC message is preceded by a flag and its length.
        data.write_bytes(b"\0" + len(body).to_bytes(4, "big") + body if grpc else body)
        command = ["taskset", "-c", core, "h2load", f"--data={data}", f"--log-file={log}"]
        command += [f"--duration={round(seconds * 1000)}ms", "--warm-up-time=300ms"]
        connections = load.connections if grpc else load.connections * load.streams
        command += [f"--clients={connections}", f"--max-concurrent-streams={load.streams if grpc else 1}"]
        if threads > 1:
            command += [f"--threads={threads}"]
        if load.rate:
            command += [f"--rps={max(1, round(load.rate / connections))}"]
        if grpc:
            command += ["--header=content-type: application/grpc", "--header=te: trailers"]
        else:
            # HTTP/1 has one request at a time on a connection.
            kind = "json" if wire == "json" else "octet-stream"
            command += ["--h1", f"--header=content-type: application/{kind}"]
        result = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 60, check=False)
        return _parse(result.stdout + result.stderr, log, 0 if may_fail else reply_size)


def _parse(output: str, log: Path, reply_size: int) -> Measured:
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", output)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
    data = re.search(r"(\d+) succeeded.*\((\d+)\) data", output, flags=re.DOTALL)
    if rate is None or failed is None or data is None:
        raise RuntimeError(f"h2load did not finish:\n{output[-2000:]}")
    statuses, latencies = set(), []
    with log.open() as lines:
        for line in lines:
            _, status, latency = line.split()
            if status != "0":  # cut off by the end of the measurement; h2load counts it as neither good nor bad
                statuses.add(status)
                latencies.append(int(latency))
    if statuses != {"200"} or failed[2] != "0" or failed[3] != "0":
        raise RuntimeError(f"requests failed: statuses {statuses}\n{output[-2000:]}")
    received = int(data[2]) / max(1, int(data[1]))
    if received < 0.95 * reply_size:
        raise RuntimeError(f"{received:.0f} bytes came back for a request, {reply_size} are a good reply: some failed")
    cuts = statistics.quantiles(latencies, n=100)
    return Measured(float(rate[1]), cuts[49], cuts[98])

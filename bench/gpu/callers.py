"""Load on a server from other cores: h2load where there is one, otherwise processes with grpc.aio.

python -m bench.gpu.callers ADDRESS BODY_FILE IN_FLIGHT SECONDS
"""

import asyncio
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
from support.h2load import Load
from support.h2load import run as h2load

from bench.asking import encode, send
from bench.contenders import OURS, PREDICT, cpu_seconds

WARM_UP_SECONDS = 0.3
THREADS = 4  # of h2load: one alone sends less than a GPU's server can answer


@dataclass(frozen=True)
class Measured:
    """Requests a second, percentiles of the latency in µs, and cores that server and callers kept busy."""

    requests_per_second: float
    p50: float
    p99: float
    server_cores: float
    caller_cores: float


def load(
    process: subprocess.Popen[bytes],
    port: int,
    images: npt.NDArray[np.uint8],
    in_flight: int,
    seconds: float,
    cores: list[int],
) -> Measured:
    """Keep so many requests in flight for some seconds.

    Raises:
        RuntimeError: a request failed.
    """
    body = encode(OURS[0], images)
    reply_size = len(send(OURS[0], port, body))
    before, own, started = cpu_seconds(process), _children_seconds(), time.perf_counter()
    if shutil.which("h2load"):
        connections = min(in_flight, 8)
        case = Load("", len(images), connections, in_flight // connections)
        core = ",".join(map(str, cores))
        url = f"http://127.0.0.1:{port}{PREDICT}"
        threads = min(THREADS, connections, len(cores))
        h2 = h2load(
            case, url, body, wire="mlpserve", reply_size=reply_size, seconds=seconds, core=core, threads=threads
        )
        rate, p50, p99 = h2.requests_per_second, h2.p50, h2.p99
    else:
        latencies = sorted(_python_callers(f"127.0.0.1:{port}", body, in_flight, seconds, cores))
        cuts = statistics.quantiles(latencies, n=100)
        rate, p50, p99 = len(latencies) / seconds, cuts[49], cuts[98]
    elapsed = time.perf_counter() - started
    busy = ((cpu_seconds(process) - before) / elapsed, (_children_seconds() - own) / elapsed)
    return Measured(rate, p50, p99, *busy)


def _children_seconds() -> float:
    """CPU time of the processes that this one started and that have ended: the callers."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _python_callers(address: str, body: bytes, in_flight: int, seconds: float, cores: list[int]) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        file.write_bytes(body)
        callers = min(in_flight, len(cores))
        share = [str(in_flight // callers), str(seconds)]
        commands = [
            ["taskset", "-c", str(core), sys.executable, "-m", "bench.gpu.callers", address, str(file), *share]
            for core in cores[:callers]
        ]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        outputs = [process.communicate(timeout=seconds + 120)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a request of a Python caller failed; its own words are above")
    return [latency for output in outputs for latency in json.loads(output)]


async def _call(address: str, body: bytes, in_flight: int, seconds: float) -> list[float]:
    """Latencies in µs."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.unary_unary(PREDICT)
        counted_from = time.perf_counter() + WARM_UP_SECONDS
        end = counted_from + seconds

        async def one() -> None:
            while (started := time.perf_counter()) < end:
                await method(body, timeout=20)
                if started >= counted_from:
                    latencies.append((time.perf_counter() - started) * 1e6)

        await asyncio.gather(*(one() for _ in range(in_flight)))
    return latencies


if __name__ == "__main__":
    content = Path(sys.argv[2]).read_bytes()
    print(json.dumps(asyncio.run(_call(sys.argv[1], content, int(sys.argv[3]), float(sys.argv[4])))))

"""Load on a server from other cores: h2load where there is one, otherwise processes with grpc.aio.

python -m bench.gpu.callers ADDRESS BODY_FILE IN_FLIGHT SECONDS
"""

import asyncio
import json
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

from bench.load import Load
from bench.load import run as h2load
from mlpserve.v1 import classifier_pb2 as pb

PREDICT = "/mlpserve.v1.ClassifierService/Predict"
WARM_UP_SECONDS = 0.3


@dataclass(frozen=True)
class Measured:
    """Requests a second, and percentiles of the latency in µs."""

    requests_per_second: float
    p50: float
    p99: float


def load(address: str, images: npt.NDArray[np.uint8], in_flight: int, seconds: float, cores: list[int]) -> Measured:
    """Keep so many requests in flight for some seconds."""
    body = pb.PredictRequest(images=images.tobytes()).SerializeToString()
    if shutil.which("h2load"):
        connections = min(in_flight, 8)
        case = Load("", len(images), connections, in_flight // connections)
        core = ",".join(map(str, cores))
        url = f"http://{address}{PREDICT}"
        measured = h2load(case, url, body, wire="mlpserve", reply_size=0, seconds=seconds, core=core)
        return Measured(measured.requests_per_second, measured.p50, measured.p99)
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
    latencies = sorted(latency for output in outputs for latency in json.loads(output))
    cuts = statistics.quantiles(latencies, n=100)
    return Measured(len(latencies) / seconds, cuts[49], cuts[98])


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

"""Our server as these checks start it, and the cores of the machine: a half for it, a half for its callers."""

import dataclasses
import os
import statistics
import time

import grpc
from support.grpc_calls import PREDICT
from support.waiting import wait_until

from bench.asking import encode, flat_images
from bench.contenders import OURS, Contender, running
from bench.gpu.check import Case

MAX_BATCH = 1024
SERVING = b"\x08\x01"  # HealthCheckResponse
START_SECONDS = 90


def server(device: str, *flags: str) -> Contender:
    """mlpserve-server on a device with its float32 file."""
    own = ("--device", device, "--precision", "fp32", "--max-batch", str(MAX_BATCH), "--workers", "1")
    return dataclasses.replace(OURS[0], command=(*OURS[0].command, *own, *flags))


def server_cores() -> str:
    """As taskset takes them."""
    return f"0-{max(0, (os.cpu_count() or 1) // 2 - 1)}"


def caller_cores() -> list[int]:
    """The other half."""
    count = os.cpu_count() or 1
    return list(range(count // 2, count))


def first_request(case: Case, transport: str) -> float:
    """Time of the first request after SERVING, against the median of those after it."""
    contender = server(case.device, "--transport", transport)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with (
        running(contender, case.store, case.version / "model.onnx", server_cores()) as (port, process),
        grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        health = channel.unary_unary("/grpc.health.v1.Health/Check")

        def serves() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.poll()}")
            return health(b"", timeout=5) == SERVING

        # The connection is made by this, not by the request that is timed.
        wait_until(serves, "the server is SERVING", START_SECONDS, every=0.02, not_yet=(grpc.RpcError,))
        method = channel.unary_unary(PREDICT)
        body = encode(contender, flat_images()[:1])
        seconds = []
        for _ in range(200):
            started = time.perf_counter()
            method(body, timeout=10)
            seconds.append(time.perf_counter() - started)
    return seconds[0] / statistics.median(seconds[1:])

"""Interactive calls beside scoring jobs: `make bench-mixed`.

Single images come at a fixed rate, open loop, from a process of their own: beside nothing, beside two jobs (`mlpserve
score` with its defaults) on another server on the same cores, and beside the same jobs on the same server. On both
transports, as Predict and as ModelInfer. Rounds are interleaved, medians are shown; beside what callers measured, what
`/metrics` says. The jobs' throughput is that of the servers' counters, and once without any calls.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from support.open_loop import MODEL_INFER, PREDICT
from support.processes import ServerProcess, free_port, scrape

from bench.asking import machine, published_model
from bench.scoring import make_images

BIN = Path(sys.executable).parent
RESULTS = Path(__file__).parent / "results" / "mixed.json"
BESIDE = ("nothing", "two jobs on another server", "two jobs on the same server")
PERCENTILES = (50, 90, 99)
WARM_SECONDS = 3.0  # from a job's first images to the first call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--transports", nargs="+", default=["native", "grpcio"])
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        make_images(images, arguments.images)
        for transport in arguments.transports:
            _measure(transport, Path(folder), images, arguments, found)
    facts = {"machine": machine(), "load": [round(load, 1) for load in os.getloadavg()], "rate": arguments.rate}
    RESULTS.write_text(json.dumps({"facts": facts, "medians": _medians(found)}, indent=1) + "\n")
    print(f"Machine: {facts['machine']}; load average {facts['load']}; {arguments.rate:.0f} calls/s\n")
    print("| | p50 ms | p90 ms | p99 ms | p50 /metrics | p99 /metrics | refused | job images/s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for case, values in _medians(found).items():
        columns = ("p50", "p90", "p99", "metrics p50", "metrics p99", "failed", "job")
        print(f"| {case} | " + " | ".join(f"{values[name]:,.4g}" if name in values else "" for name in columns) + " |")


def _measure(
    transport: str, folder: Path, images: Path, arguments: argparse.Namespace, found: dict[str, list[dict[str, float]]]
) -> None:
    store = published_model()
    metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    flags = ["--transport", transport, "--precision", "fp32", "--workers", 1]
    with (
        ServerProcess(folder, store, *flags, "--metrics-listen", metrics[0]) as first,
        ServerProcess(folder, store, *flags, "--metrics-listen", metrics[1]) as second,
    ):
        servers = [first.address, second.address]
        for _ in range(arguments.rounds):
            with _jobs(servers[0], metrics[0], images, folder):
                before, since = scrape(metrics[0]), time.perf_counter()
                time.sleep(arguments.seconds)
                rate = _job_images(before, scrape(metrics[0])) / (time.perf_counter() - since)
            found[f"{transport}: jobs alone"].append({"job": rate})
            for method in (PREDICT, MODEL_INFER):
                for beside in BESIDE:
                    case = f"{transport} {method.rpartition('/')[2]} beside {beside}"
                    found[case].append(_round(beside, method, servers, metrics, images, folder, arguments))


def _round(
    beside: str,
    method: str,
    servers: list[str],
    metrics: list[str],
    images: Path,
    folder: Path,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Calls to the first server."""
    where = BESIDE.index(beside) % 2  # of the jobs: the first server, or the second
    with contextlib.ExitStack() as jobs:
        if beside != "nothing":
            jobs.enter_context(_jobs(servers[where], metrics[where], images, folder))
        before = [scrape(address) for address in metrics]
        since = time.perf_counter()
        command = [sys.executable, "-m", "support.open_loop", servers[0], method, arguments.rate, arguments.seconds]
        result = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
        after = [scrape(address) for address in metrics]
        elapsed = time.perf_counter() - since
    outcome = json.loads(result.stdout)
    figures = {f"p{p}": float(np.percentile(outcome["seconds"], p) * 1e3) for p in PERCENTILES}
    figures |= {f"metrics p{p}": quantile(before[0], after[0], method, p / 100) * 1e3 for p in PERCENTILES}
    figures["failed"] = sum(outcome["failed"].values())
    if beside != "nothing":
        figures["job"] = _job_images(before[where], after[where]) / elapsed
    return figures


@contextlib.contextmanager
def _jobs(server: str, metrics: str, images: Path, folder: Path) -> Iterator[None]:
    """Two scoring jobs that run while the block does."""
    begun = scrape(metrics)
    running = []
    try:
        for number in range(2):
            out = folder / f"scores-{time.monotonic_ns()}-{number}"
            command = [BIN / "mlpserve", "--server", server, "score", images, out]
            running.append(subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        while _job_images(begun, scrape(metrics)) < 2 * 4096:
            if any(process.poll() is not None for process in running):
                raise SystemExit("a job ended before it was measured; give it more --images")
            time.sleep(0.1)
        time.sleep(WARM_SECONDS)
        yield
        if any(process.poll() is not None for process in running):
            raise SystemExit("a job ended while it was measured; give it more --images")
    finally:
        for process in running:
            process.kill()
            process.wait()


def _job_images(before: dict[str, float], after: dict[str, float]) -> float:
    name = 'mlpserve_run_images_total{traffic="batch"}'
    return after.get(name, 0) - before.get(name, 0)


def quantile(before: dict[str, float], after: dict[str, float], method: str, part: float) -> float:
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


def _medians(found: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        case: {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        for case, rounds in found.items()
    }


if __name__ == "__main__":
    main()

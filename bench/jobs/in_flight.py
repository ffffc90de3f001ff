"""How many requests a scoring job should have in flight: `python -m bench.jobs.in_flight`.

`mlpserve score` as it is, whose window adapts, and with a fixed number in flight, at each bound that --in-flight names,
against two servers on this machine: one with its defaults that answers single images of CALLERS other callers
meanwhile, and one for jobs, which one, two and four jobs call at the same time. Its queue takes four requests of 4,096
images, so that it sheds load when there are several jobs. Shown are the jobs' images a second, all together, their
refusals, and the latency of the other callers. Rounds are interleaved, medians are shown.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from support.machine import machine
from support.mnist import mnist_images

from bench.asking import published_model
from bench.jobs.scoring import BIN, FOR_JOBS, make_images
from mlpserve_client import AsyncClient

CALLERS = 8
JOBS = (1, 2, 4)
CLIENTS = {"window": "mlpserve_client.cli", "fixed": "bench.jobs.fixed_window"}
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(store: Path, *flags: str) -> Iterator[str]:
    command = [str(BIN / "mlpserve-server"), "--store", str(store), "--listen", "127.0.0.1:0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
        server.terminate()


def run_jobs(client: str, address: str, images: Path, in_flight: int, jobs: int) -> tuple[float, int]:
    """Images a second of all jobs together, and their refusals."""
    with tempfile.TemporaryDirectory(prefix="mlpserve-in-flight-") as folder:
        command = [sys.executable, "-m", CLIENTS[client], "--server", address, "score", "--json"]
        command += ["--in-flight", str(in_flight), str(images)]
        started = [
            subprocess.Popen(
                [*command, f"{folder}/{number}"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            for number in range(jobs)
        ]
        summaries: list[dict[str, Any]] = [json.loads(process.communicate()[0]) for process in started]
    longest = max(summary["seconds"] for summary in summaries)
    return sum(summary["rows"] for summary in summaries) / longest, sum(summary["refusals"] for summary in summaries)


@contextmanager
def callers(address: str) -> Iterator[dict[str, float]]:
    """CALLERS tasks that send single images one after another while the block runs; their latencies afterwards."""
    found: dict[str, float] = {}
    stop = threading.Event()
    latencies: list[float] = []

    async def call(client: AsyncClient) -> None:
        image = mnist_images()[0]
        while not stop.is_set():
            began = time.perf_counter()
            await client.predict(image)
            latencies.append(time.perf_counter() - began)

    async def call_all() -> None:
        async with AsyncClient(address, coalesce=False, timeout=60) as client:
            await asyncio.gather(*(call(client) for _ in range(CALLERS)))

    thread = threading.Thread(target=lambda: asyncio.run(call_all()))
    thread.start()
    began = time.perf_counter()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
    found["calls"] = len(latencies) / (time.perf_counter() - began)
    found["p50_ms"], found["p99_ms"] = (float(value) * 1000 for value in np.percentile(latencies, (50, 99)))


def measure(client: str, images: Path, in_flight: int, shared: str, for_jobs: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for jobs in JOBS:
        found[f"{jobs} jobs, images/s"], found[f"{jobs} jobs, refusals"] = run_jobs(
            client, for_jobs, images, in_flight, jobs
        )
    with callers(shared) as latency:
        found["beside callers, images/s"], _ = run_jobs(client, shared, images, in_flight, 1)
    return found | latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[4, 16], metavar="N")
    parser.add_argument("--images", type=int, default=250_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    variants = [(client, number) for number in arguments.in_flight for client in CLIENTS]
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {variant: [] for variant in variants}
    store = published_model()
    with (
        tempfile.TemporaryDirectory(prefix="mlpserve-in-flight-") as folder,
        serving(store) as shared,
        serving(store, *FOR_JOBS) as for_jobs,
    ):
        images = Path(folder) / "images.npy"
        make_images(images, arguments.images)
        for turn in range(arguments.rounds):
            for client, number in variants:
                values = measure(client, images, number, shared, for_jobs)
                rounds[client, number].append(values)
                print(turn, client, number, {key: round(value, 1) for key, value in values.items()}, flush=True)
    columns = list(rounds[variants[0]][0])
    print("\n| client | in flight | " + " | ".join(columns) + " |\n|---|" + "--:|" * (len(columns) + 1))
    for (client, number), found in rounds.items():
        medians = (statistics.median(values[column] for values in found) for column in columns)
        print(f"| {client} | {number} | " + " | ".join(f"{value:,.1f}" for value in medians) + " |")
    print(f"\n{machine()}; {arguments.images:,} images a job, medians of {arguments.rounds} rounds")


if __name__ == "__main__":
    main()

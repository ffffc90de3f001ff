"""A Python process that calls 10,000 single images at the same time: `make bench-clients`.

`AsyncClient` with coalescing against the same client without, and `Client.map` against a loop of `Client.predict`.
Medians of interleaved rounds; server and caller share the machine's cores.
"""

import argparse
import asyncio
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.mnist import mnist_images

from bench.contenders import OURS, free_ports
from bench.serving import machine, published_model
from mlpserve_client import AsyncClient, Client


async def concurrently(address: str, coalesce: bool, count: int) -> None:
    images = mnist_images()[:count]
    async with AsyncClient(address, coalesce=coalesce, timeout=60) as client:
        await asyncio.gather(*(client.predict(image) for image in images))


def in_a_loop(address: str, count: int) -> None:
    with Client(address) as client:
        for image in mnist_images()[:count]:
            client.predict(image)


def mapped(address: str, count: int) -> None:
    with Client(address) as client:
        assert sum(1 for _ in client.map(mnist_images()[:count])) == count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    store, (port,), count = published_model(), free_ports(1), arguments.images
    address = f"127.0.0.1:{port}"
    ways: dict[str, Callable[[], None]] = {
        "AsyncClient, one request an image": lambda: asyncio.run(concurrently(address, False, count)),
        "AsyncClient, coalescing": lambda: asyncio.run(concurrently(address, True, count)),
        "Client.predict in a loop": lambda: in_a_loop(address, count),
        "Client.map": lambda: mapped(address, count),
    }
    mnist_images()  # unpacked before anything is timed
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    command = [part.format(store=store, port=port) for part in OURS[0].command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with Client(address) as client:
                client.wait_ready(60)
            for _ in range(arguments.rounds):
                for name, way in ways.items():
                    started = time.perf_counter()
                    way()
                    seconds[name].append(time.perf_counter() - started)
        finally:
            server.terminate()
    rates = {name: count / statistics.median(times) for name, times in seconds.items()}
    lines = [f"Machine: {machine()}. {count:,} images, medians of {arguments.rounds} rounds.", ""]
    lines += ["| a Python process with | images/s |", "|---|--:|", *(f"| {n} | {r:,.0f} |" for n, r in rates.items())]
    plain, coalescing, loop, stream = rates.values()
    lines += [f"| **coalescing / one request an image** | **{coalescing / plain:.1f}×** |"]
    lines += [f"| **map / loop** | **{stream / loop:.1f}×** |", ""]
    print("\n".join(lines))
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results/clients.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()

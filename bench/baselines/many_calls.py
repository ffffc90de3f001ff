"""Seconds that a Python process takes for many single images, with the client of the environment that runs it.

python bench/baselines/many_calls.py ADDRESS IMAGES.npy single|coalesced|loop|map
"""

import asyncio
import sys
import time

import numpy as np

from mlpserve_client import AsyncClient, Client


async def concurrently(address: str, images: np.ndarray, coalesce: bool) -> None:
    async with AsyncClient(address, coalesce=coalesce, timeout=60) as client:
        await asyncio.gather(*(client.predict(image) for image in images))


def main() -> None:
    address, path, way = sys.argv[1:]
    images = np.load(path)
    with Client(address) as client:
        client.wait_ready(60)
    started = time.perf_counter()
    if way in ("single", "coalesced"):
        asyncio.run(concurrently(address, images, way == "coalesced"))
    else:
        with Client(address) as client:
            if way == "loop":
                for image in images:
                    client.predict(image)
            elif sum(1 for _ in client.map(images)) != len(images):
                sys.exit("map has lost an answer")
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()

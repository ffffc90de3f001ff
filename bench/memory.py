"""Resident memory over a million requests: `make bench-memory`.

One image a request at 256 in flight, in equal parts; the memory is read after each part. Over the last half it should
be flat.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from support.h2load import Load, need_h2load, run
from support.machine import machine

from bench.asking import encode, flat_images, published_model, send, wait_for_answer
from bench.contenders import OURS, Contender, memory_mb, running

PARTS = 10


def over(
    contender: Contender,
    store: Path,
    images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]",
    requests: int,
    tell: Callable[[float, float], object] = lambda done, megabytes: None,
) -> list[float]:
    """Megabytes after each tenth of so many requests.

    Args:
        contender: the server.
        store, images: for it.
        requests: in all.
        tell: called after each part with the requests that are done, and the megabytes.
    """
    body = encode(contender, images[:1])
    load = Load("256 in flight", 1, 8, 32)
    memory, done = [], 0.0
    with running(contender, store, store / "mnist/1/model.onnx") as (port, process):
        wait_for_answer(contender, port, process, images, store / "mnist/1")
        size, seconds = len(send(contender, port, body)), 1.0
        while done < requests:
            measured = run(load, contender.url(port), body, wire=contender.wire, reply_size=size, seconds=seconds)
            done += measured.requests_per_second * seconds
            seconds = max(1.0, requests / PARTS / measured.requests_per_second)
            memory.append(memory_mb(process))
            tell(done, memory[-1])
    return memory


def spread(memory: list[float]) -> float:
    """By which part of it memory changed over the last half."""
    half = memory[len(memory) // 2 :]
    return (max(half) - min(half)) / min(half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    need_h2load()
    memory = over(
        OURS[0],
        published_model(),
        flat_images(),
        arguments.requests,
        lambda done, megabytes: print(f"{done:>12,.0f} requests  {megabytes:6.1f} MB", flush=True),
    )
    print(f"\nMachine: {machine()}. {memory[-1]:.0f} MB at the end, within {spread(memory):.1%} over the last half")
    if spread(memory) > 0.05:
        sys.exit("memory is not flat")


if __name__ == "__main__":
    main()

"""Resident memory over a million requests: `make bench-memory`.

One image a request at 256 in flight, in equal parts; the memory is read after each part. Over the last half it should
be flat.
"""

import argparse
import sys

from support.h2load import Load, need_h2load, run

from bench.contenders import OURS, memory_mb, running
from bench.serving import encode, flat_images, machine, published_model, send, wait_for_answer

PARTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    need_h2load()
    store, images, contender = published_model(), flat_images(), OURS[0]
    body = encode(contender, images[:1])
    load = Load("256 in flight", 1, 8, 32)
    memory, done = [], 0.0
    with running(contender, store, store / "mnist/1/model.onnx") as (port, process):
        wait_for_answer(contender, port, process, images, store / "mnist/1")
        size, url = len(send(contender, port, body)), f"http://127.0.0.1:{port}{contender.path}"
        seconds = 2.0
        while done < arguments.requests:
            measured = run(load, url, body, wire=contender.wire, reply_size=size, seconds=seconds)
            done += measured.requests_per_second * seconds
            seconds = max(2.0, arguments.requests / PARTS / measured.requests_per_second)
            memory.append(memory_mb(process))
            print(f"{done:>12,.0f} requests  {memory[-1]:6.1f} MB", flush=True)
    half = memory[len(memory) // 2 :]
    spread = (max(half) - min(half)) / min(half)
    print(f"\nMachine: {machine()}. {memory[-1]:.0f} MB at the end, within {spread:.1%} over the last half")
    if spread > 0.05:
        sys.exit("memory is not flat")


if __name__ == "__main__":
    main()

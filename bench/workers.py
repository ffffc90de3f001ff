"""Two workers on two cores under two load generators, against one worker: `make bench-workers`.

The load generators need cores too, so what is compared is requests per CPU-second of the server. One worker is measured
twice: with its generator on the other core, and with both on one core, which is what each of two workers has here.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from support.h2load import CORE as OTHER_CORE
from support.h2load import Load, need_h2load, run
from support.machine import machine

from bench.asking import encode, flat_images, published_model, send, wait_for_answer
from bench.contenders import CORE, OURS, Contender, cpu_seconds, running

LOAD = Load("256 in flight", 1, 8, 32)


class Case(NamedTuple):
    """A number of workers, the server's cores, and the core of each load generator."""

    workers: int
    cores: str
    generators: list[str]


CASES = {
    "one worker, generator on the other core": Case(1, CORE, [OTHER_CORE]),
    "one worker, generator on the same core": Case(1, CORE, [CORE]),
    "two workers, a generator on each of their cores": Case(2, f"{CORE},{OTHER_CORE}", [CORE, OTHER_CORE]),
}


def measure(store: Path, case: Case, seconds: float) -> tuple[float, float]:
    """Requests a second, and requests per CPU-second of the server."""
    ours = OURS[0]
    contender = Contender(ours.name, (*ours.command, "--workers", str(case.workers), "--threads", "1"))
    images = flat_images()
    body = encode(contender, images[:1])
    with running(contender, store, store / "mnist/1/model.onnx", case.cores) as (port, process):
        wait_for_answer(contender, port, process, images, store / "mnist/1")
        size, url = len(send(contender, port, body)), f"http://127.0.0.1:{port}{contender.path}"

        def load(core: str) -> float:
            measured = run(LOAD, url, body, wire="mlpserve", reply_size=size, seconds=seconds, core=core)
            return measured.requests_per_second

        used, started = cpu_seconds(process), time.monotonic()
        with ThreadPoolExecutor(len(case.generators)) as pool:
            rate = sum(pool.map(load, case.generators))
        used, elapsed = cpu_seconds(process) - used, time.monotonic() - started
        return rate, rate / (used / elapsed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    arguments = parser.parse_args()
    need_h2load()
    store = published_model()
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(arguments.rounds):
        for name, measured in results.items():
            measured.append(measure(store, CASES[name], arguments.seconds))
    lines = [f"Machine: {machine()}. 256 in flight from each generator, medians of {arguments.rounds} rounds.", ""]
    lines += ["| | requests/s | requests per CPU-second of the server |", "|---|--:|--:|"]
    efficiency = {}
    for name, measured in results.items():
        rate, efficiency[name] = (statistics.median(column) for column in zip(*measured, strict=True))
        lines += [f"| {name} | {rate:,.0f} | {efficiency[name]:,.0f} |"]
    apart, together, two = efficiency.values()
    lines += [
        "",
        f"In requests per CPU-second, two workers reach **{2 * two / apart:.2f}×** one worker with a core to itself ",
    ]
    lines[-1] += f"(target 1.6), and {2 * two / together:.2f}× one worker that shares its core with a generator, "
    lines[-1] += "as both of them do."
    print("\n".join(lines))
    Path(__file__).with_name("results").mkdir(exist_ok=True)
    (Path(__file__).parent / "results/workers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

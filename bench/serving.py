"""Servers on one core, the load generator on the other: `make bench-serving`, with peers `make bench-peers`.

Every server gets the same published MNIST model and is asked for a known answer before it is timed. Rounds are
interleaved: each server is started afresh in each round, and the figures are medians over the rounds. As many requests
as are answered come from h2load; the open loop from a generator of our own (bench/generator).
Writes bench/results/serving.json and serving.md; `make bench-pages` puts them into the documentation.

    python -m bench.serving [--quick] [--rounds N] [--seconds S] [--peers] [--only NAME …]
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.h2load import Load, need_h2load, run
from support.machine import machine

from bench import clients, memory, stalled
from bench.asking import encode, flat_images, published_model, send, wait_for_answer
from bench.contenders import CORE, LIMITS, MEASURED, PYTHON, TUTORIALS, Contender, memory_mb, missing, prepare, running
from bench.generator import open_loop, program
from bench.peers import BEFORE_WIRE, peers, server_before
from bench.tables import report
from bench.tables.report import Found, Open

BENCH = Path(__file__).resolve().parent
OTHER_CORE = "1"
SINGLE = {
    name: Load(name, 1, connections, streams)
    for name, connections, streams in (
        ("1 in flight", 1, 1),
        ("16 in flight", 1, 16),
        ("64 in flight", 2, 32),
        ("256 in flight", 8, 32),
    )
}
CASES = SINGLE | {"1024 images": Load("1024 images", 1024, 1, 4)}
OF_SATURATION = (10, 50, 80)  # percent
HTTP1_CONNECTIONS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of each case; twice that for the open loop")
    parser.add_argument("--quick", action="store_true", help="one second for each case, and fewer peers")
    parser.add_argument("--peers", action="store_true", help="the peers as well, each in an environment of its own")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these servers")
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the server, one for the load generator")
    need_h2load()
    program()
    prepare()
    if arguments.quick:
        arguments.seconds = min(arguments.seconds, 1.0)
    store = published_model()
    version = store / "mnist/1"
    images = flat_images()
    found = Found(machine(), arguments.rounds, os.getloadavg())
    contenders = _contenders(arguments, found)
    for number in range(1, arguments.rounds + 1):
        for name, rate in measure_in_process(version).items():
            found.in_process[name].append(rate)
        for contender in contenders:
            print(f"round {number}: {contender.name}", file=sys.stderr, flush=True)
            try:
                _measure(contender, store, version, images, arguments.seconds, found, arguments.quick)
            except (RuntimeError, SystemExit, subprocess.TimeoutExpired) as error:  # of one server, not of all
                reason = str(error).partition("\n")[0][:200]
                found.left_out[f"{contender.name} in round {number}"] = f"it failed: {reason}"
                print(f"failed: {contender.name}: {reason}", file=sys.stderr, flush=True)
    if "mlpserve" in found.results:
        requests = 200_000 if arguments.quick else 1_000_000
        found.memory_mb = memory.over(MEASURED[0], store, images, requests)
        found.stalled = stalled.measure(MEASURED[0], store, images)
        found.clients = clients.measure(["coalesced"], arguments.rounds, 10_000)
    report.write(BENCH / "results", found)


def _contenders(arguments: argparse.Namespace, found: Found) -> list[Contender]:
    """What is measured; what cannot be is left out with a reason."""
    asked = [*MEASURED, *LIMITS, *TUTORIALS]
    if before := server_before(BEFORE_WIRE, report.BEFORE):
        asked.insert(1, before)
    else:
        found.left_out[report.BEFORE] = f"git has no {BEFORE_WIRE} here: git fetch --tags --unshallow"
    if arguments.peers:
        asked += [peer for peer in peers() if peer.open_loop or not arguments.quick]
    if arguments.only:
        asked = [contender for contender in asked if contender.name in arguments.only]
    kept = []
    for contender in asked:
        if reason := missing(contender):
            found.left_out[contender.name] = reason
            print(f"left out: {contender.name}: {reason}", file=sys.stderr, flush=True)
        else:
            kept.append(contender)
    return kept


def _measure(
    contender: Contender,
    store: Path,
    version: Path,
    images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]",
    seconds: float,
    found: Found,
    quick: bool,
) -> None:
    """One server in one round."""
    results, facts = found.results[contender.name], found.facts[contender.name]
    with running(contender, store, version / "model.onnx") as (port, process):
        facts["start_seconds"].append(wait_for_answer(contender, port, process, images, version))
        for name, load in CASES.items():
            if not _is_measured(contender, name, quick):
                continue
            body = encode(contender, images[: load.images])
            size = len(send(contender, port, body))
            url = contender.url(port)
            results[name].append(run(load, url, body, wire=contender.wire, reply_size=size, seconds=seconds))
        if contender.open_loop:
            saturation = results["256 in flight"][-1].requests_per_second
            body = encode(contender, images[:1])
            for percent in OF_SATURATION:
                connections = 8 if contender.grpc or contender.wire == "h2" else HTTP1_CONNECTIONS
                rate = saturation * percent / 100
                outcome = open_loop(
                    port, contender.path, body, wire=contender.wire, rate=rate, seconds=2 * seconds,
                    connections=connections, core=OTHER_CORE, seed=percent,
                )  # fmt: skip
                late = float(np.percentile(outcome.late, 99)) * 1e3
                failed = sum(outcome.failed.values())
                found.open[contender.name][percent].append(Open(rate, *outcome.percentiles(), late, failed))
        facts["memory_mb"].append(memory_mb(process))


def _is_measured(contender: Contender, case: str, quick: bool) -> bool:
    if contender.only:
        return case in contender.only
    if case == "64 in flight" or (quick and case == "16 in flight"):
        return contender.name == "mlpserve"
    return contender.answers or case != "1024 images"


def measure_in_process(version: Path) -> dict[str, float]:
    command = ["taskset", "-c", CORE, PYTHON, str(BENCH / "baselines/inprocess.py"), str(version)]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


if __name__ == "__main__":
    main()

"""A plan for a rate of requests, from what was measured, and a simulation that checks it: `make capacity`.

    python -m bench.tables.capacity [--rate 1000000] [--write]

The plan is arithmetic over bench/results/serving.json (requests of one image, one core a replica). The simulation, in
SimPy, runs every replica at once: arrivals at random, the server's own rule for batches, and a time for a batch that is
fitted to the same measurements. `--write` puts the tables into docs/capacity.md.
"""

import argparse
import json
import math
import random
import statistics
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import simpy

from mlpserve.v1.classifier_pb2 import ModelRef, PredictRequest, PredictResponse

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench/results/serving.json"
PAGE = ROOT / "docs/capacity.md"
BEGIN, END = "<!-- made by make capacity -->", "<!-- end -->"

MAX_BATCH, MAX_QUEUE = 256, 16_384  # the server's defaults
IN_FLIGHT = (1, 16, 64, 256)
WIRE = (
    9 * 3 + 5 + 40 + 66
)  # bytes a message beside its content: HTTP/2 frames, gRPC's prefix, compressed headers, TCP/IP
POLL = 1.0  # seconds, the server's default
WAVES = 10  # of a roll-out
ENVOY = 10_000  # requests a second of a core of Envoy: an assumption, not measured here
VERSION_MB = 2.5  # a whole version of the default recipe with its report
DRAIN_DELAY, PROBE = 5.0, 5.0  # seconds, as in deploy/kubernetes


@dataclass(frozen=True)
class Measured:
    """What one replica did, medians over the rounds.

    Attributes:
        machine: that it ran on.
        rates: in flight → requests a second.
        base, each: a batch of n images takes base + n × each seconds, fitted.
        start: seconds from the start to SERVING.
        memory: MB.
    """

    machine: str
    rates: dict[int, float]
    base: float
    each: float
    start: float
    memory: float

    def batch_seconds(self, images: int) -> float:
        return self.base + images * self.each


@dataclass(frozen=True)
class Plan:
    rate: float
    utilisation: float  # of a replica's measured saturation, on a normal day
    zones: int
    needed: int  # replicas at that utilisation
    replicas: int  # with one zone more than needed
    bits_in: float
    bits_out: float


@dataclass(frozen=True)
class Outcome:
    requests: int
    refused: int
    p50: float
    p99: float
    longest: float
    batch: float
    busy: float


def measured() -> Measured:
    record = json.loads(RESULTS.read_text())
    runs = record["results"]["mlpserve"]
    rates = {n: statistics.median(run["requests_per_second"] for run in runs[f"{n} in flight"]) for n in IN_FLIGHT}
    # In a closed loop of n callers everybody is in the batch or waits for it: one round takes n / rate. Each point
    # counts by its relative error, so that the large batches do not decide alone.
    points = [(n, n / rate) for n, rate in rates.items()]
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    mean_n = sum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
    mean_s = sum(w * s for w, (_, s) in zip(weights, points, strict=True)) / total
    covariance = sum(w * (n - mean_n) * (s - mean_s) for w, (n, s) in zip(weights, points, strict=True))
    each = covariance / sum(w * (n - mean_n) ** 2 for w, (n, _) in zip(weights, points, strict=True))
    start, memory = (statistics.median(record["facts"]["mlpserve"][name]) for name in ("start_seconds", "memory_mb"))
    return Measured(record["machine"], rates, mean_s - each * mean_n, each, start, memory)


def message_bytes() -> tuple[int, int]:
    """A request of one image and its reply, as they are on the wire."""
    request = PredictRequest(images=bytes(784)).ByteSize()
    model = ModelRef(name="mnist", version=100, digest="0" * 64)
    reply = PredictResponse(model=model, top_k=1, class_ids=[3], scores=[0.5]).ByteSize()
    return request + WIRE, reply + WIRE


def plan(facts: Measured, rate: float, utilisation: float = 0.5, zones: int = 3) -> Plan:
    needed = math.ceil(rate / (utilisation * facts.rates[MAX_BATCH]))
    # Without one zone the others carry all of it, at most at saturation times the utilisation × zones / (zones - 1).
    replicas = math.ceil(needed / zones) * zones
    sent, received = message_bytes()
    return Plan(rate, utilisation, zones, needed, replicas, rate * sent * 8, rate * received * 8)


def simulate(
    facts: Measured, rate: float, replicas: int, *, seconds: float, choose: str = "random", seed: int = 0
) -> Outcome:
    """Run `replicas` servers for a time.

    Args:
        facts: how long a batch takes.
        rate: arrivals a second, at random (Poisson), of all replicas together.
        replicas: how many share them.
        seconds: simulated time.
        choose: "random" replica for each request, "round robin", or the shorter of "two" queues.
        seed: of arrivals and choices.
    """
    environment = simpy.Environment()
    random_ = random.Random(seed)
    queues: list[deque[float]] = [deque() for _ in range(replicas)]
    woken = [environment.event() for _ in range(replicas)]
    latencies: list[float] = []
    batches: list[int] = []
    counts = {"requests": 0, "refused": 0, "busy": 0.0, "longest": 0.0}

    def server(number: int) -> Generator[Any, Any, None]:
        """Whatever arrived while the last batch ran is the next one."""
        queue = queues[number]
        while True:
            if not queue:
                woken[number] = environment.event()
                yield woken[number]
            batch = [queue.popleft() for _ in range(min(len(queue), MAX_BATCH))]
            took = facts.batch_seconds(len(batch))
            yield environment.timeout(took)
            counts["busy"] += took
            batches.append(len(batch))
            latencies.extend(environment.now - arrived for arrived in batch)

    def callers() -> Generator[Any, Any, None]:
        number = 0
        while True:
            yield environment.timeout(random_.expovariate(rate))
            counts["requests"] += 1
            if choose == "round robin":
                number = (number + 1) % replicas
            else:
                number = random_.randrange(replicas)
                if choose == "two":
                    number = min(number, random_.randrange(replicas), key=lambda n: len(queues[n]))
            queue = queues[number]
            if len(queue) >= MAX_QUEUE:
                counts["refused"] += 1
                continue
            queue.append(environment.now)
            counts["longest"] = max(counts["longest"], len(queue))
            if not woken[number].triggered:
                woken[number].succeed()

    for number in range(replicas):
        environment.process(server(number))
    environment.process(callers())
    environment.run(until=seconds)
    ordered = sorted(latencies)
    return Outcome(
        int(counts["requests"]),
        int(counts["refused"]),
        ordered[len(ordered) // 2],
        ordered[int(0.99 * len(ordered))],
        counts["longest"],
        statistics.fmean(batches),
        counts["busy"] / (seconds * replicas),
    )


def closed_loop(facts: Measured, callers: int) -> float:
    """Requests a second that the model of a batch gives with so many callers in a closed loop."""
    return callers / facts.batch_seconds(callers)


def tables(rate: float) -> str:
    facts = measured()
    chosen = plan(facts, rate)
    sent, received = message_bytes()
    lost = chosen.replicas - chosen.replicas // chosen.zones
    one = facts.rates[MAX_BATCH]
    half, needed = one * chosen.utilisation, chosen.replicas
    memory, each_in = needed * facts.memory / 1000, chosen.bits_in / needed / 1e6
    roll_out = WAVES * (facts.start + PROBE + DRAIN_DELAY) / 60
    rows = [
        ("one replica at saturation", "measured, 256 in flight on one core", f"{one:,.0f} requests/s"),
        (f"at {chosen.utilisation:.0%} of it", "so that a lost zone and a burst fit", f"{half:,.0f} requests/s"),
        ("replicas", f"{rate:,.0f} / {half:,.0f}, in {chosen.zones} equal zones", f"{needed}"),
        ("cores", "one a replica, measured so", f"{needed}"),
        ("memory", f"{facts.memory:.0f} MB a replica, and a second model", f"{memory:,.0f} GB"),
        ("a lost zone", f"{lost} replicas carry all", f"{rate / (lost * one):.0%} of saturation"),
        ("network, in", f"{sent:,} bytes a request with its frames", f"{chosen.bits_in / 1e9:,.1f} Gbit/s"),
        ("… for a replica", "", f"{each_in:,.0f} Mbit/s"),
        ("network, out", f"{received:,} bytes a reply", f"{chosen.bits_out / 1e9:,.1f} Gbit/s"),
        ("balancers", "none: clients balance by themselves over a headless name", "0"),
        ("… or Envoy", f"at an assumed {ENVOY:,} requests/s a core", f"{math.ceil(rate / ENVOY)} cores"),
        ("store, idle", "one look a second by each replica", f"{needed / POLL:,.0f} lists/s"),
        (
            "store, a new version",
            f"{VERSION_MB} MB for each replica, within {POLL:g} s",
            f"{needed * VERSION_MB:,.0f} MB",
        ),
        (
            "a new model everywhere",
            f"poll {POLL:g} s, load and prove {facts.start:.2f} s",
            f"{POLL + facts.start:.1f} s",
        ),
        (
            "a new server everywhere",
            f"{WAVES} waves of start {facts.start:.2f} s, probe {PROBE:g} s, drain {DRAIN_DELAY:g} s",
            f"{roll_out:.1f} min",
        ),
    ]
    lines = [
        f"Measured: {facts.machine}; a server on one core, requests of one image, medians of the rounds in "
        "`bench/results/serving.json`.",
        "",
        "| what | how | result |",
        "|---|---|--:|",
        *(f"| {what} | {how} | {result} |" for what, how, result in rows),
        "",
        "The time of a batch is fitted to the measured closed loops: "
        f"{facts.base * 1e6:.0f} µs, and {facts.each * 1e6:.1f} µs for each image.",
        "",
        "| in flight | measured, requests/s | by the fit | difference |",
        "|--:|--:|--:|--:|",
    ]
    for n in IN_FLIGHT:
        fitted = closed_loop(facts, n)
        lines.append(f"| {n} | {facts.rates[n]:,.0f} | {fitted:,.0f} | {fitted / facts.rates[n] - 1:+.0%} |")
    lines += [
        "",
        "Simulated: arrivals at random, every replica at once, the server's rule for batches.",
        "",
        "| case | replicas | requests | busy | p50, ms | p99, ms | images a batch | longest queue | refused |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    cases = [
        ("the plan, random choice", rate, chosen.replicas, "random"),
        ("the plan, round robin", rate, chosen.replicas, "round robin"),
        ("the plan, the shorter of two queues", rate, chosen.replicas, "two"),
        ("a zone lost", rate, lost, "random"),
        ("a zone lost and a tenth more callers", 1.1 * rate, lost, "random"),
        ("half of the replicas", rate, chosen.replicas // 2, "random"),
    ]
    for name, arrivals, replicas, choose in cases:
        found = simulate(facts, arrivals, replicas, seconds=500_000 / arrivals, choose=choose)
        lines.append(
            f"| {name} | {replicas} | {found.requests:,} | {found.busy:.0%} | {found.p50 * 1000:.2f} "
            f"| {found.p99 * 1000:.2f} | {found.batch:.1f} | {found.longest:,.0f} | {found.refused} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1e6, help="requests a second (default: 1,000,000)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/capacity.md")
    arguments = parser.parse_args()
    made = tables(arguments.rate)
    print(made)
    if arguments.write:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()

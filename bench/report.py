"""Medians over the rounds as one Markdown table and one JSON file, with the ratios that the project aims at."""

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from support.h2load import Measured

Results = dict[str, dict[str, list[Measured]]]
Facts = dict[str, dict[str, list[float]]]

OPEN_LOOP = "half of saturation"


def write(
    folder: Path,
    machine: str,
    names: list[str],
    results: Results,
    facts: Facts,
    in_process: dict[str, list[float]],
    rounds: int,
) -> None:
    """Write serving.md and serving.json, and print the former."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(
        [
            f"Machine: {machine}. Server on one core, load generator on the other. Medians of {rounds} rounds.",
            "",
            *_table(names, results, facts),
            "",
            "In process, one thread, 1024 images a Run: "
            + ", ".join(f"{name} {statistics.median(rates):,.0f} images/s" for name, rates in in_process.items())
            + ".",
            "",
            *_ratios(results, in_process),
            "",
        ]
    )
    (folder / "serving.md").write_text(text)
    record = {
        "machine": machine,
        "rounds": rounds,
        "results": {
            name: {case: [asdict(m) for m in measured] for case, measured in cases.items()}
            for name, cases in results.items()
        },
        "facts": facts,
        "in_process_images_per_second": in_process,
    }
    (folder / "serving.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


def median(results: Results, name: str, case: str, value: Callable[[Measured], float]) -> float | None:
    measured = results.get(name, {}).get(case)
    return statistics.median(map(value, measured)) if measured else None


def rate(results: Results, name: str, case: str) -> float | None:
    return median(results, name, case, lambda m: m.requests_per_second)


SINGLE = ("1 in flight", "16 in flight", "64 in flight", "256 in flight")
BATCHES = {"32 images": 32, "256 images": 256, "1024 images": 1024}


def _table(names: list[str], results: Results, facts: Facts) -> list[str]:
    heads = ["server", *(f"{case}, req/s" for case in SINGLE), "p50 µs at 1", "p99 ms at half of saturation"]
    heads += [f"{case} a request, images/s" for case in BATCHES] + ["MB", "start s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for name in names:
        cells = [_number(rate(results, name, case)) for case in SINGLE]
        cells.append(_number(median(results, name, "1 in flight", lambda m: m.p50)))
        p99 = median(results, name, OPEN_LOOP, lambda m: m.p99 / 1000)
        cells.append("" if p99 is None else f"{p99:.2f}")
        for case, images in BATCHES.items():
            requests = rate(results, name, case)
            cells.append(_number(None if requests is None else requests * images))
        cells += [
            f"{statistics.median(facts[name]['memory_mb']):.0f}",
            f"{statistics.median(facts[name]['start_seconds']):.2f}",
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _ratios(results: Results, in_process: dict[str, list[float]]) -> list[str]:
    """The project's targets, each as a ratio against something measured in the same run."""
    lines = ["| ratio | measured | target |", "|---|--:|--:|"]

    def add(text: str, above: float | None, below: float | None, target: str) -> None:
        if above is not None and below:
            lines.append(f"| {text} | {above / below:.2f} | {target} |")

    for name, target in (
        ("grpcio threads", "≥ 7"),
        ("grpc.aio", "≥ 14"),
        ("no-op", "≥ 0.75"),
        ("mosec, batching", "≥ 2"),
    ):
        case = "256 in flight"
        add(f"{case}: mlpserve / {name}", rate(results, "mlpserve", case), rate(results, name, case), target)
    infer = rate(results, "mlpserve, ModelInfer", "256 in flight")
    add("256 in flight: ModelInfer / Predict", infer, rate(results, "mlpserve", "256 in flight"), "≥ 0.9")
    case = "16 in flight"
    add(
        f"{case}: mlpserve / grpcio threads",
        rate(results, "mlpserve", case),
        rate(results, "grpcio threads", case),
        "≥ 4",
    )
    for name, target in (("no-op", "≤ 1.35"), ("grpcio threads", "≤ 1"), ("grpc.aio", "≤ 1")):
        p50 = [median(results, server, "1 in flight", lambda m: m.p50) for server in ("mlpserve", name)]
        add(f"p50 at 1 in flight: mlpserve / {name}", p50[0], p50[1], target)
    large = rate(results, "mlpserve", "1024 images")
    for precision, target in (("fp32", "≥ 0.75"), ("int8", "≥ 0.55")):
        limit = statistics.median(in_process[precision]) / 1024
        add(f"1024 images: mlpserve / in process, {precision}", large, limit, target)
    for peer in ("mosec", "mosec, batching"):
        add(f"1024 images: mlpserve / {peer}", large, rate(results, peer, "1024 images"), "≥ 1")
    return lines

"""Interactive calls beside scoring jobs and beside a flood: `make bench-mixed`.

Single images come at a fixed rate, open loop: beside nothing, beside two jobs (`mlpserve score` with its defaults) on
another server on the same cores, and beside the same jobs on the same server; a few come beside a connection with
10,000 calls in flight. On both transports, as Predict and as ModelInfer. Interactive callers are ahead of everybody
else at the cores, as if they were on another machine. The jobs are measured alone and beside as many interactive calls
as are answered. Beside what callers measured stands what `/metrics` says. Rounds are interleaved, medians are shown.
Writes bench/results/mixed.json and mixed.md; `make bench-pages` puts them into the documentation.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from support.h2load import need_h2load
from support.machine import machine

from bench.asking import published_model
from bench.generator import ahead_of_others, program
from bench.jobs.scoring import make_images
from bench.mixed import before, checks
from bench.mixed.cases import BESIDE, METHODS, Figures, Settings, beside, flooded, jobs_alone, saturated
from bench.mixed.servers import serving
from bench.tables.targets import table

RESULTS = Path(__file__).resolve().parents[1] / "results"
COLUMNS = ("p50", "p90", "p99", "late", "sent p99", "metrics p50", "metrics p99", "refused", "failed")
COLUMNS += ("job", "interactive", "run", "batch")
NO_RIGHTS = (
    "Interactive callers wait for a core like everybody else: real-time priority takes rights that were not there."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--rate", type=float, default=200.0, help="interactive calls a second")
    parser.add_argument("--images", type=int, default=2_500_000, help="that a job has to score")
    parser.add_argument("--transports", nargs="+", default=["wire", "grpcio"])
    parser.add_argument("--short", action="store_true", help="two rounds of four seconds for each measurement")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.rounds, arguments.seconds, arguments.images = 2, min(arguments.seconds, 4.0), 1_000_000
    need_h2load()
    program()
    load = os.getloadavg()
    found: dict[str, list[Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        make_images(images, arguments.images)
        warm = 1.0 if arguments.short else 3.0
        settings = Settings(published_model(), Path(folder), images, arguments.seconds, arguments.rate, warm)
        for number in range(1, arguments.rounds + 1):
            for transport in arguments.transports:
                print(f"round {number}: {transport}", file=sys.stderr, flush=True)
                _round(transport, settings, found)
            found[checks.THROUGHPUT].append(
                before.throughput(settings.store, arguments.transports, settings.seconds / 2)
            )
            found[checks.LOOP].append(before.loop(settings.store))
    medians = {
        case: {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        for case, rounds in found.items()
    }
    text = _text(medians, arguments, load)
    (RESULTS / "mixed.md").write_text(text)
    record = {"machine": machine(), "load": load, "rate": arguments.rate, "rounds": found}
    (RESULTS / "mixed.json").write_text(json.dumps(record, indent=1) + "\n")
    print(text)


def _round(transport: str, settings: Settings, found: dict[str, list[Figures]]) -> None:
    with (
        serving(settings.folder, settings.store, transport) as first,
        serving(settings.folder, settings.store, transport) as second,
    ):
        found[f"{transport}: {checks.ALONE}"].append(jobs_alone(settings, first))
        for method in METHODS:
            for where in BESIDE:
                found[f"{transport} {method}: {where}"].append(beside(settings, where, method, [first, second]))
        found[f"{transport}: {checks.SATURATED}"].append(saturated(settings, first))
    for method in METHODS:
        found[f"{transport} {method}: flood"].append(flooded(settings, method, transport))


def _text(medians: checks.Medians, arguments: argparse.Namespace, load: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:.1f}" for value in load)
    rights = "Interactive callers never wait for a core." if ahead_of_others() else NO_RIGHTS
    lines = [
        f"Machine: {machine()}; load average before it {shown}. {arguments.rate:.0f} calls/s, {arguments.seconds:.0f} "
        f"s for each measurement; medians of {arguments.rounds} rounds. {rights}",
        "",
        "| ms, images/s | " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * len(COLUMNS) + "|",
    ]
    for case, values in medians.items():
        if case not in (checks.THROUGHPUT, checks.LOOP):
            cells = (_number(values[name]) if name in values else "" for name in COLUMNS)
            lines.append(f"| {case} | " + " | ".join(cells) + " |")
    for case, unit in ((checks.THROUGHPUT, "requests/s at 256 in flight"), (checks.LOOP, "µs a call without the Run")):
        figures = ", ".join(f"{name} {_number(value)}" for name, value in medians.get(case, {}).items())
        lines += ["", f"{case.capitalize()}, {unit}: {figures}."]
    return "\n".join([*lines, "", *table(checks.check(medians, arguments.transports)), ""])


def _number(value: float) -> str:
    """Three digits, or all before the point: rates are read beside rates."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    main()

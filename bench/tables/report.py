"""What was measured of serving, as tables, and the record that they are made of."""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.h2load import Measured

from bench.tables import targets

BEFORE = "mlpserve 0.1.0"  # the server before the compiled transport
SINGLE = ("1 in flight", "16 in flight", "256 in flight")
LARGE = 1024


@dataclass(frozen=True)
class Open:
    """An open loop: milliseconds from when requests were due to their answers.

    Attributes:
        rate: requests a second.
        p50, p99, p999: of the latency.
        late: 99th percentile of what the generator itself was late.
        failed: requests.
    """

    rate: float
    p50: float
    p99: float
    p999: float
    late: float
    failed: int


@dataclass
class Found:
    """Everything that one run measures.

    Attributes:
        machine: in words.
        rounds: how many.
        load: the machine's load averages before it.
        results: server → case → one for each round.
        facts: server → "start_seconds", "memory_mb" → one for each round.
        open: server → percent of its own saturation → figures, one for each round.
        in_process: precision → images a second of ONNX Runtime alone, one for each round.
        memory_mb: of our server after each tenth of its requests.
        stalled: see `stalled.measure`.
        clients: see `clients.measure`.
        left_out: server → why it was not measured.
    """

    machine: str
    rounds: int
    load: tuple[float, ...] = ()
    results: dict[str, dict[str, list[Measured]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    facts: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    open: dict[str, dict[int, list[Open]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    in_process: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory_mb: list[float] = field(default_factory=list)
    stalled: dict[str, float] = field(default_factory=dict)
    clients: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def median(self, name: str, case: str, value: Callable[[Measured], float]) -> float | None:
        """Of a server in a case; None if that was not measured."""
        measured = self.results.get(name, {}).get(case)
        return statistics.median(map(value, measured)) if measured else None

    def rate(self, name: str, case: str) -> float | None:
        """Requests a second."""
        return self.median(name, case, lambda measured: measured.requests_per_second)

    def p50(self, name: str) -> float | None:
        """Microseconds with one request in flight."""
        return self.median(name, "1 in flight", lambda measured: measured.p50)


def write(folder: Path, found: Found) -> None:
    """Write serving.json and serving.md, and print the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(tables(found)) + "\n"
    (folder / "serving.md").write_text(text)
    (folder / "serving.json").write_text(json.dumps(_record(found), indent=1) + "\n")
    print(text)


def _record(found: Found) -> dict[str, Any]:
    record = vars(found) | {"in_process_images_per_second": found.in_process}
    del record["in_process"]
    plain: dict[str, Any] = json.loads(json.dumps(record, default=vars))  # the figures are objects
    return plain


def read(path: Path) -> Found:
    """What `write` has recorded."""
    record: dict[str, Any] = json.loads(path.read_text())
    record["in_process"] = record.pop("in_process_images_per_second")
    record["results"] = {
        name: {case: [Measured(**each) for each in rounds] for case, rounds in cases.items()}
        for name, cases in record["results"].items()
    }
    record["open"] = {
        name: {int(percent): [Open(**each) for each in rounds] for percent, rounds in cases.items()}
        for name, cases in record.get("open", {}).items()
    }
    return Found(**record)


def tables(found: Found) -> list[str]:
    """All of it as Markdown."""
    load = ", ".join(f"{value:.1f}" for value in found.load)
    lines = [
        f"Machine: {found.machine}; load average before it {load}. Server on one core, load generator on the other. "
        f"Medians of {found.rounds} rounds.",
        "",
        *_closed(found),
        "",
    ]
    if found.in_process:
        rates = (f"{name} {statistics.median(each):,.0f} images/s" for name, each in found.in_process.items())
        lines += [f"ONNX Runtime in process, one thread, {LARGE} images a Run: {', '.join(rates)}.", ""]
    lines += [f"Left out: {name}, because {reason}." for name, reason in found.left_out.items()]
    if found.open:
        lines += ["", *_open(found.open)]
    checked = targets.check(found)
    if checked:
        lines += ["", *targets.table(checked)]
    return lines


def _closed(found: Found) -> list[str]:
    heads = ["server", *(f"{case}, req/s" for case in SINGLE), "p50 µs at 1", f"{LARGE} images a request, images/s"]
    heads += ["MB", "start s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|--:" * (len(heads) - 1) + "|"]
    for name, facts in found.facts.items():
        if not facts.get("memory_mb"):  # it has failed in every round
            continue
        cells = [_number(found.rate(name, case)) for case in SINGLE]
        cells.append(_number(found.p50(name)))
        requests = found.rate(name, f"{LARGE} images")
        cells.append(_number(None if requests is None else requests * LARGE))
        cells += [f"{statistics.median(facts['memory_mb']):.0f}", f"{statistics.median(facts['start_seconds']):.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _open(found: Mapping[str, Mapping[int, Sequence[Open]]]) -> list[str]:
    """The open loop; the generator's own figures are those of nghttpd, and how late it was itself."""
    percents = sorted({percent for each in found.values() for percent in each})
    lines = [
        "| ms from when a request was due | of saturation | req/s | p50 | p99 | p99.9 | generator late, p99 | failed |"
    ]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|"]
    for server, each in found.items():
        for percent in percents:
            if percent in each:
                rounds = each[percent]
                rate, *figures = (
                    statistics.median(getattr(one, name) for one in rounds)
                    for name in ("rate", "p50", "p99", "p999", "late")
                )
                shown = " | ".join(f"{figure:.2f}" for figure in figures)
                failed = sum(one.failed for one in rounds)
                lines.append(f"| {server} | {percent} % | {rate:,.0f} | {shown} | {failed} |")
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"

"""What is promised of mixed traffic, held against what was measured."""

from collections.abc import Iterator, Mapping

from bench.mixed.before import RATIO
from bench.mixed.cases import METHODS, OTHER, SAME, Figures
from bench.tables.targets import Checked

Medians = Mapping[str, Figures]

ALONE, SATURATED, THROUGHPUT, LOOP = "jobs alone", "jobs beside saturating calls", "throughput", "loop"


def check(found: Medians, transports: list[str]) -> list[Checked]:
    """Every promise; what was not measured has no figure.

    Args:
        found: medians by case; "wire: jobs alone", "wire Predict: two jobs on the same server", "wire Predict: flood".
        transports: that were measured.
    """
    return [*_mixed(found, transports), *_before(found, transports)]


def _mixed(found: Medians, transports: list[str]) -> Iterator[Checked]:
    for transport in transports:
        alone = found[f"{transport}: {ALONE}"]
        for method in METHODS:
            name = f"{transport} {method}"
            other, same, flood = (found[f"{name}: {case}"] for case in (OTHER, SAME, "flood"))
            for part in ("p50", "p99"):
                most = other[part] + alone["run"] + 1
                yield Checked(1, f"{name}: {part} ms beside jobs on the same server", same[part], most, False)
            yield Checked(1, f"{name}: refused or failed beside jobs", same["refused"] + same["failed"], 0, False)
            yield Checked(2, f"{name}: what the jobs keep of their throughput", same["job"] / alone["job"], 0.85, True)
            text = f"{name}: p99 ms of 50 calls/s beside 10,000 in flight on one connection"
            yield Checked(4, text, flood["p99"], 2 * flood["batch"], False)
            yield Checked(4, f"{name}: of them refused or failed", flood["refused"] + flood["failed"], 0, False)
            yield Checked(5, f"{name}: by which part /metrics' p99 is off the callers'", abs(same["off"]), 0.1, False)
        kept = found[f"{transport}: {SATURATED}"]["job"] / alone["job"]
        yield Checked(2, f"{transport}: what the jobs keep while interactive calls saturate", kept, 0.1, True)


def _before(found: Medians, transports: list[str]) -> Iterator[Checked]:
    rates, loop = found.get(THROUGHPUT, {}), found.get(LOOP, {})
    for transport in transports:
        text = f"{transport}: 256 in flight / the server before"
        yield Checked(3, text, rates.get(f"{transport} {RATIO}"), 0.97, True)
    for calls in (1, 16, 256):
        text = f"the batching loop without the Run, {calls} calls / before"
        yield Checked(3, text, loop.get(f"{calls} {RATIO}"), 1.03, False)

"""One measurement of each kind; all give milliseconds, images a second and numbers of calls by name."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from support.h2load import CORE as OTHER_CORE
from support.h2load import Load, run

from bench.asking import encode, flat_images
from bench.contenders import CORE, MODEL_INFER, OURS, PREDICT
from bench.generator import OpenLoop, open_loop
from bench.mixed.servers import Server, batch_images, interactive_images, jobs, only_on, quantile, run_seconds, serving

METHODS = {"Predict": PREDICT, "ModelInfer": MODEL_INFER}
NOTHING, OTHER, SAME = "nothing", "two jobs on another server", "two jobs on the same server"
BESIDE = (NOTHING, OTHER, SAME)
REFUSED = "grpc-status 8"
FLOOD, FLOODED_RATE = 10_000, 50.0  # calls in flight on one connection; calls a second of the polite one
MAX_BATCH = 256  # the server's default
FLOOD_ALONE = 2.0  # seconds of the flood before the polite caller comes
SATURATING = Load("saturation", 1, 8, 32)
CORES = f"{CORE},{OTHER_CORE}"  # everybody's, but for the flood: callers, jobs and servers share the machine

Figures = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """Of all measurements.

    Attributes:
        store: with the model.
        folder: for what jobs write.
        images: that jobs score.
        seconds: of one measurement.
        rate: interactive calls a second.
        warm: seconds that jobs run before they are measured.
    """

    store: Path
    folder: Path
    images: Path
    seconds: float
    rate: float
    warm: float


def jobs_alone(settings: Settings, server: Server) -> Figures:
    """What the jobs get of a server that nobody else calls, and how long its full batches take."""
    with jobs(server, settings.images, settings.folder, settings.warm):
        before, since = server.look(), time.perf_counter()
        time.sleep(settings.seconds)
        after, elapsed = server.look(), time.perf_counter() - since
    return {"job": batch_images(before, after) / elapsed, "run": run_seconds(before, after) * 1e3}


def beside(settings: Settings, where: str, method: str, servers: list[Server]) -> Figures:
    """Interactive calls to the first server, beside one of BESIDE."""
    if where == NOTHING:
        return _called(settings, method, servers[0], servers[0])
    busy = servers[0] if where == SAME else servers[1]
    with jobs(busy, settings.images, settings.folder, settings.warm):
        return _called(settings, method, servers[0], busy)


def saturated(settings: Settings, server: Server) -> Figures:
    """What the jobs get while as many interactive calls come as are answered."""
    with jobs(server, settings.images, settings.folder, settings.warm):
        before, since = server.look(), time.perf_counter()
        measured = _closed_loop(SATURATING, server, "Predict", settings.seconds)
        after, elapsed = server.look(), time.perf_counter() - since
    return {"job": batch_images(before, after) / elapsed, "interactive": measured}


def flooded(settings: Settings, method: str, transport: str) -> Figures:
    """Few calls beside a connection that wants FLOOD in flight; the server takes --max-streams of them at a time.

    The server has a core to itself, and its callers the other one. "batch" is how long the server takes for a full
    batch of the flood's calls before the other caller comes: reading, the Run, encoding and sending.
    """
    with ExitStack() as stack:
        with only_on(CORE):
            server = stack.enter_context(serving(settings.folder, settings.store, transport))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        load = Load("flood", 1, 1, FLOOD)
        flood = pool.submit(_closed_loop, load, server, method, FLOOD_ALONE + settings.seconds + 3, OTHER_CORE)
        time.sleep(1.5)  # so that all of them are in flight
        before, since = server.look(), time.perf_counter()
        time.sleep(FLOOD_ALONE)
        after, elapsed = server.look(), time.perf_counter() - since
        batch = elapsed / interactive_images(before, after) * MAX_BATCH
        outcome = _interactive(settings.seconds, FLOODED_RATE, method, server, connections=1, core=OTHER_CORE)
        return _figures(outcome) | {"interactive": flood.result(), "batch": batch * 1e3}


def _called(settings: Settings, method: str, server: Server, busy: Server) -> Figures:
    return _between(
        lambda: _interactive(settings.seconds, settings.rate, method, server), METHODS[method], server, busy
    )


def _between(call: Callable[[], OpenLoop], path: str, server: Server, busy: Server) -> Figures:
    """What callers say, and what the servers say of the same time."""
    before, busy_before, since = server.look(), busy.look(), time.perf_counter()
    outcome = call()
    after, busy_after, elapsed = server.look(), busy.look(), time.perf_counter() - since
    figures, p99 = _figures(outcome), quantile(before, after, path, 0.99) * 1e3
    return figures | {
        "metrics p50": quantile(before, after, path, 0.5) * 1e3,
        "metrics p99": p99,
        "off": p99 / figures["sent p99"] - 1,
        "job": batch_images(busy_before, busy_after) / elapsed,
        "run": run_seconds(busy_before, busy_after) * 1e3,
    }


def _figures(outcome: OpenLoop) -> Figures:
    p50, p90, p99 = outcome.percentiles((50, 90, 99))
    refused = outcome.failed.get(REFUSED, 0)
    failed = sum(outcome.failed.values()) - refused
    late, sent = (float(np.percentile(seconds, 99)) * 1e3 for seconds in (outcome.late, outcome.answering))
    return {"p50": p50, "p90": p90, "p99": p99, "sent p99": sent, "refused": refused, "failed": failed, "late": late}


def _interactive(
    seconds: float, rate: float, method: str, server: Server, connections: int = 4, core: str = ""
) -> OpenLoop:
    path, body, wire = _request(method)
    return open_loop(
        server.port, path, body, wire=wire, rate=rate, seconds=seconds, connections=connections, core=core, ahead=True
    )


def _closed_loop(load: Load, server: Server, method: str, seconds: float, core: str = CORES) -> float:
    """Answers a second; some may be refusals."""
    path, body, wire = _request(method)
    url = f"http://127.0.0.1:{server.port}{path}"
    found = run(load, url, body, wire=wire, reply_size=0, seconds=seconds, core=core, may_fail=True)
    return found.requests_per_second


def _request(method: str) -> tuple[str, bytes, str]:
    """Path, message and form of a request of one image."""
    contender = OURS[list(METHODS).index(method)]
    return METHODS[method], encode(contender, flat_images()[:1]), contender.wire

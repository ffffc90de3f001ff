"""Serving on the device: its answers against the CPU's, its speed against both, its memory."""

import dataclasses
import json
import os
import shutil
import statistics
from collections.abc import Callable

import numpy as np
from support.processes import scrape

from bench.asking import flat_images, wait_for_answer
from bench.contenders import free_ports, memory_mb, running
from bench.gpu.callers import Measured, load
from bench.gpu.check import MODEL, Case
from bench.gpu.servers import MAX_BATCH, caller_cores, server, server_cores
from bench.gpu.timing import median_seconds
from mlpserve_server.models import loading
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.store.folder import Store

TOLERANCE = 1e-4  # of a probability; two classes within twice of it are a tie, and either may come first
MANY, LARGE = 512, 1024  # requests in flight at saturation; images of a large request
MIXED = (1, 7, 1, 100)  # images of a request, in turn, while memory is watched
MIXED_IN_FLIGHT = 64
REQUESTS = 1_000_000
FLAT, FLAT_HOST = 1.01, 1.05
SHARE_FILE = "images-per-second-in-process.json"


def compare_answers(case: Case, whose: str = "") -> None:
    """All test images on the device and on the CPU; `whose` tells one model's lines from another's."""
    images = flat_images()
    ours, theirs = (_model(case, device).predict(images).copy() for device in (case.device, "cpu"))
    ordered = np.sort(theirs.probabilities, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 2 * TOLERANCE
    other = int((ours.class_ids != theirs.class_ids)[clear].sum())
    ties = int((~clear).sum())
    what = f"{whose}classes of {len(images):,} test images other than the CPU's, outside {ties} ties"
    case.found.require(what, other, f"{other}", "0", other == 0)
    difference = float(np.abs(ours.probabilities - theirs.probabilities).max())
    target = f"≤ {TOLERANCE:.0e}"
    what = f"{whose}largest difference of a probability from the CPU's"
    case.found.require(what, difference, f"{difference:.1e}", target, difference <= TOLERANCE)


def measure_in_process(case: Case) -> None:
    """Our runner alone, with its copies to and from the device."""
    model, rounds = _model(case, case.device), 1 if case.quick else 3
    for size in (1, 64, LARGE):
        images = np.ascontiguousarray(flat_images()[:size])
        call: Callable[[], object] = lambda images=images: model.predict(images)  # type: ignore[misc]  # noqa: E731
        seconds = statistics.median(median_seconds(call) for _ in range(rounds))
        case.found.add(f"in process, one Run of {size}", seconds, f"{seconds * 1e6:.0f} µs")
    (case.work / SHARE_FILE).write_text(json.dumps(LARGE / seconds))


def measure_servers(case: Case) -> None:
    """One request in flight, many, and large ones; on the device and on the CPU of the same machine."""
    rounds, seconds = (1, 1.0) if case.quick else (3, 2.0)
    cases = {"1 in flight": (1, 1), f"{MANY} in flight": (1, MANY), f"{LARGE} images": (LARGE, 4)}
    results: dict[tuple[str, str], list[Measured]] = {}
    cores: dict[str, list[float]] = {}
    for _ in range(rounds):
        for device in dict.fromkeys((case.device, "cpu")):
            with running(server(device), case.store, case.version / "model.onnx", server_cores()) as (port, process):
                wait_for_answer(server(device), port, process, flat_images(), case.version)
                for name, (images, in_flight) in cases.items():
                    measured = load(process, port, flat_images()[:images], in_flight, seconds, caller_cores())
                    results.setdefault((device, name), []).append(measured)
                    if device == case.device:
                        cores.setdefault(name, []).append(measured.server_cores)
    medians = {
        key: Measured(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, measured), strict=True)))
        for key, measured in results.items()
    }
    _report(case, medians, list(cases))


def _report(case: Case, medians: dict[tuple[str, str], Measured], names: list[str]) -> None:
    one, many, large = (medians[case.device, name] for name in names)
    add = case.found.add
    add("gRPC, one in flight: p50", one.p50, f"{one.p50:.0f} µs", "≤ 250 µs", one.p50 <= 250)
    add("gRPC, one in flight: p99", one.p99, f"{one.p99:.0f} µs")
    rate = many.requests_per_second
    generator = "h2load" if shutil.which("h2load") else "Python callers, whose own speed is the limit"
    what = f"gRPC, {MANY} in flight: requests/s ({generator})"
    add(what, rate, f"{rate:,.0f}", "≥ 100,000", rate >= 100_000)
    images = LARGE * large.requests_per_second
    add(f"gRPC, {LARGE} images a request: images/s", images, f"{images:,.0f}")
    try:
        share = images / float(json.loads((case.work / SHARE_FILE).read_text()))
        add("… of the runner in process", share, f"{share:.2f}", "≥ 0.5", share >= 0.5)
    except OSError:
        print("the check in-process has not run: no share of it can be given", flush=True)
    for name in names:
        measured = medians[case.device, name]
        binds = f"server {measured.server_cores:.1f} cores, callers {measured.caller_cores:.1f}"
        add(f"cores that were busy, {name}", measured.server_cores, binds)
    for name in names if case.device != "cpu" else []:
        gain = medians[case.device, name].requests_per_second / medians["cpu", name].requests_per_second
        add(f"requests/s against the CPU of this machine, {name}", gain, f"{gain:.2f}×")


def watch_memory(case: Case) -> None:
    """The GPU's and the server's own memory over many requests of mixed sizes; fewer if the time is up before."""
    (metrics,) = free_ports(1)
    address, wanted = f"127.0.0.1:{metrics}", 10_000 if case.quick else REQUESTS
    contender = server(case.device, "--metrics-listen", address)
    on_gpu: list[float] = []
    on_host: list[float] = []
    with running(contender, case.store, case.version / "model.onnx", server_cores()) as (port, process):
        wait_for_answer(contender, port, process, flat_images(), case.version)
        answered, seconds = 0.0, 0.5 if case.quick else 2.0
        while answered < wanted and case.left() > 5 * seconds * len(MIXED) / 3 + 3:
            for images in MIXED:
                load(process, port, flat_images()[:images], MIXED_IN_FLIGHT, seconds, caller_cores())
            samples = scrape(address)
            answered = sum(value for name, value in samples.items() if name.startswith("mlpserve_requests_total"))
            on_gpu += [value for name, value in samples.items() if name.startswith("mlpserve_gpu_memory_used_bytes")]
            on_host.append(memory_mb(process))
    case.found.add("mixed requests while memory was watched", answered, f"{answered:,.0f}", f"{REQUESTS:,}")
    if on_gpu:
        growth = on_gpu[-1] / on_gpu[0]
        shown = f"{growth:.3f}× of {on_gpu[0] / 2**20:,.0f} MiB"
        case.found.add("GPU memory, last against first sample", growth, shown, f"≤ {FLAT}×", growth <= FLAT)
    else:
        case.found.add("GPU memory", 0, "no metric: no GPU, or no NVML")
    half = on_host[len(on_host) // 2 :]
    spread = max(half) / min(half)
    shown = f"{spread:.3f}× of {half[0]:,.0f} MB"
    what = "the server's own memory over the second half, most against least"
    case.found.add(what, spread, shown, f"≤ {FLAT_HOST}×", spread <= FLAT_HOST)


def _model(case: Case, device: str) -> LoadedModel:
    version = Store(case.store).open(MODEL)
    return loading.load(version, device=device, precision="fp32", max_batch=MAX_BATCH, threads=os.cpu_count() or 1)

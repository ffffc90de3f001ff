"""Serving on the device: its answers against the CPU's, its speed against both, its memory."""

import dataclasses
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tests.support.processes import scrape

from bench.contenders import OURS, Contender, free_ports, running
from bench.gpu.callers import Measured, load
from bench.gpu.record import Record
from bench.serving import test_images, wait_for_answer
from mlpserve_server import cuda, loading
from mlpserve_server.model import LoadedModel
from mlpserve_server.store import Store

AGREEMENT, TOLERANCE = 0.9999, 1e-3
MANY, LARGE = 512, 1024  # requests in flight at saturation; images of a large request
MAX_BATCH = 1024


def compare_answers(record: Record, store: Path, device: str) -> None:
    images = test_images()
    ours, theirs = (_model(store, where).predict(images).copy() for where in (device, "cpu"))
    agreement = float((ours.class_ids == theirs.class_ids).mean())
    difference = float(np.abs(ours.probabilities - theirs.probabilities).max())
    what = f"classes of {len(images):,} test images as on the CPU"
    record.require(what, agreement, f"{agreement:.4%}", f"≥ {AGREEMENT:.2%}", agreement >= AGREEMENT)
    what = "largest difference of a probability"
    record.require(what, difference, f"{difference:.1e}", f"≤ {TOLERANCE:.0e}", difference <= TOLERANCE)


def measure_in_process(record: Record, store: Path, device: str, rounds: int) -> None:
    """Our runner alone, and what a CUDA graph would change for the session."""
    model = _model(store, device)
    for size in (1, LARGE):
        images = np.ascontiguousarray(test_images()[:size])
        seconds = statistics.median(_seconds(lambda images=images: model.predict(images)) for _ in range(rounds))  # type: ignore[misc]
        record.add(f"in process, one Run of {size}", seconds, f"{seconds * 1e6:.0f} µs")
    record.figures["images_per_second_in_process"] = LARGE / seconds
    if device == "cuda":
        for size in (1, 256):
            plain, graphed = (_session_seconds(model, size, graph) for graph in (False, True))
            record.add(
                f"a Run of {size} as a CUDA graph", graphed, f"{graphed * 1e6:.0f} µs, without {plain * 1e6:.0f}"
            )


def measure_servers(record: Record, store: Path, device: str, rounds: int, seconds: float) -> None:
    """One request in flight, many, and large ones; on the device and on the CPU of the same machine."""
    results: dict[tuple[str, str], list[Measured]] = {}
    cases = {"1 in flight": (1, 1), f"{MANY} in flight": (1, MANY), f"{LARGE} images": (LARGE, 4)}
    first_requests = []
    for _ in range(rounds):
        for where in dict.fromkeys((device, "cpu")):
            with running(_server(where), store, store / "mnist/1/model.onnx", _server_cores()) as (port, process):
                wait_for_answer(_server(where), port, process, test_images(), store / "mnist/1")
                for name, (images, in_flight) in cases.items():
                    measured = load(f"127.0.0.1:{port}", test_images()[:images], in_flight, seconds, _caller_cores())
                    results.setdefault((where, name), []).append(measured)
        first_requests.append(_first_request(store, device))
    ratios = _medians(results)
    one, many, large = cases
    p50 = ratios[device, one].p50
    record.add("gRPC, one in flight: p50", p50, f"{p50:.0f} µs", "≤ 250 µs", p50 <= 250)
    record.add("… p99", ratios[device, one].p99, f"{ratios[device, one].p99:.0f} µs")
    rate = ratios[device, many].requests_per_second
    generator = "h2load" if shutil.which("h2load") else "Python callers, whose own speed is the limit"
    record.add(f"gRPC, {many}: requests/s ({generator})", rate, f"{rate:,.0f}", "≥ 100,000", rate >= 100_000)
    images = LARGE * ratios[device, large].requests_per_second
    share = images / record.figures["images_per_second_in_process"]
    record.add(f"gRPC, {large} a request: images/s", images, f"{images:,.0f}")
    record.add("… of our runner in process", share, f"{share:.2f}", "≥ 0.8", share >= 0.8)
    if device != "cpu":
        for name in cases:
            gain = ratios[device, name].requests_per_second / ratios["cpu", name].requests_per_second
            record.add(f"requests/s against the CPU of the same machine, {name}", gain, f"{gain:.2f}×")
    first = statistics.median(first_requests)
    record.add("first request after SERVING, against the median after it", first, f"{first:.1f}×", "≤ 2×", first <= 2)


def watch_memory(record: Record, store: Path, device: str, requests: int) -> None:
    """The GPU's memory before and after many requests of mixed sizes."""
    (metrics,) = free_ports(1)
    address = f"127.0.0.1:{metrics}"
    contender = _server(device, "--metrics-listen", address)
    used: list[float] = []
    with running(contender, store, store / "mnist/1/model.onnx", _server_cores()) as (port, process):
        wait_for_answer(contender, port, process, test_images(), store / "mnist/1")
        answered = 0.0
        while answered < requests:
            for images in (1, 7, 1, 100):
                load(f"127.0.0.1:{port}", test_images()[:images], 64, 2, _caller_cores())
            samples = scrape(address)
            answered = sum(value for name, value in samples.items() if name.startswith("mlpserve_requests_total"))
            used += [value for name, value in samples.items() if name.startswith("mlpserve_gpu_memory_used_bytes")]
    if not used:
        record.add("GPU memory", 0, "no metric: no GPU, or no NVML")
        return
    growth = used[-1] / used[0]
    what = f"GPU memory after {answered:,.0f} mixed requests, against before"
    record.add(what, growth, f"{growth:.3f}× of {used[0] / 2**20:,.0f} MiB", "≤ 1.01×", growth <= 1.01)


def _model(store: Path, device: str) -> LoadedModel:
    version = Store(store).open("mnist")
    return loading.load(version, device=device, precision="fp32", max_batch=MAX_BATCH, threads=os.cpu_count() or 1)


def _server(device: str, *flags: str) -> Contender:
    flags = ("--device", device, "--precision", "fp32", "--max-batch", str(MAX_BATCH), "--workers", "1", *flags)
    return dataclasses.replace(OURS[0], command=(*OURS[0].command, *flags))


def _server_cores() -> str:
    return f"0-{max(0, (os.cpu_count() or 1) // 2 - 1)}"


def _caller_cores() -> list[int]:
    count = os.cpu_count() or 1
    return list(range(count // 2, count))


def _medians(results: dict[tuple[str, str], list[Measured]]) -> dict[tuple[str, str], Measured]:
    return {
        key: Measured(*(statistics.median(column) for column in zip(*map(dataclasses.astuple, measured), strict=True)))
        for key, measured in results.items()
    }


def _first_request(store: Path, device: str) -> float:
    """Time of the first request after SERVING, against the median of those after it."""
    import grpc
    from tests.support.grpc_calls import PREDICT

    contender = _server(device)
    with running(contender, store, store / "mnist/1/model.onnx", _server_cores()) as (port, _):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            health = channel.unary_unary("/grpc.health.v1.Health/Check")
            deadline = time.monotonic() + 90
            while True:  # the connection is made by this, not by the request that is timed
                try:
                    if health(b"", timeout=5) == b"\x08\x01":
                        break
                except grpc.RpcError:
                    pass
                assert time.monotonic() < deadline, "the server is not SERVING"
                time.sleep(0.02)
            method = channel.unary_unary(PREDICT)
            body = b"\x1a\x90\x06" + test_images()[0].tobytes()
            seconds = []
            for _ in range(200):
                started = time.perf_counter()
                method(body, timeout=10)
                seconds.append(time.perf_counter() - started)
    return seconds[0] / statistics.median(seconds[1:])


def _seconds(call: Callable[[], object]) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(300):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _session_seconds(model: LoadedModel, size: int, graph: bool) -> float:
    """Median seconds of one Run on device buffers, the copies left out."""
    memory = cuda.CudaMemory(0)
    options = loading.CUDA_OPTIONS | {"device_id": "0", "enable_cuda_graph": "1" if graph else "0"}
    content = model.version.read(loading.ROLES[model.precision])
    session = ort.InferenceSession(content, providers=[("CUDAExecutionProvider", options)])
    binding = session.io_binding()
    values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(test_images()[:size]), memory.device, 0)]
    binding.bind_ortvalue_input("images", values[0])
    shapes = {"class_ids": (np.int32, [size]), "scores": (np.float32, [size])}
    shapes["probabilities"] = (np.float32, [size, model.classes])
    for name, (kind, shape) in shapes.items():
        values.append(ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, memory.device, 0))
        binding.bind_ortvalue_output(name, values[-1])
    for _ in range(5):
        session.run_with_iobinding(binding)
    return _seconds(lambda: session.run_with_iobinding(binding))

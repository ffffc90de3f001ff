"""What the server does not do, or may not need to: CUDA graphs, fp16, a runner for each thread, a GPU at all."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from support.host_memory import HostMemory

from bench.asking import flat_images
from bench.gpu.check import Case
from bench.gpu.timing import median_seconds
from mlpserve.v1.artifact_pb2 import FileRole, GoldenSamples, Precision
from mlpserve_server.models import cuda, cuda_libraries, loading
from mlpserve_server.models.runners import DeviceRunner, Memory, batch_sizes
from mlpserve_server.store.folder import Store

NETWORKS = ("784-256-10", "best")  # as `networks` writes them
PIXELS, CLASSES, MAX_BATCH = 784, 10, 1024
GAIN = 30.0  # µs that a CUDA graph must gain in a Run before it is worth its memory
SHARED_SIZE = 64


def crossover(case: Case) -> None:
    """The smallest size from which on a Run on the device, copies and all, is over sooner than on the CPU."""
    memory, cores = _memory(case), max(1, (os.cpu_count() or 2) // 2)
    for name in NETWORKS:
        content = _content(case, name)
        runner = _runner(case, content, memory)
        cpus = {threads: _session(content, threads=threads) for threads in (1, cores)}
        ahead: dict[int, list[bool]] = {threads: [] for threads in cpus}
        sizes = batch_sizes(64 if case.quick else MAX_BATCH)[:-1]
        for size in sizes:
            images = np.ascontiguousarray(flat_images()[:size])
            ours = median_seconds(_call(runner.run, images), _budget(case))
            theirs = {
                threads: median_seconds(_bound(session, images, None), _budget(case))
                for threads, session in cpus.items()
            }
            for threads, seconds in theirs.items():
                ahead[threads].append(ours <= seconds)
            said = ", ".join(f"{threads} threads of the CPU {s * 1e6:.1f}" for threads, s in theirs.items())
            print(f"{name}, {size:4} images: {ours * 1e6:.1f} µs, {said}", flush=True)
        for threads, wins in ahead.items():
            first = next((size for number, size in enumerate(sizes) if all(wins[number:])), None)
            shown = f"from {first} images" if first else f"not up to {sizes[-1]} images"
            what = f"{name}: faster than {threads} thread{'s' if threads > 1 else ''} of the CPU"
            case.found.add(what, first or float("inf"), shown)


def graphs(case: Case) -> None:
    """A Run on device buffers, without the copies: as it is, and as a CUDA graph."""
    for name in NETWORKS:
        _runs(case, name, f"gain > {GAIN:.0f} µs")


def fp16(case: Case) -> None:
    """The same in fp16, and whether its answers would do."""
    _fp16_answers(case)
    for name in NETWORKS:
        _runs(case, f"{name}.fp16", "")


def _runs(case: Case, name: str, target: str) -> None:
    memory, content = _memory(case), _content(case, name)
    for size in (1, 8, 64, 256, MAX_BATCH) if not case.quick else (1, 64):
        images = np.ascontiguousarray(flat_images()[:size])
        plain = median_seconds(_bound(_session(content, case), images, memory), _budget(case)) * 1e6
        what = f"{name}, one Run of {size} on device buffers"
        if case.kind == "cpu":
            case.found.add(what, plain, f"{plain:.1f} µs")
            continue
        graphed = _bound(_session(content, case, graph=True), images, memory, size)
        graph = median_seconds(graphed, _budget(case)) * 1e6
        shown = f"{plain:.1f} µs, as a CUDA graph {graph:.1f}"
        case.found.add(what, plain - graph, shown, target, plain - graph > GAIN if target else None)


def threads(case: Case) -> None:
    """Runs a second of several threads: on one runner, on a runner each, and on a CUDA graph each."""
    memory, content = _memory(case), _content(case, NETWORKS[0])
    images, seconds = np.ascontiguousarray(flat_images()[:SHARED_SIZE]), 0.3 if case.quick else 1.0
    shared = _runner(case, content, memory)
    for count in (1, 2, 4):
        rates = {
            "one runner": _rate(lambda: _call(shared.run, images), count, seconds),
            "a runner each": _rate(lambda: _call(_runner(case, content, memory).run, images), count, seconds),
        }
        if isinstance(memory, cuda.CudaMemory):
            graphed = _rate(lambda: _graphed(case, content, images, memory), count, seconds)
            rates["a session with a CUDA graph each"] = graphed
        shown = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
        case.found.add(f"Runs of {SHARED_SIZE} a second, {count} threads", max(rates.values()), shown)


def _fp16_answers(case: Case) -> None:
    """Whether an fp16 file would pass the golden samples."""
    version = Store(case.store).open("mnist")
    golden = GoldenSamples.FromString(version.read(FileRole.FILE_ROLE_GOLDEN_SAMPLES))
    answers = next(a for a in golden.answers if a.precision == Precision.PRECISION_FP32)
    images = np.frombuffer(golden.images, np.uint8).reshape(-1, PIXELS)
    session = _session(_content(case, f"{NETWORKS[0]}.fp16"), case)
    (probabilities,) = session.run(["probabilities"], {"images": images})
    far = float(np.abs(probabilities.ravel() - np.array(answers.probabilities, np.float32)).max())
    target = f"≤ {answers.tolerance:.0e}"
    case.found.add("fp16: farthest from a golden probability", far, f"{far:.1e}", target, far <= answers.tolerance)


def _memory(case: Case) -> Memory:
    if case.kind == "cpu":
        return HostMemory()
    return cuda.CudaMemory(_index(case))


def _index(case: Case) -> int:
    return int(case.device.partition(":")[2] or 0)


def _content(case: Case, name: str) -> bytes:
    file = case.work / "networks" / f"{name}.onnx"
    if not file.exists():
        raise RuntimeError(f"{file} is not there: the check networks must run first")
    return file.read_bytes()


def _session(content: bytes, case: Case | None = None, graph: bool = False, threads: int = 1) -> ort.InferenceSession:
    """A session on the device as the server makes it; without a case, on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if case is None or case.kind == "cpu":
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    cuda_libraries.load(_index(case))
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = loading.CUDA_OPTIONS | {"device_id": str(_index(case)), "enable_cuda_graph": "1" if graph else "0"}
    return ort.InferenceSession(content, options, providers=[("CUDAExecutionProvider", provider)], enable_fallback=0)


def _runner(case: Case, content: bytes, memory: Memory) -> DeviceRunner:
    return DeviceRunner(_session(content, case), MAX_BATCH, PIXELS, CLASSES, memory)


def _bound(
    session: ort.InferenceSession, images: npt.NDArray[np.uint8], memory: Memory | None, graph: int | None = None
) -> Callable[[], object]:
    """A Run of images that lie on the device already, into outputs that stay there."""
    binding, values = _binding(session, images, memory)
    options = _graph_options(graph)

    def call() -> object:
        assert values  # kept as long as the binding
        return session.run_with_iobinding(binding, options)

    return call


def _binding(session: ort.InferenceSession, images: npt.NDArray[np.uint8], memory: Memory | None) -> tuple[Any, Any]:
    where = (memory.device, memory.index) if memory else ("cpu", 0)
    size = len(images)
    binding = session.io_binding()
    values = [ort.OrtValue.ortvalue_from_numpy(images, *where)]
    binding.bind_ortvalue_input("images", values[0])
    shapes = (("class_ids", np.int32, [size]), ("scores", np.float32, [size]))
    for name, kind, shape in (*shapes, ("probabilities", np.float32, [size, CLASSES])):
        values.append(ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, *where))
        binding.bind_ortvalue_output(name, values[-1])
    return binding, values


def _graph_options(graph: int | None) -> ort.RunOptions:
    options = ort.RunOptions()
    if graph is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph))  # one session holds a graph for each size
    return options


def _graphed(
    case: Case, content: bytes, images: npt.NDArray[np.uint8], memory: cuda.CudaMemory
) -> Callable[[], object]:
    """A Run as a CUDA graph with its copies, of a session that this thread alone uses."""
    session = _session(content, case, graph=True)
    binding, values = _binding(session, images, memory)
    options, out = _graph_options(len(images)), np.empty((len(images), CLASSES), np.float32)

    def once() -> None:
        memory.copy_in(values[0].data_ptr(), images)
        session.run_with_iobinding(binding, options)
        memory.copy_out(out, values[3].data_ptr())

    for _ in range(3):  # the second is captured
        once()
    return once


def _call(run: Callable[[Any], object], images: npt.NDArray[np.uint8]) -> Callable[[], object]:
    return lambda: run(images)


def _budget(case: Case) -> float:
    return 0.03 if case.quick else 0.12


def _rate(make: Callable[[], Callable[[], object]], count: int, seconds: float) -> float:
    """Calls a second of so many threads together, each with a call that it has made."""
    done = [0] * count
    begin, stop = threading.Barrier(count + 1), threading.Event()

    def work(number: int) -> None:
        try:
            call = make()
            call()
        except BaseException:
            begin.abort()  # or the others would wait for it
            raise
        begin.wait()
        while not stop.is_set():
            call()
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for worker in workers:
        worker.start()
    try:
        begin.wait()
        time.sleep(seconds)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    return sum(done) / seconds

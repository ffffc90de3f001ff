"""Does it serve at all: the server's own way to a model on the device, then servers whose log is shown.

PyTorch is not imported here, so the way to the CUDA libraries is the server's own.
"""

import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort

from bench.asking import flat_images, wait_for_answer
from bench.contenders import running
from bench.gpu.check import MODEL, Case
from bench.gpu.servers import first_request, server, server_cores
from mlpserve_server.models import loading
from mlpserve_server.store.folder import Store

MAX_BATCH = 1024
LIBRARIES = ("libcu", "libnv", "onnxruntime_providers")


def loads(case: Case) -> None:
    """Load and prove the model in this process, and say which libraries that took."""
    print("onnxruntime", ort.__version__, ort.get_available_providers(), flush=True)
    started = time.perf_counter()
    try:
        version = Store(case.store).open(MODEL)
        model = loading.load(version, device=case.device, precision="fp32", max_batch=MAX_BATCH, threads=4)
    except Exception as error:
        _loaded_libraries()
        sys.exit(f"the model does not load on {case.device}: {type(error).__name__}: {error}")
    seconds = time.perf_counter() - started
    provider = f"{case.kind.upper()}ExecutionProvider"
    holds = model.provider == provider
    case.found.require("provider that the model is proven on", float(holds), model.provider, provider, holds)
    case.found.add(f"loading and proving at every size to {MAX_BATCH}", seconds, f"{seconds:.2f} s")
    _loaded_libraries()


def serves(case: Case) -> None:
    """A server on each transport: right answers, and the first request as fast as those after it."""
    rounds = 1 if case.quick else 3
    transports = ("wire", "grpcio") if find_spec("mlpserve_wire") else ("grpcio",)
    if len(transports) == 1:
        case.found.add("wire: mlpserve-wire is not installed", 0, "not measured")
    for transport in transports:
        contender = server(case.device, "--transport", transport)
        with running(contender, case.store, case.version / "model.onnx", server_cores(), show_log=True) as started:
            seconds = wait_for_answer(contender, *started, flat_images(), case.version)
        case.found.require(f"{transport}: 300 answers as the published file's", 1, "yes", "yes", True)
        case.found.add(f"{transport}: from the start to the first answer", seconds, f"{seconds:.1f} s")
        ratios = [first_request(case, transport) for _ in range(rounds)]
        ratio = statistics.median(ratios)
        what = f"{transport}: first request after SERVING against the median after it"
        case.found.add(what, ratio, f"{ratio:.1f}×", "≤ 2×", ratio <= 2)


def _loaded_libraries() -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split()[-1] for line in maps if "/" in line}
    found = sorted(path for path in paths if any(name in Path(path).name for name in LIBRARIES))
    print("libraries:", *(found or ["none of CUDA's"]), sep="\n  ", flush=True)

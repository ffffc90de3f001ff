"""How many worker processes there are where nobody says."""

import subprocess
import sys

from mlpserve_server.config import split_device
from mlpserve_server.host import cpus

ASK_SECONDS = 30.0  # for the driver's answer


def default_workers(device: str, precision: str) -> int:
    """Processes for a device: on CPUs one for every two (the batching loop's and the transport's), on a GPU one.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N"; "auto" is a GPU where one can be used.
        precision: int8 is for CPUs, whatever "auto" would find.
    """
    several = max(1, cpus.cpu_count() // 2)
    kind, index = split_device(device)
    if several == 1 or kind == "cpu" or precision == "int8":
        return several
    return 1 if kind == "cuda" or _has_gpu(index) else several


def _has_gpu(index: int) -> bool:
    """Whether ONNX Runtime can use a GPU; asked in a process of its own, because this one must not hold the driver."""
    if not cpus.is_installed("onnxruntime-gpu"):
        return False
    asked = f"from mlpserve_server.models import cuda_libraries; cuda_libraries.load({index})"
    try:
        return subprocess.run([sys.executable, "-c", asked], capture_output=True, timeout=ASK_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return True  # a driver that hangs: one server, which says so

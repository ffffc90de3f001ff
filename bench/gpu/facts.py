"""Which device, machine and software a record is about. Nothing here fails: what cannot be told is left out."""

import subprocess
import sys
import time
from importlib import metadata

from support.machine import machine

PACKAGES = (
    "mlpserve",
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "onnx",
    "numpy",
    "grpcio",
    "protobuf",
    "mlpserve-wire",
)
LIBRARIES = ("nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cudnn-cu13")
ANSWER_SECONDS = 60


def device_name(device: str) -> str:
    """The GPU's name as its driver gives it."""
    if device == "cpu":
        return "CPU rehearsal"
    index = device.partition(":")[2] or "0"
    return _ask("nvidia-smi", "--query-gpu=name", "--format=csv,noheader", f"--id={index}") or "unknown GPU"


def describe(device: str) -> str:
    """The machine, the driver and the day."""
    driver = ""
    if device != "cpu":
        driver = _ask("nvidia-smi", "--query-gpu=driver_version,memory.total,power.limit", "--format=csv,noheader")
    return ", ".join(part for part in (machine(), driver and f"driver {driver}", time.strftime("%Y-%m-%d")) if part)


def versions() -> dict[str, str]:
    """Of what is installed, and of the CUDA that PyTorch was built with."""
    found = {"Python": sys.version.split()[0]}
    for name in (*PACKAGES, *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def why_no_gpu(device: str) -> str:
    """Why neither training nor serving can use a GPU here; empty if one of them can, and the checks say the rest."""
    index = int(device.partition(":")[2] or 0)
    # In processes of their own: both are large, and this one outlives every check.
    torch = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", torch], capture_output=True, check=False).returncode == 0:
        return ""
    server = f"from mlpserve_server.models import cuda_libraries; cuda_libraries.load({index})"
    result = subprocess.run([sys.executable, "-c", server], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return ""
    reason = result.stderr.strip().splitlines()[-1].partition(": ")[2]
    return f"PyTorch finds no usable NVIDIA GPU on this machine, and the server neither: {reason}"


def _ask(*command: str) -> str:
    """The first line that a command prints; empty where it is not there or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(result.stdout.splitlines()), "").strip()

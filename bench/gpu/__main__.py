"""Proves the GPU path on a machine that has one, and writes the record: `make gpu-check`.

Trains, publishes and serves on CUDA, runs the conformance suite against that server, holds its answers to the whole
test set against the CPU's, and measures training and serving. The record goes to docs/gpu/<device>.md. Exit code 0:
everything holds (missed targets are in the table and fail nothing), 1: there is no usable GPU, or something is wrong.

    python -m bench.gpu [--rounds N] [--seconds S] [--requests N] [--rehearse]

`--rehearse` does all of it on the CPU, so that the command itself can be tried anywhere; it prints and records nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from bench.gpu import serving, training
from bench.gpu.record import Record, write

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--requests", type=int, default=1_000_000, help="over which GPU memory is watched")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, recording nothing")
    arguments = parser.parse_args()
    device = "cpu" if arguments.rehearse else "cuda"
    name = "CPU rehearsal" if arguments.rehearse else _gpu_name()
    record = Record(name, _versions())
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        _say("publishing a model that was trained there")
        _run([sys.executable, "-m", "mlpserve_trainer", "--store", str(store), "--device", device])
        _say("the conformance suite")
        record.conformance = _conformance(device)
        _say("training")
        training.measure(record, device, arguments.rounds)
        _say("answers to the test set")
        serving.compare_answers(record, store, device)
        _say("in process")
        serving.measure_in_process(record, store, device, arguments.rounds)
        _say("over gRPC")
        serving.measure_servers(record, store, device, arguments.rounds, arguments.seconds)
        _say(f"memory over {arguments.requests:,} requests")
        serving.watch_memory(record, store, device, arguments.requests)
    text = write(record, None if arguments.rehearse else ROOT / "docs/gpu")
    print(text)
    if record.wrong:
        sys.exit("gpu-check: " + "; ".join(record.wrong))


def _gpu_name() -> str:
    """The GPU's name; ends the program where training or serving could not use it."""
    import onnxruntime as ort
    import torch

    if not torch.cuda.is_available():
        sys.exit("gpu-check: PyTorch finds no usable NVIDIA GPU on this machine; there is nothing to prove here")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        sys.exit("gpu-check: this ONNX Runtime has no CUDA provider; install 'mlpserve[trainer,server,gpu]'")
    return str(torch.cuda.get_device_name(0))


def _versions() -> str:
    import onnxruntime as ort
    import torch

    cuda = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("mlpserve", "grpcio"))
    return f"torch {torch.__version__}{cuda}, ONNX Runtime {ort.__version__}, {packages}"


def _conformance(device: str) -> str:
    """The suite's closing line."""
    try:
        import pytest  # noqa: F401
    except ImportError:
        return "not run: pytest is not installed"
    command = [sys.executable, "-m", "pytest", "-q", "tests/server/test_transports.py", "tests/server/test_device.py"]
    environment = {**os.environ, "MLPSERVE_TEST_DEVICE": device}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"gpu-check: the conformance suite fails on {device}:\n{result.stdout[-4000:]}{result.stderr[-2000:]}")
    return result.stdout.strip().splitlines()[-1].strip("= ")


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"gpu-check: {' '.join(command)} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def _say(what: str) -> None:
    print(f"gpu-check: {what} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

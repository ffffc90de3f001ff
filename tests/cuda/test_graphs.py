"""Exported files in the real CUDA provider: where their nodes go, and what computes them."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.support.cuda_emulator import ROOT, Emulator, log_lines
from tests.support.cuda_kernels import KERNELS

from mlpserve_trainer.export.onnx_graph import to_onnx
from mlpserve_trainer.export.quantize import Dense, FoldedNetwork

pytestmark = pytest.mark.cuda

PIXELS = 36
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu")
HIDDEN: tuple[tuple[int, ...], ...] = ((), (5,), (5, 4))
CLASSES = (2, 10, 128, 129, 1024, 1025, 1500)  # the provider has other kernels from 129 and from 1,025 on


def _network(activation: str, hidden: tuple[int, ...], classes: int) -> FoldedNetwork:
    random = np.random.default_rng(classes)
    sizes = (PIXELS, *hidden, classes)
    layers = [
        Dense(random.normal(0, 0.02, (n, m)).astype(np.float32), random.normal(0, 1, m).astype(np.float32))
        for n, m in itertools.pairwise(sizes)
    ]
    return FoldedNetwork(tuple(layers), activation)


def test_every_network_is_computed_on_the_gpu_without_cudnn(emulator: Emulator, tmp_path: Path) -> None:
    for activation, hidden, classes in itertools.product(ACTIVATIONS, HIDDEN, CLASSES):
        model = to_onnx(_network(activation, hidden, classes))
        (tmp_path / f"{activation}-{len(hidden)}-{classes}.onnx").write_bytes(model.SerializeToString())
    log = tmp_path / "device.log"
    result = emulator.run("python", ROOT / "tests/cuda/place.py", tmp_path, log=log)
    assert result.returncode == 0, result.stderr
    differences = {name: float(worst) for name, worst in map(str.split, result.stdout.splitlines())}
    assert len(differences) == len(ACTIVATIONS) * len(HIDDEN) * len(CLASSES)
    assert max(differences.values()) < 1e-5, differences
    work = {line for line in log_lines(log) if line.startswith(("kernel", "cu"))}
    for operator, kernel in KERNELS.items():
        assert not kernel or any(kernel in line for line in work), operator
    known = (*filter(None, KERNELS.values()), "BroadcastBiasKernel")
    assert not [line for line in work if not any(kernel in line for kernel in known)]

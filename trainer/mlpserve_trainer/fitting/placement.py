"""Where training runs: the device, and this process's rank in its group."""

import os
from dataclasses import dataclass, field

import torch

from mlpserve_trainer.errors import ConfigError
from mlpserve_trainer.fitting.distributed import Group


@dataclass(frozen=True)
class Placement:
    """Where training runs.

    Attributes:
        device: holds images and weights.
        group: the process group, already joined.
        graph: whether to use `GraphSteps`; None: yes on a GPU without a process group.
    """

    device: torch.device
    group: Group = field(default_factory=Group)
    graph: bool | None = None

    @property
    def takes_graph(self) -> bool:
        """Whether training uses `GraphSteps`."""
        if self.graph is None:
            return self.device.type == "cuda" and self.group.size == 1
        return self.graph

    @property
    def leads(self) -> bool:
        """Whether this process prints, evaluates and publishes."""
        return self.group.rank == 0

    def describe(self) -> str:
        """A description for people: "cpu", or "cuda, 4 processes"."""
        return f"{self.device.type}, {self.group.size} processes" if self.group.size > 1 else self.device.type


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device for "auto", "cpu" or "cuda"; of several GPUs, the one with the process's local rank.

    Raises:
        ConfigError: "cuda" without a usable GPU, or fewer GPUs than processes.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("--device cuda: PyTorch finds no usable NVIDIA GPU; use --device cpu or auto")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine has no GPU of its own (there are {torch.cuda.device_count()}); "
            "start fewer processes (torchrun --nproc-per-node)"
        )
    _repeat_exactly()
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _repeat_exactly() -> None:
    """Make PyTorch deterministic on a GPU, and keep float32 products in float32."""
    # Without it cuBLAS may change the order of summation from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # cuDNN's fastest convolution gradients sum in an arbitrary order, and its choice of algorithm may depend on timing.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # TF32 rounds to ten bits; by default PyTorch allows it in convolutions, such as those of a convolutional start.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def compute_type(name: str, device: torch.device) -> torch.dtype | None:
    """The type of the matrix products in training; None for float32."""
    native = device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and native) else None

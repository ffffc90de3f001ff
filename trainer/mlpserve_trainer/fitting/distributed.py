"""Data-parallel training under torchrun: the process group.

torchrun --nproc-per-node 2 -m mlpserve_trainer --store store
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mlpserve_trainer.errors import ConfigError


@dataclass(frozen=True)
class Group:
    """The processes of a data-parallel run.

    Attributes:
        rank: of this process; 0 prints and publishes.
        size: number of processes.
        local_rank: of this process on its machine; also the index of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def from_environment() -> Group:
    """Read the group from torchrun's environment variables; without torchrun it has one process.

    Raises:
        ConfigError: the variables are not set as torchrun sets them.
    """
    if "WORLD_SIZE" not in os.environ:
        return Group()
    try:
        group = Group(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is set but RANK or LOCAL_RANK is not a number ({error}); start with: "
            "torchrun --nproc-per-node N -m mlpserve_trainer …, or unset WORLD_SIZE"
        ) from error
    return group


@contextmanager
def joined(group: Group, device: torch.device) -> Iterator[None]:
    """Join the process group for the duration of the block: NCCL on GPUs, Gloo on CPUs."""
    if group.size == 1:
        yield
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()

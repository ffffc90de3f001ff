"""Data-parallel training under torchrun: which process this is, and the group that they form.

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
    """The processes that train together.

    Attributes:
        rank: of this process; 0 speaks and publishes.
        size: how many there are.
        local_rank: of this process on its machine, which is its GPU's number.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def from_environment() -> Group:
    """The group as torchrun describes it; of one process without torchrun.

    Raises:
        ConfigError: the variables are not what torchrun sets.
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
    """The group's processes can talk while the block runs: through NCCL on GPUs, Gloo on CPUs."""
    if group.size == 1:
        yield
        return
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()

"""The host's memory in the place of a GPU's, so that a `DeviceRunner` runs where there is no GPU."""

import ctypes
from typing import Any

import numpy.typing as npt


class HostMemory:
    """See `mlpserve_server.models.runners.Memory`; `pinned` holds the addresses of the arrays that are pinned now."""

    device = "cpu"
    index = 0

    def __init__(self) -> None:
        self.pinned: set[int] = set()
        self.bytes_in = 0

    def pin(self, array: npt.NDArray[Any]) -> None:
        self.pinned.add(array.ctypes.data)

    def unpin(self, array: npt.NDArray[Any]) -> None:
        self.pinned.discard(array.ctypes.data)

    def copy_in(self, target: int, source: npt.NDArray[Any]) -> None:
        assert source.flags.c_contiguous
        self.bytes_in += source.nbytes
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def copy_out(self, target: npt.NDArray[Any], source: int) -> None:
        assert target.flags.c_contiguous
        ctypes.memmove(target.ctypes.data, source, target.nbytes)

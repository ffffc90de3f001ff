"""What a runner needs of the CUDA runtime itself: copies into and out of a GPU's memory, and pinned host memory.

ONNX Runtime's Python API copies too, but only into arrays that it allocates anew. This uses the same library that its
CUDA provider has loaded, so it needs no package of its own.
"""

import contextlib
import ctypes
import logging
from typing import Any

import numpy.typing as npt

from mlpserve_server.errors import DeviceError
from mlpserve_server.models import cuda_libraries

log = logging.getLogger(__name__)

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
PCI_BUS_ID_BYTES = 32


class CudaMemory:
    """A GPU's memory.

    Args:
        index: the GPU's number, as CUDA counts.

    Attributes:
        device: ONNX Runtime's name of the kind of device.
        index: the GPU's number.

    Raises:
        DeviceError: the CUDA runtime is not there or does not have this GPU.
    """

    device = "cuda"

    def __init__(self, index: int) -> None:
        self.index = index
        self._library = cuda_libraries.open_runtime()
        self._take_gpu()

    def pin(self, array: npt.NDArray[Any]) -> None:
        """Keep an array's memory from being paged out, so that copies from and to it need no detour.

        Without it the copies are only slower, so a refusal is not an error.
        """
        try:
            self._call("cudaHostRegister", _pointer(array), ctypes.c_size_t(array.nbytes), ctypes.c_uint(0))
        except DeviceError as error:
            log.warning("host memory is not pinned, copies will be slower: %s", error)

    def unpin(self, array: npt.NDArray[Any]) -> None:
        """Undo `pin`; before the array's memory is given back."""
        with contextlib.suppress(DeviceError):  # it was never pinned
            self._take_gpu()
            self._call("cudaHostUnregister", _pointer(array))

    def copy_in(self, target: int, source: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to a device address; returns when it is there."""
        self._take_gpu()
        self._copy(ctypes.c_void_p(target), _pointer(source), source.nbytes, HOST_TO_DEVICE)

    def copy_out(self, target: npt.NDArray[Any], source: int) -> None:
        """Fill a contiguous array from a device address, in the thread that copied in."""
        self._copy(_pointer(target), ctypes.c_void_p(source), target.nbytes, DEVICE_TO_HOST)

    def pci_bus_id(self) -> str:
        """The GPU's place on the bus, by which NVML knows it too."""
        name = ctypes.create_string_buffer(PCI_BUS_ID_BYTES)
        self._call("cudaDeviceGetPCIBusId", name, ctypes.c_int(PCI_BUS_ID_BYTES), ctypes.c_int(self.index))
        return name.value.decode()

    def _take_gpu(self) -> None:
        """Make it the calling thread's GPU; a thread that has none yet would take the first, some hundred MB of it."""
        self._call("cudaSetDevice", ctypes.c_int(self.index))

    def _copy(self, target: ctypes.c_void_p, source: ctypes.c_void_p, size: int, kind: int) -> None:
        self._call("cudaMemcpy", target, source, ctypes.c_size_t(size), ctypes.c_int(kind))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            raise DeviceError(f"{name} on GPU {self.index} failed: {cuda_libraries.error_text(self._library, code)}")


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)

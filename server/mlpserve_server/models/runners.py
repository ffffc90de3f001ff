"""How a session is run: with buffers that are allocated once and bound once, on a CPU or on a GPU.

Legend: N images, D pixels, C classes.
"""

import mmap
import threading
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Images = npt.NDArray[np.uint8]
ALIGNMENT = 256  # bytes; what cudaMalloc gives, and more than any kernel asks for


class Predictions(NamedTuple):
    """Answers for N images; the fields are named as the graph's outputs.

    Attributes:
        class_ids: int32 [N], the best class.
        scores: float32 [N], its probability.
        probabilities: float32 [N, C].
    """

    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]

    def copy(self) -> "Predictions":
        """The same answers in memory of their own."""
        return Predictions(self.class_ids.copy(), self.scores.copy(), self.probabilities.copy())

    def rows(self, start: int, stop: int) -> "Predictions":
        """A view of some rows."""
        return Predictions(self.class_ids[start:stop], self.scores[start:stop], self.probabilities[start:stop])

    def first(self, count: int) -> "Predictions":
        """A view of the first rows."""
        return self.rows(0, count)


class Memory(Protocol):
    """Memory of a device that a session runs on; `cuda.CudaMemory` is a GPU's."""

    device: str
    index: int

    def pin(self, array: npt.NDArray[Any]) -> None:
        """Make copies from and to an array as fast as they can be."""

    def unpin(self, array: npt.NDArray[Any]) -> None:
        """Undo `pin`."""

    def copy_in(self, target: int, source: npt.NDArray[Any]) -> None:
        """Copy a contiguous array to a device address."""

    def copy_out(self, target: npt.NDArray[Any], source: int) -> None:
        """Fill a contiguous array from a device address."""


class BoundRunner:
    """Runs on the CPU into buffers that are allocated once; binding saves a fifth of the Run of a single image.

    One thread at a time may use it, and the next Run overwrites the answers.

    Args:
        session: the loaded file.
        max_batch: most images in one Run.
        pixels: D.
        classes: C.
    """

    def __init__(self, session: ort.InferenceSession, max_batch: int, pixels: int, classes: int) -> None:
        self._session = session
        self._images = np.empty((max_batch, pixels), np.uint8)
        self._outputs = Predictions(
            np.empty(max_batch, np.int32), np.empty(max_batch, np.float32), np.empty((max_batch, classes), np.float32)
        )
        self._bound: dict[int, tuple[ort.IOBinding, Images, Predictions]] = {}

    def run(self, images: Images) -> Predictions:
        """Classify images [N, D], N at most `max_batch`."""
        count = len(images)
        bound = self._bound.get(count)
        if bound is None:
            bound = self._bound[count] = self._bind(count)
        binding, buffer, outputs = bound
        buffer[:] = images
        self._session.run_with_iobinding(binding)
        return outputs

    def _bind(self, count: int) -> tuple[ort.IOBinding, Images, Predictions]:
        """The views of the buffers for N images, bound."""
        binding = self._session.io_binding()
        buffer = self._images[:count]
        binding.bind_input("images", "cpu", 0, np.uint8, buffer.shape, buffer.ctypes.data)
        outputs = self._outputs.first(count)
        for name, output in zip(outputs._fields, outputs, strict=True):
            binding.bind_output(name, "cpu", 0, output.dtype.type, output.shape, output.ctypes.data)
        return binding, buffer, outputs


class DeviceRunner:
    """Runs on a device with memory of its own, at a few fixed batch sizes; any thread may use it.

    A provider is slow at every new shape, so a Run's size is rounded up to the next fixed one. The rows beyond the
    images hold whatever the last Run left there, and nobody sees their answers. Each fixed size is bound once; all of
    them share one input and one block of outputs on the device, and pinned buffers on the host, so a Run is one copy
    in, the kernels, and one copy out.

    Args:
        session: the loaded file.
        max_batch: most images in one Run.
        pixels: D.
        classes: C.
        memory: of the device that the session runs on.
    """

    def __init__(
        self, session: ort.InferenceSession, max_batch: int, pixels: int, classes: int, memory: Memory
    ) -> None:
        self._session = session
        self._memory = memory
        self._lock = threading.Lock()
        self._sizes = batch_sizes(max_batch)
        self._images = _own_pages(max_batch * pixels).reshape(max_batch, pixels)
        self._outputs = _own_pages(_layout(max_batch, classes)[1])
        self._device_images = _allocate(self._images.nbytes, memory)
        self._device_outputs = _allocate(self._outputs.nbytes, memory)
        self._bound = {size: self._bind(size, pixels, classes) for size in self._sizes}
        memory.pin(self._images)
        memory.pin(self._outputs)

    def __del__(self) -> None:
        # The memory is given back after this; pinned pages must not be used for anything else.
        for array in (getattr(self, "_images", None), getattr(self, "_outputs", None)):
            if array is not None:
                self._memory.unpin(array)

    def run(self, images: Images) -> Predictions:
        """Classify images [N, D], N at most `max_batch`; the answers are the caller's own."""
        count = len(images)
        size = next(size for size in self._sizes if size >= count)
        binding, block, outputs = self._bound[size]
        with self._lock:
            self._images[:count] = images
            self._memory.copy_in(self._device_images.data_ptr(), self._images[:count])
            self._session.run_with_iobinding(binding)
            self._memory.copy_out(block, self._device_outputs.data_ptr())
            return outputs.first(count).copy()

    def _bind(self, size: int, pixels: int, classes: int) -> tuple[ort.IOBinding, npt.NDArray[np.uint8], Predictions]:
        """One batch size: the binding, the block that its outputs fill, and views of them in it."""
        binding = self._session.io_binding()
        where = (self._memory.device, self._memory.index)
        binding.bind_input("images", *where, np.uint8, (size, pixels), self._device_images.data_ptr())
        parts, total = _layout(size, classes)
        views: dict[str, Any] = {}
        for name, (offset, kind, shape) in parts.items():
            binding.bind_output(name, *where, kind, shape, self._device_outputs.data_ptr() + offset)
            end = offset + int(np.prod(shape)) * np.dtype(kind).itemsize
            views[name] = self._outputs[offset:end].view(kind).reshape(shape)
        return binding, self._outputs[:total], Predictions(**views)


Part = tuple[int, type[np.generic], tuple[int, ...]]  # offset in bytes, type, shape


def _layout(size: int, classes: int) -> tuple[dict[str, Part], int]:
    """Where the outputs lie in one block, and the block's size in bytes."""
    parts: dict[str, Part] = {}
    offset = 0
    shapes: list[tuple[type[np.generic], tuple[int, ...]]] = [
        (np.int32, (size,)),
        (np.float32, (size,)),
        (np.float32, (size, classes)),
    ]
    for name, (kind, shape) in zip(Predictions._fields, shapes, strict=True):
        parts[name] = (offset, kind, shape)
        offset += -(-int(np.prod(shape)) * 4 // ALIGNMENT) * ALIGNMENT
    return parts, offset


def _own_pages(size: int) -> npt.NDArray[np.uint8]:
    """Host memory that shares no page with anything else: whole pages are pinned, and no page can be pinned twice."""
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


def _allocate(size: int, memory: Memory) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type([size], np.uint8, memory.device, memory.index)


def batch_sizes(max_batch: int) -> list[int]:
    """The sizes that are warmed: powers of two, and `max_batch` itself."""
    return [*(1 << k for k in range((max_batch - 1).bit_length())), max_batch]

"""A loaded model: what answers images [N, D] with classes.

Legend: N images, D pixels, C classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from mlpserve.v1.artifact_pb2 import Precision
from mlpserve.v1.classifier_pb2 import ModelRef
from mlpserve_server.store import Version

Images = npt.NDArray[np.uint8]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


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

    def first(self, count: int) -> "Predictions":
        """A view of the first rows."""
        return Predictions(self.class_ids[:count], self.scores[:count], self.probabilities[:count])


class LoadedModel:
    """A session and what it serves; `loading.load` makes one and proves it. One thread at a time may use it.

    Args:
        version: the artifact.
        precision: which of its ONNX files is loaded.
        provider: ONNX Runtime's name of the execution provider.
        max_batch: most images in one Run; larger inputs are cut.
        session: the loaded file.

    Attributes:
        proof: runs some of the golden samples, and raises ArtifactError when an answer is not the published one. It is
            given the model rather than holding it: a cycle would keep a replaced model in memory.
    """

    def __init__(
        self, version: Version, precision: Precision, provider: str, max_batch: int, session: ort.InferenceSession
    ) -> None:
        manifest = version.manifest
        self.version = version
        self.precision = precision
        self.provider = provider
        self.max_batch = max_batch
        self.ref = ModelRef(name=manifest.model, version=manifest.version, digest=version.digest)
        self.pixels = manifest.image.rows * manifest.image.cols
        self.classes = len(manifest.labels)
        runner: type[BoundRunner | PaddedRunner] = PaddedRunner if provider == CUDA else BoundRunner
        self._run = runner(session, max_batch, self.pixels, self.classes).run
        self.proof: Callable[[LoadedModel], None] = lambda _: None

    @property
    def precision_name(self) -> str:
        """The precision as people write it: "fp32" or "int8"."""
        return Precision.Name(self.precision).removeprefix("PRECISION_").lower()

    def prove(self) -> None:
        """Run some of the golden samples again.

        Raises:
            ArtifactError: an answer is not the published one.
        """
        self.proof(self)

    def predict(self, images: Images) -> Predictions:
        """Classify images [N, D] in Runs of at most `max_batch`. The next call may overwrite the answers."""
        if len(images) <= self.max_batch:
            return self._run(images)
        starts = range(0, len(images), self.max_batch)
        parts = [self._run(images[start : start + self.max_batch]).copy() for start in starts]
        return Predictions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class BoundRunner:
    """Runs on the CPU into buffers that are allocated once; binding saves a fifth of the Run of a single image.

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


class PaddedRunner:
    """Rounds a Run's size up to a warmed one, for providers that are slow at every new shape.

    Args:
        session: the loaded file.
        max_batch: most images in one Run.
        pixels: D.
        classes: C.
    """

    def __init__(self, session: ort.InferenceSession, max_batch: int, pixels: int, classes: int) -> None:
        self._session = session
        self._sizes = batch_sizes(max_batch)

    def run(self, images: Images) -> Predictions:
        """Classify images [N, D], N at most `max_batch`."""
        count = len(images)
        size = next(size for size in self._sizes if size >= count)
        padded = np.pad(images, ((0, size - count), (0, 0)))
        return Predictions(*self._session.run(list(Predictions._fields), {"images": padded})).first(count)


def batch_sizes(max_batch: int) -> list[int]:
    """The sizes that are warmed: powers of two, and `max_batch` itself."""
    return [*(1 << k for k in range((max_batch - 1).bit_length())), max_batch]

"""The proof of a model: the golden samples through the real provider, at every batch size that is warmed.

It is the warm-up too, and a part of it is run again while the model serves.
"""

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import GoldenSamples
from mlpserve_server.errors import ArtifactError, DeviceError, first_line
from mlpserve_server.models import cuda_libraries
from mlpserve_server.models.model import CUDA, LoadedModel
from mlpserve_server.models.runners import batch_sizes

NEEDS_CUDNN = "cuDNN is unavailable"  # what ONNX Runtime says
LATER_IMAGES = 4  # golden samples of one later proof


class _Golden:
    """The answers that one file must give to the golden images.

    Args:
        golden: the artifact's golden samples.
        model: whose file it is.

    Raises:
        ArtifactError: there are none, or they do not belong together.
    """

    def __init__(self, golden: GoldenSamples, model: LoadedModel) -> None:
        answers = next((a for a in golden.answers if a.precision == model.precision), None)
        if answers is None or len(golden.images) == 0 or len(golden.images) % model.pixels:
            raise ArtifactError(f"{model.version.folder}: no golden samples for this file; publish the model again")
        self.images = np.frombuffer(golden.images, np.uint8).reshape(-1, model.pixels)
        count = len(self.images)
        if (len(answers.class_ids), len(answers.probabilities)) != (count, count * model.classes) or (
            max(answers.class_ids) >= model.classes
        ):
            raise ArtifactError(
                f"{model.version.folder}: {count} golden images of {model.classes} classes have "
                f"{len(answers.class_ids)} answers and {len(answers.probabilities)} probabilities, or an answer is no "
                "class; publish the model again"
            )
        self._class_ids = np.array(answers.class_ids, np.int32)
        self._probabilities = np.array(answers.probabilities, np.float32).reshape(-1, model.classes)
        self._tolerance = answers.tolerance
        # Where two classes are as good as equal, as they may be for an extreme image, either may come first.
        runner_up = np.partition(self._probabilities, -2, axis=1)[:, -2]
        self._clear = self._probabilities.max(axis=1) - runner_up > 2 * answers.tolerance

    def compare(self, model: LoadedModel, rows: npt.NDArray[np.int64]) -> None:
        """Run some of the images, all in one batch, and hold the answers against the published ones.

        Raises:
            ArtifactError: an answer is another, or the Run fails on the CPU.
            DeviceError: the Run fails on a GPU.
        """
        try:
            predictions = model.predict(self.images[rows])
        except Exception as error:
            reason = first_line(error)
            if model.provider != CUDA:
                raise ArtifactError(f"{model.version.folder}: a Run of {len(rows)} images failed: {reason}") from error
            if NEEDS_CUDNN in reason:
                reason = cuda_libraries.missing_cudnn() or reason
            raise DeviceError(f"{model.version.folder}: a Run of {len(rows)} images failed: {reason}") from error
        difference = float(np.abs(predictions.probabilities - self._probabilities[rows]).max())
        clear = self._clear[rows]
        # Written so that NaN fails too.
        if not (
            difference <= self._tolerance and np.array_equal(predictions.class_ids[clear], self._class_ids[rows][clear])
        ):
            cause = (
                "The file, ONNX Runtime or the GPU"
                if model.provider == CUDA
                else "The file or this machine's ONNX Runtime"
            )
            raise ArtifactError(
                f"{model.version.folder}: {model.precision_name} does not give its golden answers with "
                f"{model.provider} at batch size {len(rows)}: probabilities differ by up to {difference:.2g} "
                f"(allowed {self._tolerance:.2g}). "
                f"{cause} is wrong; the version is not served"
            )


def prove(model: LoadedModel, samples: GoldenSamples, pause: float) -> None:
    """Run the golden samples at every warmed batch size.

    Args:
        model: to be proven; its `proof` is set.
        samples: the artifact's.
        pause: seconds to rest after each step.

    Raises:
        ArtifactError: an answer is not the published one.
        DeviceError: the GPU cannot run the file.
    """
    golden = _Golden(samples, model)
    few = np.arange(min(LATER_IMAGES, len(golden.images)))
    model.proof = lambda loaded: golden.compare(loaded, few)
    for size in batch_sizes(model.max_batch):
        for rows in _windows(len(golden.images), size):
            golden.compare(model, rows)
            time.sleep(pause)


def _windows(samples: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers in groups of `size` that cover every sample at least once, wrapping round."""
    for start in range(0, samples, size):
        yield np.arange(start, start + size) % samples

"""The proof of a model: the golden samples through the real provider, at every batch size that is warmed.

It is the warm-up too, and a part of it is run again while the model serves.
"""

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import GoldenSamples, Precision
from mlpserve_server.errors import ArtifactError, DeviceError, first_line
from mlpserve_server.models import cuda_libraries
from mlpserve_server.models.model import CUDA, LoadedModel
from mlpserve_server.models.runners import batch_sizes
from mlpserve_server.store.folder import Version

NEEDS_CUDNN = "cuDNN is unavailable"  # what ONNX Runtime says
LATER_IMAGES = 4  # golden samples of one later proof


class GoldenAnswers:
    """The answers that one file must give to the golden images.

    Args:
        golden: the artifact's golden samples.
        version: the artifact.
        precision: of the file.

    Raises:
        ArtifactError: there are none, or they do not belong together.
    """

    def __init__(self, golden: GoldenSamples, version: Version, precision: Precision) -> None:
        image, classes = version.manifest.image, len(version.manifest.labels)
        pixels = image.rows * image.cols
        answers = next((a for a in golden.answers if a.precision == precision), None)
        if answers is None or len(golden.images) == 0 or len(golden.images) % pixels:
            raise ArtifactError(f"{version.folder}: no golden samples for this file; publish the model again")
        self._images = np.frombuffer(golden.images, np.uint8).reshape(-1, pixels)
        count = len(self._images)
        if (len(answers.class_ids), len(answers.probabilities)) != (count, count * classes) or (
            max(answers.class_ids) >= classes
        ):
            raise ArtifactError(
                f"{version.folder}: {count} golden images of {classes} classes have "
                f"{len(answers.class_ids)} answers and {len(answers.probabilities)} probabilities, or an answer is no "
                "class; publish the model again"
            )
        self._class_ids = np.array(answers.class_ids, np.int32)
        self._probabilities = np.array(answers.probabilities, np.float32).reshape(-1, classes)
        self._tolerance = answers.tolerance
        # Where two classes are as good as equal, as they may be for an extreme image, either may come first.
        runner_up = np.partition(self._probabilities, -2, axis=1)[:, -2]
        self._clear = self._probabilities.max(axis=1) - runner_up > 2 * answers.tolerance

    def prove(self, model: LoadedModel, pause: float) -> None:
        """Run all of the images at every warmed batch size.

        Args:
            model: to be proven.
            pause: seconds to rest after each step.

        Raises:
            ArtifactError: an answer is not the published one.
            DeviceError: the GPU cannot run the file.
        """
        for size in batch_sizes(model.max_batch):
            for rows in _windows(len(self._images), size):
                self._compare(model, rows)
                time.sleep(pause)

    def prove_again(self, model: LoadedModel) -> None:
        """Run a few of the images; raises as `prove` does."""
        self._compare(model, np.arange(min(LATER_IMAGES, len(self._images))))

    def _compare(self, model: LoadedModel, rows: npt.NDArray[np.int64]) -> None:
        """Run some of the images, all in one batch, and hold the answers against the published ones.

        Raises:
            ArtifactError: an answer is another, or the Run fails on the CPU.
            DeviceError: the Run fails on a GPU.
        """
        try:
            predictions = model.predict(self._images[rows])
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


def _windows(samples: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Row numbers in groups of `size` that cover every sample at least once, wrapping round."""
    for start in range(0, samples, size):
        yield np.arange(start, start + size) % samples

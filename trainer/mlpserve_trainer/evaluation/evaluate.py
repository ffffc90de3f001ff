"""Evaluate the ONNX files on the test set.

The files that are published are the ones that are evaluated: they run in ONNX Runtime, and are compared with PyTorch on
the same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from mlpserve.v1.artifact_pb2 import Precision, Reference
from mlpserve_trainer.data import Split
from mlpserve_trainer.errors import GateError
from mlpserve_trainer.evaluation.calibration import calibration_error
from mlpserve_trainer.export import OnnxFile
from mlpserve_trainer.networks.mlp import MLP, Classifier

CONFIDENCE_BINS = 10
BATCH = 4096  # images; bounds the memory of a run over a whole test set

# The float32 file must be PyTorch to float32 noise; the int8 file may round, but must not change what users see.
MAX_DIFFERENCE = {Precision.PRECISION_FP32: 1e-4}
MIN_AGREEMENT = {Precision.PRECISION_FP32: 0.9995, Precision.PRECISION_INT8: 0.99}
MAX_ACCURACY_DROP = 0.003

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Evaluated:
    """A file's predictions on the test set, and how good they are.

    Attributes:
        probabilities: [N, C], from ONNX Runtime.
        accuracy: share classified correctly, 0 to 1.
        max_difference: largest absolute difference of a probability from PyTorch's.
        agreement: share of images with the same class as PyTorch's, 0 to 1.
        confusion: [C, C] counts, row = true class, column = predicted class.
        calibration_error: expected calibration error, 0 to 1.
    """

    precision: Precision
    probabilities: npt.NDArray[np.float32]
    accuracy: float
    max_difference: float
    agreement: float
    confusion: npt.NDArray[np.int64]
    calibration_error: float = 0.0


def evaluate(file: OnnxFile, classifier: Classifier[MLP], test: Split) -> Evaluated:
    """Run an exported file over the whole test set."""
    targets = test.targets.numpy()
    session = session_of(file)
    parts = [
        (*session.run(["class_ids", "scores", "probabilities"], {"images": part.numpy()}), _reference(classifier, part))
        for part in test.images.split(BATCH)
    ]
    class_ids, scores, probabilities, reference = map(np.concatenate, zip(*parts, strict=True))
    if not (
        np.array_equal(class_ids, probabilities.argmax(axis=1)) and np.array_equal(scores, probabilities.max(axis=1))
    ):
        raise GateError("the exported file's class ids and scores do not follow from its own probabilities")
    classes = probabilities.shape[1]
    return Evaluated(
        precision=file.precision,
        probabilities=probabilities,
        accuracy=float((class_ids == targets).mean()),
        max_difference=float(np.abs(probabilities - reference).max()),
        agreement=float((class_ids == reference.argmax(axis=1)).mean()),
        confusion=np.bincount(targets * classes + class_ids, minlength=classes**2).reshape(classes, classes),
        calibration_error=calibration_error(probabilities, targets),
    )


@torch.no_grad()
def _reference(classifier: Classifier[MLP], images: torch.Tensor) -> npt.NDArray[np.float32]:
    """PyTorch's probabilities [N, C]."""
    result: npt.NDArray[np.float32] = classifier(images).numpy()
    return result


def majority(confusion: npt.NDArray[np.int64]) -> tuple[int, float]:
    """The most frequent class of a test set, and the accuracy of always answering it, 0 to 1."""
    counts = confusion.sum(axis=1)
    return int(counts.argmax()), float(counts.max() / max(int(counts.sum()), 1))


def no_better(evaluated: Sequence[Evaluated], labels: Sequence[str]) -> list[str]:
    """A warning where the model is no better than the answer that is right most often."""
    class_id, share = majority(evaluated[0].confusion)
    if evaluated[0].accuracy > share:
        return []
    return [
        f"the model is no better than always answering {labels[class_id]!r}: that is right for {share:.2%} of the "
        f"test images, and the model for {evaluated[0].accuracy:.2%}"
    ]


def check(evaluated: list[Evaluated], min_accuracy: float) -> None:
    """The publishing gates.

    Raises:
        GateError: a file differs from PyTorch, int8 loses too much accuracy, or the accuracy is below the required one.
    """
    reference = evaluated[0]
    for result in evaluated:
        name = Precision.Name(result.precision).removeprefix("PRECISION_").lower()
        limit = MAX_DIFFERENCE.get(result.precision, 1.0)
        images = len(result.probabilities)
        differs = _beyond(1 - result.agreement, 1 - MIN_AGREEMENT[result.precision], images)
        if result.max_difference > limit or differs:
            raise GateError(
                f"the {name} file does not agree with PyTorch on the test set: probabilities differ by up to "
                f"{result.max_difference:.2g} (allowed {limit:.2g}), {result.agreement:.2%} of the classes agree "
                f"(needed {MIN_AGREEMENT[result.precision]:.2%}). Nothing was published"
            )
        if _beyond(reference.accuracy - result.accuracy, MAX_ACCURACY_DROP, images):
            raise GateError(
                f"the {name} file reaches {result.accuracy:.2%} on the test set, float32 {reference.accuracy:.2%}: "
                f"it loses more than {MAX_ACCURACY_DROP:.1%}. Nothing was published"
            )
        if result.accuracy < min_accuracy:
            raise GateError(
                f"test accuracy of the {name} file is {result.accuracy:.2%}, below --min-accuracy {min_accuracy:.2%}. "
                "Nothing was published; train longer or with more hidden units, or lower the bar"
            )


def _beyond(share: float, limit: float, images: int) -> bool:
    """Whether a share exceeds a limit significantly, given the number of test images."""
    allowed = limit * images
    return bool(round(share * images) > allowed + 3 * max(allowed, 1.0) ** 0.5)


def reference(file: OnnxFile, validation: Split, classes: int) -> Reference:
    """A file's predictions on the validation images: the reference for a server's drift metrics."""
    session = session_of(file)
    images = validation.images.numpy()
    parts = [session.run(["class_ids", "scores"], {"images": part}) for part in np.split(images, _starts(len(images)))]
    class_ids, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    confidence = np.minimum((scores * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return Reference(
        images=len(images),
        class_counts=np.bincount(class_ids, minlength=classes).tolist(),
        confidence_counts=np.bincount(confidence, minlength=CONFIDENCE_BINS).tolist(),
        mean_ink=float(images.mean() / 255),
    )


def answers(file: OnnxFile, images: Images) -> npt.NDArray[np.float32]:
    """A file's probabilities [N, C] for images [N, D]."""
    session = session_of(file)
    parts = [session.run(["probabilities"], {"images": part})[0] for part in np.split(images, _starts(len(images)))]
    result: npt.NDArray[np.float32] = np.concatenate(parts)
    return result


def _starts(count: int) -> range:
    return range(BATCH, count, BATCH)


def session_of(file: OnnxFile) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU for a file in memory."""
    return ort.InferenceSession(file.model.SerializeToString(), providers=["CPUExecutionProvider"])

"""Golden samples: images with the answers that a server must reproduce before it serves a version."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlpserve.v1.artifact_pb2 import GoldenAnswers, GoldenSamples, Precision
from mlpserve_trainer.data import Split
from mlpserve_trainer.errors import GateError
from mlpserve_trainer.evaluation.evaluate import Images, session_of
from mlpserve_trainer.export import OnnxFile

GOLDEN_SAMPLES = 32  # test images; three extreme ones are added
GOLDEN_CANDIDATES = 512  # test images that they are chosen from
GOLDEN_TOLERANCE = 1e-3  # of a probability: above float32 noise on any provider, far below a wrong sum
GOLDEN_MARGIN = 0.01  # least lead of a chosen image's class


def golden_samples(files: Sequence[OnnxFile], test: Split) -> GoldenSamples:
    """Test images with unambiguous answers, plus extreme images, and the answers that a server must reproduce.

    The extreme images (all bright, bright rows, dark) reveal saturating int8 arithmetic.

    Raises:
        GateError: a file's answers differ from exact arithmetic over its own weights, on this machine.
    """
    # Evenly spaced, because a folder's test images are sorted by class.
    images = test.images.numpy()[np.linspace(0, len(test) - 1, min(len(test), GOLDEN_CANDIDATES)).astype(int)]
    networks = [item.network for item in files]
    clear = np.all([_margin(network.probabilities(images)) > GOLDEN_MARGIN for network in networks], axis=0)
    chosen = images[clear]
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), GOLDEN_SAMPLES)).astype(int)]
    if len(chosen) == 0:
        raise GateError("the model is not confident about any test image. Nothing was published")
    samples = np.concatenate([chosen, *_extreme_images(images.shape[1])])
    golden = GoldenSamples(images=samples.tobytes())
    for item in files:
        expected = item.network.probabilities(samples)
        (answers,) = session_of(item).run(["probabilities"], {"images": samples})
        difference = float(np.abs(answers - expected).max())
        if difference > GOLDEN_TOLERANCE:
            raise GateError(
                f"ONNX Runtime on this machine differs by {difference:.2g} from exact arithmetic over the weights of "
                f"the {Precision.Name(item.precision)} file (allowed {GOLDEN_TOLERANCE}). Nothing was published"
            )
        golden.answers.append(
            GoldenAnswers(
                precision=item.precision,
                class_ids=expected.argmax(axis=1).tolist(),
                probabilities=expected.ravel().tolist(),
                tolerance=GOLDEN_TOLERANCE,
            )
        )
    return golden


def _margin(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Lead of the best class over the second, [N]."""
    best = np.partition(probabilities, -2, axis=1)
    margin: npt.NDArray[np.float64] = best[:, -1] - best[:, -2]
    return margin


def _extreme_images(pixels: int) -> list[Images]:
    bright = np.full((1, pixels), 255, np.uint8)
    half = bright.copy()
    half[:, pixels // 2 :] = 0
    return [bright, half, np.zeros((1, pixels), np.uint8)]

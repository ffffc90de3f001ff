"""Probabilities that mean what they say: temperature scaling (Guo, Pleiss, Sun and Weinberger 2017).

The logits are divided by the temperature at which the validation images' true classes are likeliest. The division is
folded into the last layer, so the published network is of the same form and needs nothing at serving time.
"""

import numpy as np
import numpy.typing as npt
import torch

from mlpserve_trainer.data import Split
from mlpserve_trainer.mlp import MLP, Classifier, normalise

BINS = 15  # of the calibration error, as in the paper
LOWEST, HIGHEST = 0.05, 20.0  # temperatures


@torch.no_grad()
def temperature(classifier: Classifier[MLP], validation: Split) -> float:
    """The temperature at which the validation split's cross-entropy is least.

    The cross-entropy is convex in 1 / temperature, so halving the interval by the sign of its slope finds it. One more
    image of which nothing is known is counted in, or a small split without a mistake would ask for certainty.
    """
    x = normalise(validation.images, classifier.mean, classifier.deviation)
    logits = classifier.mlp(x).double()
    count = len(logits)
    wanted = (logits.gather(1, validation.targets[:, None]).sum() + logits.mean()) / (count + 1)
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((logits * middle).softmax(dim=1) * logits).sum(dim=1).mean()  # what the probabilities claim
        low, high = (middle, high) if wanted > expected else (low, middle)
    return 2 / (low + high)


@torch.no_grad()
def divide_logits(classifier: Classifier[MLP], by: float) -> None:
    """Fold a temperature into the last layer, in place."""
    last = classifier.mlp.linears[-1]
    last.weight.div_(by)
    last.bias.div_(by)


def reliability(
    probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Images, mean confidence and accuracy in each of `BINS` equal bins of the best class's probability.

    Args:
        probabilities: [N, C].
        targets: [N].
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    divisor = np.maximum(counts, 1)
    return counts, np.bincount(bins, confidence, BINS) / divisor, np.bincount(bins, right, BINS) / divisor


def calibration_error(probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> float:
    """Expected calibration error, 0 to 1: the bins' gaps between confidence and accuracy, weighted by their images."""
    counts, confidence, accuracy = reliability(probabilities, targets)
    return float((counts * np.abs(confidence - accuracy)).sum() / max(counts.sum(), 1))

"""Calibration: does the confidence of the predictions match their accuracy?

The expected calibration error of Guo, Pleiss, Sun and Weinberger 2017 ("On calibration of modern neural networks").
"""

import numpy as np
import numpy.typing as npt

BINS = 15  # of confidence, as in the paper


def reliability(
    probabilities: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Number of images, mean confidence and accuracy in `BINS` equal bins of the best class's probability.

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
    """Expected calibration error, 0 to 1: gap between confidence and accuracy, weighted by the images in each bin."""
    counts, confidence, accuracy = reliability(probabilities, targets)
    return float((counts * np.abs(confidence - accuracy)).sum() / max(counts.sum(), 1))

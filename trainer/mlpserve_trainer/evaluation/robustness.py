"""Accuracy of the published file on shifted, rotated and noisy test images.

It is for the report alone, and is measured after every decision has been made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlpserve_trainer.data import Dataset
from mlpserve_trainer.fitting.warp import Warp

SHIFTS = (0, 1, 2, 3, 4, 5, 6)  # pixels
ROTATIONS = (-45, -30, -15, 0, 15, 30, 45)  # degrees, anticlockwise
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # standard deviation, of the brightest pixel
IMAGES = 2000  # of the test set, evenly spaced

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Curve:
    """Accuracy, 0 to 1, at each strength of a perturbation."""

    name: str
    unit: str
    amounts: tuple[float, ...]
    accuracy: tuple[float, ...]


def curves(dataset: Dataset, classify: Callable[[Images], npt.NDArray[np.int64]]) -> list[Curve]:
    """Accuracy under shift, rotation and noise.

    Args:
        dataset: its test split is perturbed.
        classify: images uint8 [N, D] to class ids [N].
    """
    chosen = torch.linspace(0, len(dataset.test) - 1, min(IMAGES, len(dataset.test))).long()
    images, targets = dataset.test.images[chosen], dataset.test.targets[chosen].numpy()
    warp = Warp(dataset.rows, dataset.cols, 0, "zeros" if dataset.centred_ink else "border", torch.device("cpu"))

    def accuracy(disturbed: Tensor) -> float:
        answers = classify(disturbed.round().clamp(0, 255).to(torch.uint8).numpy())
        return float((answers == targets).mean())

    def shifted(pixels: float) -> float:
        ways = [(pixels, 0.0), (-pixels, 0.0), (0.0, pixels), (0.0, -pixels)]
        parts = [warp.apply(images, warp.fixed(len(images), down=down, right=right)) for down, right in ways]
        return sum(map(accuracy, parts)) / len(parts)

    def turned(degrees: float) -> float:
        return accuracy(warp.apply(images, warp.fixed(len(images), degrees=degrees)))

    def noisy(deviation: float) -> float:
        generator = torch.Generator().manual_seed(0)
        return accuracy(images + 255 * deviation * torch.randn(images.shape, generator=generator))

    return [
        Curve("shift", "pixels, mean of four directions", SHIFTS, tuple(map(shifted, SHIFTS))),
        Curve("rotation", "degrees", ROTATIONS, tuple(map(turned, ROTATIONS))),
        Curve("noise", "σ of full brightness", NOISE, tuple(map(noisy, NOISE))),
    ]

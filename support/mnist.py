"""The embedded MNIST test set, read without our own code."""

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

FILES = Path(__file__).resolve().parents[1] / "trainer/mlpserve_trainer/mnist"
IMAGES, LABELS = FILES / "t10k-images-idx3-ubyte.gz", FILES / "t10k-labels-idx1-ubyte.gz"


@cache
def mnist_images() -> npt.NDArray[np.uint8]:
    """uint8 [10000, 28, 28]."""
    return np.frombuffer(gzip.decompress(IMAGES.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


@cache
def mnist_labels() -> npt.NDArray[np.uint8]:
    """uint8 [10000]."""
    return np.frombuffer(gzip.decompress(LABELS.read_bytes()), np.uint8, offset=8)


def write_class_folders(folder: Path, per_class: int, classes: int = 10) -> Path:
    """A folder of class folders with MNIST digits as PNG files."""
    for digit in range(classes):
        target = folder / str(digit)
        target.mkdir(parents=True)
        for index in np.flatnonzero(mnist_labels() == digit)[:per_class]:
            Image.fromarray(mnist_images()[index]).save(target / f"{index:05}.png")
    return folder

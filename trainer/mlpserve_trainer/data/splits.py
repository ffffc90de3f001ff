"""What a data set is, and how it is divided."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlpserve_trainer.errors import DataError


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, rows × cols] and their class ids int64 [N]."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Split":
        """The same split in a device's memory."""
        return Split(self.images.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Raw:
    """What a source holds, before anything is set aside.

    Attributes:
        labels: class labels; a class id is an index into this list.
        size: (rows, cols) of every image.
        train: all images but the test set.
        test: the source's own test set; None if it has none.
    """

    labels: tuple[str, ...]
    size: tuple[int, int]
    train: Split
    test: Split | None


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits of one data set. The test split is for the end of a run only.

    Attributes:
        name: for the manifest.
        labels: class labels; a class id is an index into this list.
        rows, cols: size of every image.
        mean, deviation: of the training pixels, scaled to 0..1.
        centred_ink: whether its images were made as MNIST's were (bright ink, scaled and centred by mass), so that
            callers prepare their pictures in the same way.
        warnings: what is suspicious about the images, a sentence each.
    """

    name: str
    labels: tuple[str, ...]
    rows: int
    cols: int
    mean: float
    deviation: float
    train: Split
    validation: Split
    test: Split
    centred_ink: bool
    warnings: tuple[str, ...] = ()


def split(images: Tensor, targets: Tensor) -> Split:
    """A split of images uint8 [N, rows, cols]."""
    return Split(images.reshape(len(images), -1), targets)


def set_aside(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a random share: (rest, share)."""
    count = round(len(train) * share)
    if not 1 <= count < len(train):
        raise DataError(f"{len(train)} images are too few to keep a share of {share:.3g} for validation or test")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held, rest = order[:count], order[count:]
    return Split(train.images[rest], train.targets[rest]), Split(train.images[held], train.targets[held])


def pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels scaled to 0..1, from exact integer sums."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    if counts.count_nonzero() < 2:
        raise DataError("every pixel of every training image has the same value: there is nothing to learn")
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = float((counts * values).sum() / counts.sum())
    deviation = float(((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt())
    return mean, deviation

"""What a data set is, and how it is divided."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlpserve.files import folders
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
class Sources:
    """The files of a data set.

    Attributes:
        read: how many were read.
        passed_over: paths of the others, each with why.
    """

    read: int = 0
    passed_over: dict[str, str] = field(default_factory=dict)

    def sentence(self) -> str:
        """What was passed over, in words; "" for nothing."""
        if not self.passed_over:
            return ""
        return f"Read {self.read:,} files, passed over {len(self.passed_over):,}: {folders.sentence(self.passed_over)}"


@dataclass(frozen=True)
class Raw:
    """What a source holds, before anything is set aside.

    Attributes:
        labels: class labels; a class id is an index into this list.
        size: (rows, cols) of every image.
        train: all images but the source's own test and validation sets.
        test: the source's own test set; None if it has none.
        validation: its own validation set; None if it has none.
        sources: which files it was read from.
        warnings: what is suspicious about them, a sentence each.
    """

    labels: tuple[str, ...]
    size: tuple[int, int]
    train: Split
    test: Split | None
    validation: Split | None = None
    sources: Sources = field(default_factory=lambda: Sources())
    warnings: tuple[str, ...] = ()


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
        sources: the files that it was read from.
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
    sources: Sources = field(default_factory=Sources)


def split(images: Tensor, targets: Tensor) -> Split:
    """A split of images uint8 [N, rows, cols]."""
    return Split(images.reshape(len(images), -1), targets)


def set_aside(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a random share: (rest, share)."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    count = _count(train, share)
    return _divided(train, order[:count], order[count:])


def set_aside_of_each(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a random share of each class, at least one image of it and not all: (rest, share).

    Raises:
        DataError: a class has one image only.
    """
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    counts = torch.bincount(train.targets)
    present = torch.nonzero(counts).flatten()
    if int(counts[present].min()) < 2:
        raise DataError("a class has one image only; it needs one in each of training, validation and test")
    wanted = counts[present].double() * share
    quota = wanted.floor().long().clamp(min=1).minimum(counts[present] - 1)
    # The rest goes to those whose share was rounded down most, so that all together are the share.
    for place in (wanted - quota).argsort(descending=True, stable=True).tolist():
        if int(quota.sum()) >= _count(train, share):
            break
        quota[place] += int(quota[place] < counts[present][place] - 1)
    held = torch.zeros(len(train), dtype=torch.bool)
    in_order = train.targets[order]
    for class_id, number in zip(present.tolist(), quota.tolist(), strict=True):
        held[order[in_order == class_id][:number]] = True
    return _divided(train, order[held[order]], order[~held[order]])


def _count(train: Split, share: float) -> int:
    count = round(len(train) * share)
    if not 1 <= count < len(train):
        raise DataError(f"{len(train)} images are too few to keep a share of {share:.3g} for validation or test")
    return count


def _divided(train: Split, held: Tensor, rest: Tensor) -> tuple[Split, Split]:
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

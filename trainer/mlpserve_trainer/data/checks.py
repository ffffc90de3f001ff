"""What is suspicious about a person's own data: said before the training, because nothing later will show it.

Legend: N and M images, D pixels.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from mlpserve.files.labels import misleading
from mlpserve_trainer.data.splits import Dataset, Raw
from mlpserve_trainer.errors import DataError

IMBALANCE = 10  # largest class over smallest
DUPLICATE = 0.995  # correlation of two images' pixels; recompressed and slightly brightened copies are above it
COARSE = 64  # pixels, averaged over, by which pairs are found before they are compared in full
COARSE_DUPLICATE = 0.99
SHOWN = 5  # classes named in one sentence
AT_ONCE = 512  # test images compared at a time


def checked(dataset: Dataset) -> Dataset:
    """The data set with a sentence for each thing that is suspicious.

    Raises:
        DataError: the test set has a class that no training image has.
    """
    found = [
        *dataset.warnings,
        *_misleading(dataset),
        *_label_gaps(dataset),
        *_imbalance(dataset),
        *_constant_images(dataset),
        *_duplicates(dataset),
    ]
    return dataclasses.replace(dataset, warnings=tuple(found))


def check_counts(raw: Raw) -> None:
    """Refuse classes of so few images that a split would lack them.

    Raises:
        DataError: with their names.
    """
    needed = 1 + (raw.test is None) + (raw.validation is None)
    counts = torch.bincount(raw.train.targets, minlength=len(raw.labels))
    few = torch.nonzero((counts > 0) & (counts < needed)).flatten().tolist()
    if few:
        shown = ", ".join(f"{raw.labels[number]} ({int(counts[number])})" for number in few[:SHOWN])
        more = f" and {len(few) - SHOWN} more" if len(few) > SHOWN else ""
        raise DataError(
            f"too few images of {shown}{more}: each class needs {needed}, one in each of the splits (training, "
            "validation, test) that are made of them. Add images, or remove the class"
        )


def _misleading(dataset: Dataset) -> list[str]:
    label = misleading(dataset.labels)
    if label is None:
        return []
    return [
        f"the classes are called by numbers that are not their class ids: {label} has class id "
        f"{dataset.labels.index(label)}. Where true labels are numbers, `mlpserve score` asks what they mean "
        "(--label-numbers)"
    ]


def _counts(dataset: Dataset) -> Tensor:
    return torch.bincount(dataset.train.targets, minlength=len(dataset.labels))


def _named(dataset: Dataset, class_ids: list[int]) -> str:
    names = ", ".join(dataset.labels[number] for number in class_ids[:SHOWN])
    return names if len(class_ids) <= SHOWN else f"{names} and {len(class_ids) - SHOWN} more"


def _label_gaps(dataset: Dataset) -> list[str]:
    missing = torch.nonzero(_counts(dataset) == 0).flatten().tolist()
    untested = sorted(set(range(len(dataset.labels))) - set(missing) - set(dataset.test.targets.tolist()))
    tested = set(dataset.test.targets.tolist()) | set(dataset.validation.targets.tolist())
    unseen = [number for number in missing if number in tested]
    if unseen:
        raise DataError(
            f"class {_named(dataset, unseen)} is in the validation or test set, but no training image has it; add "
            "some, or remove the class"
        )
    found = []
    if untested:
        found.append(
            f"the test set has no image of {_named(dataset, untested)}; how they are recognised is not measured"
        )
    if not missing:
        return found
    return [
        *found,
        f"no image has the label {_named(dataset, missing)}; the label stays in the list, and is never learnt. "
        "Number the labels without gaps, or give them as text",
    ]


def _imbalance(dataset: Dataset) -> list[str]:
    counts = _counts(dataset)
    present = counts[counts > 0]
    most, least = int(present.max()), int(present.min())
    if most < IMBALANCE * least:
        return []
    rare = torch.nonzero((counts > 0) & (counts * IMBALANCE <= most)).flatten().tolist()
    return [
        f"the classes are unbalanced: {most:,} training images of {dataset.labels[int(counts.argmax())]}, but "
        f"{least:,} in the smallest (rare: {_named(dataset, rare)}). Accuracy will hide how the rare ones do; look at "
        "their recall in the report"
    ]


def _constant_images(dataset: Dataset) -> list[str]:
    found = []
    for name, split in (("training", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        same = split.images.amin(dim=1) == split.images.amax(dim=1)
        count = int(same.sum())
        if count:
            classes = sorted(set(split.targets[same].tolist()))
            found.append(
                f"{count:,} {name} images have one value in all pixels (classes {_named(dataset, classes)}); they show "
                "nothing, and are probably broken files"
            )
    return found


def _duplicates(dataset: Dataset) -> list[str]:
    """Test images that are near-copies of training or validation images."""
    seen = torch.cat([dataset.train.images, dataset.validation.images])
    targets = torch.cat([dataset.train.targets, dataset.validation.targets])
    count, clashing = 0, 0
    coarse_seen = _unit(_coarse(seen, dataset.rows, dataset.cols))
    for start in range(0, len(dataset.test), AT_ONCE):
        images = dataset.test.images[start : start + AT_ONCE]
        coarse = _unit(_coarse(images, dataset.rows, dataset.cols))
        best = (coarse @ coarse_seen.T).max(dim=1)
        for row in torch.nonzero(best.values > COARSE_DUPLICATE).flatten().tolist():
            pair = torch.stack([images[row], seen[best.indices[row]]]).float()
            one, other = _unit(pair)
            if float(one @ other) > DUPLICATE:
                count += 1
                clashing += int(dataset.test.targets[start + row] != targets[best.indices[row]])
    if not count:
        return []
    labels = f", {clashing:,} of them with another label" if clashing else ""
    return [
        f"{count:,} of {len(dataset.test):,} test images are copies of training or validation images, or nearly"
        f"{labels}; the test accuracy will be too good. Remove them from one side"
    ]


def _coarse(images: Tensor, rows: int, cols: int) -> Tensor:
    """Images [N, D] averaged over cells, float32 [N, about COARSE]."""
    side = int(np.sqrt(COARSE))
    parts = [
        torch.nn.functional.adaptive_avg_pool2d(
            part.view(-1, 1, rows, cols).float(), (min(side, rows), min(side, cols))
        ).flatten(1)
        for part in images.split(4096)
    ]
    return torch.cat(parts)


def _unit(values: Tensor) -> Tensor:
    """Rows without their mean, of length 1, so that products are correlations; constant rows become zero."""
    centred = values - values.mean(dim=1, keepdim=True)
    unit: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return unit

"""A folder with one folder of pictures for each class."""

from pathlib import Path

import torch
from torchvision import datasets

from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.splits import Raw, Split, split
from mlpserve_trainer.errors import DataError

SUFFIXES = datasets.folder.IMG_EXTENSIONS
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test"}


def read(folder: Path, image_size: tuple[int, int] | None) -> Raw:
    """DIR/train/CLASS and DIR/test/CLASS, or DIR/CLASS alone.

    Raises:
        DataError: it holds something else, a picture cannot be read, or sizes differ.
    """
    if not ((folder / "train").is_dir() and (folder / "test").is_dir()):
        labels, size, everything = _read_classes(folder, image_size)
        return Raw(labels, size, everything, None)
    labels, size, train = _read_classes(folder / "train", image_size)
    test_labels, test_size, test = _read_classes(folder / "test", image_size)
    if labels != test_labels:
        raise DataError(f"{folder}: train has classes {labels}, test has {test_labels}; they must be the same")
    if size != test_size:
        raise DataError(
            f"{folder}: train images are {size}, test images are {test_size}; give --image-size ROWSxCOLS to bring "
            "them to one size"
        )
    return Raw(labels, size, train, test)


def _read_classes(folder: Path, image_size: tuple[int, int] | None) -> tuple[tuple[str, ...], tuple[int, int], Split]:
    try:
        listing = datasets.ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: {str(error).rstrip('.')}. Expected one folder of images for each class, {folder}/CLASS/IMAGE"
        ) from error
    if set(listing.classes) <= SPLIT_NAMES:
        raise DataError(
            f"{folder}: its folders are named {', '.join(listing.classes)}, like splits, not classes. Expected "
            f"{folder}/train/CLASS/IMAGE and {folder}/test/CLASS/IMAGE, or {folder}/CLASS/IMAGE"
        )
    if len(listing.classes) < 2:
        raise DataError(f"{folder}: only one class ({listing.classes[0]}); a classifier needs at least two")
    paths = [path for path, _ in listing.samples]
    images = pictures.stacked(
        len(paths),
        lambda index: pictures.read(Path(paths[index]), image_size, paths[index]),
        lambda index: paths[index],
    )
    targets = torch.tensor([target for _, target in listing.samples])
    return tuple(listing.classes), images.shape[1:], split(torch.from_numpy(images), targets)

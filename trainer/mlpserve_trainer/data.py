"""Data sets as uint8 tensors that fit in the device's memory.

Names go through torchvision's classes; MNIST itself comes with this package and needs no download. Everything else is
a folder of class folders of images.
"""

import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision import datasets

from mlpserve_trainer.errors import DataError

EMBEDDED_MNIST = Path(__file__).parent / "mnist"

# The normalisation that every MNIST recipe uses, rounded as it is always quoted.
MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081

SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test"}


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
class Dataset:
    """Three disjoint splits of one data set. The test split is for the end of a run only.

    Attributes:
        name: for the manifest.
        labels: class labels; a class id is an index into this list.
        rows, cols: size of every image.
        mean, deviation: of the training pixels, scaled to 0..1.
        centred_ink: whether its images were made as MNIST's were (bright ink, scaled and centred by mass), so that
            callers prepare their pictures in the same way.
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


def load(data: str, *, cache: Path, validation: float, seed: int, image_size: tuple[int, int] | None) -> Dataset:
    """Load a data set by name, or from a folder.

    Args:
        data: a key of `SOURCES`, or a folder.
        cache: where torchvision keeps what it downloads.
        validation: share of the training images to set aside.
        seed: of the splits.
        image_size: (rows, cols) to bring a folder's images to; None: they must agree already.

    Raises:
        DataError: it cannot be read or downloaded, or has too few images or classes.
    """
    if data in SOURCES:
        if image_size is not None:
            raise DataError(f"--image-size is for folders of images; {data} has its own size")
        labels, train, test = SOURCES[data](cache.expanduser() / data)
        name = data
    elif Path(data).is_dir():
        labels, train, test = _from_folder(Path(data), image_size, seed)
        name = Path(data).resolve().name
    else:
        raise DataError(f"--data {data}: neither a folder nor one of {', '.join(SOURCES)}")
    rows, cols = train.images.shape[1:]
    train, test = (Split(split.images.reshape(len(split), -1), split.targets) for split in (train, test))
    fit, held_out = _set_aside(train, validation, seed)
    if data == "mnist":
        mean, deviation = MNIST_MEAN, MNIST_DEVIATION
    else:
        mean, deviation = _pixel_statistics(fit.images)
    return Dataset(name, labels, rows, cols, mean, deviation, fit, held_out, test, data in CENTRED_INK)


def _set_aside(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off a random validation set: (rest, validation)."""
    count = round(len(train) * share)
    if not 1 <= count < len(train):
        raise DataError(f"{len(train)} training images are too few to keep a share of {share:.3g} for validation")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held, rest = order[:count], order[count:]
    return Split(train.images[rest], train.targets[rest]), Split(train.images[held], train.targets[held])


def _pixel_statistics(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels scaled to 0..1, from exact integer sums."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    if counts.count_nonzero() < 2:
        raise DataError("every pixel of every training image has the same value: there is nothing to learn")
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = float((counts * values).sum() / counts.sum())
    deviation = float(((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt())
    return mean, deviation


# --- torchvision's data sets ---------------------------------------------------------------------------------------

Source = Callable[[Path], tuple[tuple[str, ...], Split, Split]]


def _embedded_mnist(_: Path) -> tuple[tuple[str, ...], Split, Split]:
    """MNIST from the four files in this package; torchvision reads them unpacked from a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="mlpserve-mnist-") as root:
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in sorted(EMBEDDED_MNIST.glob("*.gz")):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        train, test = (datasets.MNIST(root, train=flag) for flag in (True, False))
    return tuple("0123456789"), Split(train.data, train.targets), Split(test.data, test.targets)


def _downloaded(root: Path, make: Callable[[bool], datasets.MNIST]) -> tuple[datasets.MNIST, datasets.MNIST]:
    """Train and test set of a torchvision class; torchvision downloads what `root` lacks."""
    try:
        return make(True), make(False)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(". ")
        raise DataError(
            f"{root.name} cannot be downloaded to {root}: {reason}. Without network, put torchvision's raw files "
            "there, or use --data mnist (comes with the package) or --data DIR"
        ) from error


def _fashion_mnist(root: Path) -> tuple[tuple[str, ...], Split, Split]:
    train, test = _downloaded(root, lambda flag: datasets.FashionMNIST(str(root), train=flag, download=True))
    labels = tuple(label.lower() for label in train.classes)
    return labels, Split(train.data, train.targets), Split(test.data, test.targets)


def _kmnist(root: Path) -> tuple[tuple[str, ...], Split, Split]:
    train, test = _downloaded(root, lambda flag: datasets.KMNIST(str(root), train=flag, download=True))
    return tuple(train.classes), Split(train.data, train.targets), Split(test.data, test.targets)


def _qmnist(root: Path) -> tuple[tuple[str, ...], Split, Split]:
    train, test = _downloaded(root, lambda flag: datasets.QMNIST(str(root), train=flag, download=True))
    # Column 0 of QMNIST's targets is the class, the others say who wrote the digit.
    splits = [Split(part.data, part.targets[:, 0].contiguous()) for part in (train, test)]
    return tuple("0123456789"), splits[0], splits[1]


def _emnist_letters(root: Path) -> tuple[tuple[str, ...], Split, Split]:
    train, test = _downloaded(root, lambda flag: datasets.EMNIST(str(root), "letters", train=flag, download=True))
    # EMNIST stores its images with rows and columns swapped, and counts its letters from 1.
    splits = [Split(part.data.transpose(1, 2).contiguous(), part.targets - 1) for part in (train, test)]
    return tuple("abcdefghijklmnopqrstuvwxyz"), splits[0], splits[1]


SOURCES: dict[str, Source] = {
    "mnist": _embedded_mnist,
    "fashion-mnist": _fashion_mnist,
    "kmnist": _kmnist,
    "emnist-letters": _emnist_letters,
    "qmnist": _qmnist,
}

# NIST's digits and letters; Kuzushiji and clothes are cut and scaled in other ways.
CENTRED_INK = {"mnist", "emnist-letters", "qmnist"}


# --- a folder of class folders -------------------------------------------------------------------------------------


def _from_folder(folder: Path, image_size: tuple[int, int] | None, seed: int) -> tuple[tuple[str, ...], Split, Split]:
    """DIR/train/CLASS and DIR/test/CLASS, or DIR/CLASS with a tenth of the images split off as test set."""
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        labels, train = _read_classes(folder / "train", image_size)
        test_labels, test = _read_classes(folder / "test", image_size)
        if labels != test_labels:
            raise DataError(f"{folder}: train has classes {labels}, test has {test_labels}; they must be the same")
        if train.images.shape[1:] != test.images.shape[1:]:
            raise DataError(
                f"{folder}: train images are {tuple(train.images.shape[1:])}, test images are "
                f"{tuple(test.images.shape[1:])}; give --image-size ROWSxCOLS to bring them to one size"
            )
        return labels, train, test
    labels, everything = _read_classes(folder, image_size)
    train, test = _set_aside(everything, 0.1, seed + 1)
    return labels, train, test


def _read_classes(folder: Path, image_size: tuple[int, int] | None) -> tuple[tuple[str, ...], Split]:
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
    images: list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]] = []
    for path, _ in listing.samples:
        pixels = _read_image(Path(path), image_size)
        if images and pixels.shape != images[0].shape:
            raise DataError(
                f"{path}: {pixels.shape[0]}x{pixels.shape[1]} pixels, but {listing.samples[0][0]} has "
                f"{images[0].shape[0]}x{images[0].shape[1]}; give --image-size ROWSxCOLS to bring all to one size"
            )
        images.append(pixels)
    targets = torch.tensor([target for _, target in listing.samples])
    return tuple(listing.classes), Split(torch.from_numpy(np.stack(images)), targets)


def to_grey(image: Image.Image) -> Image.Image:
    """Upright and grey, transparent parts white: what the client does with a picture (a test compares the two).

    Raises:
        ValueError: pixels that are neither 8 nor 16 bits deep.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L")


def _read_image(path: Path, image_size: tuple[int, int] | None) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    try:
        with Image.open(path) as image:
            grey = to_grey(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error}); mend or remove the file") from error
    if image_size is not None:
        rows, cols = image_size
        grey = grey.resize((cols, rows), Image.Resampling.LANCZOS)
    return np.asarray(grey, dtype=np.uint8)

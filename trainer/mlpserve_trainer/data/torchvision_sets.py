"""MNIST, which comes with this package, and its relatives that torchvision downloads."""

import gzip
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torchvision import datasets

from mlpserve import temporary
from mlpserve_trainer.data.splits import Raw, split
from mlpserve_trainer.errors import DataError

EMBEDDED_MNIST = Path(__file__).parents[1] / "mnist"

Source = Callable[[Path], Raw]


def _raw(labels: tuple[str, ...], train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Raw:
    rows, cols = train[0].shape[1:]
    return Raw(labels, (rows, cols), split(*train), split(*test))


def folder_of(name: str, cache: Path) -> Path:
    """Where a set is kept; nothing is kept of the one that comes with the package.

    Raises:
        DataError: there is no home folder.
    """
    if name == "mnist":
        return cache / name
    try:
        return cache.expanduser() / name
    except RuntimeError as error:
        raise DataError(f"--data-cache {cache}: there is no home folder here; give --data-cache DIR") from error


def _embedded_mnist(_: Path) -> Raw:
    """MNIST from the four files in this package; torchvision reads them unpacked from a temporary folder."""
    with temporary.folder("mnist") as root:
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for packed in sorted(EMBEDDED_MNIST.glob("*.gz")):
            (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        train, test = (datasets.MNIST(root, train=flag) for flag in (True, False))
    return _raw(tuple("0123456789"), (train.data, train.targets), (test.data, test.targets))


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


def _fashion_mnist(root: Path) -> Raw:
    train, test = _downloaded(root, lambda flag: datasets.FashionMNIST(str(root), train=flag, download=True))
    labels = tuple(label.lower() for label in train.classes)
    return _raw(labels, (train.data, train.targets), (test.data, test.targets))


def _kmnist(root: Path) -> Raw:
    train, test = _downloaded(root, lambda flag: datasets.KMNIST(str(root), train=flag, download=True))
    return _raw(tuple(train.classes), (train.data, train.targets), (test.data, test.targets))


def _qmnist(root: Path) -> Raw:
    train, test = _downloaded(root, lambda flag: datasets.QMNIST(str(root), train=flag, download=True))
    # Column 0 of QMNIST's targets is the class, the others say who wrote the digit.
    parts = [(part.data, part.targets[:, 0].contiguous()) for part in (train, test)]
    return _raw(tuple("0123456789"), *parts)


def _emnist_letters(root: Path) -> Raw:
    train, test = _downloaded(root, lambda flag: datasets.EMNIST(str(root), "letters", train=flag, download=True))
    # EMNIST stores its images with rows and columns swapped, and counts its letters from 1.
    parts = [(part.data.transpose(1, 2).contiguous(), part.targets - 1) for part in (train, test)]
    return _raw(tuple("abcdefghijklmnopqrstuvwxyz"), *parts)


SOURCES: dict[str, Source] = {
    "mnist": _embedded_mnist,
    "fashion-mnist": _fashion_mnist,
    "kmnist": _kmnist,
    "emnist-letters": _emnist_letters,
    "qmnist": _qmnist,
}

# NIST's digits and letters; Kuzushiji and clothes are cut and scaled in other ways.
CENTRED_INK = {"mnist", "emnist-letters", "qmnist"}

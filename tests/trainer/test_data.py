import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import mnist

from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.errors import DataError


def _load(data: object, tmp_path: Path, validation: float = 0.2, size: tuple[int, int] | None = None) -> Dataset:
    return load(str(data), cache=tmp_path / "cache", validation=validation, seed=0, image_size=size)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_embedded_mnist(tmp_path: Path) -> None:
    dataset = _load("mnist", tmp_path, validation=1 / 12)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (55_000, 5_000, 10_000)
    assert (dataset.rows, dataset.cols, dataset.labels) == (28, 28, tuple("0123456789"))
    assert (dataset.mean, dataset.deviation) == (0.1307, 0.3081)
    assert dataset.test.images.dtype == torch.uint8
    assert np.array_equal(dataset.test.images.numpy(), mnist.mnist_images().reshape(-1, 784))
    assert np.array_equal(dataset.test.targets.numpy(), mnist.mnist_labels())
    # The original test images' published MD5.
    assert hashlib.md5(
        struct.pack(">IIII", 2051, 10_000, 28, 28) + dataset.test.images.numpy().tobytes()
    ).hexdigest() == ("2646ac647ad5339dbf082846283269ea")
    pixels = torch.cat([dataset.train.images, dataset.validation.images]).double() / 255
    assert (round(pixels.mean().item(), 4), round(pixels.std().item(), 4)) == (0.1307, 0.3081)


def test_class_folders_are_split_without_overlap(tmp_path: Path) -> None:
    folder = mnist.write_class_folders(tmp_path / "digits", per_class=10, classes=3)
    dataset = _load(folder, tmp_path)
    assert dataset.labels == ("0", "1", "2")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22, 5, 3)
    seen = {
        image.numpy().tobytes() for part in (dataset.train, dataset.validation, dataset.test) for image in part.images
    }
    assert len(seen) == 30


def test_train_and_test_folders(tmp_path: Path) -> None:
    mnist.write_class_folders(tmp_path / "d" / "train", per_class=5, classes=2)
    mnist.write_class_folders(tmp_path / "d" / "test", per_class=3, classes=2)
    dataset = _load(tmp_path / "d", tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (8, 2, 6)


def test_colour_images_turn_grey_and_are_brought_to_a_size(tmp_path: Path) -> None:
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 250))):
        (tmp_path / "c" / name).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (20 + index, 30), colour).save(tmp_path / "c" / name / f"{index}.png")
    with pytest.raises(DataError, match="--image-size"):
        _load(tmp_path / "c", tmp_path)
    dataset = _load(tmp_path / "c", tmp_path, size=(12, 10))
    assert (dataset.rows, dataset.cols) == (12, 10)
    assert dataset.train.images.shape[1] == 120


def _write_raw(folder: Path, images: np.ndarray, labels: np.ndarray, part: str) -> None:  # type: ignore[type-arg]
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIII", 2051, *images.shape)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + labels.tobytes())


def test_torchvision_names_read_its_raw_files(tmp_path: Path) -> None:
    """What torchvision has downloaded before is used without network."""
    raw = tmp_path / "cache" / "fashion-mnist" / "FashionMNIST" / "raw"
    _write_raw(raw, mnist.mnist_images()[:50], mnist.mnist_labels()[:50], "train")
    _write_raw(raw, mnist.mnist_images()[50:60], mnist.mnist_labels()[50:60], "t10k")
    dataset = _load("fashion-mnist", tmp_path)
    assert (dataset.labels[0], len(dataset.train), len(dataset.test)) == ("t-shirt/top", 40, 10)
    assert dataset.mean != 0.1307


def test_emnist_letters_are_turned_upright_and_count_from_zero(tmp_path: Path) -> None:
    raw = tmp_path / "cache" / "emnist-letters" / "EMNIST" / "raw"
    images = mnist.mnist_images()[:40]
    for part in ("train", "test"):
        _write_raw(raw, images.transpose(0, 2, 1).copy(), np.full(40, 26, np.uint8), f"emnist-letters-{part}")
    dataset = _load("emnist-letters", tmp_path)
    assert np.array_equal(dataset.test.images.numpy(), images.reshape(40, -1))
    assert dataset.labels[dataset.test.targets[0]] == "z"


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "qmnist", "emnist-letters"])
def test_offline_download_says_what_to_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(DataError, match=rf"{name} cannot be downloaded .*--data mnist"):
        _load(name, tmp_path)


def test_errors_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a folder or file nor one of mnist, fashion-mnist"):
        _load("nothing-here", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty.*one folder of images for each class"):
        _load(tmp_path / "empty", tmp_path)
    folder = mnist.write_class_folders(tmp_path / "digits", per_class=5, classes=2)
    (folder / "1" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"broken\.png: not a readable image"):
        _load(folder, tmp_path)
    only = mnist.write_class_folders(tmp_path / "only", per_class=5, classes=1)
    with pytest.raises(DataError, match="only one class"):
        _load(only, tmp_path)
    with pytest.raises(DataError, match="--image-size is for folders"):
        _load("mnist", tmp_path, size=(20, 20))


def test_folders_named_like_splits_are_not_classes(tmp_path: Path) -> None:
    for part in ("test", "val"):
        mnist.write_class_folders(tmp_path / "d" / part, per_class=5, classes=2)
    with pytest.raises(DataError, match="like splits, not classes"):
        _load(tmp_path / "d", tmp_path)
    for part in ("train", "val"):
        (tmp_path / "flat" / part).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "flat" / part / "a.png")
    with pytest.raises(DataError, match="like splits, not classes"):
        _load(tmp_path / "flat", tmp_path)


def test_only_the_embedded_set_has_its_constants(tmp_path: Path) -> None:
    dataset = _load(mnist.write_class_folders(tmp_path / "mnist", per_class=10, classes=3), tmp_path)
    assert dataset.mean != 0.1307
    assert not dataset.centred_ink


def test_constant_images_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (8, 8), 7).save(tmp_path / "flat" / name / f"{index}.png")
    with pytest.raises(DataError, match="nothing to learn"):
        _load(tmp_path / "flat", tmp_path)

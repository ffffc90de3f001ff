"""Folders of pictures as people have them: links, hidden files, splits, odd names and few images."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels, write_class_folders

from mlpserve.files.folders import HIDDEN
from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.data.folders import IN_NO_CLASS, IN_NO_SPLIT
from mlpserve_trainer.errors import DataError


def _load(data: Path, size: tuple[int, int] | None = None, validation: float = 0.2) -> Dataset:
    return load(str(data), cache=data, validation=validation, seed=0, image_size=size)


def _classes(folder: Path, *names: str, count: int = 6) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index, image in enumerate(mnist_images()[mnist_labels() == number][:count]):
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def _total(dataset: Dataset) -> int:
    return len(dataset.train) + len(dataset.validation) + len(dataset.test)


# --- what is a class -----------------------------------------------------------------------------------------------


def test_class_folders_that_are_links(tmp_path: Path) -> None:
    real = _classes(tmp_path / "real", "b", "c")
    data = _classes(tmp_path / "data", "a")
    (data / "b").symlink_to(real / "b")
    (data / "c").symlink_to(real / "c")
    (data / "c" / "back").symlink_to(data)
    dataset = _load(data)
    assert (dataset.labels, _total(dataset)) == (("a", "b", "c"), 18)


@pytest.mark.parametrize("name", [".Trash", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found"])
def test_folders_of_systems_are_no_classes(tmp_path: Path, name: str) -> None:
    data = _classes(tmp_path / "data", "a", "b", name)
    (data / "a" / "._0.png").write_bytes(b"AppleDouble")
    dataset = _load(data)
    assert (dataset.labels, _total(dataset)) == (("a", "b"), 12)
    assert set(dataset.sources.passed_over) == {name, "a/._0.png"}
    assert dataset.sources.read == 12
    assert "Read 12 files, passed over 2: " in dataset.sources.sentence()


def test_numeric_names_sort_as_numbers(tmp_path: Path) -> None:
    dataset = _load(_classes(tmp_path / "data", *[str(n) for n in (10, 9, 2, 1, 0)]))
    assert dataset.labels == ("0", "1", "2", "9", "10")
    assert any("called by numbers that are not their class ids: 9 has class id 3" in text for text in dataset.warnings)
    whole = _load(_classes(tmp_path / "whole", *[str(n) for n in range(3)]))
    assert not any("class ids" in text for text in whole.warnings)


def test_names_that_look_the_same(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two classes of one name: 'cafe\u0301' and 'caf\u00e9'"):
        _load(_classes(tmp_path / "data", "caf\u00e9", "cafe\u0301", "tea"))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "tea", os.fsdecode(b"caf\xe9"))
    dataset = _load(data)
    assert dataset.labels == ("caf\\xe9", "tea")
    (data / os.fsdecode(b"caf\xe9") / "bad.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"caf\\xe9/bad\.png: not a readable image") as caught:
        _load(data)
    str(caught.value).encode()


def test_a_class_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "a", "b")
    (data / "c").mkdir()
    (data / "c" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match=r"no pictures in c; remove the folder"):
        _load(data)


# --- splits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [("training", "testing"), ("Train", "Test"), ("seg_train/seg_train", "seg_test/seg_test"), ("TRAIN", "TEST")],
)
def test_folders_of_splits_by_their_usual_names(tmp_path: Path, train: str, test: str) -> None:
    _classes(tmp_path / "data" / train, "a", "b")
    _classes(tmp_path / "data" / test, "a", "b", count=3)
    dataset = _load(tmp_path / "data")
    assert (dataset.labels, len(dataset.test), _total(dataset)) == (("a", "b"), 6, 18)


def test_a_validation_folder_is_the_validation_set(tmp_path: Path) -> None:
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        _classes(tmp_path / "data" / split, "a", "b", count=count)
    dataset = _load(tmp_path / "data")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 8, 4]
    other = tmp_path / "two"
    for split, count in (("train", 20), ("Validation", 4)):
        _classes(other / split, "a", "b", count=count)
    dataset = _load(other)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [36, 8, 4]


def test_pictures_without_classes_beside_splits_are_counted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _classes(data / "seg_train", "a", "b")
    for path in ("seg_pred/1.png", "test/2.png", "seg_train/3.png", "4.png"):
        (data / path).parent.mkdir(exist_ok=True)
        Image.fromarray(mnist_images()[0]).save(data / path)
    dataset = _load(data)
    assert _total(dataset) == 12
    assert dataset.sources.passed_over == {
        "seg_pred/1.png": IN_NO_SPLIT,
        "test/2.png": IN_NO_CLASS,
        "seg_train/3.png": IN_NO_CLASS,
        "4.png": IN_NO_SPLIT,
    }
    assert any("test: pictures without class folders; they are passed over" in text for text in dataset.warnings)


def test_class_folders_that_all_hold_the_same_folders(tmp_path: Path) -> None:
    for split in ("fit", "rest"):
        _classes(tmp_path / "data" / f"{split} it", "cat", "dog")
    dataset = _load(tmp_path / "data")
    assert dataset.labels == ("fit it", "rest it")
    assert any("all class folders (fit it, rest it) hold the same folders (cat, dog)" in w for w in dataset.warnings)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    assert _load(_classes(tmp_path / "data", "bus", "car", "train")).labels == ("bus", "car", "train")


def test_two_folders_of_one_split(tmp_path: Path) -> None:
    for split in ("train", "training", "test"):
        _classes(tmp_path / "data" / split, "a", "b")
    with pytest.raises(DataError, match="train and training are both train folders"):
        _load(tmp_path / "data")


# --- files ---------------------------------------------------------------------------------------------------------


def test_every_picture_whatever_its_ending(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "a", "b", count=3)
    image = Image.fromarray(mnist_images()[0])
    for name, kind in (
        *(("1.JPG", "JPEG"), ("2.jfif", "JPEG"), ("3.jpe", "JPEG"), ("4.gif", "GIF"), ("5.ppm", "PPM")),
        *(("6.TIFF", "TIFF"), ("7.webp", "WEBP"), ("8", "PNG"), ("9.dat", "BMP")),
    ):
        image.save(data / "a" / name, kind)
    dataset = _load(data)
    assert (_total(dataset), dataset.sources.passed_over) == (15, {})


def test_what_is_no_picture_is_counted_and_what_is_bad_is_named(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "a", "b")
    (data / "a" / "notes.txt").write_text("x")
    (data / "a" / ".DS_Store").write_bytes(b"x")
    (data / "readme").write_text("x")
    assert Counter(_load(data).sources.passed_over.values()) == {"neither a picture nor an array": 2, HIDDEN: 1}
    for name in ("x.HEIC", "y.png"):
        (data / "b" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    with pytest.raises(DataError, match=r"(?s)2 of 14 pictures cannot be read:.*x\.HEIC: .*HEIC.*y\.png"):
        _load(data)


@pytest.mark.parametrize("name", ["two.npy", "x.parquet", "t10k-images-idx3-ubyte", "more.tar"])
def test_a_folder_of_mixed_kinds_is_refused_by_name(tmp_path: Path, name: str) -> None:
    data = _classes(tmp_path / "data", "a", "b")
    (data / name).write_bytes(b"\0\0\x08\x03" + bytes(12))
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        _load(data)


def test_pages_and_frames_are_counted(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "a", "b")
    pages = [Image.fromarray(image) for image in mnist_images()[:3]]
    pages[0].save(data / "a" / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(data / "a" / "moving.gif", save_all=True, append_images=pages[1:])
    dataset = _load(data)
    assert _total(dataset) == 14
    assert "2 pictures have several pages or frames; the first one of each is read" in dataset.warnings


# --- small classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [3, 4, 12])
def test_each_class_is_in_each_split(tmp_path: Path, few: int) -> None:
    data = _classes(tmp_path / "data", "a", "b", "c", count=60)
    for path in sorted((data / "c").iterdir())[few:]:
        path.unlink()
    dataset = _load(data, validation=1 / 12)
    for part in (dataset.train, dataset.validation, dataset.test):
        counts = np.bincount(part.targets.numpy(), minlength=3)
        assert (counts > 0).all()
        assert abs(int(counts[0]) - int(counts[1])) <= 1, "classes of one size have the same share"
    assert len(dataset.test) - round(0.1 * (120 + few)) in (0, 1), "one more where a share would be none"


def test_a_class_with_too_few_images_is_refused(tmp_path: Path) -> None:
    data = _classes(tmp_path / "data", "a", "b", "rare", count=20)
    for path in sorted((data / "rare").iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataError, match=r"too few images of rare \(2\): each class needs 3"):
        _load(data)


def test_the_known_sets_keep_their_splits(tmp_path: Path) -> None:
    """Every published figure was measured on them."""
    dataset = load("mnist", cache=tmp_path, validation=1 / 12, seed=0, image_size=None)
    assert len(dataset.validation) == 5000
    assert dataset.validation.targets[:8].tolist() == [9, 3, 5, 4, 7, 4, 9, 6]
    folder = write_class_folders(tmp_path / "digits", per_class=5)
    assert _load(folder).sources.passed_over == {}

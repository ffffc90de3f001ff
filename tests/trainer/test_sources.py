"""A person's own data, in each form that it may have, and what is said of data that is bad."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support.mnist import mnist_images, mnist_labels, write_class_folders
from tests.support.pictures import png

from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.errors import DataError

IMAGES, LABELS = mnist_images()[:200], mnist_labels()[:200]


def _load(data: Path, size: tuple[int, int] | None = None) -> Dataset:
    return load(str(data), cache=data, validation=0.2, seed=0, image_size=size)


def _everything(dataset: Dataset) -> set[tuple[bytes, int]]:
    return {
        (image.numpy().tobytes(), int(target))
        for part in (dataset.train, dataset.validation, dataset.test)
        for image, target in zip(part.images, part.targets, strict=True)
    }


EXPECTED = {(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)}


# --- NumPy files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels")])
def test_npz(names: tuple[str, str], tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "digits.npz", **{names[0]: IMAGES, names[1]: LABELS[:, None]})
    dataset = _load(tmp_path / "digits.npz")
    assert (dataset.name, dataset.rows, dataset.cols, len(dataset.labels)) == ("digits", 28, 28, 10)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (144, 36, 20)
    assert _everything(dataset) == EXPECTED


def test_npz_with_a_test_set_and_names(tmp_path: Path) -> None:
    names = [f"digit {n}" for n in range(10)]
    parts = {"x_train": IMAGES[:150], "y_train": LABELS[:150], "x_test": IMAGES[150:], "y_test": LABELS[150:]}
    np.savez(tmp_path / "d.npz", **parts, class_names=names)
    dataset = _load(tmp_path / "d.npz")
    assert dataset.labels == tuple(names)
    assert np.array_equal(dataset.test.images.numpy(), IMAGES[150:].reshape(50, -1))


def test_npy_beside_one_another_and_in_a_folder(tmp_path: Path) -> None:
    np.save(tmp_path / "my-images.npy", IMAGES)
    np.save(tmp_path / "my-labels.npy", LABELS)
    assert _everything(_load(tmp_path / "my-images.npy")) == EXPECTED
    folder = tmp_path / "folder"
    folder.mkdir()
    for part, rows in (("train", slice(0, 150)), ("test", slice(150, 200))):
        np.save(folder / f"{part}-images.npy", IMAGES[rows])
        np.save(folder / f"{part}-labels.npy", LABELS[rows])
    dataset = _load(folder)
    assert (len(dataset.test), dataset.name) == (50, "folder")
    assert _everything(dataset) == EXPECTED


def test_colour_flat_and_scaled_arrays(tmp_path: Path) -> None:
    colour = np.repeat(IMAGES[..., None], 3, axis=3)
    np.savez(tmp_path / "colour.npz", images=colour, labels=LABELS)
    assert _everything(_load(tmp_path / "colour.npz")) == EXPECTED
    np.savez(tmp_path / "flat.npz", images=IMAGES.reshape(200, -1), labels=LABELS)
    assert _everything(_load(tmp_path / "flat.npz", (28, 28))) == EXPECTED
    small = _load(tmp_path / "colour.npz", (14, 10))
    assert (small.rows, small.cols, small.train.images.shape[1]) == (14, 10, 140)


def test_labels_of_text_are_sorted_and_numbered(tmp_path: Path) -> None:
    words = np.array(["cat", "dog"])[LABELS % 2]
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=words)
    dataset = _load(tmp_path / "d.npz")
    assert dataset.labels == ("cat", "dog")
    assert {target for _, target in _everything(dataset)} == {0, 1}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": IMAGES}, r"it holds nothing.* Expected train_images and train_labels"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"type float64; expected uint8.*\(images \* 255\)"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "200 images but 5 labels"),
        ({"images": IMAGES.reshape(200, -1), "labels": LABELS}, "784 pixels in a row; say what they are"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels of type float64"),
        ({"images": IMAGES, "labels": LABELS.astype(int) - 5}, "labels from -5 to 4; class ids are whole numbers"),
        ({"images": IMAGES, "labels": LABELS * 0}, "only one class"),
        (
            {"images": IMAGES[None].repeat(2, 0), "labels": LABELS[:2]},
            r"shape \[200, 28, 28\]; expected \[N, rows, cols\]",
        ),
        ({"images": IMAGES, "labels": LABELS, "class_names": ["a", "b"]}, "label 9 has no name, there are only 2"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else None,
)
def test_bad_arrays(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=words):
        _load(tmp_path / "d.npz")


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="not a readable NumPy file"):
        _load(tmp_path / "d.npz")
    np.save(tmp_path / "images.npy", IMAGES)
    with pytest.raises(DataError, match="its labels are missing"):
        _load(tmp_path / "images.npy")
    (tmp_path / "d.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"files end in \.npz, \.npy or \.parquet"):
        _load(tmp_path / "d.csv")


# --- Parquet -------------------------------------------------------------------------------------------------------


def _parquet(path: Path, images: list[Any], labels: list[Any], **columns: list[Any]) -> Path:
    pq.write_table(pa.table({"image": images, "label": labels, **columns}), path)
    return path


def test_parquet_of_encoded_pictures_raw_bytes_and_lists(tmp_path: Path) -> None:
    labels = LABELS.tolist()
    encoded = _parquet(tmp_path / "a.parquet", [png(image) for image in IMAGES], labels)
    assert _everything(_load(encoded)) == EXPECTED
    hub = _parquet(tmp_path / "b.parquet", [{"bytes": png(image), "path": None} for image in IMAGES], labels)
    assert _everything(_load(hub)) == EXPECTED
    raw = _parquet(tmp_path / "c.parquet", [image.tobytes() for image in IMAGES], labels)
    assert _everything(_load(raw, (28, 28))) == EXPECTED
    lists = _parquet(tmp_path / "d.parquet", [image.flatten().tolist() for image in IMAGES], labels)
    assert _everything(_load(lists, (28, 28))) == EXPECTED


def test_parquet_with_a_split_column_and_a_folder(tmp_path: Path) -> None:
    splits = ["train"] * 150 + ["test"] * 50
    one = _parquet(tmp_path / "one.parquet", [png(image) for image in IMAGES], LABELS.tolist(), split=splits)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, rows in (("train-00000", slice(0, 150)), ("test-00000", slice(150, 200))):
        _parquet(folder / f"{name}.parquet", [png(image) for image in IMAGES[rows]], LABELS[rows].tolist())
    for dataset in (_load(one), _load(folder)):
        assert np.array_equal(dataset.test.images.numpy(), IMAGES[150:].reshape(50, -1))
        assert _everything(dataset) == EXPECTED


def test_names_of_classes_in_a_hub_s_metadata(tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(10)]
    metadata = (
        b'{"info": {"features": {"label": {"names": %s, "_type": "ClassLabel"}}}}'
        % str(names).replace("'", '"').encode()
    )
    table = pa.table({"image": [png(image) for image in IMAGES], "label": LABELS.tolist()})
    pq.write_table(table.replace_schema_metadata({b"huggingface": metadata}), tmp_path / "d.parquet")
    assert _load(tmp_path / "d.parquet").labels == tuple(names)


def test_bad_parquet(tmp_path: Path) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        _load(tmp_path / "d.parquet")
    pq.write_table(pa.table({"photo": [b""], "label": [1]}), tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"no column with images; it has photo, label, expected one of image"):
        _load(tmp_path / "e.parquet")
    _parquet(tmp_path / "f.parquet", [png(IMAGES[0]), b"nothing"], [0, 1])
    with pytest.raises(DataError, match=r"f\.parquet, image 1: not a readable image"):
        _load(tmp_path / "f.parquet")
    _parquet(tmp_path / "g.parquet", [[300, 2], [1, 2]], [0, 1])
    with pytest.raises(DataError, match="pixels must be whole numbers from 0 to 255"):
        _load(tmp_path / "g.parquet", (1, 2))
    _parquet(tmp_path / "h.parquet", [png(IMAGES[0]), None], [0, 1])
    with pytest.raises(DataError, match="some rows have no image or no label"):
        _load(tmp_path / "h.parquet")


# --- what is suspicious ---------------------------------------------------------------------------------------------


def _warnings(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "d.npz", **arrays)
    return "\n".join(_load(tmp_path / "d.npz").warnings)


def test_good_data_is_not_suspicious(tmp_path: Path) -> None:
    assert _warnings(tmp_path, images=IMAGES, labels=LABELS) == ""
    folder = write_class_folders(tmp_path / "digits", per_class=30)
    assert _load(folder).warnings == ()


def test_imbalance(tmp_path: Path) -> None:
    labels = np.where(np.arange(200) < 12, LABELS % 2, 0)
    said = _warnings(tmp_path, images=IMAGES, labels=labels)
    assert "the classes are unbalanced" in said
    assert "(rare: 1)" in said


def test_gaps_in_the_labels(tmp_path: Path) -> None:
    labels = np.where(LABELS == 3, 4, LABELS)
    assert "no image has the label 3;" in _warnings(tmp_path, images=IMAGES, labels=labels)
    parts = {"x_train": IMAGES[:150], "y_train": labels[:150], "x_test": IMAGES[150:], "y_test": LABELS[150:]}
    np.savez(tmp_path / "e.npz", **parts)
    with pytest.raises(DataError, match="class 3 is in the validation or test set, but no training image has it"):
        _load(tmp_path / "e.npz")


def test_constant_images(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[:20] = 7
    said = _warnings(tmp_path, images=images, labels=LABELS)
    assert "training images have one value in all pixels" in said


def test_copies_in_both_splits_are_found_though_recompressed(tmp_path: Path) -> None:
    def recompressed(image: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=90)
        return np.asarray(Image.open(buffer))

    copies = np.stack([recompressed(image) for image in IMAGES[:30]])
    parts = {"x_train": IMAGES[:150], "y_train": LABELS[:150]}
    test_images = np.concatenate([IMAGES[150:], copies])
    test_labels = np.concatenate([LABELS[150:], LABELS[:29], [(LABELS[29] + 1) % 10]])
    said = _warnings(tmp_path, **parts, x_test=test_images, y_test=test_labels)
    assert "30 of 80 test images are copies of training or validation images, or nearly, 1 of them with another" in said


def test_warnings_are_said_and_recorded(tmp_path: Path) -> None:
    from support.processes import run

    images = IMAGES.copy()
    images[:20] = 7
    np.savez(tmp_path / "d.npz", images=images, labels=LABELS)
    flags = ["--store", tmp_path / "s", "--data", tmp_path / "d.npz", "--epochs", 2, "--validation", 0.2]
    result = run("mlpserve-train", *flags)
    assert result.returncode == 0, result.stderr
    assert "mlpserve-train: warning: " in result.stderr
    assert "one value in all pixels" in (tmp_path / "s/d/1/report.html").read_text()
    assert "one value in all pixels" in (tmp_path / "s/d/1/MODEL_CARD.md").read_text()


def test_torch_does_not_share_the_file_s_memory(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    dataset = _load(tmp_path / "d.npz")
    assert dataset.train.images.dtype == torch.uint8
    assert dataset.train.images.is_contiguous()


def test_a_picture_as_long_as_an_image_is_not_raw_pixels(tmp_path: Path) -> None:
    picture = png(IMAGES[0])
    side = (1, len(picture))
    _parquet(tmp_path / "d.parquet", [picture, png(IMAGES[1])] * 20, [0, 1] * 20)
    dataset = _load(tmp_path / "d.parquet", side)
    assert not any(bytes(image.numpy()).startswith(b"\x89PNG") for image in dataset.train.images)


def test_a_folder_with_a_dot_keeps_its_name(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "photos.v2", per_class=10, classes=2)
    assert _load(folder).name == "photos.v2"


def test_many_labels_of_text_are_no_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3000, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.array([f"name {n}" for n in range(3000)]))
    with pytest.raises(DataError, match="3,000 different labels"):
        _load(tmp_path / "d.npz")

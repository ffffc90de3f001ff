"""Arrays and tables as people have them: orders in memory, channels, numbers of other types, labels of every kind."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mnist import mnist_images, mnist_labels
from tests.support.pictures import png

from mlpserve_trainer.data import Dataset, load
from mlpserve_trainer.errors import DataError

IMAGES, LABELS = mnist_images()[:120, 2:26], mnist_labels()[:120]  # [N, 24, 28]: rows and columns differ


def _load(data: Path, size: tuple[int, int] | None = None) -> Dataset:
    return load(str(data), cache=data, validation=0.2, seed=0, image_size=size)


def _everything(dataset: Dataset) -> set[tuple[bytes, str]]:
    return {
        (image.numpy().tobytes(), dataset.labels[int(target)])
        for part in (dataset.train, dataset.validation, dataset.test)
        for image, target in zip(part.images, part.targets, strict=True)
    }


EXPECTED = {(image.tobytes(), str(label)) for image, label in zip(IMAGES, LABELS, strict=True)}


def _tensors(values: npt.NDArray[Any], order: tuple[int, ...]) -> pa.ExtensionArray:
    """A column of tensors that are stored with their axes in another order than they are meant."""
    stored = np.ascontiguousarray(values.transpose(0, *(axis + 1 for axis in order)))
    kind = pa.fixed_shape_tensor(
        pa.from_numpy_dtype(values.dtype), stored.shape[1:], permutation=np.argsort(order).tolist()
    )
    width = math.prod(stored.shape[1:])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(stored.ravel(), width))


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_tensors_with_their_axes_swapped(tmp_path: Path, order: tuple[int, int], kind: type) -> None:
    table = pa.table({"image": _tensors(IMAGES.astype(kind), order), "label": LABELS})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=50)
    assert _everything(_load(tmp_path / "x.parquet")) == EXPECTED


def test_pyarrows_own_column_of_a_transposed_array(tmp_path: Path) -> None:
    turned = np.asfortranarray(IMAGES.transpose(2, 1, 0)).transpose(2, 1, 0)
    column = pa.FixedShapeTensorArray.from_numpy_ndarray(turned.transpose(0, 2, 1).copy(order="C").transpose(0, 2, 1))
    assert column.type.permutation == [1, 0]
    pq.write_table(pa.table({"image": column, "label": LABELS}), tmp_path / "x.parquet")
    assert _everything(_load(tmp_path / "x.parquet")) == EXPECTED


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("form", ["last", "first", "three", "channels first"])
def test_arrays_with_channels_in_either_order(tmp_path: Path, form: str, order: Any) -> None:
    images = {
        "last": IMAGES[..., None],
        "first": IMAGES[:, None],
        "three": IMAGES[..., None].repeat(3, 3),
        "channels first": IMAGES[:, None].repeat(3, 1),
    }[form]
    np.savez(tmp_path / "x.npz", images=np.asarray(images, order=order), labels=LABELS.astype(">i4"))
    assert _everything(_load(tmp_path / "x.npz")) == EXPECTED


def test_numbers_in_rows_need_no_size_and_keep_theirs(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [image.tolist() for image in IMAGES], "label": LABELS}), tmp_path / "x.parquet")
    assert _everything(_load(tmp_path / "x.parquet")) == EXPECTED
    flat = pa.table({"image": [image.ravel().tolist() for image in IMAGES], "label": LABELS})
    pq.write_table(flat, tmp_path / "flat.parquet")
    assert _everything(_load(tmp_path / "flat.parquet", (24, 28))) == EXPECTED
    with pytest.raises(DataError, match="image 0: 672 pixels in a row; say what they are: --image-size"):
        _load(tmp_path / "flat.parquet")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (IMAGES // 128, "every pixel is 0 or 1; expected 0 .black. to 255"),
        (IMAGES / 255, r"type float64; expected uint8, 0 to 255, and these are float64 from 0 to 1; multiply by 255"),
        (IMAGES > 128, "type bool; .*these are bool from 0 to 1; multiply by 255"),
        (IMAGES.astype(np.float32) - 128, "these are float32 from -128 to 127"),
    ],
)
def test_pixels_that_were_scaled(tmp_path: Path, values: npt.NDArray[Any], words: str) -> None:
    np.savez(tmp_path / "x.npz", images=values, labels=LABELS)
    with pytest.raises(DataError, match=words):
        _load(tmp_path / "x.npz")
    lists = [image.tolist() for image in values.astype(np.float64)]
    pq.write_table(pa.table({"image": lists, "label": LABELS}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"every pixel is 0 or 1|whole numbers from 0 to 255; these are float64 from"):
        _load(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "labels",
    [LABELS.astype(float), LABELS.astype("S1"), [str(label).encode() for label in LABELS], LABELS.astype(">u2")],
    ids=["floats", "fixed bytes", "bytes", "big-endian"],
)
def test_labels_of_other_types(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.asarray(labels))
    assert _everything(_load(tmp_path / "x.npz")) == EXPECTED
    column = [value.item() if hasattr(value, "item") else value for value in labels]
    pq.write_table(pa.table({"image": list(map(png, IMAGES)), "label": column}), tmp_path / "x.parquet")
    assert _everything(_load(tmp_path / "x.parquet")) == EXPECTED


def test_class_names_that_are_doubled(tmp_path: Path) -> None:
    names = [*map(str, range(9)), "8 "]
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS, class_names=names)
    with pytest.raises(DataError, match="two classes of one name: '8' and '8 '"):
        _load(tmp_path / "x.npz")


def test_text_labels_that_are_numbers_sort_as_numbers(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"image": list(map(png, IMAGES)), "label": [str(n + 2) for n in LABELS]}), tmp_path / "x.parquet"
    )
    dataset = _load(tmp_path / "x.parquet")
    assert dataset.labels == tuple(str(n) for n in range(2, 12))
    assert any("2 has class id 0" in text for text in dataset.warnings)


def test_a_folder_of_tables_with_splits_and_partitions(tmp_path: Path) -> None:
    encoded = list(map(png, IMAGES))
    for name, rows in (("train-0", slice(0, 80)), ("validation-0", slice(80, 100)), ("Test-0", slice(100, 120))):
        (tmp_path / "hub/data").mkdir(parents=True, exist_ok=True)
        part = pa.table({"image": encoded[rows], "label": LABELS[rows]})
        pq.write_table(part, tmp_path / f"hub/data/{name}.parquet")
    (tmp_path / "hub/README.md").write_text("of the hub")
    dataset = _load(tmp_path / "hub")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [80, 20, 20]
    assert _everything(dataset) == EXPECTED
    assert dataset.sources.read == 3
    assert dataset.sources.passed_over == {"README.md": "neither a picture nor an array"}
    for digit in range(10):
        folder = tmp_path / f"hive/label={digit}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"image": [encoded[n] for n in np.flatnonzero(digit == LABELS)]}), folder / "0.parquet")
    (tmp_path / "hive/_SUCCESS").write_text("")
    assert _everything(_load(tmp_path / "hive")) == EXPECTED


def test_a_split_that_nobody_knows_is_not_training(tmp_path: Path) -> None:
    table = pa.table({"image": list(map(png, IMAGES)), "label": LABELS, "split": ["train"] * 119 + ["extra"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match="a row's split is 'extra'; expected train, validation or test"):
        _load(tmp_path / "x.parquet")


def test_a_folder_of_arrays_with_a_stranger(tmp_path: Path) -> None:
    np.save(tmp_path / "Train-Images.npy", IMAGES[:100])
    np.save(tmp_path / "train-labels.npy", LABELS[:100])
    np.save(tmp_path / "val-images.npy", IMAGES[100:])
    np.save(tmp_path / "val-labels.npy", LABELS[100:])
    dataset = _load(tmp_path)
    assert len(dataset.validation) == 20
    np.save(tmp_path / "two.npy", IMAGES[:2])
    with pytest.raises(DataError, match=r"two\.npy is in the way"):
        _load(tmp_path)

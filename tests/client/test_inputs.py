"""What a scoring job reads of people's files and folders, without a server."""

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.mnist import mnist_images
from tests.support.pictures import png

from mlpserve.files.folders import HIDDEN, SYSTEM
from mlpserve_client.scoring import ScoringError
from mlpserve_client.scoring.inputs import Decoded, Form, find, open_inputs

IMAGES = mnist_images()[:12]
OTHER = "neither a picture nor an array"


def _read(paths: Sequence[Path] | Path, form: Form | None = None) -> tuple[list[Decoded], list[str | None]]:
    """Everything in the inputs, decoded, and the rows' files."""
    decoded, names = [], []
    paths = [paths] if isinstance(paths, Path) else paths
    for source in open_inputs([str(path) for path in paths], form or Form(28, 28, raw=True)):
        for chunk in source.read(0, source.rows, 5):
            decoded.append(chunk.decode())
            names += list(chunk.names or [None] * chunk.count)
        source.close()
    return decoded, names


def _images(paths: Sequence[Path] | Path, form: Form | None = None) -> npt.NDArray[np.uint8]:
    decoded, _ = _read(paths, form)
    assert not any(part.errors for part in decoded), decoded
    return np.concatenate([part.images for part in decoded])


def _write(path: Path, image: npt.NDArray[np.uint8] = IMAGES[0]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(image))


# --- arrays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("kind", [np.uint8, np.int32])
def test_tensors_with_their_axes_swapped(tmp_path: Path, order: tuple[int, int], kind: type) -> None:
    stored = np.ascontiguousarray(IMAGES.transpose(0, *(axis + 1 for axis in order)).astype(kind))
    storage = pa.FixedSizeListArray.from_arrays(stored.ravel(), 784)
    tensors = pa.fixed_shape_tensor(pa.from_numpy_dtype(kind), stored.shape[1:], permutation=list(order))
    column = pa.ExtensionArray.from_storage(tensors, storage)
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet", row_group_size=5)
    assert np.array_equal(_images(tmp_path / "x.parquet"), IMAGES.reshape(12, -1))


def test_tensors_with_channels_and_a_missing_one(tmp_path: Path) -> None:
    colour = IMAGES[:, None].repeat(3, 1)  # channels first
    storage = pa.FixedSizeListArray.from_arrays(colour.ravel(), 3 * 784)
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), (3, 28, 28)), storage)
    pq.write_table(pa.table({"image": column}), tmp_path / "x.parquet")
    assert np.array_equal(_images(tmp_path / "x.parquet"), IMAGES.reshape(12, -1))
    rows = [IMAGES[0].ravel().tolist(), None]
    storage = pa.array(rows, pa.list_(pa.uint8(), 784))
    column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), (28, 28), permutation=[1, 0]), storage)
    pq.write_table(pa.table({"image": column}), tmp_path / "y.parquet")
    ((decoded,), _) = _read(tmp_path / "y.parquet")
    assert decoded.errors == {1: ("no image", "the image is null")}
    assert np.array_equal(decoded.images[0], IMAGES[0].T.ravel())


@pytest.mark.parametrize(
    "shape", [(12, 28, 28, 1), (12, 1, 28, 28), (12, 784), (12, 1, 784), (12, 784, 1), (12, 1, 1, 28, 28)]
)
def test_axes_of_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", IMAGES.reshape(shape))
    assert np.array_equal(_images(tmp_path / "x.npy"), IMAGES.reshape(12, -1))


def test_colour_arrays(tmp_path: Path) -> None:
    for name, images in (("last", IMAGES[..., None].repeat(4, 3)), ("first", IMAGES[:, None].repeat(3, 1))):
        if images.shape[-1] == 4:
            images[..., 3] = 255
        np.savez_compressed(tmp_path / f"{name}.npz", images=images)
        assert np.array_equal(_images(tmp_path / f"{name}.npz"), IMAGES.reshape(12, -1))


def test_one_image_in_fortrans_order_is_not_read_turned(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(IMAGES[:1]))
    with pytest.raises(ScoringError, match=r"in Fortran's order; save numpy\.ascontiguousarray"):
        _read(tmp_path / "x.npy")


def test_numbers_in_rows_of_another_shape(tmp_path: Path) -> None:
    values = [IMAGES[0].tolist(), IMAGES[1].reshape(14, 56).tolist(), IMAGES[2].ravel().tolist()]
    pq.write_table(pa.table({"image": pa.array(values[:2])}), tmp_path / "x.parquet")
    ((decoded,), _) = _read(tmp_path / "x.parquet")
    assert decoded.errors == {1: ("wrong size", "14x56; the model takes 28x28")}
    assert np.array_equal(decoded.images, IMAGES[:1].reshape(1, -1))


@pytest.mark.parametrize("form", ["npy", "bytes", "numbers", "png", "tensors"])
def test_pixels_of_zero_and_one_are_bad_rows(tmp_path: Path, form: str) -> None:
    images = np.stack([IMAGES[0], IMAGES[1] // 128, np.zeros((28, 28), np.uint8)])
    path = tmp_path / ("x.npy" if form == "npy" else "x.parquet")
    tensors = pa.fixed_shape_tensor(pa.uint8(), (28, 28))
    columns: dict[str, Any] = {
        "bytes": [image.tobytes() for image in images],
        "numbers": [image.ravel().astype(float).tolist() for image in images],
        "png": [png(image) for image in images],
        "tensors": pa.ExtensionArray.from_storage(tensors, pa.FixedSizeListArray.from_arrays(images.ravel(), 784)),
    }
    if form == "npy":
        np.save(path, images)
    else:
        pq.write_table(pa.table({"image": columns[form]}), path)
    ((decoded,), _) = _read(path)
    assert {row: message for row, (_, message) in decoded.errors.items()} == {
        1: "every pixel is 0 or 1; expected 0 (black) to 255 (white): multiply by 255"
    }
    assert len(decoded.images) == 2


def test_floats_say_what_they_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [(IMAGES[0] / 255).ravel().tolist()]}), tmp_path / "x.parquet")
    ((decoded,), _) = _read(tmp_path / "x.parquet")
    assert "these are float64 from 0 to 1; multiply by 255" in decoded.errors[0][1]


# --- folders -------------------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    for number in range(3):
        _write(tmp_path / f"real/{number}/a.png")
    _write(tmp_path / "in/0/a.png")
    for number in (1, 2):
        (tmp_path / f"in/{number}").symlink_to(tmp_path / f"real/{number}")
    (tmp_path / "in/0/up").symlink_to(tmp_path / "in")
    _, names = _read(tmp_path / "in")
    assert names == ["0/a.png", "1/a.png", "2/a.png"]


def test_hidden_and_system_files_are_counted_not_read(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".Trash/b.png", "__MACOSX/c.png", "d/@eaDir/e.png", "lost+found/f.png"):
        _write(tmp_path / "in" / name)
    _, names = _read(tmp_path / "in")
    assert names == ["a.png"]
    passed_over = find([str(tmp_path / "in")]).passed_over
    assert {path.removeprefix(f"{tmp_path}/in/"): why for path, why in passed_over.items()} == {
        "._a.png": HIDDEN,
        ".Trash": HIDDEN,
        "__MACOSX": SYSTEM,
        "d/@eaDir": SYSTEM,
        "lost+found": SYSTEM,
    }


def test_a_folder_of_mixed_kinds_is_read_whole(tmp_path: Path) -> None:
    for number in range(10):
        _write(tmp_path / f"in/{number}.png", IMAGES[number])
    np.save(tmp_path / "in/two.NPY", IMAGES[10:])
    np.save(tmp_path / "in/labels.npy", np.arange(2))
    (tmp_path / "in/notes.txt").write_text("x")
    assert len(_images(tmp_path / "in")) == 12
    passed_over = find([str(tmp_path / "in")]).passed_over
    assert sorted(passed_over.values()) == [OTHER, "numbers in one dimension, as labels are"]


def test_a_folder_of_idx_files(tmp_path: Path) -> None:
    head = b"\0\0\x08\x03" + (12).to_bytes(4, "big") + b"\0\0\0\x1c\0\0\0\x1c"
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(head + IMAGES.tobytes())
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x0c" + bytes(12))
    assert np.array_equal(_images(tmp_path), IMAGES.reshape(12, -1))
    assert list(find([str(tmp_path)]).passed_over.values()) == ["an IDX file of labels"]


def test_a_folder_with_nothing_to_score_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ScoringError, match=r"no pictures and no files of images.*1 neither a picture.*\(a\.txt\)"):
        _read(tmp_path)


def test_every_picture_whatever_its_ending(tmp_path: Path) -> None:
    image = Image.fromarray(IMAGES[0])
    for name, kind in (
        *(("1.JPG", "JPEG"), ("2.jfif", "JPEG"), ("3.jpe", "JPEG"), ("4.gif", "GIF"), ("5.ppm", "PPM")),
        *(("6.TIFF", "TIFF"), ("7.webp", "WEBP"), ("8", "PNG"), ("9.dat", "BMP")),
    ):
        image.save(tmp_path / name, kind)
    (tmp_path / "x.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(30))
    decoded, names = _read(tmp_path)
    assert names == ["1.JPG", "2.jfif", "3.jpe", "4.gif", "5.ppm", "6.TIFF", "7.webp", "8", "9.dat", "x.HEIC"]
    errors = [message for part in decoded for _, message in part.errors.values()]
    assert len(errors) == 1
    assert "x.HEIC: " in errors[0]
    assert "HEIC, which is not read here; save it as JPEG" in errors[0]


def test_first_pages_are_counted(tmp_path: Path) -> None:
    pages = [Image.fromarray(image) for image in IMAGES[:3]]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "moving.gif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    decoded, _ = _read(tmp_path)
    assert sum(part.first_pages for part in decoded) == 2


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    _write(tmp_path / "in" / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff.png"))
    form = Form(28, 28, raw=True, folders_are_labels=True)
    (source,) = open_inputs([str(tmp_path / "in")], form)
    (chunk,) = source.read(0, 1, 5)
    assert chunk.names == ["caf\\xe9/\\xff.png"]
    assert chunk.targets == ["caf\\xe9"]
    assert len(chunk.decode().images) == 1


def test_folders_of_tables_with_partitions(tmp_path: Path) -> None:
    for label in ("cat", "a dog"):
        folder = tmp_path / f"label={label.replace(' ', '%20')}"
        folder.mkdir()
        pq.write_table(pa.table({"image": [IMAGES[0].tobytes()] * 2}), folder / "0.parquet")
    (tmp_path / "_metadata").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "_metadata/0.parquet")
    form = Form(28, 28, raw=True, label_column="label", slice_column="label")
    targets = []
    for source in open_inputs([str(tmp_path)], form):
        targets += [list(chunk.targets or []) for chunk in source.read(0, 2, 9)]
        source.close()
    assert targets == [["a dog"] * 2, ["cat"] * 2]
    with pytest.raises(ScoringError, match="no column 'writer'"):
        open_inputs([str(tmp_path)], Form(28, 28, raw=True, label_column="writer"))


def test_hidden_members_of_archives(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.TAR", "w") as archive:
        for name in ("./a.PNG", "__MACOSX/._a.png", "b.json", "c.jfif"):
            content = png(IMAGES[0])
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    _, names = _read(tmp_path / "x.TAR")
    assert names == ["./a.PNG", "c.jfif"]

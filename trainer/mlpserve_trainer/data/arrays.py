"""NumPy files: an .npz with images and labels, or .npy files beside one another.

digits.npz           images, labels, and optionally test_images, test_labels, class_names;
also x_train, y_train, x_test, y_test, and train_images, train_labels, …
images.npy           with labels.npy beside it: the same name with "labels" in place of "images"
DIR                  with images.npy and labels.npy, or train-images.npy, train-labels.npy, test-images.npy, …
"""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.bounds import check_unpacked
from mlpserve_trainer.data.labelled import class_ids
from mlpserve_trainer.data.splits import Raw, split
from mlpserve_trainer.errors import DataError

SUFFIXES = (".npz", ".npy")
TRAIN = (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels"), ("x", "y"))
TEST = (("test_images", "test_labels"), ("x_test", "y_test"))

LONGEST_HEADER = 65_535  # bytes of an .npy file's header
BLOCK = 1 << 20  # bytes that are read at a time

# What the readers raise for damaged files; numpy tokenizes an array's header.
BAD_FILE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError, RuntimeError),
    *(tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)

Array = npt.NDArray[Any]


def has_files(folder: Path) -> bool:
    """Whether a folder holds .npy files rather than folders of pictures."""
    return any((folder / name).is_file() for name in ("images.npy", "train-images.npy"))


def read(path: Path, image_size: tuple[int, int] | None) -> Raw:
    """Read an .npz file, an .npy file of images, or a folder of .npy files.

    Raises:
        DataError: images or labels are missing, or not what they should be.
    """
    arrays = (
        _from_folder(path) if path.is_dir() else _from_npz(path) if path.suffix.lower() == ".npz" else _from_npy(path)
    )
    train, test = _pair(arrays, TRAIN), _pair(arrays, TEST)
    if train is None:
        expected = "; ".join(f"{images} and {labels}" for images, labels in TRAIN)
        raise DataError(f"{path}: it holds {', '.join(arrays) or 'nothing'} that is known. Expected {expected}")
    names: list[str] | None = None
    if "class_names" in arrays:
        given = arrays["class_names"].reshape(-1).tolist()
        names = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in given]
    pairs = [train] if test is None else [train, test]
    for images, targets in pairs:
        if images.ndim == 0 or targets.ndim == 0:
            raise DataError(f"{path}: images and labels must be arrays with one entry for each image")
        if len(images) != len(targets) or len(images) == 0:
            raise DataError(f"{path}: {len(images)} images but {len(targets)} labels; one label for each image")
    labels, ids = class_ids([targets for _, targets in pairs], str(path), names)
    grey = [_grey(images, image_size, path) for images, _ in pairs]
    if grey[0].shape[1:] != grey[-1].shape[1:]:
        raise DataError(
            f"{path}: train images are {grey[0].shape[1:]}, test images are {grey[-1].shape[1:]}; give "
            "--image-size ROWSxCOLS to bring them to one size"
        )
    splits = [split(torch.from_numpy(images), targets) for images, targets in zip(grey, ids, strict=True)]
    return Raw(labels, (grey[0].shape[1], grey[0].shape[2]), splits[0], splits[1] if test is not None else None)


def _pair(arrays: dict[str, Array], names: tuple[tuple[str, str], ...]) -> tuple[Array, Array] | None:
    return next(((arrays[i], arrays[t]) for i, t in names if i in arrays and t in arrays), None)


def _load(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return _array(file, os.fstat(file.fileno()).st_size)
    except BAD_FILE as error:
        raise DataError(f"{path}: not a readable NumPy file ({error})") from error


def _from_npz(path: Path) -> dict[str, Array]:
    wanted = {"class_names", *(name for pair in (*TRAIN, *TEST) for name in pair)}
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name.lower() in wanted:
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise DataError(f"{path}: not packed as numpy packs it; save it with numpy.savez_compressed")
                    check_unpacked(f"{path}, {name}", member.compress_size, member.file_size)
                    with archive.open(member) as file:
                        arrays[name.lower()] = _array(file, member.file_size)
    except BAD_FILE as error:
        raise DataError(f"{path}: not a readable NumPy file ({error})") from error
    return arrays


def _array(file: IO[bytes], size: int) -> Array:
    """The array of an .npy file or member of `size` bytes, whose header is not believed before it is checked.

    Raises:
        ValueError: it is none.
    """
    version = np.lib.format.read_magic(file)
    field, read = "<H", np.lib.format.read_array_header_1_0
    if version != (1, 0):
        field, read = "<I", np.lib.format.read_array_header_2_0
    length = file.read(struct.calcsize(field))
    count = struct.unpack(field, length)[0]
    if count > LONGEST_HEADER:  # numpy reads it before it looks
        raise ValueError(f"its header says that it is {count:,} bytes long itself")
    shape, fortran, kind = read(io.BytesIO(length + file.read(count)))
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    wanted = math.prod(shape) * kind.itemsize
    if not 0 <= wanted <= size:
        raise ValueError(f"its header says {shape} of {kind}; so small a file cannot hold that")
    content = bytearray(wanted)  # numpy's own reader makes it three times
    view, filled = memoryview(content), 0
    while filled < wanted and (part := file.read(min(wanted - filled, BLOCK))):
        view[filled : filled + len(part)] = part
        filled += len(part)
    if filled < wanted:
        raise ValueError("it ends early")
    return np.frombuffer(content, kind).reshape(shape, order="F" if fortran else "C")


def labels_of(path: Path) -> Path:
    """Where the labels of an .npy file of images are expected."""
    return path.with_name(path.name.replace("images", "labels"))


def _from_npy(path: Path) -> dict[str, Array]:
    other = labels_of(path)
    if other == path or not other.is_file():
        raise DataError(
            f'{path}: its labels are missing. Expected a name with "images" in it, and the same with "labels" '
            "beside it, for example images.npy and labels.npy"
        )
    return {"images": _load(path), "labels": _load(other)}


def _from_folder(folder: Path) -> dict[str, Array]:
    return {path.stem.replace("-", "_"): _load(path) for path in sorted(folder.glob("*.npy"))}


def _grey(images: Array, size: tuple[int, int] | None, path: Path) -> pictures.Pixels:
    """Images [N, rows, cols], or with 1, 3 or 4 channels, or flat [N, D], as grey bytes [N, rows, cols]."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: images of type {images.dtype}; expected uint8, 0 to 255. For values from 0 to 1: "
            "(images * 255).round().astype(numpy.uint8)"
        )
    if images.ndim == 2:
        if size is None or images.shape[1] != size[0] * size[1]:
            raise DataError(
                f"{path}: images of {images.shape[1]} pixels in a row; say what they are: --image-size ROWSxCOLS"
            )
        return images.reshape(-1, *size)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (3, 4))):
        raise DataError(f"{path}: images of shape {images.shape}; expected [N, rows, cols] or [N, rows, cols, 3]")
    if images.ndim == 3 and (size is None or images.shape[1:] == size):
        return np.ascontiguousarray(images)
    return pictures.stacked(
        len(images),
        lambda index: pictures.resized(pictures.to_grey(Image.fromarray(images[index])), size),
        lambda index: f"{path}, image {index}",
    )

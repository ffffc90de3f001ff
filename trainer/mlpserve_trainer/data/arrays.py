"""NumPy files: an .npz with images and labels, or .npy files beside one another.

digits.npz           images, labels, and optionally test_images, test_labels, class_names;
also x_train, y_train, x_test, y_test, and train_images, train_labels, …
images.npy           with labels.npy beside it: the same name with "labels" in place of "images"
DIR                  with images.npy and labels.npy, or train-images.npy, train-labels.npy, test-images.npy, …
"""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mlpserve.files import arrays as shared
from mlpserve.files.folders import TEST, TRAIN, VALIDATION
from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.bounds import check_unpacked
from mlpserve_trainer.data.labelled import class_ids
from mlpserve_trainer.data.splits import Raw, Sources, split
from mlpserve_trainer.errors import DataError

NAMES = {
    TRAIN: (("train_images", "train_labels"), ("x_train", "y_train"), ("images", "labels"), ("x", "y")),
    TEST: (("test_images", "test_labels"), ("x_test", "y_test")),
    VALIDATION: (("validation_images", "validation_labels"), ("val_images", "val_labels"), ("x_val", "y_val")),
}
KNOWN = frozenset(("class_names", *(name for pairs in NAMES.values() for pair in pairs for name in pair)))

BLOCK = 1 << 20  # bytes that are read at a time

# What the readers raise for damaged files; numpy tokenizes an array's header.
BAD_FILE = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, MemoryError, OverflowError, RuntimeError),
    *(tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)

Array = npt.NDArray[Any]


def read(path: Path, files: Sequence[Path], image_size: tuple[int, int] | None) -> Raw:
    """Read an .npz file, an .npy file of images, or a folder of .npy files.

    Args:
        path: what a person named.
        files: of a folder, the .npy files in it.
        image_size: (rows, cols) to bring images to; None: they must agree.

    Raises:
        DataError: images or labels are missing, or not what they should be.
    """
    arrays = _from_files(files) if path.is_dir() else _from_npz(path) if _is_npz(path) else _from_npy(path)
    found = {which: pair for which, names in NAMES.items() if (pair := _pair(arrays, names)) is not None}
    if TRAIN not in found:
        expected = "; ".join(f"{images} and {labels}" for images, labels in NAMES[TRAIN])
        raise DataError(f"{path}: it holds {', '.join(arrays) or 'nothing'} that is known. Expected {expected}")
    names: list[str] | None = None
    if "class_names" in arrays:
        given = arrays["class_names"].reshape(-1).tolist()
        names = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in given]
    for images, targets in found.values():
        if images.ndim == 0 or targets.ndim == 0:
            raise DataError(f"{path}: images and labels must be arrays with one entry for each image")
        if len(images) != len(targets) or len(images) == 0:
            raise DataError(f"{path}: {len(images)} images but {len(targets)} labels; one label for each image")
    labels, ids = class_ids([targets for _, targets in found.values()], str(path), names)
    grey = {which: _grey(images, image_size, path) for which, (images, _) in found.items()}
    sizes = {which: images.shape[1:] for which, images in grey.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{which} images are {size}" for which, size in sizes.items())
        raise DataError(f"{path}: {shown}; give --image-size ROWSxCOLS to bring them to one size")
    made = {
        which: split(torch.from_numpy(images), targets)
        for (which, images), targets in zip(grey.items(), ids, strict=True)
    }
    rows, cols = sizes[TRAIN]
    sources = Sources(len(files) or 1)
    return Raw(labels, (rows, cols), made[TRAIN], made.get(TEST), made.get(VALIDATION), sources)


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _pair(arrays: dict[str, Array], names: tuple[tuple[str, str], ...]) -> tuple[Array, Array] | None:
    return next(((arrays[i], arrays[t]) for i, t in names if i in arrays and t in arrays), None)


def _load(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            return _array(file, os.fstat(file.fileno()).st_size)
    except BAD_FILE as error:
        raise DataError(f"{path}: not a readable NumPy file ({error})") from error


def _from_npz(path: Path) -> dict[str, Array]:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name.lower() in KNOWN:
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
    shape, fortran, kind = shared.npy_header(file)
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


def _from_files(files: Sequence[Path]) -> dict[str, Array]:
    named = {path: path.stem.lower().replace("-", "_") for path in files}
    unknown = [path.name for path, name in named.items() if name not in KNOWN]
    if unknown:
        raise DataError(
            f"{files[0].parent}: {unknown[0]} is in the way; a folder of arrays holds images.npy and labels.npy, or "
            "train-images.npy, train-labels.npy, test-images.npy, … Move it, or name one file as --data"
        )
    return {name: _load(path) for path, name in named.items()}


def _grey(images: Array, size: tuple[int, int] | None, path: Path) -> pictures.Pixels:
    """Images [N, rows, cols], or with 1, 3 or 4 channels, first or last, or flat [N, D], as grey bytes."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{path}: images of type {images.dtype}; expected uint8, 0 to 255, and {shared.seen(images)}. For values "
            "from 0 to 1: (images * 255).round().astype(numpy.uint8)"
        )
    try:
        layout = shared.layout(images.shape[1:], size)
    except shared.BadArrayError as error:
        raise DataError(f"{path}: {error}") from error
    if not layout.rows:
        raise DataError(f"{path}: images of {layout.cols} pixels in a row; say what they are: --image-size ROWSxCOLS")
    if images.max(initial=0) == 1:
        raise DataError(f"{path}: {shared.ZERO_OR_ONE}")
    grey = layout.grey(images)
    if size is None or grey.shape[1:] == size:
        return grey
    return pictures.stacked(
        len(grey),
        lambda index: pictures.resized(Image.fromarray(grey[index]), size),
        lambda index: f"{path}, image {index}",
    )

"""Parquet files with a column of images and a column of labels.

    digits.parquet                  optionally with a column "split" that says train or test
    DIR                             with train*.parquet and test*.parquet, or *.parquet

An image is an encoded picture (bytes, or a struct with the field "bytes" as data set hubs store it), or raw pixels with
--image-size. Labels are whole numbers or text.
"""

import bisect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.bounds import check_unpacked
from mlpserve_trainer.data.footer import row_groups
from mlpserve_trainer.data.labelled import class_ids
from mlpserve_trainer.data.splits import Raw, split
from mlpserve_trainer.errors import DataError

SUFFIXES = (".parquet",)
IMAGE_COLUMNS = ("image", "images", "img", "picture", "pixels")
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")
PICTURE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
LARGEST_NUMBER = 8  # bytes
TEST_NAMES = {"test", "testing"}


def has_files(folder: Path) -> bool:
    """Whether a folder holds Parquet files."""
    return any(folder.glob("*.parquet"))


def read(path: Path, image_size: tuple[int, int] | None) -> Raw:
    """Read a Parquet file, or a folder of them.

    Raises:
        DataError: pyarrow is missing, or images or labels are, or they are not what they should be.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    parts: dict[bool, list[Any]] = {False: [], True: []}
    names: Sequence[str] | None = None
    for file in files:
        table, found = _read_file(file)
        names = names or found
        in_name = path.is_dir() and file.stem.lower().startswith("test")
        if "split" in table.column_names:
            test = np.array([str(value).lower() in TEST_NAMES for value in table["split"].to_pylist()], bool)
        else:
            test = np.full(len(table), in_name)
        for which in (False, True):
            rows = np.flatnonzero(test == which)
            if len(rows):
                parts[which].append((file, table["image"].take(rows), table["label"].take(rows)))
    if not parts[False]:
        raise DataError(f"{path}: no training images in it")
    try:
        columns = [
            np.concatenate([np.asarray(labels.to_pylist()) for _, _, labels in group])
            for group in parts.values()
            if group
        ]
    except ValueError as error:
        raise DataError(f"{path}: labels must be one whole number or one text for each image") from error
    labels, ids = class_ids(columns, str(path), names)
    groups = [_pixels(group, image_size) for group in parts.values() if group]
    if groups[0].shape[1:] != groups[-1].shape[1:]:
        raise DataError(f"{path}: train and test images differ in size; give --image-size ROWSxCOLS")
    splits = [split(torch.from_numpy(images), targets) for images, targets in zip(groups, ids, strict=True)]
    return Raw(labels, (groups[0].shape[1], groups[0].shape[2]), splits[0], splits[1] if parts[True] else None)


def _read_file(file: Path) -> tuple[Any, Sequence[str] | None]:
    """Columns image, label and perhaps split; and the labels' names, where the file has them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise DataError(f"{file}: reading Parquet needs pyarrow: pip install 'mlpserve[parquet]'") from error
    try:
        with pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            image = _column(present, IMAGE_COLUMNS, file, "images")
            label = _column(present, LABEL_COLUMNS, file, "labels")
            wanted = [image, label, *(["split"] if "split" in present else [])]
            _check_size(file, parquet.schema, wanted)
            leaves = [parquet.schema.column(number) for number in range(len(parquet.schema))]
            once = [
                leaf.path
                for leaf in leaves
                if leaf.physical_type == "BYTE_ARRAY"
                and leaf.path.split(".")[0] == image
                and not leaf.max_repetition_level
            ]
        # A value that many rows refer to stays one value in memory.
        with pq.ParquetFile(file, read_dictionary=once) as parquet:
            table = parquet.read(columns=wanted)
    except (OSError, ValueError, IndexError, pa.ArrowException) as error:
        raise DataError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from error
    if table[label].null_count or table[image].null_count:
        raise DataError(f"{file}: some rows have no image or no label; remove them")
    columns = {"image": table[image], "label": table[label]}
    if "split" in table.column_names:
        columns["split"] = table["split"]
    return pa.table(columns), _hub_names(table.schema.metadata or {}, label)


def _check_size(file: Path, schema: Any, columns: list[str]) -> None:
    """Refuse a file of which a row group's column becomes far larger than it is."""
    with file.open("rb") as stream:
        groups = row_groups(stream)
    for _, chunks in groups:
        for chunk, leaf in zip(chunks, (schema.column(number) for number in range(len(schema))), strict=True):
            if chunk.path[0] in columns:
                unpacked = chunk.unpacked
                if leaf.max_repetition_level:  # lists, whose numbers may be stored as runs
                    unpacked = max(unpacked, chunk.values * LARGEST_NUMBER)
                check_unpacked(f"{file}, column {chunk.path[0]}", chunk.packed, unpacked)


def _column(present: list[str], wanted: tuple[str, ...], file: Path, what: str) -> str:
    for name in wanted:
        if name in present:
            return name
    raise DataError(f"{file}: no column with {what}; it has {', '.join(present)}, expected one of {', '.join(wanted)}")


def _hub_names(metadata: dict[bytes, bytes], label: str) -> Sequence[str] | None:
    """The classes' names that data set hubs put into a file's metadata."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, ValueError, TypeError):
        return None


def _pixels(group: list[Any], size: tuple[int, int] | None) -> pictures.Pixels:
    arrays, starts, count = [], [], 0
    for file, column, _ in group:
        for row, array in zip(np.cumsum([0, *map(len, column.chunks)]).tolist(), column.chunks, strict=False):
            arrays.append((file, row, array))
            starts.append(count)
            count += len(array)

    def place(index: int) -> tuple[Path, int, Any, int]:
        """File, first row and values of the piece that an image is in, and where in it."""
        number = bisect.bisect_right(starts, index) - 1
        return *arrays[number], index - starts[number]

    def name(index: int) -> str:
        file, first, _, offset = place(index)
        return f"{file}, image {first + offset}"

    def picture(index: int) -> pictures.Pixels:
        _, _, array, offset = place(index)
        value = array[offset].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        if isinstance(value, list):
            value = _bytes(value, name(index))
        if not isinstance(value, bytes):
            raise DataError(f"{name(index)}: expected an encoded picture or raw pixels, got {type(value).__name__}")
        if size is not None and len(value) == size[0] * size[1] and not value.startswith(PICTURE_SIGNATURES):
            return np.frombuffer(value, np.uint8).reshape(size)
        return pictures.read(value, size, name(index))

    return pictures.stacked(count, picture, name)


def _bytes(value: list[Any], where: str) -> bytes:
    try:
        flat = [number for row in value for number in row] if value and isinstance(value[0], list) else value
        return bytes(flat)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: pixels must be whole numbers from 0 to 255 ({error})") from error

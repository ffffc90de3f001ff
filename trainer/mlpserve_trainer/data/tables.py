"""Parquet files with a column of images and a column of labels.

    digits.parquet                  optionally with a column "split" that says train or test
    DIR                             with train*.parquet and test*.parquet, or *.parquet, at any depth; folders like
                                    label=cat and split=test stand for columns

An image is an encoded picture (bytes, or a struct with the field "bytes" as data set hubs store it), or raw pixels with
--image-size. Labels are whole numbers or text.
"""

import bisect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mlpserve.files import arrays
from mlpserve.files.folders import TEST, TRAIN, VALIDATION, partitions, split_of, split_of_file
from mlpserve.files.kinds import ENCODED_SIGNATURES
from mlpserve.files.parquet_footer import row_groups
from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.bounds import check_unpacked
from mlpserve_trainer.data.labelled import class_ids
from mlpserve_trainer.data.splits import Raw, Sources, split
from mlpserve_trainer.errors import DataError

IMAGE_COLUMNS = ("image", "images", "img", "picture", "pixels")
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")
LARGEST_NUMBER = 8  # bytes
Piece = tuple[str, Any, Any]  # where it is from, its images and its labels


@dataclass
class _Table:
    """One file's columns and what it says of its labels."""

    images: Any
    labels: Any
    splits: list[str | None]
    names: Sequence[str] | None = field(default=None)


def read(path: Path, files: Sequence[Path], size: tuple[int, int] | None) -> Raw:
    """Read Parquet files.

    Args:
        path: what a person named, for errors.
        files: of it, in order.
        size: (rows, cols) to bring images to; None: they must agree.

    Raises:
        DataError: pyarrow is missing, or images or labels are, or they are not what they should be.
    """
    parts: dict[str, list[Piece]] = {TRAIN: [], TEST: [], VALIDATION: []}
    names: Sequence[str] | None = None
    for file in files:
        table = _read_file(file, str(file.relative_to(path)) if path.is_dir() else file.name, path.is_dir())
        if names and table.names and list(names) != list(table.names):
            raise DataError(f"{file}: its labels have other names than those of {files[0]}")
        names = names or table.names
        found = np.array([which or TRAIN for which in table.splits], object)
        for which, pieces in parts.items():
            rows = np.flatnonzero(found == which)
            if len(rows):
                pieces.append((str(file), table.images.take(rows), table.labels.take(rows)))
    if not parts[TRAIN]:
        raise DataError(f"{path}: no training images in it")
    parts = {which: pieces for which, pieces in parts.items() if pieces}
    try:
        columns = [
            np.concatenate([np.asarray(labels.to_pylist()) for _, _, labels in pieces]) for pieces in parts.values()
        ]
    except ValueError as error:
        raise DataError(f"{path}: labels must be one whole number or one text for each image") from error
    labels, ids = class_ids(columns, str(path), names)
    reader = pictures.Reader(size)
    images = {which: _pixels(pieces, size, reader) for which, pieces in parts.items()}
    if len({pixels.shape[1:] for pixels in images.values()}) > 1:
        raise DataError(f"{path}: the splits' images differ in size; give --image-size ROWSxCOLS")
    made = {
        which: split(torch.from_numpy(pixels), targets)
        for (which, pixels), targets in zip(images.items(), ids, strict=True)
    }
    rows, cols = images[TRAIN].shape[1:]
    sources = Sources(len(files))
    warnings = tuple(reader.warnings)
    return Raw(labels, (rows, cols), made[TRAIN], made.get(TEST), made.get(VALIDATION), sources, warnings)


def _read_file(file: Path, inside: str, named: bool) -> _Table:
    """A file's columns.

    Args:
        file: to read.
        inside: its path inside the data set; folders like label=cat stand for columns.
        named: whether its name and folders may say which split it is.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise DataError(f"{file}: reading Parquet needs pyarrow: pip install 'mlpserve[parquet]'") from error
    from_path = partitions(inside)
    try:
        with pq.ParquetFile(file) as parquet:
            present = parquet.schema_arrow.names
            image = _column(present, IMAGE_COLUMNS, file, "images")
            label = _column([*present, *from_path], LABEL_COLUMNS, file, "labels")
            wanted = [name for name in (image, label, "split") if name in present]
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
    labels = table[label] if label in present else pa.chunked_array([pa.repeat(from_path[label], len(table))])
    if labels.null_count or table[image].null_count:
        raise DataError(f"{file}: some rows have no image or no label; remove them")
    if "split" in present:
        values = table["split"].to_pylist()
        splits = [split_of(str(value)) for value in values]
        if None in splits:
            raise DataError(
                f"{file}: a row's split is {values[splits.index(None)]!r}; expected train, validation or test"
            )
    else:
        above = [part.split("=", 1)[-1] for part in inside.split("/")[:-1]]
        names = [split_of_file(file.stem), *map(split_of, reversed(above))] if named else []
        splits = [next((name for name in names if name), None)] * len(table)
    return _Table(table[image], labels, splits, _hub_names(table.schema.metadata or {}, label))


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


def _pixels(pieces: Sequence[Piece], size: tuple[int, int] | None, reader: pictures.Reader) -> pictures.Pixels:
    chunks: list[tuple[str, int, Callable[[int], Any]]] = []
    starts, count = [], 0
    for file, column, _ in pieces:
        value_of = _values(column.type, file)
        for row, array in zip(np.cumsum([0, *map(len, column.chunks)]).tolist(), column.chunks, strict=False):
            chunks.append((file, row, value_of(array)))
            starts.append(count)
            count += len(array)

    def place(index: int) -> tuple[str, int, Callable[[int], Any], int]:
        """File, first row and values of the piece that an image is in, and where in it."""
        number = bisect.bisect_right(starts, index) - 1
        return *chunks[number], index - starts[number]

    def name(index: int) -> str:
        file, first, _, offset = place(index)
        return f"{file}, image {first + offset}"

    def picture(index: int) -> pictures.Pixels:
        _, _, value_of, offset = place(index)
        return _picture(value_of(offset), size, reader, name(index))

    result = pictures.stacked(count, picture, name)
    if (result.max(initial=0)) == 1:
        raise DataError(f"{pieces[0][0]}: {arrays.ZERO_OR_ONE}")
    return result


def _values(kind: Any, file: str) -> Callable[[Any], Callable[[int], Any]]:
    """For a chunk of a column, what gives its value in a row: of tensors an array in the order that is meant."""
    try:
        tensors = arrays.tensors_of(kind)
    except arrays.BadArrayError as error:
        raise DataError(f"{file}: {error}") from error
    if tensors is None:
        return lambda chunk: lambda row: chunk[row].as_py()
    return lambda chunk: lambda row: tensors.arranged(np.array(chunk.storage[row].as_py()))[0]


def _picture(value: Any, size: tuple[int, int] | None, reader: pictures.Reader, where: str) -> pictures.Pixels:
    """One value: an encoded picture, or raw pixels as bytes, numbers, or numbers in rows."""
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, bytes):
        if size is not None and len(value) == size[0] * size[1] and not value.startswith(ENCODED_SIGNATURES):
            return np.frombuffer(value, np.uint8).reshape(size)
        return reader.read(value, where)
    if not isinstance(value, (list, np.ndarray)):
        raise DataError(f"{where}: expected an encoded picture or raw pixels, got {type(value).__name__}")
    try:
        numbers = np.asarray(value)
        layout = arrays.layout(numbers.shape, size)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if not layout.rows:
        raise DataError(f"{where}: {layout.cols} pixels in a row; say what they are: --image-size ROWSxCOLS")
    if (
        numbers.dtype.kind not in "iufb"
        or not ((numbers >= 0) & (numbers <= 255) & (numbers == np.floor(numbers))).all()
    ):
        raise DataError(f"{where}: pixels must be whole numbers from 0 to 255; {arrays.seen(numbers)}")
    return pictures.resized(Image.fromarray(layout.grey(numbers.astype(np.uint8)[None])[0]), size)

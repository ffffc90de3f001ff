"""True labels from a file beside the input."""

import csv
import gzip
import struct
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from mlpserve.files.arrays import npy_header
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import DAMAGE

IDX_LABELS = 2049  # magic number: unsigned bytes in one dimension
TEXT = (".csv", ".txt")
LONGEST_LABEL = 1024  # characters

Labels = npt.NDArray[Any]


def read_labels(path: Path, rows: int) -> Labels:
    """Labels [N] from an IDX label file, gzipped or not, an .npy file, or a .csv file of one column.

    Args:
        path: the file.
        rows: N; no more than this is read of a file that holds, or says that it holds, more.

    Returns:
        Whole numbers, floats or texts, as the file has them.

    Raises:
        ScoringError: it is none of them, or has another number of labels.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return _from_npy(path, file, rows)
        if path.suffix.lower() in TEXT:
            return _from_text(path, rows)
        with _opened(path) as file:
            start = file.read(8)
            if len(start) < 8 or (magic := struct.unpack(">II", start)[0]) != IDX_LABELS:
                found = "too short" if len(start) < 8 else f"magic number {magic}, expected {IDX_LABELS}"
                raise ScoringError(
                    f"{path}: not an IDX label file ({found}). Expected IDX, .npy, or .csv with one column"
                )
            _check_count(path, struct.unpack(">II", start)[1], rows)
            content = file.read(rows + 1)
            _check_count(path, len(content), rows)
            return np.frombuffer(content, np.uint8).astype(np.int64)
    except ScoringError:
        raise
    except DAMAGE as error:
        raise ScoringError(f"{path}: cannot be read as labels ({error})") from error


def _from_npy(path: Path, file: IO[bytes], rows: int) -> Labels:
    shape, _, kind = npy_header(file)
    flat = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if not flat or kind.kind not in "iufSU":
        raise ScoringError(f"{path}: expected numbers or texts in one dimension, got {kind} {shape}")
    _check_count(path, shape[0], rows)
    content = file.read(rows * kind.itemsize)
    _check_count(path, len(content) // max(kind.itemsize, 1), rows)
    values = np.frombuffer(content, kind)
    return values.astype(np.int64) if kind.kind in "iu" else values


def _from_text(path: Path, rows: int) -> Labels:
    """One label in a line, under a heading or none: which it is, the number of lines says."""
    values: list[str] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        for number, cells in enumerate(csv.reader(iter(lambda: file.readline(LONGEST_LABEL), "")), 1):
            if len(cells) > 1:
                raise ScoringError(
                    f"{path}: line {number} has {len(cells)} columns; expected the labels alone, in the order of the "
                    "rows"
                )
            values += cells
            if len(values) > rows + 1:
                break
    if len(values) == rows + 1:
        del values[0]
    _check_count(path, len(values), rows)
    return np.array([_number(value.strip()) for value in values], object)


def _number(value: str) -> int | float | str | None:
    """A cell as a table has it: "7" and "7.0" are numbers, "007" is none, nothing is no label."""
    if not value:
        return None
    if value.isdecimal() and str(int(value)) == value:
        return int(value)
    if value == "-1":
        return -1
    whole, point, rest = value.partition(".")
    if point and whole.isdecimal() and rest.strip("0") == "":
        return int(whole)
    return value


def _check_count(path: Path, count: int, rows: int) -> None:
    if count != rows:
        raise ScoringError(f"{path} has {count} labels for {rows} rows of the input")


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb")

"""True class ids from a file beside the input."""

import gzip
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import DAMAGE, npy_header

IDX_LABELS = 2049  # magic number: unsigned bytes in one dimension


def read_labels(path: Path, rows: int) -> npt.NDArray[np.int64]:
    """Class ids from an IDX label file, gzipped or not, or an .npy file of integers [N].

    Args:
        path: the file.
        rows: N; no more than this is read of a file that holds, or says that it holds, more.

    Raises:
        ScoringError: it is neither, or has another number of labels.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _from_npy(path, file, rows)
        with _opened(path) as file:
            magic, count = struct.unpack(">II", file.read(8))
            if magic != IDX_LABELS:
                raise ScoringError(f"{path}: not an IDX label file (magic number {magic}, expected {IDX_LABELS})")
            _check_count(path, count, rows)
            content = file.read(rows + 1)
            _check_count(path, len(content), rows)
            return np.frombuffer(content, np.uint8).astype(np.int64)
    except ScoringError:
        raise
    except DAMAGE as error:
        raise ScoringError(f"{path}: cannot be read as labels ({error})") from error


def _from_npy(path: Path, file: IO[bytes], rows: int) -> npt.NDArray[np.int64]:
    shape, _, kind = npy_header(file)
    if len(shape) != 1 or kind.kind not in "iu":
        raise ScoringError(f"{path}: expected integers in one dimension, got {kind} {shape}")
    _check_count(path, shape[0], rows)
    content = file.read(rows * kind.itemsize)
    _check_count(path, len(content) // kind.itemsize, rows)
    return np.frombuffer(content, kind).astype(np.int64)


def _check_count(path: Path, count: int, rows: int) -> None:
    if count != rows:
        raise ScoringError(f"{path} has {count} labels for {rows} rows of the input")


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb")

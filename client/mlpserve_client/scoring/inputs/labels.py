"""True class ids from a file beside the input."""

import gzip
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np
import numpy.typing as npt

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import DAMAGE

IDX_LABELS = 2049  # magic number: unsigned bytes in one dimension


def read_labels(path: Path) -> npt.NDArray[np.int64]:
    """Class ids from an IDX label file, gzipped or not, or an .npy file of integers [N].

    Raises:
        ScoringError: it is neither.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                labels = np.load(file, allow_pickle=False)
            if not isinstance(labels, np.ndarray):
                raise ScoringError(f"{path}: an archive of arrays; expected one .npy array")
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise ScoringError(f"{path}: expected integers in one dimension, got {labels.dtype} {labels.shape}")
            return np.asarray(labels, np.int64)
        with _opened(path) as file:
            magic, _ = struct.unpack(">II", file.read(8))
            if magic != IDX_LABELS:
                raise ScoringError(f"{path}: not an IDX label file (magic number {magic}, expected {IDX_LABELS})")
            return np.frombuffer(file.read(), np.uint8).astype(np.int64)
    except ScoringError:
        raise
    except DAMAGE as error:
        raise ScoringError(f"{path}: cannot be read as labels ({error})") from error


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if gzipped else path.open("rb")

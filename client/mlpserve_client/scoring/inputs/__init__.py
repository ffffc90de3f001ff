"""Inputs of a scoring job: files, folders and globs, each opened by what it is.

arrays.py      IDX, .npy, .npz
tables.py      Parquet
pictures.py    folders of pictures, tar archives of them
footprint.py   how much memory a Parquet file's rows take, by footer.py, which reads what it says of itself
unpacking.py   compressed inputs within bounds
labels.py      true labels from a file beside the input
"""

from collections.abc import Iterator

from mlpserve_client.scoring import files
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.arrays import ArrayInput
from mlpserve_client.scoring.inputs.pictures import FolderInput, TarInput
from mlpserve_client.scoring.inputs.rows import Chunk, Decoded, Form, Input
from mlpserve_client.scoring.inputs.tables import TableInput

__all__ = ["Chunk", "Decoded", "Form", "Input", "open_inputs"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FILE_SUFFIXES = (".parquet", ".npy", ".npz", *TAR_SUFFIXES)  # of the files that a folder may hold in place of pictures


def open_inputs(paths: list[str], form: Form) -> list[Input]:
    """Open every file that paths, globs and folders name, in order.

    Raises:
        ScoringError: one cannot be read, or has images of another size.
    """
    opened: list[Input] = []
    try:
        opened.extend(_open(path, form) for path in _named_files(paths))
    except BaseException:
        for item in opened:
            item.close()
        raise
    return opened


def _named_files(paths: list[str]) -> Iterator[str]:
    """Files, and folders of pictures."""
    for pattern in paths:
        for path in files.expand(pattern):
            held: list[str] = []
            if files.is_folder(path):
                held = [name for name in files.walk(path) if name.endswith(FILE_SUFFIXES) and not _is_hidden(name)]
            yield from (f"{path.rstrip('/')}/{name}" for name in held)
            if not held:
                yield path


def _open(path: str, form: Form) -> Input:
    return FolderInput(path, form) if files.is_folder(path) else _open_file(path, form)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _open_file(path: str, form: Form) -> Input:
    file = files.File(path)
    if file.suffix == ".parquet":
        return TableInput(file, form)
    if file.name.lower().endswith(TAR_SUFFIXES):
        return TarInput(file, form)
    if form.column:
        raise ScoringError(f"{path}: --column is for Parquet files")
    return ArrayInput(file, form)

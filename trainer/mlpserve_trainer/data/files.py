"""Which files a data set's path names, what each holds, and what is passed over."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlpserve.files import folders
from mlpserve.files.kinds import Kind, head_of, kind_of
from mlpserve_trainer.data import arrays, torchvision_sets
from mlpserve_trainer.errors import DataError

READ = (Kind.PICTURE, Kind.TABLE, Kind.ARRAYS)
IN_THE_WAY = {
    Kind.IDX_IMAGES: "IDX files are read by `mlpserve score`; for training save arrays: images.npy and labels.npy",
    Kind.IDX_LABELS: "IDX files are read by `mlpserve score`; for training save arrays: images.npy and labels.npy",
    Kind.ARCHIVE: "unpack it",
}


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
        root: what a person named.
        by_kind: files by what they hold, as paths inside the root; of a root that is a file, that file's name.
        passed_over: paths inside the root and why.
    """

    root: Path
    by_kind: dict[Kind, list[str]]
    passed_over: dict[str, str]

    @property
    def paths(self) -> list[Path]:
        """All files that are read, in order."""
        if not self.root.is_dir():
            return [self.root, *([arrays.labels_of(self.root)] if self.root.suffix.lower() == ".npy" else [])]
        return [self.root / path for found in self.by_kind.values() for path in found]


def found_in(path: Path) -> Files:
    """The files that a path names.

    Raises:
        DataError: it is not there, or something lies in it that a person would expect to be read and is not.
    """
    if path.is_file():
        kind = {".parquet": Kind.TABLE, ".npz": Kind.ARRAYS, ".npy": Kind.ARRAYS}.get(path.suffix.lower())
        if kind is None:
            raise DataError(f"--data {path}: files end in .npz, .npy or .parquet; everything else goes into a folder")
        return Files(path, {kind: [path.name]}, {})
    if not path.is_dir():
        known = ", ".join(torchvision_sets.SOURCES)
        raise DataError(f"--data {path}: neither a folder or file nor one of {known}")
    try:
        found = folders.walk(str(path))
    except OSError as error:
        raise DataError(f"--data {path}: cannot be read ({error.strerror})") from error
    by_kind: dict[Kind, list[str]] = {kind: [] for kind in READ}
    for file in found.files:
        kind = kind_of(file, partial(head_of, str(path / file)))
        if kind in IN_THE_WAY:
            raise DataError(f"--data {path}: {file} is {kind.value}, which is in the way; {IN_THE_WAY[kind]}")
        if kind is Kind.TABLE and folders.is_bookkeeping(file):
            found.passed_over[file] = folders.BOOKKEEPING
        elif kind in by_kind:
            by_kind[kind].append(file)
        else:
            found.passed_over[file] = kind.value
    return Files(path, by_kind, found.passed_over)

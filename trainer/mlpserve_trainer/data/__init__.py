"""Data sets as uint8 tensors that fit in the device's memory.

torchvision_sets.py   mnist, which comes with this package, and the sets that torchvision downloads
files.py              which files a path names, and what is passed over
folders.py            a folder of class folders of pictures
arrays.py             .npz and .npy files
tables.py             Parquet files with a column of images
bounds.py             how large data may become, and whether it changes while it is read
checks.py             what is suspicious about a person's own data
"""

import dataclasses
from pathlib import Path

from mlpserve.files.kinds import Kind
from mlpserve.files.names import text
from mlpserve_trainer import progress
from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import arrays, checks, folders, tables, torchvision_sets
from mlpserve_trainer.data.bounds import check_unchanged, marks
from mlpserve_trainer.data.files import Files, found_in
from mlpserve_trainer.data.splits import (
    Dataset,
    Raw,
    Sources,
    Split,
    pixel_statistics,
    set_aside,
    set_aside_of_each,
)
from mlpserve_trainer.data.torchvision_sets import EMBEDDED_MNIST
from mlpserve_trainer.errors import DataError

__all__ = ["EMBEDDED_MNIST", "Dataset", "Split", "load", "load_configured"]

# The normalisation that every MNIST recipe uses, rounded as it is always quoted.
MNIST_MEAN, MNIST_DEVIATION = 0.1307, 0.3081
TEST_SHARE = 0.1  # of the images, where a source has no test set of its own


def load(data: str, *, cache: Path, validation: float, seed: int, image_size: tuple[int, int] | None) -> Dataset:
    """Load a data set by name, or from files.

    Args:
        data: one of torchvision's names, a folder, or an .npz, .npy or .parquet file.
        cache: where torchvision keeps what it downloads.
        validation: share of the training images to set aside.
        seed: of the splits.
        image_size: (rows, cols) to bring pictures to; None: they must agree already.

    Raises:
        DataError: it cannot be read or downloaded, changes meanwhile, or has too few images or classes.
    """
    known = data in torchvision_sets.SOURCES
    if known:
        if image_size is not None:
            raise DataError(f"--image-size is for folders of images and files; {data} has its own size")
        raw = torchvision_sets.SOURCES[data](torchvision_sets.folder_of(data, cache))
    else:
        with progress.during(f"Looking for pictures and tables in {text(data)}"):
            files = found_in(Path(data))
            before = marks(files.paths)
        raw = _read(Path(data), files, image_size)
        with progress.during("Checking that the data did not change while it was read"):
            check_unchanged(before, marks(found_in(Path(data)).paths))
    # The known sets are large and even, and their splits are those of every figure that was ever published.
    divide = set_aside if known else set_aside_of_each
    if not known:
        checks.check_counts(raw)
    train, test = divide(raw.train, TEST_SHARE, seed + 1) if raw.test is None else (raw.train, raw.test)
    fit, held_out = divide(train, validation, seed) if raw.validation is None else (train, raw.validation)
    if data == "mnist":
        mean, deviation = MNIST_MEAN, MNIST_DEVIATION
    else:
        mean, deviation = pixel_statistics(fit.images)
    rows, cols = raw.size
    centred_ink = data in torchvision_sets.CENTRED_INK
    dataset = Dataset(
        name_of(data),
        raw.labels,
        rows,
        cols,
        mean,
        deviation,
        fit,
        held_out,
        test,
        centred_ink,
        raw.warnings,
        raw.sources,
    )
    if known:
        return dataset
    with progress.during("Checking the data: doubles, empty pictures, classes"):
        return checks.checked(dataset)


def name_of(data: str) -> str:
    """What a data set is called: its name, or that of its folder, or of its file without the ending."""
    if data in torchvision_sets.SOURCES:
        return data
    path = Path(data).resolve()
    return text(path.name if path.is_dir() else path.stem)


def load_configured(config: TrainConfig) -> Dataset:
    """The data set that a run is configured with; see `load`."""
    return load(
        config.data,
        cache=config.data_cache,
        validation=config.validation,
        seed=config.seed,
        image_size=config.image_size,
    )


def _read(path: Path, files: Files, image_size: tuple[int, int] | None) -> Raw:
    kinds = {kind: found for kind, found in files.by_kind.items() if found}
    if len(kinds) > 1:
        shown = " and ".join(f"{len(found):,} {kind.value} ({found[0]})" for kind, found in kinds.items())
        raise DataError(f"--data {path}: holds {shown}; a data set is of one kind, so move the others away")
    if Kind.TABLE in kinds:
        raw = tables.read(path, files.paths, image_size)
    elif Kind.ARRAYS in kinds:
        raw = arrays.read(path, files.paths, image_size)
    else:
        return folders.read(path, kinds.get(Kind.PICTURE, []), files.passed_over, image_size)
    return dataclasses.replace(raw, sources=Sources(raw.sources.read, files.passed_over))

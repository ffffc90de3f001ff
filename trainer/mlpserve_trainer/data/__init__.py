"""Data sets as uint8 tensors that fit in the device's memory.

torchvision_sets.py   mnist, which comes with this package, and the sets that torchvision downloads
folders.py            a folder of class folders of pictures
arrays.py             .npz and .npy files
tables.py             Parquet files with a column of images
bounds.py             how large data may become, and whether it changes while it is read
footer.py             what a Parquet file says of itself
checks.py             what is suspicious about a person's own data
"""

from pathlib import Path

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.data import arrays, checks, folders, tables, torchvision_sets
from mlpserve_trainer.data.bounds import check_unchanged, marks
from mlpserve_trainer.data.splits import Dataset, Raw, Split, pixel_statistics, set_aside
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
    before = {} if known else marks(_files(Path(data)))
    raw = _read(data, cache, image_size)
    if not known:
        check_unchanged(before, marks(_files(Path(data))))
    if raw.test is None:
        train, test = set_aside(raw.train, TEST_SHARE, seed + 1)
    else:
        train, test = raw.train, raw.test
    rows, cols = raw.size
    fit, held_out = set_aside(train, validation, seed)
    if data == "mnist":
        mean, deviation = MNIST_MEAN, MNIST_DEVIATION
    else:
        mean, deviation = pixel_statistics(fit.images)
    name = name_of(data)
    centred_ink = data in torchvision_sets.CENTRED_INK
    dataset = Dataset(name, raw.labels, rows, cols, mean, deviation, fit, held_out, test, centred_ink)
    return dataset if known else checks.checked(dataset)


def _files(path: Path) -> list[Path]:
    """The files that a data set is read from."""
    if not path.is_dir():
        return [path, arrays.labels_of(path)]
    suffixes = (*tables.SUFFIXES, *arrays.SUFFIXES, *folders.SUFFIXES)
    return [file for file in path.rglob("*") if file.name.lower().endswith(suffixes)]


def name_of(data: str) -> str:
    """What a data set is called: its name, or that of its folder, or of its file without the ending."""
    if data in torchvision_sets.SOURCES:
        return data
    path = Path(data).resolve()
    return path.name if path.is_dir() else path.stem


def load_configured(config: TrainConfig) -> Dataset:
    """The data set that a run is configured with; see `load`."""
    return load(
        config.data,
        cache=config.data_cache,
        validation=config.validation,
        seed=config.seed,
        image_size=config.image_size,
    )


def _read(data: str, cache: Path, image_size: tuple[int, int] | None) -> Raw:
    path = Path(data)
    if data in torchvision_sets.SOURCES:
        if image_size is not None:
            raise DataError(f"--image-size is for folders of images and files; {data} has its own size")
        return torchvision_sets.SOURCES[data](cache.expanduser() / data)
    if path.is_dir():
        if tables.has_files(path):
            return tables.read(path, image_size)
        if arrays.has_files(path):
            return arrays.read(path, image_size)
        return folders.read(path, image_size)
    if path.is_file():
        if path.suffix.lower() in tables.SUFFIXES:
            return tables.read(path, image_size)
        if path.suffix.lower() in arrays.SUFFIXES:
            return arrays.read(path, image_size)
        raise DataError(f"--data {data}: files end in .npz, .npy or .parquet; everything else goes into a folder")
    raise DataError(f"--data {data}: neither a folder or file nor one of {', '.join(torchvision_sets.SOURCES)}")

"""A folder with one folder of pictures for each class, perhaps in folders of splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mlpserve.files import folders, labels, names
from mlpserve.files.folders import TEST, TRAIN, VALIDATION
from mlpserve_trainer.data import pictures
from mlpserve_trainer.data.labelled import check_labels
from mlpserve_trainer.data.splits import Raw, Sources, split
from mlpserve_trainer.errors import DataError

IN_NO_CLASS, IN_NO_SPLIT = "a picture in no class folder", "in no folder of a split"
PLAIN = {"images", "image", "img", "imgs", "pictures"}  # a folder of this name says nothing about classes
SHOWN = 5
EXPECTED = "Expected one folder of images for each class, {0}/CLASS/IMAGE, or {0}/train/CLASS/IMAGE and {0}/test/…"


def read(folder: Path, found: Sequence[str], passed_over: dict[str, str], size: tuple[int, int] | None) -> Raw:
    """DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE with test or validation folders beside it.

    Args:
        folder: DIR.
        found: pictures below it, by their paths inside it.
        passed_over: the other files and why; added to.
        size: (rows, cols) to bring them to; None: they must agree.

    Raises:
        DataError: it holds something else, a picture cannot be read, or sizes differ.
    """
    places = _splits(folder, found)
    warnings = []
    for which, place in list(places.items()):
        if which != TRAIN and not folders.subfolders(str(folder / place)):
            warnings.append(f"{folder / place}: pictures without class folders; they are passed over")
            passed_over |= {path: IN_NO_CLASS for path in found if path.startswith(f"{place}/")}
            del places[which]
    reader = pictures.Reader(size)
    parts = {which: _classes(folder, place, found, passed_over) for which, place in places.items()}
    if TRAIN not in parts:
        raise DataError(f"{folder}: it has folders {_listed(places.values())}, but none with training images")
    train = parts[TRAIN]
    for which, part in parts.items():
        if part.names != train.names:
            raise DataError(
                f"{folder}: {places[TRAIN] or 'train'} has classes {_listed(train.names)}, {places[which]} has "
                f"{_listed(part.names)}; they must be the same"
            )
    if len(places) > 1 or places[TRAIN]:
        inside = tuple(f"{place}/" for place in places.values())
        rest = [path for path in found if not path.startswith(inside) and path not in passed_over]
        passed_over |= dict.fromkeys(rest, IN_NO_SPLIT)
    splits = {which: _read(folder, part, reader) for which, part in parts.items()}
    sizes = {which: images.shape[1:] for which, (images, _) in splits.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{which} images are {rows}x{cols}" for which, (rows, cols) in sizes.items())
        raise DataError(f"{folder}: {shown}; give --image-size ROWSxCOLS to bring them to one size")
    made = {which: split(torch.from_numpy(images), targets) for which, (images, targets) in splits.items()}
    classes = tuple(names.text(name) for name in train.names)
    check_labels(classes, str(folder))
    warnings += [*reader.warnings, *_same_inside(places, train)]
    sources = Sources(sum(len(part.paths) for part in parts.values()), passed_over)
    return Raw(classes, sizes[TRAIN], made[TRAIN], made.get(TEST), made.get(VALIDATION), sources, tuple(warnings))


@dataclass(frozen=True)
class _Classes:
    """Class folders and their pictures: paths inside the data set's folder, and class ids."""

    names: list[str]
    paths: list[str]
    targets: list[int]


def _splits(folder: Path, found: Sequence[str]) -> dict[str, str]:
    """Where the class folders of each split are: paths inside the folder; all under "" where there are no splits."""
    tops = folders.subfolders(str(folder))
    deep = {path.split("/", 1)[0] for path in found if path.count("/") > 1}
    split_names = [top for top in tops if folders.split_of(top)]
    if not any(folders.split_of(top) == TRAIN and top in deep for top in tops):
        if tops and len(split_names) == len(tops) and (deep or len(tops) > 1):
            raise DataError(
                f"{folder}: its folders are named {_listed(tops)}, like splits, not classes. " + EXPECTED.format(folder)
            )
        return {TRAIN: ""}
    if any(top in deep and top not in split_names for top in tops):
        return {TRAIN: ""}  # a class that is called like a split; `_same_inside` looks at it again
    places: dict[str, str] = {}
    for top in split_names:
        which = str(folders.split_of(top))
        if which in places:
            raise DataError(f"{folder}: {places[which]} and {top} are both {which} folders; keep one")
        places[which] = _unwrapped(folder, top, which)
    return places


def _unwrapped(folder: Path, place: str, which: str) -> str:
    """The folder of the classes: archives often hold one folder of the same split in another."""
    inside = folders.subfolders(str(folder / place))
    if len(inside) == 1 and folders.split_of(inside[0]) == which:
        return f"{place}/{inside[0]}"
    return place


def _classes(folder: Path, place: str, found: Sequence[str], passed_over: dict[str, str]) -> _Classes:
    where = folder / place
    classes = labels.ordered(folders.subfolders(str(where)))
    if not classes:
        raise DataError(f"{where}: no folders of classes in it. " + EXPECTED.format(folder))
    numbers = {name: number for number, name in enumerate(classes)}
    prefix = f"{place}/" if place else ""
    paths, targets = [], []
    for path in found:
        inside = path.removeprefix(prefix)
        if not path.startswith(prefix):
            continue
        if "/" not in inside:
            passed_over[path] = IN_NO_CLASS
            continue
        paths.append(path)
        targets.append(numbers[inside.split("/", 1)[0]])
    empty = [name for name in classes if numbers[name] not in set(targets)]
    if empty:
        raise DataError(
            f"{where}: no pictures in {_listed(empty)}; remove the folder, or add pictures. " + EXPECTED.format(folder)
        )
    if len(classes) < 2:
        raise DataError(f"{where}: only one class ({names.text(classes[0])}); a classifier needs at least two")
    return _Classes(classes, paths, targets)


def _read(folder: Path, part: _Classes, reader: pictures.Reader) -> tuple[pictures.Pixels, torch.Tensor]:
    shown = [names.text(str(folder / path)) for path in part.paths]
    images = pictures.stacked(
        len(part.paths),
        lambda index: reader.read(folder / part.paths[index], shown[index]),
        lambda index: shown[index],
    )
    return images, torch.tensor(part.targets)


def _same_inside(places: dict[str, str], train: _Classes) -> list[str]:
    """A warning where every class folder holds the same folders: those may be the classes, and these the splits."""
    prefix = f"{places[TRAIN]}/" if places[TRAIN] else ""
    inside: dict[str, set[str]] = {name: set() for name in train.names}
    for path in train.paths:
        parts = path.removeprefix(prefix).split("/")
        inside[parts[0]] |= {parts[1]} if len(parts) > 2 else {""}
    first = next(iter(inside.values()))
    if "" in first or first <= PLAIN or any(held != first for held in inside.values()):
        return []
    return [
        f"all class folders ({_listed(train.names)}) hold the same folders ({_listed(sorted(first))}): if those are "
        "the classes, then these are splits or writers; name them train and test, or give one of them as --data"
    ]


def _listed(found: object) -> str:
    texts = [names.text(str(name)) for name in found]  # type: ignore[attr-defined]
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN:,} more" if len(texts) > SHOWN else "")

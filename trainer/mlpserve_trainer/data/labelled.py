"""Labels as people store them, as class ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlpserve.files import labels, names
from mlpserve_trainer.errors import DataError

MOST_CLASSES = 2_000
SHOWN = 5


def class_ids(
    columns: Sequence[npt.NDArray[Any]], where: str, given: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[Tensor]]:
    """Class labels, and for each column of labels its class ids int64 [N].

    Whole numbers from 0 are class ids already, with gaps left as they are; everything else is sorted and numbered.

    Args:
        columns: labels [N] of each split.
        where: names their source in errors.
        given: label of each class id, where the source has them.

    Raises:
        DataError: they are no labels, or there is only one class.
    """
    flat = [column.reshape(-1) if column.ndim == 2 and column.shape[1] == 1 else column for column in columns]
    for column in flat:
        if column.ndim != 1 or column.dtype.kind not in "iubUSOf":
            _refuse_type(column, where)
    flat = [_whole(column, where) if column.dtype.kind == "f" else column for column in flat]
    everything = np.concatenate(flat)
    if everything.dtype.kind in "OSU":
        if any(value is None for value in everything):
            raise DataError(f"{where}: some images have no label")
        texts = [_text(value) for value in everything]
        found = tuple(labels.ordered(set(texts)))
        if len(found) > MOST_CLASSES:
            raise DataError(f"{where}: {len(found):,} different labels; more than {MOST_CLASSES:,} are no classes")
        numbers = {label: number for number, label in enumerate(found)}
        ids = np.array([numbers[text] for text in texts], np.int64)
    else:
        ids = everything.astype(np.int64)
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= MOST_CLASSES:
            raise DataError(
                f"{where}: labels from {ids.min()} to {ids.max()}; class ids are whole numbers from 0 to "
                f"{MOST_CLASSES - 1}. Give names as text to have them numbered; remove images without a label"
            )
        count = int(ids.max(initial=0)) + 1
        if given is not None and len(given) < count:
            raise DataError(f"{where}: label {count - 1} has no name, there are only {len(given)}")
        found = tuple(given) if given is not None else tuple(map(str, range(count)))
    check_labels(found, where)
    if len(np.unique(ids)) < 2:
        raise DataError(f"{where}: only one class; a classifier needs at least two")
    ends = np.cumsum([len(column) for column in flat])[:-1]
    return found, [torch.from_numpy(np.ascontiguousarray(part)) for part in np.split(ids, ends)]


def check_labels(found: Sequence[str], where: str) -> None:
    """Refuse class names that nobody could tell apart, or that say nothing.

    Raises:
        DataError: two look the same, or one is empty.
    """
    pairs = labels.doubled(found)
    if pairs:
        shown = ", ".join(f"{one!r} and {other!r}" for one, other in pairs[:SHOWN])
        more = f" and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
        raise DataError(f"{where}: two classes of one name: {shown}{more}. Give each class one name of its own")
    if any(not labels.normal(label) for label in found):
        raise DataError(f"{where}: a class has an empty name")


def _refuse_type(column: npt.NDArray[Any], where: str) -> None:
    raise DataError(
        f"{where}: labels of type {column.dtype} and shape {column.shape}; expected one whole number or one "
        "text for each image"
    )


def _whole(column: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    """Class ids that a table keeps as 7.0."""
    if not np.isfinite(column).all() or not (column == np.floor(column)).all() or np.abs(column).max(initial=0) > 2**31:
        _refuse_type(column, where)
    return column.astype(np.int64)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    return names.text(str(value))

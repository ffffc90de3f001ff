"""Labels as people store them, as class ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlpserve_trainer.errors import DataError

MOST_CLASSES = 2_000


def class_ids(
    columns: Sequence[npt.NDArray[Any]], where: str, names: Sequence[str] | None = None
) -> tuple[tuple[str, ...], list[Tensor]]:
    """Class labels, and for each column of labels its class ids int64 [N].

    Whole numbers from 0 are class ids already, with gaps left as they are; everything else is sorted and numbered.

    Args:
        columns: labels [N] of each split.
        where: names their source in errors.
        names: label of each class id, where the source has them.

    Raises:
        DataError: they are no labels, or there is only one class.
    """
    flat = [column.reshape(-1) if column.ndim == 2 and column.shape[1] == 1 else column for column in columns]
    for column in flat:
        if column.ndim != 1 or column.dtype.kind not in "iubUSO":
            raise DataError(
                f"{where}: labels of type {column.dtype} and shape {column.shape}; expected one whole number or one "
                "text for each image"
            )
    everything = np.concatenate(flat)
    if everything.dtype.kind in "OSU":
        texts = [str(value.decode(errors="replace") if isinstance(value, bytes) else value) for value in everything]
        if any(value is None for value in everything):
            raise DataError(f"{where}: some images have no label")
        labels, ids = np.unique(texts, return_inverse=True)
        found = tuple(map(str, labels))
        if len(found) > MOST_CLASSES:
            raise DataError(f"{where}: {len(found):,} different labels; more than {MOST_CLASSES:,} are no classes")
    else:
        ids = everything.astype(np.int64)
        if ids.min(initial=0) < 0 or ids.max(initial=0) >= MOST_CLASSES:
            raise DataError(
                f"{where}: labels from {ids.min()} to {ids.max()}; class ids are whole numbers from 0 to "
                f"{MOST_CLASSES - 1}. Give names as text to have them numbered"
            )
        count = int(ids.max(initial=0)) + 1
        if names is not None and len(names) < count:
            raise DataError(f"{where}: label {count - 1} has no name, there are only {len(names)}")
        found = tuple(names) if names is not None else tuple(map(str, range(count)))
    if len(np.unique(ids)) < 2:
        raise DataError(f"{where}: only one class; a classifier needs at least two")
    ends = np.cumsum([len(column) for column in flat])[:-1]
    return found, [torch.from_numpy(np.ascontiguousarray(part)) for part in np.split(ids, ends)]

"""True labels as class ids, by the names of the model's classes.

A number may be a class's name or its id. For a model of the classes 0 to 9 that is the same. Where it is not (folders
named 1 to 10, or sorted as text: 0 1 10 11 2 …), a number that could be both is refused until somebody says which.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve.files.labels import misleading, normal
from mlpserve.files.names import text
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.rows import IDS, NAMES

Ids = npt.NDArray[np.int64]

NONE = -1  # no label; as a number in the data too, unless it is a class's name
SHOWN = 10


class Meaning:
    """What true labels mean for a model.

    Args:
        labels: class labels by class id.
        numbers: what numbers are: NAMES or IDS of classes; "" to refuse what could be both.
    """

    def __init__(self, labels: Sequence[str], numbers: str = "") -> None:
        self._labels = labels
        self._numbers = numbers
        self._by_name = {normal(label): number for number, label in reversed(list(enumerate(labels)))}
        self._misleading = misleading(labels) is not None
        self._known: dict[Any, int] = {}

    def ids(self, values: Sequence[Any] | npt.NDArray[Any], where: str) -> Ids:
        """Class ids [N] of true labels [N]: names, numbers, or None for none; -1 where there is none.

        Args:
            values: the labels.
            where: names their source in errors.

        Raises:
            ScoringError: one is no class of the model, or could be two.
        """
        if isinstance(values, np.ndarray) and values.dtype != object:
            if not values.size:
                return np.empty(0, np.int64)
            different, places = np.unique(values, return_inverse=True)
            return self.ids(different.tolist(), where)[places.reshape(-1)]
        ids = np.empty(len(values), np.int64)
        for row, value in enumerate(values):
            key = (type(value), value)
            if key not in self._known:
                self._known[key] = self._id(value, where)
            ids[row] = self._known[key]
        return ids

    def _id(self, value: Any, where: str) -> int:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NONE
        if isinstance(value, bytes):
            value = text(value.decode(errors="surrogateescape"))
        if isinstance(value, bool):
            value = str(value) if normal(str(value)) in self._by_name else int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        found = self._of_number(value, where) if isinstance(value, int) else self._by_name.get(normal(str(value)))
        if found is None:
            shown = ", ".join(self._labels[:SHOWN]) + (" …" if len(self._labels) > SHOWN else "")
            raise ScoringError(f"{where}: the true label {value!r} is no class of the model ({shown})")
        return found

    def _of_number(self, value: int, where: str) -> int | None:
        by_name = self._by_name.get(str(value))
        by_id = value if 0 <= value < len(self._labels) else None
        if value == NONE and by_name is None:
            return NONE
        if self._numbers == NAMES:
            return by_name
        if self._numbers == IDS or not self._misleading or by_id == by_name:
            return by_id
        if by_id is None:
            return by_name
        named = "no class by its name" if by_name is None else f"class {self._labels[by_name]!r} by its name"
        raise ScoringError(
            f"{where}: the true label {value} is {named}, and class {self._labels[value]!r} by its class id. Say what "
            f"numbers are with --label-numbers {NAMES} or --label-numbers {IDS}"
        )

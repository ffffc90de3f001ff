"""What true labels, or a second version, say about a job's answers. Sums that can be kept for each part and added up.

Legend: N rows, C classes.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.inputs.meaning import Ids

BINS = 15  # of the calibration error
MOST_SLICES = 1000


@dataclasses.dataclass
class Tally:
    """Counts over rows.

    Attributes:
        rows, bad_rows: all of them, and those with an error.
        reasons: bad rows by reason.
        first_error: the first bad row and what is wrong with it; "" if there is none.
        classes: answers by class id.
        confusion: rows by true class and answer, "3>5".
        bins: [answers, sum of scores, right ones] in equal bins of the score.
        slices: [rows with a label, right ones] by value of the slice column.
        disagreements: rows by the answers of both versions where they differ, "3>5".
        other_right: rows that the second version classifies correctly.
        first_pages: answers to the first page of a picture that has several.
    """

    rows: int = 0
    bad_rows: int = 0
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)
    first_error: str = ""
    classes: Counter[str] = dataclasses.field(default_factory=Counter)
    confusion: Counter[str] = dataclasses.field(default_factory=Counter)
    bins: list[list[float]] = dataclasses.field(default_factory=lambda: [[0, 0.0, 0] for _ in range(BINS)])
    slices: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    disagreements: Counter[str] = dataclasses.field(default_factory=Counter)
    other_right: int = 0
    first_pages: int = 0

    def add(
        self,
        class_ids: Ids,
        scores: npt.NDArray[np.float32],
        targets: Ids | None,
        slices: Sequence[Any] | None,
        others: Ids | None,
    ) -> None:
        """Count good rows.

        Args:
            class_ids: answers [N].
            scores: their probabilities [N].
            targets: true class ids [N], -1 where there is none.
            slices: values of the slice column [N].
            others: the second version's answers [N].
        """
        self.classes.update(_counted(class_ids))
        if others is not None:
            differ = class_ids != others
            self.disagreements.update(_counted(class_ids[differ], others[differ]))
        if targets is None:
            return
        known = targets >= 0
        right = class_ids == targets
        self.confusion.update(_counted(targets[known], class_ids[known]))
        if others is not None:
            self.other_right += int((others[known] == targets[known]).sum())
        numbers = np.minimum((scores[known] * BINS).astype(int), BINS - 1)
        for column, weights in enumerate((None, scores[known].astype(np.float64), right[known].astype(np.float64))):
            for number, value in enumerate(np.bincount(numbers, weights, BINS).tolist()):
                self.bins[number][column] += value
        for value, is_known, is_right in zip(slices or (), known, right, strict=False):
            if is_known:
                entry = self.slices.setdefault(str(value), [0, 0])
                entry[0] += 1
                entry[1] += int(is_right)
        if len(self.slices) > MOST_SLICES:
            raise ScoringError(f"the slice column has over {MOST_SLICES} values; take one with fewer")

    def merge(self, other: "Tally") -> None:
        """Add another's counts."""
        self.rows += other.rows
        self.bad_rows += other.bad_rows
        self.first_error = self.first_error or other.first_error
        self.other_right += other.other_right
        self.first_pages += other.first_pages
        for name in ("reasons", "classes", "confusion", "disagreements"):
            getattr(self, name).update(getattr(other, name))
        for mine, theirs in zip(self.bins, other.bins, strict=True):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]
        for value, (rows, right) in other.slices.items():
            entry = self.slices.setdefault(value, [0, 0])
            entry[0] += rows
            entry[1] += right

    @property
    def labelled(self) -> int:
        """Good rows with a true label."""
        return sum(self.confusion.values())

    @property
    def right(self) -> int:
        """Labelled rows that are classified correctly."""
        return sum(count for pair, count in self.confusion.items() if len(set(pair.split(">"))) == 1)

    def accuracy(self) -> float | None:
        """Share of the labelled rows that are right, 0 to 1; None without labels."""
        return self.right / self.labelled if self.labelled else None

    def calibration_error(self) -> float | None:
        """Expected calibration error (Guo et al. 2017), 0 to 1; None without labels."""
        if not self.labelled:
            return None
        return sum(abs(scores - right) for _, scores, right in self.bins) / self.labelled

    def matrix(self, classes: int) -> npt.NDArray[np.int64]:
        """Confusion [C, C], row = true class, column = answer."""
        counts = np.zeros((classes, classes), np.int64)
        for pair, count in self.confusion.items():
            true, answer = map(int, pair.split(">"))
            counts[true, answer] = count
        return counts

    def to_json(self) -> dict[str, Any]:
        """As a sidecar keeps it."""
        # Not dataclasses.asdict: it takes a Counter apart wrongly.
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {
            name: dict(sorted(value.items())) if isinstance(value, dict) else value for name, value in values.items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Tally":
        """From a sidecar."""
        counters = {name: Counter(values[name]) for name in ("reasons", "classes", "confusion", "disagreements")}
        return cls(**values | counters)


def _counted(*columns: Ids) -> dict[str, int]:
    """How often each combination of class ids occurs, by its text "a>b"."""
    if len(columns[0]) == 0:
        return {}
    classes = int(max(column.max() for column in columns)) + 1
    codes = columns[0] if len(columns) == 1 else columns[0] * classes + columns[1]
    values, counts = np.unique(codes, return_counts=True)
    texts = [str(code) if len(columns) == 1 else f"{code // classes}>{code % classes}" for code in values.tolist()]
    return dict(zip(texts, counts.tolist(), strict=True))

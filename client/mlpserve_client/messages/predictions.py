"""The result of a prediction: classes and scores for N images, and the artifact that computed them.

Legend: N images, C classes, K classes returned for each image.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlpserve.shown import shown
from mlpserve_client.errors import ModelChangedError

SHOWN = 10  # images that a printed answer names


@dataclass(frozen=True)
class ModelId:
    """The artifact that answered: name, version and SHA-256 digest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Timing:
    """Time that a call spent in the server; summed over the parts of a large array.

    Attributes:
        queue_seconds: between arrival and the start of the batch.
        run_seconds: duration of the batch.
        batch_images: images in the (largest) batch, including those of other callers.
    """

    queue_seconds: float
    run_seconds: float
    batch_images: int


class Prediction(NamedTuple):
    """The prediction for one image.

    Attributes:
        label: name of the best class.
        score: its probability.
        class_id: its number.
        others: the next best classes, with top_k above 1.
    """

    label: str
    score: float
    class_id: int
    others: tuple["Prediction", ...] = ()


@dataclass(frozen=True, repr=False)
class Predictions:
    """Predictions for N images: a sequence of `Prediction`, in columns. Printed, it is a table.

    Attributes:
        class_ids: int64 [N], the best class; [N, K] with top_k above 1, best first.
        scores: float32, the probabilities of those classes, in the same shape.
        probabilities: float32 [N, C], or None if not requested.
        model: the artifact that answered.
        timing: time in the server, or None if not requested or not supported by the server.
        classes: names of the model's classes, by number; empty where another version answered than the server
            describes.
    """

    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32] | None
    model: ModelId
    timing: Timing | None = None
    classes: tuple[str, ...] = ()

    @property
    def labels(self) -> npt.NDArray[np.object_]:
        """Names of `class_ids`, as str, in the same shape.

        Raises:
            ModelChangedError: the server no longer describes the version that answered.
        """
        if not self.classes:
            raise ModelChangedError(
                f"{self.model.name!r} version {self.model.version} answered, and the server no longer says what its "
                "classes are called; call again, or pin the version"
            )
        return np.array([*self.classes, ""], object)[self.class_ids]

    def __len__(self) -> int:
        return len(self.class_ids)

    def __getitem__(self, row: int) -> Prediction:
        count = len(self)
        if not -count <= row < count:
            raise IndexError(f"image {row} of {count}")
        return next(iter(self.rows(row % count, row % count + 1)))

    def __iter__(self) -> Iterator[Prediction]:
        columns = (column.reshape(len(self), -1).tolist() for column in (self.labels, self.scores, self.class_ids))
        for labels, scores, numbers in zip(*columns, strict=True):
            best, *others = map(Prediction, labels, scores, numbers)
            yield best._replace(others=tuple(others))

    def __repr__(self) -> str:
        """The first rows, as a table."""
        head = f"{len(self):,} predictions of {self.model.name} version {self.model.version}"
        part = self.rows(0, SHOWN)
        if not part.classes:
            part = replace(part, classes=tuple(map(str, range(int(part.class_ids.max(initial=0)) + 1))))
        lines = ["  ".join(_shown(item) for item in (row, *row.others)) for row in part]
        rest = [f"… and {len(self) - SHOWN:,} more"] if len(self) > SHOWN else []
        return "\n".join([head, *lines, *rest])

    def rows(self, start: int, stop: int) -> "Predictions":
        """The predictions for images `start` to `stop`."""
        return Predictions(
            self.class_ids[start:stop],
            self.scores[start:stop],
            None if self.probabilities is None else self.probabilities[start:stop],
            self.model,
            self.timing,
            self.classes,
        )


def _shown(prediction: Prediction) -> str:
    return f"{shown(prediction.label)} {prediction.score:.1%}"

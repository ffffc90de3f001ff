"""What a call to Predict gives: the answers for N images, and the artifact that answered.

Legend: N images, C classes, K classes returned for each image.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ModelId:
    """The artifact that answered: its name, version and SHA-256 digest."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Timing:
    """Where the time of a call went inside the server; of an array that was sent in parts, all of them together.

    Attributes:
        queue_seconds: between arrival and the beginning of the batch.
        run_seconds: that the batch took.
        batch_images: images in the (largest) batch, those of other callers included.
    """

    queue_seconds: float
    run_seconds: float
    batch_images: int


@dataclass(frozen=True)
class Predictions:
    """Answers for N images.

    Attributes:
        class_ids: int64 [N], the best class; [N, K] if more than one was asked for, best first.
        scores: float32, the probabilities of those classes, same shape.
        probabilities: float32 [N, C], or None if not asked for.
        model: what answered.
        timing: how long it took inside the server, or None if not asked for, or if the server does not know of it.
    """

    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32] | None
    model: ModelId
    timing: Timing | None = None

    def __len__(self) -> int:
        return len(self.class_ids)

    def rows(self, start: int, stop: int) -> "Predictions":
        """The answers for images `start` to `stop`."""
        return Predictions(
            self.class_ids[start:stop],
            self.scores[start:stop],
            None if self.probabilities is None else self.probabilities[start:stop],
            self.model,
            self.timing,
        )

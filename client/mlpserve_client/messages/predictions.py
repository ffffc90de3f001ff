"""The result of a prediction: classes and scores for N images, and the artifact that computed them.

Legend: N images, C classes, K classes returned for each image.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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


@dataclass(frozen=True)
class Predictions:
    """Predictions for N images.

    Attributes:
        class_ids: int64 [N], the best class; [N, K] with top_k above 1, best first.
        scores: float32, the probabilities of those classes, in the same shape.
        probabilities: float32 [N, C], or None if not requested.
        model: the artifact that answered.
        timing: time in the server, or None if not requested or not supported by the server.
    """

    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32] | None
    model: ModelId
    timing: Timing | None = None

    def __len__(self) -> int:
        return len(self.class_ids)

    def rows(self, start: int, stop: int) -> "Predictions":
        """The predictions for images `start` to `stop`."""
        return Predictions(
            self.class_ids[start:stop],
            self.scores[start:stop],
            None if self.probabilities is None else self.probabilities[start:stop],
            self.model,
            self.timing,
        )

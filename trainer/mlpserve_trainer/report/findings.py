"""What a report shows, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlpserve_trainer.fit import Epoch
from mlpserve_trainer.robustness import Curve


@dataclass(frozen=True)
class Findings:
    """What a report shows.

    Attributes:
        epochs: history of the fit.
        published: number of the epoch whose weights the files have.
        confusion: [C, C] counts on the test set, row = true class, column = answer.
        images: test images uint8 [N, rows, cols].
        targets: their classes [N].
        probabilities: the float32 file's answers [N, C].
        weights: weights of each layer [inputs, units], as trained.
        exciting: for some units of the layer after the first, the mean of the validation images that excite them most,
            float32 [units, rows, cols].
        robustness: accuracy on disturbed test images.
    """

    epochs: Sequence[Epoch]
    published: int
    confusion: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    weights: Sequence[npt.NDArray[np.float32]]
    exciting: npt.NDArray[np.float32]
    robustness: Sequence[Curve]

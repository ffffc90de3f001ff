"""The contents of a report, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlpserve_trainer.data import Dataset
from mlpserve_trainer.evaluation import evaluate, robustness
from mlpserve_trainer.evaluation.evaluate import Evaluated
from mlpserve_trainer.evaluation.robustness import Curve
from mlpserve_trainer.evaluation.top_activating import top_activating_images
from mlpserve_trainer.export import Exported
from mlpserve_trainer.fitting.fit import Epoch, Fit
from mlpserve_trainer.networks.mlp import MLP


@dataclass(frozen=True)
class Findings:
    """The contents of a report.

    Attributes:
        epochs: history of the fit.
        published: number of the epoch whose weights are published.
        confusion: [C, C] counts on the test set, row = true class, column = predicted class.
        images: test images uint8 [N, rows, cols].
        targets: their classes [N].
        probabilities: the float32 file's answers [N, C].
        weights: weights of each layer [inputs, units], as trained.
        top_activating: for some units of the layer after the first, the mean of the validation images that activate
            them most, float32 [units, rows, cols].
        robustness: accuracy on perturbed test images.
    """

    epochs: Sequence[Epoch]
    published: int
    confusion: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    weights: Sequence[npt.NDArray[np.float32]]
    top_activating: npt.NDArray[np.float32]
    robustness: Sequence[Curve]


def gather(dataset: Dataset, fit: Fit[MLP], exported: Exported, evaluated: Sequence[Evaluated]) -> Findings:
    """Collect the contents of a run's report, from its float32 file."""
    file, result = exported.files[0], evaluated[0]
    return Findings(
        epochs=fit.epochs,
        published=fit.chosen.number,
        confusion=result.confusion,
        images=dataset.test.images.numpy().reshape(-1, dataset.rows, dataset.cols),
        targets=dataset.test.targets.numpy(),
        probabilities=result.probabilities,
        weights=[layer.weight.detach().numpy().T for layer in exported.classifier.mlp.linears],
        top_activating=top_activating_images(exported.classifier, dataset),
        robustness=robustness.curves(
            dataset, lambda images: evaluate.answers(file, images).argmax(axis=1).astype("int64")
        ),
    )

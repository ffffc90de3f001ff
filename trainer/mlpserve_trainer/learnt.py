"""Which images excite the units of the second layer, for the report."""

import numpy as np
import numpy.typing as npt
import torch

from mlpserve_trainer.data import Dataset
from mlpserve_trainer.mlp import MLP, Classifier, normalise

UNITS = 10  # of the second layer, at most
IMAGES = 4096  # validation images that are looked at, at most
MOST_EXCITING = 16  # images averaged


@torch.no_grad()
def exciting_images(classifier: Classifier[MLP], dataset: Dataset) -> npt.NDArray[np.float32]:
    """The mean of the validation images that excite each of the second layer's first units most, [units, rows, cols].

    A network without a second layer has none.
    """
    layers = classifier.mlp.linears
    if len(layers) < 2:
        return np.zeros((0, dataset.rows, dataset.cols), np.float32)
    images = dataset.validation.images[:IMAGES]
    hidden = classifier.mlp.first_activations(normalise(images, classifier.mean, classifier.deviation))
    excitement = layers[1](hidden)[:, :UNITS]
    count = min(MOST_EXCITING, len(images))
    best = excitement.topk(count, dim=0).indices.T
    means: npt.NDArray[np.float32] = images[best].float().mean(dim=1).numpy()
    return means.reshape(-1, dataset.rows, dataset.cols)

"""The images that activate the second layer's units most, for the report."""

import numpy as np
import numpy.typing as npt
import torch

from mlpserve_trainer.data import Dataset
from mlpserve_trainer.networks.mlp import MLP, Classifier, normalise

UNITS = 10  # of the second layer, at most
IMAGES = 4096  # validation images used, at most
AVERAGED = 16  # images averaged


@torch.no_grad()
def top_activating_images(classifier: Classifier[MLP], dataset: Dataset) -> npt.NDArray[np.float32]:
    """The mean of the validation images that activate each of the second layer's first units most, [units, rows, cols].

    Empty for a network without a second layer.
    """
    layers = classifier.mlp.linears
    if len(layers) < 2:
        return np.zeros((0, dataset.rows, dataset.cols), np.float32)
    images = dataset.validation.images[:IMAGES]
    hidden = classifier.mlp.first_activations(normalise(images, classifier.mean, classifier.deviation))
    activations = layers[1](hidden)[:, :UNITS]
    count = min(AVERAGED, len(images))
    best = activations.topk(count, dim=0).indices.T
    means: npt.NDArray[np.float32] = images[best].float().mean(dim=1).numpy()
    return means.reshape(-1, dataset.rows, dataset.cols)

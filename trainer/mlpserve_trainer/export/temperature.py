"""Temperature scaling (Guo, Pleiss, Sun and Weinberger 2017): calibrated probabilities.

The logits are divided by the temperature that maximises the likelihood of the validation labels. The division is folded
into the last layer, so it adds no operator to the published network and costs nothing when serving.
"""

import copy

import torch

from mlpserve_trainer.data import Split
from mlpserve_trainer.networks.mlp import MLP, Classifier, normalise

LOWEST, HIGHEST = 0.05, 20.0  # temperatures


@torch.no_grad()
def fitted_temperature(classifier: Classifier[MLP], validation: Split) -> float:
    """The temperature that minimises the cross-entropy of the validation split.

    The cross-entropy is convex in 1 / temperature, so bisection on the sign of its slope finds the minimum. One more
    image, of unknown class, is counted in, because a small split without a mistake would otherwise ask for certainty.
    """
    x = normalise(validation.images, classifier.mean, classifier.deviation)
    logits = classifier.mlp(x).double()
    count = len(logits)
    wanted = (logits.gather(1, validation.targets[:, None]).sum() + logits.mean()) / (count + 1)
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((logits * middle).softmax(dim=1) * logits).sum(dim=1).mean()  # by the predicted probabilities
        low, high = (middle, high) if wanted > expected else (low, middle)
    return 2 / (low + high)


@torch.no_grad()
def scaled(classifier: Classifier[MLP], temperature: float) -> Classifier[MLP]:
    """A copy of a classifier whose logits are divided by a temperature."""
    result = copy.deepcopy(classifier)
    last = result.mlp.linears[-1]
    last.weight.div_(temperature)
    last.bias.div_(temperature)
    return result

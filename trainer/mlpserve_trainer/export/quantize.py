"""Folding the normalisation into the first layer, and int8 weights for it.

The pixels are bytes already, so the first layer can be an exact integer product: only its weights are rounded, with one
scale for each unit (`rounding.py`).

Weights stay within ±63. CPUs without VNNI multiply uint8 by int8 with an instruction that adds two neighbouring
products in a saturating int16 (VPMADDUBSW): 2 × 255 × 63 = 32,130 fits below 32,767, 2 × 255 × 127 does not, and
bright rows would come out wrong there. With ±63 every CPU computes the same integers.

Legend: D pixels, H units of a layer, C classes, N images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf

import numpy as np
import numpy.typing as npt

from mlpserve_trainer.export.rounding import rounded
from mlpserve_trainer.networks.mlp import MLP, Classifier

WEIGHT_LIMIT = 63
SAMPLE = 4096  # images over which the rounding error is minimised

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """One layer: x @ weights + biases, and for a quantised first layer (x @ weights) * scales + biases.

    Attributes:
        weights: [inputs, H], float32, or int8 with scales.
        biases: [H], float32.
        scales: [H], float32; None for float32 weights.
    """

    weights: npt.NDArray[np.float32] | npt.NDArray[np.int8]
    biases: Floats
    scales: Floats | None = None


@dataclass(frozen=True)
class FoldedNetwork:
    """The layers of an ONNX file: bytes in, logits out, with the normalisation folded into the first layer."""

    layers: tuple[Dense, ...]
    activation: str

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Images [N, D] to probabilities [N, C] in float64, for the golden samples.

        In float64 the machine makes no difference that a float32 result could show.
        """
        x = images.astype(np.float64)
        for index, layer in enumerate(self.layers):
            x = x @ layer.weights.astype(np.float64)
            if layer.scales is not None:
                x = x * layer.scales
            x = x + layer.biases
            if index < len(self.layers) - 1:
                x = ACTIVATIONS[self.activation](x)
        exponentials = np.exp(x - x.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result


def _gelu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    return result


ACTIVATIONS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": _gelu,
}


def fold(classifier: Classifier[MLP]) -> FoldedNetwork:
    """The classifier as float32 layers over raw bytes.

    With x = (p / 255 - mean) / deviation, x W + b is p (W / (255 deviation)) + (b - mean / deviation · ΣW).
    """
    (weights, biases), *rest = _float64_layers(classifier)
    first = Dense(
        (weights / (255 * classifier.deviation)).astype(np.float32), _folded_biases(classifier, weights, biases)
    )
    return FoldedNetwork((first, *_float32_layers(rest)), classifier.mlp.activation)


def fold_int8(classifier: Classifier[MLP], images: npt.NDArray[np.uint8]) -> FoldedNetwork:
    """The classifier with int8 weights in the first layer, rounded per unit to at most ±`WEIGHT_LIMIT`.

    Args:
        classifier: the trained network.
        images: training images [N, D]. The rounding minimises the error of the sums over the first of them, and the
            bias corrects what remains of their mean.
    """
    (weights, biases), *rest = _float64_layers(classifier)
    steps = np.abs(weights).max(axis=0) / WEIGHT_LIMIT
    steps[steps == 0] = 1  # a unit without weights
    sample = (images[:SAMPLE] / 255 - classifier.mean) / classifier.deviation
    whole = rounded(weights, steps, WEIGHT_LIMIT, sample)
    biases = biases + sample.mean(axis=0) @ (weights - whole * steps)
    first = Dense(
        whole.astype(np.int8),
        _folded_biases(classifier, whole * steps, biases),
        (steps / (255 * classifier.deviation)).astype(np.float32),
    )
    return FoldedNetwork((first, *_float32_layers(rest)), classifier.mlp.activation)


Float64Layer = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _float64_layers(classifier: Classifier[MLP]) -> list[Float64Layer]:
    """Weights [inputs, H] and biases [H] of each layer; a single neuron becomes two columns, the first one zero."""
    layers = [
        (
            layer.weight.detach().cpu().numpy().astype(np.float64).T,
            layer.bias.detach().cpu().numpy().astype(np.float64),
        )
        for layer in classifier.mlp.linears
    ]
    weights, biases = layers[-1]
    if weights.shape[1] == 1:
        layers[-1] = (np.pad(weights, ((0, 0), (1, 0))), np.pad(biases, (1, 0)))
    return layers


def _folded_biases(
    classifier: Classifier[MLP], weights: npt.NDArray[np.float64], biases: npt.NDArray[np.float64]
) -> Floats:
    folded: Floats = (biases - classifier.mean / classifier.deviation * weights.sum(axis=0)).astype(np.float32)
    return folded


def _float32_layers(layers: list[Float64Layer]) -> list[Dense]:
    return [Dense(weights.astype(np.float32), biases.astype(np.float32)) for weights, biases in layers]

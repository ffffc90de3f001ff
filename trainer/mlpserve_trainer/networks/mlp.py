"""The network: a multi-layer perceptron.

`MLP(inputs=784, hidden=(256,), classes=10, activation="relu")` is the textbook's MNIST network with 203,530
parameters; `MLP(inputs, hidden=(), classes=1, activation="sigmoid")` is a single neuron.
"""

from itertools import pairwise
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


class MLP(nn.Module):
    """A multi-layer perceptron that returns class logits.

    Args:
        inputs: pixels in an image, D.
        hidden: units in each hidden layer; empty for none.
        classes: classes, C. With 1 the network ends in a single neuron whose logit z stands for two classes as
            (0, z): their softmax is (1 - sigmoid(z), sigmoid(z)), so everything downstream sees two classes.
        activation: of the hidden layers, a key of `ACTIVATION_MODULES`.

    Raises:
        ValueError: a size is below 1 or the activation is unknown.
    """

    def __init__(
        self, inputs: int = 784, hidden: tuple[int, ...] = (256,), classes: int = 10, activation: str = "relu"
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden, classes)
        if min(sizes) < 1:
            raise ValueError(f"every layer needs at least one unit, got {sizes}")
        if activation not in ACTIVATION_MODULES:
            raise ValueError(f"unknown activation {activation!r}, expected one of {sorted(ACTIVATION_MODULES)}")
        self.sizes = sizes
        self.activation = activation
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(sizes))
        self._activate = ACTIVATION_MODULES[activation]()
        for layer in self.linears:
            nn.init.xavier_uniform_(layer.weight)  # Glorot and Bengio 2010
            nn.init.zeros_(layer.bias)

    @property
    def linears(self) -> list[nn.Linear]:
        """The layers in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels [N, D] to logits [N, max(C, 2)]."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self._activate(layer(x))
        logits: Tensor = last(x)
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits

    def first_activations(self, x: Tensor) -> Tensor:
        """Activations of the first layer [N, H] for normalised pixels [N, D]."""
        activations: Tensor = self._activate(self.layers[0](x))
        return activations

    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters())

    def parameter_table(self) -> str:
        """A table for people: one line per layer, and the total."""
        rows = [
            (f"linear {layer.in_features} → {layer.out_features}", layer.weight.numel() + layer.bias.numel())
            for layer in self.linears
        ]
        rows.append(("total", self.parameter_count()))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {count:>10,} parameters" for name, count in rows)


class Classifier(nn.Module, Generic[Network]):
    """A network with its input normalisation and its softmax: raw bytes in, probabilities out.

    The exported ONNX files are compared with it.

    Args:
        mlp: the trained network; a teacher need not be an MLP.
        mean: mean of the training pixels, scaled to 0..1.
        deviation: standard deviation of the training pixels, scaled to 0..1.
    """

    def __init__(self, mlp: Network, mean: float, deviation: float) -> None:
        super().__init__()
        self.mlp = mlp
        self.mean = mean
        self.deviation = deviation

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [N, D] to probabilities float32 [N, C]."""
        probabilities: Tensor = self.mlp(normalise(images, self.mean, self.deviation)).softmax(dim=1)
        return probabilities


def normalise(images: Tensor, mean: float, deviation: float) -> Tensor:
    """Bytes [N, D] to float32 (pixel / 255 - mean) / deviation."""
    # A subtraction that also converts, and an in-place product, because this runs in every training step.
    return torch.sub(images, 255 * mean).mul_(1 / (255 * deviation))

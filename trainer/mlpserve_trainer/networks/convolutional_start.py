"""A small convolutional network that initialises an MLP.

A convolution is a matrix with many zeros and repeated values. An MLP whose first layers are the matrices of trained
convolutions is equivalent to them, and further training can change every weight independently (d'Ascoli, Sagun, Biroli
and Bruna 2019, "Finding the needle in the haystack with convolutions").
"""

import torch
from torch import Tensor, nn

from mlpserve_trainer.networks.convolutional import fold_normalisations
from mlpserve_trainer.networks.mlp import ACTIVATION_MODULES, MLP

MOST_PLACES = 14  # rows and columns of the first feature map: they bound the matrices whatever the images' size
COARSE_PLACES = 7  # rows and columns that further maps keep, so that more layers do not cost resolution
AT_ONCE = 256  # columns of a matrix written out together


class ConvStart(nn.Module):
    """Strided convolutions with batch normalisation (Ioffe and Szegedy 2015), then the remaining layers of the MLP.

    Args:
        rows, cols: size of the images.
        channels: of each convolution. The first has the stride that leaves at most 14 rows and columns, the others
            halve both until they are at most 7; kernels overlap by half.
        hidden: units of the remaining layers.
        classes: C.
        activation: of all layers, a key of `ACTIVATION_MODULES`.
    """

    def __init__(
        self, rows: int, cols: int, channels: tuple[int, ...], hidden: tuple[int, ...], classes: int, activation: str
    ) -> None:
        super().__init__()
        self._size = rows, cols
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip((1, *channels), channels, _strides(rows, cols, len(channels)), strict=False):
            down, right = stride
            kernel = 2 * down + 1, 2 * right + 1
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=stride, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), ACTIVATION_MODULES[activation]()]
        self.features = nn.Sequential(*layers)
        self.rest = MLP(map_sizes(rows, cols, channels)[-1], hidden, classes, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels [N, D] to logits [N, C]."""
        logits: Tensor = self.rest(self.features(x.view(-1, 1, *self._size)).flatten(1))
        return logits

    @torch.no_grad()
    def write_into(self, mlp: MLP) -> None:
        """Make an MLP with the layers `map_sizes` and `hidden` equivalent to this network."""
        layers = iter(mlp.linears)
        rows, cols = self._size
        for convolution in fold_normalisations(self.features):
            if not isinstance(convolution, nn.Conv2d):
                continue
            nothing = convolution(convolution.weight.new_zeros(1, convolution.in_channels, rows, cols))
            layer = next(layers)
            layer.bias.copy_(nothing.flatten())
            for columns, pixels in zip(
                layer.weight.split(AT_ONCE, dim=1), torch.eye(layer.in_features).split(AT_ONCE), strict=True
            ):
                pictures = pixels.view(-1, convolution.in_channels, rows, cols).to(nothing.device)
                columns.copy_((convolution(pictures) - nothing).flatten(1).T)
            rows, cols = nothing.shape[2:]
        for layer, source in zip(layers, self.rest.linears, strict=True):
            layer.load_state_dict(source.state_dict())


def map_sizes(rows: int, cols: int, channels: tuple[int, ...]) -> tuple[int, ...]:
    """Size of each convolution's feature map: the number of units of the corresponding dense layer."""
    sizes = []
    for count, (down, right) in zip(channels, _strides(rows, cols, len(channels)), strict=True):
        rows, cols = -(-rows // down), -(-cols // right)
        sizes.append(count * rows * cols)
    return tuple(sizes)


def _strides(rows: int, cols: int, count: int) -> list[tuple[int, int]]:
    """Of each convolution, down and to the right."""
    return list(zip(_steps(rows, count), _steps(cols, count), strict=True))


def _steps(places: int, count: int) -> list[int]:
    steps: list[int] = []
    for _ in range(count):
        step = 1 + (places > COARSE_PLACES) if steps else -(-places // MOST_PLACES)
        places = -(-places // step)
        steps.append(step)
    return steps

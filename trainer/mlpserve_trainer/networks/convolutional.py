"""A small convolutional network that serves only as a teacher; it is never published.

Convolutions are translation-equivariant, so such a teacher is better after 15 epochs than an MLP after 150. An MLP that
is distilled from it on ever new augmented images comes close to it.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNELS = (32, 64, 128)
GRID = 4  # rows and columns of the last feature map; 28 × 28 images give this size anyway


class ConvNet(nn.Module):
    """Four convolutions with batch normalisation (Ioffe and Szegedy 2015), then one linear layer.

    Args:
        rows, cols: size of the images.
        classes: C.
    """

    def __init__(self, rows: int, cols: int, classes: int) -> None:
        super().__init__()
        self._rows, self._cols = rows, cols
        first, second, third = CHANNELS
        self.features = nn.Sequential(
            *_convolution(1, first, size=5, stride=2),
            *_convolution(first, second),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(second, third),
            *_convolution(third, third, stride=2),
            nn.AdaptiveAvgPool2d(GRID),
        )
        self.last = nn.Linear(third * GRID * GRID, classes)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pixels [N, D] to logits [N, C]."""
        pictures = x.view(-1, 1, self._rows, self._cols).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.last(self.features(pictures).flatten(1))
        return logits

    def folded(self) -> "ConvNet":
        """An equivalent copy for inference only, a quarter faster."""
        other = copy.deepcopy(self)
        other.features = fold_normalisations(other.features)
        return other.requires_grad_(False).eval()


def fold_normalisations(layers: nn.Sequential) -> nn.Sequential:
    """Equivalent layers, with each batch normalisation folded into the preceding convolution."""
    folded: list[nn.Module] = []
    for layer in copy.deepcopy(layers).eval():
        if isinstance(layer, nn.BatchNorm2d):
            convolution = folded.pop()
            assert isinstance(convolution, nn.Conv2d)
            folded.append(fuse_conv_bn_eval(convolution, layer))
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

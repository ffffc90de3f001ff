"""Data augmentation: random affine and elastic warps on the device, so that no image is seen twice in the same shape.

Simard, Steinkraus and Platt 2003 ("Best practices for convolutional neural networks") displace every pixel by a random
field that a Gaussian has smoothed. Here the field is a cubic B-spline over a few random control points, which is as
smooth and needs no convolution: where every pixel is sampled from is linear in the affine map's six numbers and the
control points, so the sampling grids of a whole batch are one matrix product.

Legend: N images, P pixels, K numbers for each axis.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

# Half-widths of the uniform draws at strength 1, which suit digits.
ROTATION = math.radians(12)
SCALE = 0.12  # of the logarithm of each axis' scale
SHEAR = 0.12
SHIFT = 1.5 / 28  # of the image's size
ELASTIC = 1.2 / 28  # standard deviation of a control point, of the image's size
CELLS = 4  # of the control grid along each axis; it has CELLS + 3 points

AT_ONCE = 256  # images warped together on a CPU, so that their grids stay in its cache


class Warp:
    """Random warps for images of one size.

    Args:
        rows, cols: size of the images.
        strength: factor on every half-width above.
        beyond: what lies outside an image: "zeros", or its "border".
        device: of the images.
    """

    def __init__(self, rows: int, cols: int, strength: float, beyond: str, device: torch.device) -> None:
        self._rows, self._cols = rows, cols
        self._strength = strength
        self._beyond = beyond
        control = np.einsum("yi,xj->yxij", _cubic_b_splines(rows), _cubic_b_splines(cols)).reshape(rows * cols, -1)
        y, x = np.mgrid[:rows, :cols].astype(np.float64)
        affine = np.stack([y - (rows - 1) / 2, x - (cols - 1) / 2, np.ones((rows, cols))], axis=2).reshape(-1, 3)
        basis = np.concatenate([affine, control], axis=1).T  # [K, P]
        self._numbers = len(basis)
        # Both axes in one product: rows 0..K move the source's y, which is the grid's second column, the rest its x.
        both = np.zeros((2 * self._numbers, rows * cols, 2), np.float32)
        both[: self._numbers, :, 1] = basis * 2 / rows
        both[self._numbers :, :, 0] = basis * 2 / cols
        self._basis = torch.from_numpy(both.reshape(2 * self._numbers, -1)).to(device)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Random warps for `count` images, float32 [N, 2 K]."""
        device, size, strength = self._basis.device, self._numbers, self._strength
        uniform = torch.rand((6, count), generator=generator, device=device) * 2 - 1
        normal = torch.randn((count, 2 * size), generator=generator, device=device)
        angle, stretch_y, stretch_x, shear, shift_y, shift_x = uniform * strength
        numbers = normal * (ELASTIC * strength)
        numbers[:, :size] *= self._rows
        numbers[:, size:] *= self._cols
        numbers[:, [0, 1, size, size + 1]] = self._affine(
            angle * ROTATION, (stretch_y * SCALE).exp(), (stretch_x * SCALE).exp(), shear * SHEAR
        )
        numbers[:, 2] = shift_y * (SHIFT * self._rows)
        numbers[:, size + 2] = shift_x * (SHIFT * self._cols)
        return numbers

    def draw_further(self, count: int, generator: torch.Generator) -> Tensor:
        """Random small changes to add to existing warps, float32 [N, 2 K]."""
        numbers = self.draw(count, generator)
        numbers[:, 0] -= 1
        numbers[:, self._numbers + 1] -= 1
        return numbers

    def fixed(self, count: int, *, degrees: float = 0.0, down: float = 0.0, right: float = 0.0) -> Tensor:
        """The same rotation and shift, in pixels, for `count` images, float32 [N, 2 K]."""
        numbers = torch.zeros((count, 2 * self._numbers), device=self._basis.device)
        device = self._basis.device
        one, none = torch.ones(count, device=device), torch.zeros(count, device=device)
        angle = torch.full((count,), math.radians(degrees), device=device)
        numbers[:, [0, 1, self._numbers, self._numbers + 1]] = self._affine(angle, one, one, none)
        numbers[:, 2], numbers[:, self._numbers + 2] = -down, -right
        return numbers

    @staticmethod
    def _affine(angle: Tensor, stretch_y: Tensor, stretch_x: Tensor, shear: Tensor) -> Tensor:
        """The four numbers of each linear map, [N, 4]: y from y and x, x from y and x."""
        cos, sin = angle.cos(), angle.sin()
        rows = [stretch_y * cos, -stretch_y * sin, stretch_x * (sin + shear * cos), stretch_x * (cos - shear * sin)]
        return torch.stack(rows, dim=1)

    def apply(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Apply warps to images [N, P] with bilinear interpolation; float32 [N, P] on the same scale."""
        at_once = AT_ONCE if images.device.type == "cpu" else max(1, len(images))
        parts = [self._sample(*part) for part in zip(images.split(at_once), numbers.split(at_once), strict=True)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _sample(self, images: Tensor, numbers: Tensor) -> Tensor:
        size = (self._rows, self._cols)
        grid = (numbers @ self._basis).view(-1, *size, 2)
        pictures = images.float().view(-1, 1, *size)
        warped = nn.functional.grid_sample(pictures, grid, padding_mode=self._beyond, align_corners=False)
        return warped.flatten(1)


def _cubic_b_splines(size: int) -> npt.NDArray[np.float64]:
    """Weight of each of the CELLS + 3 control points at each of `size` places, [size, CELLS + 3]."""
    place = np.linspace(0, CELLS, size) if size > 1 else np.zeros(1)
    cell = np.minimum(place.astype(int), CELLS - 1)
    u = place - cell
    weights = np.zeros((size, CELLS + 3))
    parts = ((1 - u) ** 3 / 6, (3 * u**3 - 6 * u**2 + 4) / 6, (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6, u**3 / 6)
    for offset, part in enumerate(parts):
        weights[np.arange(size), cell + offset] = part
    return weights

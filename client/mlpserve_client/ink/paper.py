"""The paper under the ink: its frame, its brightness and its grain."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from mlpserve_client.errors import InvalidInputError

Amounts = npt.NDArray[np.floating[Any]]

FAINTEST = 0.04  # least contrast, as a share of white, that counts as ink
OF_NOISE = 6.0  # times the paper's noise that ink must stand out at least
SLOPE_ROUNDS = 6  # of fitting the light on the paper, each without what lies off it
EVEN = 24  # brightness between the lightest and darkest of a border that is one colour
DIFFERS = 40  # brightness by which a frame differs from what it frames
DEEPEST_FRAME = 0.35  # of a picture's side
MOST_FRAMES = 4  # one in another


def _border(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def brightness(pixels: npt.NDArray[np.uint8]) -> float:
    """Brightness of the paper, roughly: of an even border, otherwise of most of the picture."""
    border = _border(pixels).astype(np.int16)
    edge = float(np.median(border))
    return edge if (np.abs(border - edge) <= DIFFERS).mean() > 0.85 else float(np.median(pixels))


def without_frames(grey: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """The picture inside its frames, and where its left upper corner was."""
    left = top = 0
    for _ in range(MOST_FRAMES):
        pixels = np.asarray(grey)
        depths = _frame(pixels)
        if depths is None:
            break
        height, width = pixels.shape
        box = (depths[2], depths[0], width - depths[3], height - depths[1])
        left, top = left + box[0], top + box[1]
        grey = grey.crop(box)
    return grey, (left, top)


def _frame(pixels: npt.NDArray[np.uint8]) -> tuple[int, int, int, int] | None:
    """How deep an even frame of another brightness is, at the top, bottom, left and right; None for none."""
    if min(pixels.shape) < 12:
        return None
    edge = float(np.median(_border(pixels)))
    if (np.abs(_border(pixels).astype(float) - edge) > DIFFERS).mean() > 0.15:
        return None
    depths = []
    for lines in (pixels, pixels[::-1], pixels.T, pixels.T[::-1]):
        most = int(DEEPEST_FRAME * len(lines))
        differs = np.flatnonzero(np.abs(np.median(lines[:most], axis=1) - edge) > DIFFERS)
        if not len(differs):
            return None
        depths.append(int(differs[0]) + 1)  # the first line of what it frames may be a mixture
    top, bottom, left, right = depths
    inside = pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
    if min(inside.shape, default=0) < 6:
        return None
    ring = _border(inside).astype(float)
    return (top, bottom, left, right) if (np.abs(ring - np.median(ring)) <= DIFFERS).mean() > 0.85 else None


def under(grey: Image.Image) -> Amounts:
    """Brightness of the paper under the ink: of an even border its own, otherwise of what is around."""
    border = _border(np.asarray(grey))
    low, high = np.percentile(border, (5, 95))
    if high - low <= EVEN // 2:
        return np.full((grey.height, grey.width), float(np.median(border)))
    small = grey.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    reach = max(small.size) // 8 * 2 + 1
    pixels = np.asarray(small, np.float32)
    slope = _slope(pixels)
    # Whatever is darker than its surroundings and narrower than the reach is gone.
    rest = Image.fromarray((pixels - slope).astype(np.float32))
    closed = np.asarray(rest.filter(ImageFilter.MaxFilter(reach)).filter(ImageFilter.MinFilter(reach)), np.float32)
    paper = Image.fromarray((slope + _blurred(closed, max(1.0, reach / 8))).astype(np.float32))
    return np.asarray(paper.resize(grey.size, Image.Resampling.BILINEAR), np.float32)


def _slope(pixels: Amounts) -> Amounts:
    """The smooth surface, of second degree, on which most of the paper lies."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in pixels.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    values = pixels.ravel()
    kept = np.ones(len(values), bool)
    surface = values
    for _ in range(SLOPE_ROUNDS):
        weights, *_ = np.linalg.lstsq(terms[kept], values[kept], rcond=None)
        surface = terms @ weights
        off = values - surface
        spread = max(float(np.median(np.abs(off[kept]))), 2.0)
        kept = (off > -2 * spread) & (off < 4 * spread)
        if kept.sum() < 12:
            return np.zeros_like(pixels)
    result: Amounts = surface.reshape(pixels.shape)
    return result


def _blurred(values: Amounts, radius: float) -> Amounts:
    reach = int(3 * radius)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if axis == which else (0, 0) for which in (0, 1)], mode="edge")
        length = values.shape[axis]
        values = sum(
            weight * padded.take(range(place, place + length), axis=axis) for place, weight in enumerate(kernel)
        )
    return values


def noise_of(pixels: npt.NDArray[np.uint8]) -> float:
    """Standard deviation of the paper's grain, of white: of differences between neighbours, most of which are paper."""
    if min(pixels.shape) < 8:
        return 0.0
    return float(np.abs(np.diff(pixels.astype(np.int16), axis=1)).mean(where=_usual(pixels))) / 288


def _usual(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a pixel and its neighbour to the right are both of the more frequent brightness, as paper is."""
    differences = np.abs(np.diff(pixels.astype(np.int16), axis=1))
    usual: npt.NDArray[np.bool_] = differences <= max(4, 3 * int(np.median(differences)))
    return usual


def strongest_ink(darkness: Amounts, noise: float) -> float:
    """How dark the ink is.

    Raises:
        InvalidInputError: nothing is dark enough.
    """
    least = max(FAINTEST, OF_NOISE * noise)
    dark = darkness[darkness > least / 2]
    top = np.sort(dark)[-max(1, len(dark) // 20) :] if len(dark) else np.zeros(1)
    strongest = float(top[0])
    if strongest < least:
        raise InvalidInputError("no ink found: the picture is all of one brightness")
    return strongest

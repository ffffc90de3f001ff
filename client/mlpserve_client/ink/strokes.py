"""How wide the strokes of a sign are, and the sign with strokes as wide as those of MNIST."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Amounts = npt.NDArray[np.floating[Any]]

STROKE = 0.12  # width of MNIST's strokes, of the height of their digits
LARGE_ENOUGH = 240  # pixels; to make strokes wider or finer
WIDEST, FINEST = 0.22, 0.085  # of strokes that are left as they are


def stroke_width(ink: Amounts) -> float:
    """Mean width of strokes in pixels: their area over half their outline."""
    around = np.pad(ink, 1)
    outline = (np.abs(np.diff(around, axis=0)).sum() + np.abs(np.diff(around, axis=1)).sum()) * np.pi / 4
    return float(2 * ink.sum() / max(outline, 1e-9))


def as_wide(ink: Amounts) -> Amounts:
    """Ink whose strokes are about as wide as MNIST's, for the size of the sign."""
    tall = max(ink.shape)
    if tall > LARGE_ENOUGH:
        size = (max(1, round(ink.shape[1] * LARGE_ENOUGH / tall)), max(1, round(ink.shape[0] * LARGE_ENOUGH / tall)))
        ink = np.asarray(_picture(ink).resize(size, Image.Resampling.BOX), np.float32) / 255
        if ink.any():
            ink = np.clip(ink / float(np.percentile(ink[ink > 0], 90)), 0, 1)
        tall = max(ink.shape)
    elif tall < 60:  # enough pixels to make strokes wider or finer by less than half of what they are
        scale = -(-120 // tall)
        size = (ink.shape[1] * scale, ink.shape[0] * scale)
        ink = np.asarray(_picture(ink).resize(size, Image.Resampling.BICUBIC), np.float32) / 255
        tall = max(ink.shape)
    width = stroke_width(ink)
    if FINEST * tall <= width <= WIDEST * tall:
        return ink
    wanted = STROKE if width < FINEST * tall else WIDEST
    grow = (wanted * tall - width) / 2
    steps = min(round(abs(grow)), tall // 8)
    if grow > 0:
        ink = np.pad(ink, steps + 1)
    picture = _picture(ink)
    for number in range(steps):
        # A square, then a cross, in turn: nearly a circle.
        picture = _grown(picture, square=number % 2 == 0, wider=grow > 0)
    result = np.asarray(picture, np.float32) / 255
    if not result.any():
        return ink
    rows, cols = np.flatnonzero(result.any(axis=1)), np.flatnonzero(result.any(axis=0))
    return result[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _grown(picture: Image.Image, *, square: bool, wider: bool) -> Image.Image:
    if square:
        return picture.filter(ImageFilter.MaxFilter(3) if wider else ImageFilter.MinFilter(3))
    pixels = np.pad(np.asarray(picture), 1, mode="edge")
    around = (pixels[1:-1, 1:-1], pixels[:-2, 1:-1], pixels[2:, 1:-1], pixels[1:-1, :-2], pixels[1:-1, 2:])
    return Image.fromarray((np.maximum if wider else np.minimum).reduce(around))


def _picture(ink: Amounts) -> Image.Image:
    return Image.fromarray(np.round(255 * ink).astype(np.uint8))

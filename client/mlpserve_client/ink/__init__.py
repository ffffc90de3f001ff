"""Where the ink of a picture is, whatever pen, paper, light and frame it has.

Grey picture → without its frame, bright paper → how dark each pixel is beside its paper → without ruled lines, specks
and edges of the paper → as wide strokes as MNIST's.

paper.py     frames, brightness, grain
pieces.py    ruled lines, specks, edges
strokes.py   their width
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from mlpserve_client.errors import InvalidInputError
from mlpserve_client.ink import paper, pieces, strokes

Amounts = npt.NDArray[np.floating[Any]]

WORKING_SIZE = 640  # pixels; larger pictures are shrunk first, each pixel the mean of those that it takes the place of
SMALL = 160  # pixels; a sign that is smaller than this in a shrunk picture is looked at again in the whole one
GRAINY = 0.012  # noise from which on a picture is smoothed


def find_ink(grey: Image.Image) -> Amounts:
    """How much ink is where, 0 to 1, cropped to the ink.

    Raises:
        InvalidInputError: there is none.
    """
    small = grey.copy() if max(grey.size) <= WORKING_SIZE else grey.resize(_shrunk(grey.size), Image.Resampling.BOX)
    found = _found(small)
    left, top, right, bottom = found.box
    scale = grey.width / small.width
    if scale > 1 and max(right - left, bottom - top) < SMALL:
        margin = max(right - left, bottom - top) // 2 + 2
        near = (max(left - margin, 0), max(top - margin, 0), right + margin, bottom + margin)
        region = [round(scale * side) for side in near]
        near_by = grey.crop((region[0], region[1], min(region[2], grey.width), min(region[3], grey.height)))
        if max(near_by.size) > WORKING_SIZE:
            near_by = near_by.resize(_shrunk(near_by.size), Image.Resampling.BOX)
        with contextlib.suppress(InvalidInputError):
            found = _found(near_by)
            left, top, right, bottom = found.box
    return strokes.as_wide(found.ink[top:bottom, left:right])


@dataclass(frozen=True)
class _Found:
    """Ink in a picture.

    Attributes:
        ink: how much is where, 0 to 1.
        box: left, top, right and bottom of it.
    """

    ink: Amounts
    box: tuple[int, int, int, int]


def _shrunk(size: tuple[int, int]) -> tuple[int, int]:
    scale = WORKING_SIZE / max(size)
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def _found(grey: Image.Image) -> _Found:
    frameless, (left, top) = paper.without_frames(grey)
    if paper.brightness(np.asarray(frameless)) < 128:
        frameless = ImageOps.invert(frameless)  # from here on the paper is bright
    noise = paper.noise_of(np.asarray(frameless))
    if noise > GRAINY:  # thin strokes on clean paper stay as they are
        frameless = frameless.filter(ImageFilter.GaussianBlur(1.0 if noise < 2 * GRAINY else 1.6))
        noise = paper.noise_of(np.asarray(frameless))
    darkness = np.clip((paper.under(frameless) - np.asarray(frameless, np.float32)) / 255, 0, None)
    strongest = paper.strongest_ink(darkness, noise)
    amounts: Amounts = np.clip((darkness / strongest - 0.3) / 0.5, 0, 1)
    amounts = pieces.without_rules(amounts)
    amounts *= pieces.of_the_sign(amounts)
    rows, cols = np.flatnonzero((amounts > 0).any(axis=1)), np.flatnonzero((amounts > 0).any(axis=0))
    if not len(rows):
        raise InvalidInputError("no ink found: there are only lines and specks")
    whole = np.zeros((grey.height, grey.width), np.float32)
    whole[top : top + amounts.shape[0], left : left + amounts.shape[1]] = amounts
    return _Found(whole, (left + int(cols[0]), top + int(rows[0]), left + int(cols[-1]) + 1, top + int(rows[-1]) + 1))

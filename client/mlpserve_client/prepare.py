"""Any picture of one sign to the form that a model was trained on, the way MNIST was made.

LeCun et al. (1998): the ink, bright on dark, is scaled with its aspect kept to fit 20 × 20 pixels, and placed by its
centre of mass in the middle of 28 × 28.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mlpserve.files.arrays import ZERO_OR_ONE
from mlpserve.files.names import text
from mlpserve_client.errors import InvalidInputError
from mlpserve_client.ink import find_ink
from mlpserve_client.pictures import MOST_BYTES, MOST_PIXELS, NotAPictureError, read, to_grey

BOX = 20 / 28  # share of the model's image that the ink fills
# How far what lies as in the training data may be from it, as a share of the image: two pixels of 28 less and one more
# than the box, and a centre of mass that was put into the middle of a whole pixel.
LEAST_BOX, MOST_BOX, OFF_CENTRE = 18 / 28, 21 / 28, 1.25 / 28
Grey = npt.NDArray[np.uint8]


class Prepared(NamedTuple):
    """A picture in a model's form.

    Attributes:
        pixels: uint8 [rows, cols].
        several: whether the file has more pages or frames; these are its first one's.
    """

    pixels: Grey
    several: bool


def read_image(path: Path, rows: int, cols: int, *, raw: bool = False, max_pixels: int = MOST_PIXELS) -> Grey:
    """Read a picture file, and bring it to [rows, cols].

    Args:
        path: AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM (and PGM, PBM), TIFF or WebP; of several pages the first.
        rows: height of the model's images.
        cols: their width.
        raw: only make it grey and scale it; do not look for ink.
        max_pixels: width times height of the largest that is decoded.

    Raises:
        InvalidInputError: not a picture, too large, or there is no ink in it.
    """
    return read_picture(path, rows, cols, raw=raw, max_pixels=max_pixels).pixels


def read_picture(path: Path, rows: int, cols: int, *, raw: bool, max_pixels: int = MOST_PIXELS) -> Prepared:
    """The same, with what the file holds beside it; see `read_image`."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        return prepare(content, rows, cols, raw=raw, max_pixels=max_pixels)
    except InvalidInputError as error:
        raise type(error)(f"{text(str(path))}: {error}") from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"{text(str(path))}: no such file") from error
    except OSError as error:
        raise InvalidInputError(f"{text(str(path))}: cannot be read ({error.strerror or error})") from error


def from_bytes(content: bytes, rows: int, cols: int, *, raw: bool = False, max_pixels: int = MOST_PIXELS) -> Grey:
    """Bring a picture file's content to [rows, cols]; see `read_image`."""
    return prepare(content, rows, cols, raw=raw, max_pixels=max_pixels).pixels


def prepare(content: bytes, rows: int, cols: int, *, raw: bool, max_pixels: int = MOST_PIXELS) -> Prepared:
    """The same, with what the file holds beside it; see `read_image`."""
    picture = read(content, max_pixels)
    try:
        return Prepared(_prepared(picture.grey, rows, cols, raw=raw), picture.several)
    except InvalidInputError:
        raise
    except Exception as error:  # of a picture that nobody foresaw
        raise NotAPictureError(f"cannot be prepared ({type(error).__name__}: {error})") from error


def from_image(image: Image.Image, rows: int, cols: int, *, raw: bool = False) -> Grey:
    """Bring a picture to [rows, cols]; see `read_image`."""
    return _prepared(to_grey(image), rows, cols, raw=raw)


def _prepared(grey: Image.Image, rows: int, cols: int, *, raw: bool) -> Grey:
    if raw:
        pixels = np.asarray(grey.resize((cols, rows), Image.Resampling.LANCZOS), np.uint8)
    elif grey.size == (cols, rows) and np.median(_border(grey)) == 0:
        pixels = np.asarray(grey, np.uint8)  # in the model's form already, but perhaps for where the ink lies
        if not _lies_centred(pixels):
            # With as much black around it again: a picture that its ink fills shows too little of what is no ink.
            return _centre(find_ink(ImageOps.expand(grey, (cols // 2, rows // 2))), rows, cols)
    else:
        return _centre(find_ink(grey), rows, cols)
    if pixels.max(initial=0) == 1:
        raise InvalidInputError(ZERO_OR_ONE)
    return pixels


def _lies_centred(pixels: Grey) -> bool:
    """Whether ink, bright on black, has the box and the centre of mass that `_centre` would give it.

    Where nothing is brighter than 1 there is no ink to be moved, or a picture of 0 and 1 that is refused.
    """
    if pixels.max(initial=0) <= 1:
        return True
    sides, middles = [], []
    for axis in (1, 0):
        inked = np.flatnonzero(pixels.any(axis=axis))
        mass = pixels.sum(axis=axis, dtype=np.float64)
        size = len(mass)
        sides.append((inked[-1] - inked[0] + 1) / size)
        middles.append((mass @ np.arange(size) / mass.sum() - (size - 1) / 2) / size)
    return bool(LEAST_BOX <= max(sides) <= MOST_BOX and max(map(abs, middles)) <= OFF_CENTRE)


def _border(grey: Image.Image) -> Grey:
    width, height = grey.size
    sides = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    return np.concatenate([np.asarray(grey.crop(side), np.uint8).ravel() for side in sides])


def _centre(ink: npt.NDArray[np.floating[Any]], rows: int, cols: int) -> Grey:
    """Scale ink to the box, aspect kept, and put its centre of mass in the middle of [rows, cols]."""
    scale = min(BOX * rows / ink.shape[0], BOX * cols / ink.shape[1])
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    scaled = np.asarray(
        Image.fromarray(np.round(255 * ink).astype(np.uint8)).resize((width, height), Image.Resampling.LANCZOS),
        np.float64,
    )
    most = scaled.max()
    if not most:
        raise InvalidInputError("no ink found: it is too faint for so small an image")
    scaled *= 255 / most  # thin strokes of a large picture have become faint
    mass = scaled.sum()
    top = round((rows - 1) / 2 - float((scaled.sum(axis=1) * np.arange(height)).sum() / mass))
    left = round((cols - 1) / 2 - float((scaled.sum(axis=0) * np.arange(width)).sum() / mass))
    top, left = min(max(top, 0), rows - height), min(max(left, 0), cols - width)
    result = np.zeros((rows, cols), np.uint8)
    result[top : top + height, left : left + width] = np.round(scaled)
    return result

"""Any picture of one sign to the form that a model was trained on, the way MNIST was made.

LeCun et al. (1998): the ink, bright on dark, is scaled with its aspect kept to fit 20 × 20 pixels, and placed by its
centre of mass in the middle of 28 × 28.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from mlpserve_client.errors import InvalidInputError

BOX = 20 / 28  # share of the model's image that the ink fills
WORKING_SIZE = 320  # pixels; larger pictures are shrunk first
FAINTEST = 0.1  # least contrast, as a share of white, that counts as ink
Grey = npt.NDArray[np.uint8]

# What Pillow raises for files that are no picture, damaged, or far too large.
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_image(path: Path, rows: int, cols: int, *, raw: bool = False) -> Grey:
    """Read a picture in any format that Pillow knows, and bring it to [rows, cols].

    Args:
        path: the file.
        rows: height of the model's images.
        cols: their width.
        raw: only make it grey and scale it; do not look for ink.

    Raises:
        InvalidInputError: not a picture, or there is no ink in it.
    """
    try:
        with Image.open(path) as image:
            return from_image(image, rows, cols, raw=raw)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except UNREADABLE as error:
        raise InvalidInputError(f"{path}: not a readable image ({error})") from error


def from_image(image: Image.Image, rows: int, cols: int, *, raw: bool = False) -> Grey:
    """Bring a picture to [rows, cols]; see `read_image`."""
    grey = to_grey(image)
    if raw:
        return np.asarray(grey.resize((cols, rows), Image.Resampling.LANCZOS), np.uint8)
    if grey.size == (cols, rows) and np.median(_border(np.asarray(grey))) == 0:
        return np.asarray(grey, np.uint8)  # in the model's form already
    return _centre(_find_ink(grey), rows, cols)


def to_grey(image: Image.Image) -> Image.Image:
    """Upright and grey; transparent parts become white paper.

    Raises:
        InvalidInputError: pixels that are neither 8 nor 16 bits deep.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InvalidInputError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L")


def _border(pixels: Grey) -> Grey:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _find_ink(grey: Image.Image) -> npt.NDArray[np.float64]:
    """How much ink is where, 0 to 1, whatever the paper's brightness and lighting; cropped to the ink."""
    if np.median(_border(np.asarray(grey))) < 128:
        grey = ImageOps.invert(grey)  # from here on the paper is bright
    grey.thumbnail((WORKING_SIZE, WORKING_SIZE), Image.Resampling.BOX)
    if min(grey.size) >= 64:
        grey = grey.filter(ImageFilter.MedianFilter(3))  # specks
    paper = _paper(grey)
    darkness = np.clip(paper - np.asarray(grey, np.float64), 0, None) / 255
    strongest = float(np.percentile(darkness, 99.8))
    if strongest < FAINTEST:
        raise InvalidInputError("no ink found: the picture is all of one brightness")
    ink = np.clip((darkness / strongest - 0.3) / 0.5, 0, 1)
    rows, cols = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _paper(grey: Image.Image) -> npt.NDArray[np.float64]:
    """Brightness of the paper under the ink: the brightest neighbour within an eighth of the picture, smoothed."""
    small = grey.copy()
    small.thumbnail((64, 64), Image.Resampling.BOX)
    reach = max(small.size) // 8 * 2 + 1
    small = small.filter(ImageFilter.MaxFilter(reach)).filter(ImageFilter.GaussianBlur(reach / 2))
    return np.asarray(small.resize(grey.size, Image.Resampling.BILINEAR), np.float64)


def _centre(ink: npt.NDArray[np.float64], rows: int, cols: int) -> Grey:
    """Scale ink to the box, aspect kept, and put its centre of mass in the middle of [rows, cols]."""
    scale = min(BOX * rows / ink.shape[0], BOX * cols / ink.shape[1])
    height, width = (max(1, round(scale * side)) for side in ink.shape)
    scaled = np.asarray(
        Image.fromarray(np.round(255 * ink).astype(np.uint8)).resize((width, height), Image.Resampling.LANCZOS),
        np.float64,
    )
    scaled *= 255 / scaled.max()  # thin strokes of a large picture have become faint
    mass = scaled.sum()
    top = round((rows - 1) / 2 - float((scaled.sum(axis=1) * np.arange(height)).sum() / mass))
    left = round((cols - 1) / 2 - float((scaled.sum(axis=0) * np.arange(width)).sum() / mass))
    top, left = min(max(top, 0), rows - height), min(max(left, 0), cols - width)
    result = np.zeros((rows, cols), np.uint8)
    result[top : top + height, left : left + width] = np.round(scaled)
    return result

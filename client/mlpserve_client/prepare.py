"""Any picture of one sign to the form that a model was trained on, the way MNIST was made.

LeCun et al. (1998): the ink, bright on dark, is scaled with its aspect kept to fit 20 × 20 pixels, and placed by its
centre of mass in the middle of 28 × 28.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from mlpserve_client.errors import InvalidInputError
from mlpserve_client.pictures import MOST_BYTES, MOST_PIXELS, opened

BOX = 20 / 28  # share of the model's image that the ink fills
WORKING_SIZE = 320  # pixels; larger pictures are shrunk first
FAINTEST = 0.1  # least contrast, as a share of white, that counts as ink
Grey = npt.NDArray[np.uint8]
STRIP = 1 << 20  # pixels that are made grey at a time
ORIENTATION = 0x0112  # EXIF tag


def read_image(path: Path, rows: int, cols: int, *, raw: bool = False, max_pixels: int = MOST_PIXELS) -> Grey:
    """Read a picture file, and bring it to [rows, cols].

    Args:
        path: BMP, GIF, JPEG, PNG, PPM (and PGM, PBM), TIFF or WebP.
        rows: height of the model's images.
        cols: their width.
        raw: only make it grey and scale it; do not look for ink.
        max_pixels: width times height of the largest that is decoded.

    Raises:
        InvalidInputError: not a picture, too large, or there is no ink in it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        return from_bytes(content, rows, cols, raw=raw, max_pixels=max_pixels)
    except InvalidInputError as error:
        raise type(error)(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InvalidInputError(f"{path}: no such file") from error
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror or error})") from error


def from_bytes(content: bytes, rows: int, cols: int, *, raw: bool = False, max_pixels: int = MOST_PIXELS) -> Grey:
    """Bring a picture file's content to [rows, cols]; see `read_image`."""
    with opened(content, max_pixels) as image:
        grey = to_grey(image)
        image.close()  # its pixels; there are up to four bytes of each
        return _prepared(grey, rows, cols, raw=raw)


def from_image(image: Image.Image, rows: int, cols: int, *, raw: bool = False) -> Grey:
    """Bring a picture to [rows, cols]; see `read_image`."""
    return _prepared(to_grey(image), rows, cols, raw=raw)


def _prepared(grey: Image.Image, rows: int, cols: int, *, raw: bool) -> Grey:
    if raw:
        return np.asarray(grey.resize((cols, rows), Image.Resampling.LANCZOS), np.uint8)
    if grey.size == (cols, rows) and np.median(_border(grey)) == 0:
        return np.asarray(grey, np.uint8)  # in the model's form already
    return _centre(_find_ink(grey), rows, cols)


def to_grey(image: Image.Image) -> Image.Image:
    """Upright and grey; transparent parts become white paper.

    Raises:
        InvalidInputError: pixels that are neither 8 nor 16 bits deep.
    """
    image.load()
    if image.mode in ("I", "F"):
        raise InvalidInputError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
    grey = Image.new("L", image.size)
    step = max(1, STRIP // max(image.width, 1))
    for top in range(0, image.height, step):  # whole, it would be in memory five times
        strip = image.crop((0, top, image.width, min(top + step, image.height)))
        grey.paste(_strip_to_grey(strip), (0, top))
    orientation = image.getexif().get(ORIENTATION)
    if orientation is not None:
        grey.getexif()[ORIENTATION] = orientation
        ImageOps.exif_transpose(grey, in_place=True)
    return grey


def _strip_to_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L")


def _border(grey: Image.Image) -> Grey:
    width, height = grey.size
    sides = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    return np.concatenate([np.asarray(grey.crop(side), np.uint8).ravel() for side in sides])


def _find_ink(grey: Image.Image) -> npt.NDArray[np.float64]:
    """How much ink is where, 0 to 1, whatever the paper's brightness and lighting; cropped to the ink."""
    if np.median(_border(grey)) < 128:
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

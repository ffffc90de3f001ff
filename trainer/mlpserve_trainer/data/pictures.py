"""Picture files as grey bytes, within bounds.

The only place of the trainer that hands files to Pillow. Of what Pillow can open, only the formats below are read: EPS
starts Ghostscript, others start whatever program handles them, or are no pictures.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mlpserve_trainer.data.bounds import check_memory
from mlpserve_trainer.errors import DataError

Pixels = npt.NDArray[np.uint8]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's names; the client's are the same
MOST_PIXELS = 50_000_000  # of a picture
MOST_BYTES = 64 << 20  # of its file
STRIP = 1 << 20  # pixels that are made grey at a time
ORIENTATION = 0x0112  # EXIF tag
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF tags
# Pillow's readers raise nearly anything for damaged files.
BAD_PICTURE: tuple[type[Exception], ...] = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(TypeError, KeyError, EOFError, NotImplementedError, struct.error, MemoryError, Image.DecompressionBombWarning),
)


def to_grey(image: Image.Image) -> Image.Image:
    """Upright and grey, transparent parts white: what the client does with a picture (a test compares the two).

    Raises:
        ValueError: pixels that are neither 8 nor 16 bits deep.
    """
    image.load()
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
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


def read(source: Path | bytes, size: tuple[int, int] | None, where: str) -> Pixels:
    """A picture file as grey bytes [rows, cols].

    Args:
        source: its path or its content.
        size: (rows, cols) to bring it to; None: its own.
        where: names it in errors.

    Raises:
        DataError: it is no readable picture in one of the formats, or is too large.
    """
    try:
        content = source if isinstance(source, bytes) else _content(source)
        if len(content) > MOST_BYTES:
            raise DataError(f"{where}: a picture file of more than {MOST_BYTES >> 20} MB; shrink it")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_pixels(image, where)
            grey = to_grey(image)
            image.close()
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: at most {MOST_PIXELS:,} pixels are decoded; shrink it ({error})") from error
    except UnidentifiedImageError as error:
        expected = f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise DataError(f"{where}: not a readable image; {expected}. Mend or remove it") from error
    except BAD_PICTURE as error:
        raise DataError(f"{where}: not a readable image ({error}); mend or remove it") from error
    return resized(grey, size)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: no file; remove it")
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _check_pixels(image: Image.Image, where: str) -> None:
    sizes = [image.size]
    if image.format == "TIFF":  # its decoder makes room for a whole tile, however small the picture
        tags = getattr(image, "tag_v2", {})
        sizes.append((int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))))
    for width, height in sizes:
        if width * height > MOST_PIXELS:
            raise DataError(f"{where}: {width:,} x {height:,} pixels; at most {MOST_PIXELS:,} are decoded. Shrink it")


def resized(grey: Image.Image, size: tuple[int, int] | None) -> Pixels:
    """A grey picture brought to (rows, cols)."""
    if size is not None and grey.size != size[::-1]:
        grey = grey.resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(grey, dtype=np.uint8)


def stacked(count: int, picture: Callable[[int], Pixels], name: Callable[[int], str]) -> Pixels:
    """Pictures as one array [N, rows, cols], filled one by one.

    Args:
        count: N.
        picture: gives picture number i.
        name: names it in errors.

    Raises:
        DataError: their sizes differ, or there is no memory for them.
    """
    first = picture(0)
    check_memory(name(0), count * first.size)
    result = np.empty((count, *first.shape), np.uint8)
    result[0] = first
    for index in range(1, count):
        pixels = picture(index)
        if pixels.shape != first.shape:
            raise DataError(
                f"{name(index)}: {pixels.shape[0]}x{pixels.shape[1]} pixels, but {name(0)} has "
                f"{first.shape[0]}x{first.shape[1]}; give --image-size ROWSxCOLS to bring all to one size"
            )
        result[index] = pixels
    return result

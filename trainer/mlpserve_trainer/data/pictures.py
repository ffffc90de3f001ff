"""Pictures of any kind as grey bytes."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mlpserve_trainer.errors import DataError

Pixels = npt.NDArray[np.uint8]
# Pillow's readers raise nearly anything for damaged files.
BAD_PICTURE: tuple[type[Exception], ...] = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(TypeError, KeyError, EOFError, NotImplementedError, struct.error),
)


def to_grey(image: Image.Image) -> Image.Image:
    """Upright and grey, transparent parts white: what the client does with a picture (a test compares the two).

    Raises:
        ValueError: pixels that are neither 8 nor 16 bits deep.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
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
        DataError: it is no readable picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            grey = to_grey(image)
    except BAD_PICTURE as error:
        raise DataError(f"{where}: not a readable image ({error}); mend or remove it") from error
    return resized(grey, size)


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
        DataError: their sizes differ.
    """
    first = picture(0)
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

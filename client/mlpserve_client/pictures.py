"""Picture files, read by the rules that trainer and client share, with the client's own errors."""

from collections.abc import Callable
from typing import TypeVar

from PIL import Image

from mlpserve.files import pictures
from mlpserve.files.pictures import LARGE, MOST_BYTES, MOST_PIXELS, Picture, PictureError, TooLarge
from mlpserve_client.errors import InvalidInputError

__all__ = [
    "LARGE",
    "MOST_BYTES",
    "MOST_PIXELS",
    "NotAPictureError",
    "Picture",
    "TooLargeError",
    "pixels_of",
    "read",
    "to_grey",
]

Read = TypeVar("Read")


class NotAPictureError(InvalidInputError):
    """These bytes are no picture in one of the formats, or a damaged one."""


class TooLargeError(InvalidInputError):
    """A picture has more bytes or pixels than are read."""


def read(content: bytes, most_pixels: int = MOST_PIXELS) -> Picture:
    """A picture file's content; its first page where it has several.

    Args:
        content: of the file.
        most_pixels: width times height of the largest that is decoded.

    Raises:
        NotAPictureError: it has another format, or is damaged.
        TooLargeError: it has too many bytes or pixels.
    """
    return _asked(pictures.read, content, most_pixels)


def pixels_of(content: bytes, most_pixels: int = MOST_PIXELS) -> int:
    """Width times height, without decoding it; raises as `read`."""
    return _asked(pictures.pixels_of, content, most_pixels)


def to_grey(image: Image.Image) -> Image.Image:
    """A picture upright and grey; see `mlpserve.files.pictures.to_grey`.

    Raises:
        NotAPictureError: pixels that are neither 8 nor 16 bits deep.
    """
    try:
        return pictures.to_grey(image)
    except PictureError as error:
        raise NotAPictureError(str(error)) from error


def _asked(ask: Callable[[bytes, int], Read], content: bytes, most_pixels: int) -> Read:
    try:
        return ask(content, most_pixels)
    except TooLarge as error:
        raise TooLargeError(f"{error}. Shrink the picture, or raise --max-pixels") from error
    except PictureError as error:
        raise NotAPictureError(str(error)) from error

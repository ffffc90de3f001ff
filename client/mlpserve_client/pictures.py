"""Picture files: which formats are read, and how large they may be, before anything is decoded.

The only place of the client that hands files to Pillow. Of what Pillow can open, the rest is left out: EPS starts
Ghostscript, others start whatever program handles them, or are no pictures that callers send.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from mlpserve_client.errors import InvalidInputError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow's names
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MOST_PIXELS = 50_000_000  # as many as the usual largest photographs of phones have
MOST_BYTES = 64 << 20  # of a file
LARGE = 4_000_000  # pixels; of larger ones one at a time is in memory
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF tags

_one_large = threading.Lock()


class NotAPictureError(InvalidInputError):
    """These bytes are no picture in one of the formats, or a damaged one."""


class TooLargeError(InvalidInputError):
    """A picture has more bytes or pixels than are read."""


@contextmanager
def opened(content: bytes, most_pixels: int = MOST_PIXELS) -> Iterator[Image.Image]:
    """A picture, whose pixels are decoded when they are first used; what is raised for them meanwhile is translated.

    Args:
        content: of the file.
        most_pixels: width times height of the largest that is decoded.

    Raises:
        NotAPictureError: it has another format, or is damaged.
        TooLargeError: it has too many bytes or pixels.
    """
    with ExitStack() as stack:
        try:
            image = stack.enter_context(_opened(content, most_pixels))
            if image.width * image.height > LARGE:
                stack.enter_context(_one_large)
            yield image
        except InvalidInputError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooLargeError(f"at most {most_pixels:,} pixels are decoded (--max-pixels): {error}") from error
        except Exception as error:  # Pillow's readers raise nearly anything for damaged files
            reason = "no picture" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
            expected = f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            raise NotAPictureError(f"not a readable image ({' '.join(reason.split())}); {expected}") from error


def pixels_of(content: bytes, most_pixels: int = MOST_PIXELS) -> int:
    """Width times height, without decoding it.

    Raises:
        InvalidInputError: as `opened`.
    """
    with opened(content, most_pixels) as image:
        return image.width * image.height


def _opened(content: bytes, most_pixels: int) -> Image.Image:
    if len(content) > MOST_BYTES:
        raise TooLargeError(f"a picture file of more than {MOST_BYTES >> 20} MB; shrink it")
    if Image.MAX_IMAGE_PIXELS is not None and most_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most_pixels  # Pillow's own bound holds beside ours
    image = Image.open(BytesIO(content), formats=FORMATS)
    sizes = [image.size]
    if image.format == "TIFF":  # its decoder makes room for a whole tile, however small the picture
        tags = getattr(image, "tag_v2", {})
        sizes.append((int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))))
    for width, height in sizes:
        if width * height > most_pixels:
            image.close()
            raise TooLargeError(
                f"{width:,} x {height:,} pixels; at most {most_pixels:,} are decoded. Shrink the picture, or raise "
                "--max-pixels"
            )
    return image

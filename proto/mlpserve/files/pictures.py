"""Picture files as grey bytes, within bounds: the only place that hands files to Pillow, for trainer and client.

Of what Pillow can open, only the formats below are read: EPS starts Ghostscript, others start whatever program handles
them, or are no pictures that people have. Needs Pillow, which the rest of this package does not.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from mlpserve.files import orientation

# Pillow's names; a Pillow that was built without a library lacks its format.
FORMATS = (
    *(("AVIF",) if features.check("avif") else ()),
    *("BMP", "GIF", "JPEG"),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
    *("PNG", "PPM", "TIFF"),
    *(("WEBP",) if features.check("webp") else ()),
)
EXPECTED = f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
MOST_PIXELS = 50_000_000  # of a picture, width times height; as many as the usual largest photographs of phones have
MOST_BYTES = 64 << 20  # of a file
LARGE = 4_000_000  # pixels; of larger ones one at a time is in memory
STRIP = 1 << 20  # pixels that are made grey at a time
TIFF_ORIENTATION, BITS, TILE_WIDTH, TILE_LENGTH = 274, 258, 322, 323  # TIFF tags
DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # modes of 16 bits
WHITE_INK = 200  # brightness from which on what is drawn on nothing would vanish on white paper
# By EXIF's number; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_one_large = threading.Lock()


class PictureError(ValueError):
    """These bytes are no picture in one of the formats, or a damaged one."""


class TooLarge(PictureError):
    """A picture has more bytes or pixels than are read."""


@dataclass(frozen=True)
class Picture:
    """A picture that has been read.

    Attributes:
        grey: mode L, upright; transparent parts are paper.
        several: whether the file has more pages or frames than this one, which is its first.
    """

    grey: Image.Image
    several: bool


def read(content: bytes, most_pixels: int = MOST_PIXELS) -> Picture:
    """A picture file's content, its first page where it has several.

    Raises:
        PictureError: it has another format, or is damaged.
        TooLarge: it has too many bytes or pixels.
    """
    with _opened(content, most_pixels) as image:
        grey = to_grey(image)
        several = _has_several(image)
        image.close()  # its pixels; there are up to four bytes of each
    return Picture(grey, several)


def pixels_of(content: bytes, most_pixels: int = MOST_PIXELS) -> int:
    """Width times height, without decoding it; raises as `read`."""
    with _opened(content, most_pixels) as image:
        return image.width * image.height


def _has_several(image: Image.Image) -> bool:
    if image.format == "MPO":  # a photograph with what its camera keeps beside it
        return False
    with suppress(Exception):  # a damaged second page does not harm the first
        return bool(getattr(image, "is_animated", False))
    return False


@contextmanager
def _opened(content: bytes, most_pixels: int) -> Iterator[Image.Image]:
    """A picture, whose pixels are decoded when they are first used; what is raised for them meanwhile is translated."""
    with ExitStack() as stack:
        try:
            image = stack.enter_context(_checked(content, most_pixels))
            if image.width * image.height > LARGE:
                stack.enter_context(_one_large)
            yield image
        except PictureError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooLarge(f"at most {most_pixels:,} pixels are decoded: {error}") from error
        except Exception as error:  # Pillow's readers raise nearly anything for damaged files
            reason = "no picture" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
            if content[4:8] == b"ftyp" and content[8:11] in (b"hei", b"hev", b"mif"):
                reason = "HEIC, which is not read here; save it as JPEG"
            raise PictureError(f"not a readable image ({' '.join(reason.split())}); {EXPECTED}") from error


def _checked(content: bytes, most_pixels: int) -> Image.Image:
    if len(content) > MOST_BYTES:
        raise TooLarge(f"a picture file of more than {MOST_BYTES >> 20} MB; shrink it")
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
            raise TooLarge(f"{width:,} x {height:,} pixels; at most {most_pixels:,} are decoded")
    return image


def to_grey(image: Image.Image) -> Image.Image:
    """A picture upright and grey; transparent parts become paper: white, or black under white ink.

    Raises:
        PictureError: pixels that are neither 8 nor 16 bits deep.
    """
    image.load()
    deepest = _deepest(image)
    paper = _paper(image) if not deepest and _has_alpha(image) else "white"
    grey = Image.new("L", image.size)
    for top, bottom in _strips(image):  # whole, it would be in memory five times
        strip = image.crop((0, top, image.width, bottom))
        grey.paste(_strip_to_grey(strip, deepest, paper), (0, top))
    turn = TURNS.get(_orientation(image))
    return grey if turn is None else grey.transpose(turn)


def _strips(image: Image.Image) -> Iterator[tuple[int, int]]:
    step = max(1, STRIP // max(image.width, 1))
    for top in range(0, image.height, step):
        yield top, min(top + step, image.height)


def _deepest(image: Image.Image) -> int:
    """The number that is white, in a picture of more than 8 bits; 0 for all others."""
    if image.mode in DEEP:
        bits = _tag(image, BITS) if image.format == "TIFF" else 16
        return (1 << bits) - 1 if 8 < bits <= 16 else 65_535
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, in Pillow's 32
        return 65_535
    if image.mode in ("I", "F"):
        raise PictureError(f"pixels of mode {image.mode}; expected 8 or 16 bits")
    return 0


def _tag(image: Image.Image, number: int) -> int:
    value: Any = getattr(image, "tag_v2", {}).get(number, 0)
    if isinstance(value, tuple):
        value = value[0] if value else 0
    return value if isinstance(value, int) else 0


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _strip_to_grey(image: Image.Image, deepest: int, paper: str) -> Image.Image:
    if deepest:
        pixels = np.clip(np.asarray(image).astype(np.int64), 0, deepest) * 255 // deepest
        return Image.fromarray(pixels.astype(np.uint8))
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, paper), rgba)
    return image.convert("L")


def _paper(image: Image.Image) -> str:
    """Which paper shows what is drawn on nothing: white, unless nearly all of it is white itself."""
    weight = ink = 0.0
    lightest = 255
    for top, bottom in _strips(image):
        rgba = image.crop((0, top, image.width, bottom)).convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"), np.float64)
        light = np.asarray(rgba.convert("RGB").convert("L"), np.float64)
        weight += float(alpha.sum())
        ink += float((alpha * light).sum())
        lightest = min(lightest, int(alpha.min()))
    return "black" if lightest < 128 and weight and ink / weight >= WHITE_INK else "white"


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return _tag(image, TIFF_ORIENTATION) or orientation.UPRIGHT
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if exif is None:  # as ImageMagick writes it into PNG files
        exif = orientation.unhexed(image.info.get("Raw profile type exif"))
    found = orientation.of_exif(exif) if isinstance(exif, bytes) else orientation.UPRIGHT
    if found == orientation.UPRIGHT and isinstance(xmp, bytes):
        found = orientation.of_xmp(xmp)
    return found

"""Picture files as grey bytes [rows, cols], read by the rules that trainer and client share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mlpserve.files import pictures
from mlpserve.files.pictures import MOST_BYTES
from mlpserve_trainer import progress
from mlpserve_trainer.data.bounds import check_memory
from mlpserve_trainer.errors import DataError

Pixels = npt.NDArray[np.uint8]

NAMED = 5  # bad pictures in one message
FIRST_PAGES = "have several pages or frames; the first one of each is read"


class BadPicture(DataError):
    """One picture cannot be read; `stacked` gathers them."""


class Reader:
    """Reads pictures one after another.

    Args:
        size: (rows, cols) to bring them to; None: their own.

    Attributes:
        several: how many had several pages or frames, of which the first was taken.
    """

    def __init__(self, size: tuple[int, int] | None) -> None:
        self._size = size
        self.several = 0

    def read(self, source: Path | bytes, where: str) -> Pixels:
        """A picture file as grey bytes [rows, cols].

        Args:
            source: its path or its content.
            where: names it in errors.

        Raises:
            BadPicture: it is no readable picture in one of the formats, or is too large.
        """
        try:
            picture = pictures.read(source if isinstance(source, bytes) else _content(source))
        except pictures.TooLarge as error:
            raise BadPicture(f"{where}: {error}. Shrink it") from error
        except pictures.PictureError as error:
            raise BadPicture(f"{where}: {error}. Mend or remove it") from error
        except OSError as error:
            raise BadPicture(f"{where}: cannot be read ({error.strerror or error})") from error
        self.several += picture.several
        return resized(picture.grey, self._size)

    @property
    def warnings(self) -> list[str]:
        """What a person should know of them, a sentence each."""
        return [f"{self.several:,} pictures {FIRST_PAGES}"] if self.several else []


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


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
        DataError: some cannot be read, with how many; their sizes differ, or there is no memory for them.
    """
    result: Pixels | None = None
    bad: list[str] = []
    first = 0
    for index in progress.counted(range(count), "Reading pictures", count, "picture"):
        try:
            pixels = picture(index)
        except BadPicture as error:
            bad.append(str(error))
            continue
        if result is None:
            first = index
            check_memory(name(index), count * pixels.size)
            result = np.empty((count, *pixels.shape), np.uint8)
        if pixels.shape != result.shape[1:]:
            raise DataError(
                f"{name(index)}: {pixels.shape[0]}x{pixels.shape[1]} pixels, but {name(first)} has "
                f"{result.shape[1]}x{result.shape[2]}; give --image-size ROWSxCOLS to bring all to one size"
            )
        result[index] = pixels
    if bad or result is None:
        more = f"\n… and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
        head = f"{len(bad):,} of {count:,} pictures cannot be read:\n" if len(bad) > 1 else ""
        raise DataError(head + "\n".join(bad[:NAMED]) + more)
    return result

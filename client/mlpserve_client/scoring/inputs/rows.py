"""What every kind of input gives: rows in chunks, whose decoding can wait for another thread."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlpserve.files.arrays import ZERO_OR_ONE, is_zero_or_one
from mlpserve_client.pictures import MOST_PIXELS
from mlpserve_client.prepare import Prepared
from mlpserve_client.scoring.errors import BadRow

NAMES, IDS = "names", "ids"  # of classes
CHUNK_BYTES = 8 << 20  # of a chunk's pixels or encoded pictures; several are in memory at a time

Images = npt.NDArray[np.uint8]
Kept = tuple[tuple[str, str], ...]


@dataclass
class Decoded:
    """Images and what is wrong with the rows that have none.

    Attributes:
        images: uint8 [G, D], the good rows' images, in order.
        errors: offset in the chunk → reason and message.
        first_pages: how many are the first page of several.
    """

    images: Images
    errors: dict[int, tuple[str, str]]
    first_pages: int = 0


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of one input.

    Attributes:
        start: number of the first row in its input, from 0.
        count: rows.
        decode: makes images of them; any thread may call it.
        names: the rows' files, where they have any.
        targets: true labels, where they were asked for: class ids or label texts.
        slices: values of the slice column, where it was asked for.
        kept: Arrow table of the columns that go along with the answers, where there are any.
    """

    start: int
    count: int
    decode: Callable[[], Decoded]
    names: Sequence[str] | None = None
    targets: Sequence[Any] | None = None
    slices: Sequence[Any] | None = None
    kept: Any = None


class Input(Protocol):
    """An opened input.

    Attributes:
        path: as it was given.
        rows: how many it has.
        fingerprint: changes when its content does.
        named: whether its rows have files.
        kept: name and Arrow type of each column that goes along with the answers.
    """

    path: str
    rows: int
    fingerprint: str
    named: bool
    kept: "Kept"

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop in chunks of at most `size`. Going on where the last reading ended costs least."""
        ...

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since it was opened, in words; "" for nothing.

        Args:
            start: first row that is asked about, where rows have files of their own.
            stop: the row behind the last one; None: all of the input.

        Raises:
            ScoringError: it cannot be looked at.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


@dataclass(frozen=True)
class Form:
    """What images must become, and what is read beside them.

    Attributes:
        rows, cols: of the model's images.
        raw: do not look for ink in pictures.
        column: of the images in a table; "" to find it.
        label_column: of the true labels; "" for none.
        slice_column: by whose values accuracy is told apart; "" for none.
        folders_are_labels: a picture's folder is its true label.
        max_pixels: width times height of the largest picture that is decoded.
        label_numbers: what numbers among true labels are: NAMES or IDS of classes; "" to refuse what could be both.
        keep: columns of a table that go along with the answers.
    """

    rows: int
    cols: int
    raw: bool
    column: str = ""
    label_column: str = ""
    slice_column: str = ""
    folders_are_labels: bool = False
    max_pixels: int = MOST_PIXELS
    label_numbers: str = ""
    keep: tuple[str, ...] = ()

    @property
    def pixels(self) -> int:
        """D."""
        return self.rows * self.cols


def without_scaled(images: Images) -> Decoded:
    """Raw pixels [N, D] without those whose values were scaled from 0 to 1 before: these are bad rows."""
    scaled = is_zero_or_one(images)
    if not scaled.any():
        return Decoded(images, {})
    errors = dict.fromkeys(np.flatnonzero(scaled).tolist(), ("wrong values", ZERO_OR_ONE))
    return Decoded(images[~scaled], errors)


@dataclass
class Collector:
    """Gathers a chunk's good images and bad rows one by one."""

    pixels: int
    images: list[Images] = field(default_factory=list)
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    first_pages: int = 0

    def add(self, offset: int, decode: Callable[[], Prepared]) -> None:
        """Decode one row; a BadRow is noted, and so is whatever else a reader raises for a row that nobody foresaw."""
        try:
            prepared = decode()
        except BadRow as error:
            self.errors[offset] = (error.reason, str(error))
            return
        except Exception as error:
            self.errors[offset] = ("the reader failed", f"{type(error).__name__}: {error}")
            return
        self.images.append(prepared.pixels.ravel())
        self.first_pages += prepared.several

    def decoded(self) -> Decoded:
        """What was gathered."""
        stacked = np.stack(self.images) if self.images else np.empty((0, self.pixels), np.uint8)
        return Decoded(stacked, self.errors, self.first_pages)

"""Sheets of small images, each below its title; one set of axes draws them all, as a set for each takes far longer."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

GAP = 0.12  # between two images, as a share of an image's width
LINE = 0.17  # height of a line of a title, in inches
LONGEST = 11  # letters of a class name in a title

Colours = npt.NDArray[np.uint8]


class Tile(NamedTuple):
    """An image on a sheet.

    Attributes:
        colours: uint8 [rows, cols, 3].
        title: above it, in lines.
    """

    colours: Colours
    title: str = ""


def grey(image: npt.NDArray[np.uint8], *, ink: bool) -> Colours:
    """An image uint8 [rows, cols] in its own brightness; `ink`: its bright strokes dark on white, as on paper."""
    return np.repeat((255 - image if ink else image)[:, :, None], 3, axis=2)


def signed(image: npt.NDArray[np.float32]) -> Colours:
    """Weights [rows, cols]: red above zero, blue below, white at zero."""
    limit = float(np.abs(image).max()) or 1.0
    coloured = matplotlib.colormaps["RdBu_r"]((image / limit + 1) / 2)
    return np.round(255 * np.asarray(coloured)[:, :, :3]).astype(np.uint8)


def short(name: str) -> str:
    """A class name that fits above an image."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def sheet(lines: Sequence[Sequence[Tile]], heading: str, inches: float, names: Sequence[str] = ()) -> bytes:
    """A PNG file of tiles in lines, all of one size.

    Args:
        lines: of tiles; the first one is the longest.
        heading: of the sheet.
        inches: width of an image.
        names: of the lines, on their left.
    """
    rows, cols = lines[0][0].colours.shape[:2]
    height = inches * rows / cols
    titles = LINE * max(tile.title.count("\n") + bool(tile.title) for line in lines for tile in line)
    step_x, step_y = inches * (1 + GAP), height + titles + inches * GAP
    left = 0.16 + 0.085 * max(map(len, names), default=0)
    width = max(left + step_x * len(lines[0]) + 0.1, 0.085 * len(heading))
    top = 0.4
    total = top + step_y * len(lines)
    figure = Figure(figsize=(width, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(total, 0))
    axes.axis("off")
    axes.text(width / 2, 0.2, heading, ha="center", va="center", fontsize=11)
    for number, line in enumerate(lines):
        y = top + number * step_y + titles
        if names:
            axes.text(left - 0.08, y + height / 2, names[number], ha="right", va="center", fontsize=9)
        for place, tile in enumerate(line):
            x = left + place * step_x
            axes.imshow(tile.colours, extent=(x, x + inches, y + height, y), interpolation="nearest", aspect="auto")
            axes.text(x + inches / 2, y - 0.03, tile.title, ha="center", va="bottom", fontsize=8, linespacing=1.1)
    axes.set(xlim=(0, width), ylim=(total, 0))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

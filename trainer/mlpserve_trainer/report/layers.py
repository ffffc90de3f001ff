"""What the layers learned, as pictures.

The first layer of a convolutional network sees a few pixels at a time, and later layers combine edges into parts. The
first layer of an MLP sees all pixels at once: its units are strokes, arcs and blobs at fixed positions, and the next
layer adds and subtracts them to form whole shapes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlpserve_trainer.report.findings import Findings
from mlpserve_trainer.report.sheets import Tile, grey, sheet, short, signed

UNITS = 64  # pictures of first-layer weights
ACROSS = 16  # of them in a line
NEXT_UNITS = 10  # units of the next layer that are shown
PARTS = 6  # first-layer units shown for each of them

Floats = npt.NDArray[np.float32]


def first_layer(weights: Floats, rows: int, cols: int) -> bytes:
    """The units with the largest weights [D, H], each as the image that excites it (red) and inhibits it (blue)."""
    strongest = np.argsort(-np.linalg.norm(weights, axis=0))[:UNITS]
    tiles = [Tile(signed(weights[:, unit].reshape(rows, cols))) for unit in strongest]
    lines = [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
    return sheet(lines, "First-layer weights: red excites a unit, blue inhibits it", inches=0.55)


def next_layer(findings: Findings, labels: Sequence[str], *, ink: bool) -> bytes:
    """How some units of the second layer combine those of the first.

    Each row is one unit (in a network with one hidden layer, a class): the mean of the validation images that excite it
    most, the weighted sum of the first layer's weights, and the first-layer units with the largest weights, with those
    weights.
    """
    first, second = findings.weights[0], findings.weights[1]
    is_output = len(findings.weights) == 2
    shown = len(findings.top_activating)
    rows, cols = findings.images.shape[1:]
    reach = np.linalg.norm(first, axis=0)
    lines = []
    for unit in range(shown):
        mean = np.clip(np.round(_stretched(findings.top_activating[unit])), 0, 255).astype(np.uint8)
        line = [
            Tile(grey(mean, ink=ink), "images that\nexcite it" if unit == 0 else ""),
            Tile(signed((first @ second[:, unit]).reshape(rows, cols)), "weights,\nadded up" if unit == 0 else ""),
        ]
        heaviest = np.argsort(-np.abs(second[:, unit]) * reach)[:PARTS]
        line += [Tile(signed(first[:, part].reshape(rows, cols)), f"{second[part, unit]:+.2f}") for part in heaviest]
        lines.append(line)
    names = [short(labels[unit]) if is_output else f"unit {unit}" for unit in range(shown)]
    return sheet(lines, "What the next layer makes of them", inches=0.9, names=names)


def _stretched(image: Floats) -> Floats:
    """A mean of images over the whole range from black to white."""
    low, high = float(image.min()), float(image.max())
    return (image - low) * (255 / (high - low)) if high > low else image * 0

"""What the layers learned, as pictures.

The first layer of a convolutional network sees a few pixels at a time, and later layers combine edges into parts. The
first layer of an MLP sees all pixels at once: its units are strokes, arcs and blobs at fixed positions, and the next
layer adds and subtracts them to form whole shapes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlpserve_trainer.report.figures import png
from mlpserve_trainer.report.findings import Findings

UNITS = 64  # pictures of first-layer weights
NEXT_UNITS = 10  # units of the next layer that are shown
PARTS = 6  # first-layer units shown for each of them

Floats = npt.NDArray[np.float32]


def first_layer(weights: Floats, rows: int, cols: int) -> bytes:
    """The units with the largest weights [D, H], each as the image that excites it (red) and inhibits it (blue)."""
    strongest = np.argsort(-np.linalg.norm(weights, axis=0))[:UNITS]
    columns = min(16, len(strongest))
    lines = -(-len(strongest) // columns)
    figure = Figure(figsize=(0.6 * columns + 0.4, 0.6 * lines + 0.9), layout="constrained")
    figure.suptitle("First-layer weights: red excites a unit, blue inhibits it", fontsize=10)
    for axes, unit in zip(figure.subplots(lines, columns, squeeze=False).flat, strongest, strict=False):
        _signed(axes, weights[:, unit].reshape(rows, cols))
    for axes in figure.axes:
        axes.axis("off")
    return png(figure)


def next_layer(findings: Findings, labels: Sequence[str], rows: int, cols: int) -> bytes:
    """How some units of the second layer combine those of the first.

    Each row is one unit (in a network with one hidden layer, a class): the mean of the validation images that excite it
    most, the weighted sum of the first layer's weights, and the first-layer units with the largest weights, with those
    weights.
    """
    first, second = findings.weights[0], findings.weights[1]
    is_output = len(findings.weights) == 2
    shown = len(findings.top_activating)
    figure = Figure(figsize=(1.05 * (PARTS + 2) + 1.0, 1.15 * shown + 0.9), layout="constrained")
    figure.suptitle("What the next layer makes of them", fontsize=11)
    axes_grid = figure.subplots(shown, PARTS + 2, squeeze=False)
    reach = np.linalg.norm(first, axis=0)
    for unit, row in enumerate(axes_grid):
        mean, summed, *parts = row
        mean.imshow(findings.top_activating[unit], cmap="gray_r")
        mean.set_ylabel(labels[unit] if is_output else f"unit {unit}", rotation=0, ha="right", va="center")
        _signed(summed, (first @ second[:, unit]).reshape(rows, cols))
        heaviest = np.argsort(-np.abs(second[:, unit]) * reach)[: len(parts)]
        for axes, part in zip(parts, heaviest, strict=False):
            _signed(axes, first[:, part].reshape(rows, cols))
            axes.set_title(f"{second[part, unit]:+.2f}", fontsize=8)
        if unit == 0:
            mean.set_title("images that\nexcite it", fontsize=8)
            summed.set_title("weights,\nadded up", fontsize=8)
    for axes in figure.axes:
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    return png(figure)


def _signed(axes: Axes, image: Floats) -> None:
    limit = float(np.abs(image).max()) or 1.0
    axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)

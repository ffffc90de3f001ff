"""Figures of a run and its predictions, as PNG files."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlpserve_trainer.evaluation.calibration import BINS, calibration_error, reliability
from mlpserve_trainer.report.findings import Findings
from mlpserve_trainer.report.sheets import Tile, grey, sheet, short

MISTAKES = 24  # pictures of wrong answers
COLUMNS = 8  # pictures of images in a row
MOST_TICKS = 100  # classes that are named beside the confusion matrix
FEW_EPOCHS = 20  # each of them is marked by a dot

matplotlib.use("Agg")
matplotlib.rcParams["text.parse_math"] = False  # a class may be called $


def curves(findings: Findings) -> bytes:
    """Loss and accuracy by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in findings.epochs]
    style = "o-" if len(numbers) <= FEW_EPOCHS else "-"
    loss.plot(numbers, [epoch.loss for epoch in findings.epochs], style, label="training")
    loss.plot(
        numbers, [epoch.validation_loss for epoch in findings.epochs], style, label="validation (averaged weights)"
    )
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Loss")
    _logarithmic(loss)  # with distillation the two losses differ in scale
    loss.legend()
    values = [100 * epoch.validation_accuracy for epoch in findings.epochs]
    accuracy.plot(numbers, values, style, color="tab:orange")
    accuracy.axvline(findings.published, color="grey", linestyle=":", label=f"published: epoch {findings.published}")
    accuracy.set(xlabel="epoch", ylabel="%", title="Accuracy on the validation split")
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(numbers) == 1:
            axes.set_xlim(numbers[0] - 1, numbers[0] + 1)  # or there is no whole number but one to be seen
    return png(figure)


def _logarithmic(axes: Axes) -> None:
    """Set values apart by their ratio, upwards. Matplotlib's own labels would need `text.parse_math`."""

    def label(value: float, _: object) -> str:
        low, high = axes.get_ylim()
        return f"{value:,.6g}" if f"{value:e}"[0] in "125" or high < 3 * low else ""

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(label)
    axes.yaxis.set_minor_formatter(label)


def confusion(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> bytes:
    """Confusion matrix: counts [C, C] of true class by predicted class."""
    classes = len(labels)
    size = min(14.0, 3.5 + 0.42 * classes)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(counts / totals, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="true class", title="Confusion on the test set (counts)")
    if classes <= MOST_TICKS:
        axes.set_xticks(range(classes), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(classes), labels)
    if classes <= 30:
        for (row, column), number in np.ndenumerate(counts):
            if number:
                colour = "white" if number > totals[row, 0] / 2 else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)
    return png(figure)


def calibration(findings: Findings) -> bytes:
    """Reliability diagram: accuracy and number of images at each confidence."""
    counts, confidence, accuracy = reliability(findings.probabilities, findings.targets)
    edges = np.linspace(0, 1, BINS + 1)
    used = counts > 0
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    diagram, histogram = figure.subplots(1, 2)
    diagram.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    diagram.bar(
        edges[:-1][used], accuracy[used], 1 / BINS, align="edge", color="tab:blue", alpha=0.6, edgecolor="white"
    )
    diagram.plot(confidence[used], accuracy[used], "o", color="tab:blue", markersize=4, label="answers")
    error = calibration_error(findings.probabilities, findings.targets)
    diagram.set(
        xlabel="probability of the answer",
        ylabel="share that is right",
        title=f"Reliability (calibration error {error:.2%})",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    diagram.legend(loc="upper left")
    histogram.bar(edges[:-1], counts, 1 / BINS, align="edge", color="tab:grey", edgecolor="white")
    histogram.set(xlabel="probability of the answer", ylabel="test images", title="How sure it is")
    _logarithmic(histogram)
    histogram.set_xlim(0, 1)
    return png(figure)


def robustness(findings: Findings) -> bytes:
    """Accuracy by amount of shift, rotation and noise."""
    figure = Figure(figsize=(9, 3.1), layout="constrained")
    axes_list: Sequence[Axes] = list(figure.subplots(1, len(findings.robustness)))
    for axes, curve in zip(axes_list, findings.robustness, strict=True):
        axes.plot(curve.amounts, [100 * value for value in curve.accuracy], "o-", color="tab:green")
        axes.set(xlabel=curve.unit, ylabel="accuracy, %", title=curve.name.capitalize(), ylim=(0, 102))
        axes.grid(alpha=0.3)
    return png(figure)


def mistakes(findings: Findings, labels: Sequence[str], *, ink: bool) -> bytes:
    """The errors that give the true class the lowest probability.

    Args:
        findings: of the run.
        labels: names of the classes.
        ink: the images are bright strokes, which are shown dark on white; others in their own brightness.
    """
    answers = findings.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != findings.targets)
    worst = wrong[np.argsort(findings.probabilities[wrong, findings.targets[wrong]])][:MISTAKES]
    titles = [
        f"true {short(labels[findings.targets[i]])}\npredicted {short(labels[answers[i]])}\n"
        f"({findings.probabilities[i, answers[i]]:.0%})"
        for i in worst
    ]
    return grid(findings.images[worst], titles, "Worst mistakes: least probability given to the true class", ink=ink)


def grid(images: npt.NDArray[np.uint8], titles: Sequence[str], heading: str, *, ink: bool = True) -> bytes:
    """Images [N, rows, cols] with a title each."""
    if len(images) == 0:
        figure = Figure(figsize=(6, 1), layout="constrained")
        figure.text(0.5, 0.5, "None on the test set", ha="center", va="center")
        return png(figure)
    tiles = [Tile(grey(image, ink=ink), title) for image, title in zip(images, titles, strict=True)]
    lines = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    return sheet(lines, heading, inches=1.15)


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

"""Pictures, an HTML report and a model card, made from plain values."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mlpserve.v1.artifact_pb2 import FileRole, Manifest, Precision
from mlpserve_trainer.fit import Epoch

MISTAKES = 24  # pictures of wrong answers
UNITS = 64  # pictures of first-layer weights

matplotlib.use("Agg")

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("mlpserve_trainer"),
    autoescape=jinja2.select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_templates.filters["precision"] = lambda value: Precision.Name(value).removeprefix("PRECISION_").lower()


@dataclass(frozen=True)
class Findings:
    """What a report shows.

    Attributes:
        epochs: history of the fit.
        best: number of the epoch that was published.
        confusion: [C, C] counts on the test set, row = true class, column = answer.
        images: test images uint8 [N, rows, cols].
        targets: their classes [N].
        probabilities: the float32 file's answers [N, C].
        weights: first-layer weights [D, H], as trained.
    """

    epochs: Sequence[Epoch]
    best: int
    confusion: npt.NDArray[np.int64]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]


def report_files(manifest: Manifest, parameter_table: str, findings: Findings) -> dict[str, tuple[FileRole, bytes]]:
    """The report, its pictures and the model card: path inside the artifact to role and content."""
    pictures = {
        "curves": _curves(findings),
        "confusion": _confusion(findings, manifest.labels),
        "weights": _weights(findings, manifest.image.rows, manifest.image.cols),
        "mistakes": _mistakes(findings, manifest.labels),
    }
    context = {"manifest": manifest, "parameter_table": parameter_table, "classes": _per_class(findings, manifest)}
    html = _templates.get_template("report.html").render(
        **context, pictures={name: base64.b64encode(png).decode() for name, png in pictures.items()}
    )
    card = _templates.get_template("MODEL_CARD.md").render(**context)
    files = {f"pictures/{name}.png": (FileRole.FILE_ROLE_PICTURE, png) for name, png in pictures.items()}
    files["report.html"] = (FileRole.FILE_ROLE_REPORT, html.encode())
    files["MODEL_CARD.md"] = (FileRole.FILE_ROLE_MODEL_CARD, card.encode())
    return files


def _per_class(findings: Findings, manifest: Manifest) -> list[dict[str, object]]:
    rows = []
    for class_id, label in enumerate(manifest.labels):
        total = int(findings.confusion[class_id].sum())
        answered = int(findings.confusion[:, class_id].sum())
        right = int(findings.confusion[class_id, class_id])
        rows.append(
            {
                "label": label,
                "images": total,
                "recall": right / total if total else float("nan"),
                "precision": right / answered if answered else float("nan"),
            }
        )
    return rows


def _curves(findings: Findings) -> bytes:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in findings.epochs]
    loss.plot(numbers, [epoch.loss for epoch in findings.epochs], "o-", label="training")
    loss.plot(
        numbers, [epoch.validation_loss for epoch in findings.epochs], "o-", label="validation (averaged weights)"
    )
    loss.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="Loss")
    loss.legend()
    accuracy.plot(numbers, [100 * epoch.validation_accuracy for epoch in findings.epochs], "o-", color="tab:orange")
    accuracy.axvline(findings.best, color="grey", linestyle=":", label=f"published: epoch {findings.best}")
    accuracy.set(xlabel="epoch", ylabel="%", title="Accuracy on the validation split")
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def _confusion(findings: Findings, labels: Sequence[str]) -> bytes:
    count = len(labels)
    size = min(14.0, 3.5 + 0.42 * count)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    totals = np.maximum(findings.confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(findings.confusion / totals, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="true class", title="Confusion on the test set (counts)")
    axes.set_xticks(range(count), labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(range(count), labels)
    if count <= 30:
        for (row, column), number in np.ndenumerate(findings.confusion):
            if number:
                colour = "white" if number > totals[row, 0] / 2 else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)
    return _png(figure)


def _weights(findings: Findings, rows: int, cols: int) -> bytes:
    """The units with the largest weights, each as the image that excites it (red) and inhibits it (blue)."""
    strongest = np.argsort(-np.linalg.norm(findings.weights, axis=0))[:UNITS]
    columns = min(16, len(strongest))
    lines = -(-len(strongest) // columns)
    figure = Figure(figsize=(0.6 * columns + 0.4, 0.6 * lines + 0.9), layout="constrained")
    figure.suptitle("First-layer weights: red excites a unit, blue inhibits it", fontsize=10)
    for axes, unit in zip(figure.subplots(lines, columns, squeeze=False).flat, strongest, strict=False):
        image = findings.weights[:, unit].reshape(rows, cols)
        limit = np.abs(image).max() or 1
        axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for axes in figure.axes:
        axes.axis("off")
    return _png(figure)


def _mistakes(findings: Findings, labels: Sequence[str]) -> bytes:
    answers = findings.probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != findings.targets)
    worst = wrong[np.argsort(findings.probabilities[wrong, findings.targets[wrong]])][:MISTAKES]
    if len(worst) == 0:
        figure = Figure(figsize=(6, 1), layout="constrained")
        figure.text(0.5, 0.5, "No mistakes on the test set", ha="center", va="center")
        return _png(figure)
    columns = 8
    lines = -(-len(worst) // columns)
    figure = Figure(figsize=(1.3 * columns, 1.55 * lines + 0.5), layout="constrained")
    figure.suptitle("Worst mistakes: least probability given to the true class", fontsize=11)
    axes_list = figure.subplots(lines, columns, squeeze=False).flat
    for axes, index in zip(axes_list, worst, strict=False):
        axes.imshow(findings.images[index], cmap="gray_r", vmin=0, vmax=255)
        sure = findings.probabilities[index, answers[index]]
        axes.set_title(f"{labels[findings.targets[index]]} → {labels[answers[index]]} {sure:.0%}", fontsize=9)
    for axes in figure.axes:
        axes.axis("off")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

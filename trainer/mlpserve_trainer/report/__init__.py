"""Pictures, an HTML report and a model card, made from plain values.

findings.py    the values
figures.py     curves, confusion, calibration, mistakes, robustness
layers.py      what the layers learned
sheets.py      many small images in one picture
lettering.py   class names in figures
"""

import base64
import re

import jinja2

from mlpserve.shown import shown
from mlpserve.v1.artifact_pb2 import FileRole, Manifest, Precision, Preparation
from mlpserve_trainer.evaluation.evaluate import majority
from mlpserve_trainer.report import figures, layers
from mlpserve_trainer.report.findings import Findings, gather
from mlpserve_trainer.report.lettering import drawable

__all__ = ["Findings", "gather", "report_files"]

_MARKDOWN = re.compile(r"[\\`*\[\]<>|]")  # what means something to Markdown within a line
templates = jinja2.Environment(
    loader=jinja2.PackageLoader("mlpserve_trainer"),
    autoescape=jinja2.select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
templates.filters["words"] = lambda text: _MARKDOWN.sub(r"\\\g<0>", shown(text))
templates.filters["precision"] = lambda value: Precision.Name(value).removeprefix("PRECISION_").lower()


def report_files(manifest: Manifest, parameter_table: str, findings: Findings) -> dict[str, tuple[FileRole, bytes]]:
    """The report, its pictures and the model card: path inside the artifact to role and content."""
    rows, cols = manifest.image.rows, manifest.image.cols
    drawn = drawable(manifest.labels)
    ink = manifest.image.preparation == Preparation.PREPARATION_CENTRED_INK
    pictures = {
        "curves": figures.curves(findings),
        "confusion": figures.confusion(findings.confusion, drawn),
        "calibration": figures.calibration(findings),
        "robustness": figures.robustness(findings),
        "weights": layers.first_layer(findings.weights[0], rows, cols),
        "mistakes": figures.mistakes(findings, drawn, ink=ink),
    }
    if len(findings.weights) > 1:
        pictures["next-layer"] = layers.next_layer(findings, drawn, ink=ink)
    class_id, share = majority(findings.confusion)
    context = {
        "manifest": manifest,
        "parameter_table": parameter_table,
        "classes": _per_class(findings, manifest),
        "numbered": drawn != list(manifest.labels),
        "majority": {"label": manifest.labels[class_id], "share": share},
    }
    html = templates.get_template("report.html").render(
        **context, pictures={name: base64.b64encode(png).decode() for name, png in pictures.items()}
    )
    card = templates.get_template("MODEL_CARD.md").render(**context)
    files = {f"pictures/{name}.png": (FileRole.FILE_ROLE_PICTURE, png) for name, png in pictures.items()}
    files["report.html"] = (FileRole.FILE_ROLE_REPORT, html.encode())
    files["MODEL_CARD.md"] = (FileRole.FILE_ROLE_MODEL_CARD, card.encode())
    return files


def _share(part: int, whole: int, otherwise: str) -> str:
    return f"{100 * part / whole:.2f} %" if whole else otherwise


def _per_class(findings: Findings, manifest: Manifest) -> list[dict[str, object]]:
    rows = []
    for class_id, label in enumerate(manifest.labels):
        total = int(findings.confusion[class_id].sum())
        answered = int(findings.confusion[:, class_id].sum())
        right = int(findings.confusion[class_id, class_id])
        rows.append(
            {
                "id": class_id,
                "label": label,
                "images": total,
                "recall": _share(right, total, "no images"),
                "precision": _share(right, answered, "never answered"),
            }
        )
    return rows

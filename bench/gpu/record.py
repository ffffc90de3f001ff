"""What a GPU check found, as a page for docs/gpu."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from bench.serving import machine


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    target: str = ""
    holds: bool | None = None


@dataclass
class Record:
    """Filled in by the parts of the check.

    Attributes:
        device: the GPU's name.
        versions: of the software.
        conformance: closing line of the conformance suite.
        rows: the table.
        figures: the same as numbers.
        wrong: what must hold and does not.
    """

    device: str
    versions: str
    conformance: str = ""
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, what: str, value: float, shown: str, target: str = "", holds: bool | None = None) -> None:
        """Add a line."""
        self.rows.append(Row(what, shown, target, holds))
        self.figures[what] = value

    def require(self, what: str, value: float, shown: str, target: str, holds: bool) -> None:
        """Add a line for something without which the device must not be used."""
        self.add(what, value, shown, target, holds)
        if not holds:
            self.wrong.append(f"{what}: {shown}, but {target} is needed")


def write(record: Record, folder: Path | None) -> str:
    """The page's text; with a folder, the page and its numbers are written there."""
    lines = [
        f"# {record.device}",
        "",
        f"Written by `make gpu-check`. {machine()}; {record.versions}. Medians.",
        "",
        f"Conformance suite against the server on this device: {record.conformance}.",
        "",
        "| | measured | target | |",
        "|---|--:|--:|---|",
    ]
    marks = {True: "holds", False: "missed", None: ""}
    lines += [f"| {row.what} | {row.measured} | {row.target} | {marks[row.holds]} |" for row in record.rows]
    text = "\n".join([*lines, ""])
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", record.device.lower()).strip("-")
        (folder / f"{name}.md").write_text(text)
        (folder / f"{name}.json").write_text(json.dumps(record.figures, indent=1) + "\n")
    return text

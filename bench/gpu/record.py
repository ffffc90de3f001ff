"""What all checks found on one device: kept as JSON, from which the page is made.

The parts of the kit run one after the other, perhaps on another day, so each writes into the record of the last.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.gpu.found import Row

OK, FAILED, OUT_OF_TIME, SKIPPED = "ok", "failed", "out of time", "skipped"
MARKS = {True: "holds", False: "**missed**", None: ""}


@dataclass
class Outcome:
    """How one check went.

    Attributes:
        name: of the check.
        what: it does, for the page.
        part: that it belongs to.
        state: OK, FAILED, OUT_OF_TIME or SKIPPED.
        seconds: it took.
        said: its last words where it did not go well.
        rows: what it found, as far as it came.
    """

    name: str
    what: str
    part: int
    state: str
    seconds: float = 0.0
    said: str = ""
    rows: list[Row] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Why the device must not be used as it is; empty if it may be."""
        rows = [f"{row.what}: {row.shown}, {row.target} needed" for row in self.rows if row.must and not row.holds]
        return rows or ([f"{self.name}: {self.said or self.state}"] if self.state == FAILED else [])


@dataclass
class Record:
    """Everything known of one device.

    Attributes:
        device: its name.
        machine: that it is in, its driver and the date.
        versions: name → version of the software.
        outcomes: of the checks, in the order in which they ran.
    """

    device: str
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def put(self, outcome: Outcome) -> None:
        """Add an outcome, in the place of an earlier one of the same check."""
        names = [earlier.name for earlier in self.outcomes]
        if outcome.name in names:
            if outcome.state != SKIPPED:  # which says less than what is there
                self.outcomes[names.index(outcome.name)] = outcome
        else:
            self.outcomes.append(outcome)

    @property
    def figures(self) -> dict[str, float]:
        """What was measured, as numbers."""
        return {row.what: row.value for outcome in self.outcomes for row in outcome.rows}

    @property
    def wrong(self) -> list[str]:
        """What must be mended before the device may be used."""
        return [line for outcome in self.outcomes for line in outcome.wrong]


def page(record: Record) -> str:
    """The record for people."""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines = [f"# {_cell(record.device)}", "", f"Written by `python -m bench.gpu`. {_sentence(record.machine)}", ""]
    lines += [f"{_sentence(versions)}", ""]
    failed = [o for o in record.outcomes if o.state in (FAILED, OUT_OF_TIME) or o.wrong]
    if failed:
        lines += ["## What failed", "", "| check | | |", "|---|---|---|"]
        for outcome in failed:
            lines += [
                f"| {_cell(outcome.what)} | {outcome.state} | {_cell('; '.join(outcome.wrong) or outcome.said)} |"
            ]
        lines.append("")
    for part in sorted({outcome.part for outcome in record.outcomes}):
        lines += [f"## Part {part}", ""]
        own = [outcome for outcome in record.outcomes if outcome.part == part]
        ran = ", ".join(
            f"{o.name} {o.state if o.state != OK else ''} {o.seconds:.0f} s".replace("  ", " ") for o in own
        )
        lines += [_sentence(ran), "", "| | measured | target | |", "|---|--:|--:|---|"]
        lines += [
            f"| {_cell(row.what)} | {_cell(row.shown)} | {_cell(row.target)} | {MARKS[row.holds]} |"
            for outcome in own
            for row in outcome.rows
        ]
        lines.append("")
    return "\n".join(lines)


def write(record: Record, folder: Path) -> Path:
    """Write FOLDER/<device>.json and FOLDER/<device>.md; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = _file(folder, record.device)
    file.write_text(json.dumps(asdict(record), indent=1) + "\n")
    file.with_suffix(".md").write_text(page(record))
    return file.with_suffix(".md")


def read(folder: Path, device: str) -> Record:
    """The record of a device that a folder holds; an empty one if it holds none."""
    try:
        content = json.loads(_file(folder, device).read_text())
    except (OSError, ValueError):
        return Record(device)
    outcomes = [
        Outcome(**{**outcome, "rows": [Row(**row) for row in outcome["rows"]]}) for outcome in content.pop("outcomes")
    ]
    return Record(**content, outcomes=outcomes)


def _file(folder: Path, device: str) -> Path:
    return folder / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-') or 'device'}.json"


def _cell(text: str) -> str:
    """What a check said, harmless in a table's cell."""
    shown = "".join(c if c.isprintable() else "·" for c in re.sub(r"\s+", " ", text))
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").strip()


def _sentence(text: str) -> str:
    return f"{_cell(text)}." if text else ""

"""The plan of a job: its inputs divided into parts, and the model version that scores all of them.

The plan is written to the output before the first part. When the job runs again with the same plan, it continues with
the missing parts; with another plan it is refused.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mlpserve_client.messages.predictions import ModelId
from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import Folder
from mlpserve_client.scoring.inputs import Form, Input

FORMAT = 2
PLAN, SUCCESS = "_job.json", "_SUCCESS"


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one input, written to one file.

    Attributes:
        number: from 0.
        input: number of the input, from 0.
        start, stop: rows in it.
        first_row: number of the first one in the whole job.
    """

    number: int
    input: int
    start: int
    stop: int
    first_row: int

    @property
    def name(self) -> str:
        """Of the Parquet file."""
        return f"part-{self.number:05}.parquet"

    @property
    def sidecar(self) -> str:
        """Of the file that says that the part is finished, and what it holds."""
        return f"_part-{self.number:05}.json"


@dataclass(frozen=True)
class Plan:
    """The plan of a job.

    Attributes:
        inputs: path, rows and fingerprint of each.
        parts: in order.
        model: the pinned version.
        compared: the version to compare with, or None.
        labels: class labels by class id.
        form: how images are prepared.
        named: whether rows have file names.
        part_rows: maximum rows per part.
        truth: fingerprint of the file with true labels; "" for none.
    """

    inputs: tuple[tuple[str, int, str], ...]
    parts: tuple[Part, ...]
    model: ModelId
    compared: ModelId | None
    labels: tuple[str, ...]
    form: Form
    named: bool
    part_rows: int
    truth: str

    @property
    def rows(self) -> int:
        """Of all inputs."""
        return sum(rows for _, rows, _ in self.inputs)

    def to_json(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "format": FORMAT,
            "inputs": [{"path": p, "rows": rows, "fingerprint": mark} for p, rows, mark in self.inputs],
            "model": asdict(self.model),
            "compared": None if self.compared is None else asdict(self.compared),
            "labels": list(self.labels),
            "form": asdict(self.form),
            "part_rows": self.part_rows,
            "truth": self.truth,
        }


def cut(inputs: list[Input], part_rows: int) -> tuple[Part, ...]:
    """Divide all inputs into parts; a part never spans two inputs."""
    parts: list[Part] = []
    first_row = 0
    for index, item in enumerate(inputs):
        for start in range(0, item.rows, part_rows):
            stop = min(start + part_rows, item.rows)
            parts.append(Part(len(parts), index, start, stop, first_row + start))
        first_row += item.rows
    return tuple(parts)


def begun(folder: Folder) -> dict[str, Any] | None:
    """The plan in an output folder; None for a new folder.

    Raises:
        ScoringError: the folder holds something else.
    """
    names = {name for name in folder.names() if not name.startswith(".")}
    written = folder.read(PLAN)
    if written is None:
        if names:
            shown = ", ".join(sorted(names)[:3])
            raise ScoringError(
                f"{folder.path}: not empty, and not the output of a scoring job ({shown}); name a new folder"
            )
        return None
    try:
        plan = json.loads(written)
        if plan["format"] != FORMAT:
            raise KeyError("format")
    except (ValueError, KeyError, TypeError) as error:
        raise ScoringError(f"{folder.path}/{PLAN}: cannot be read; start again with --overwrite") from error
    assert isinstance(plan, dict)
    return plan


def check_same(folder: Folder, old: dict[str, Any], plan: Plan) -> None:
    """Refuse to continue another job.

    Raises:
        ScoringError: says what changed and what to do.
    """
    new = json.loads(json.dumps(plan.to_json()))
    if old == new:
        return
    for before, after in zip(old["inputs"], new["inputs"], strict=False):
        if before["path"] == after["path"] and before != after:
            _refuse(folder, f"{after['path']} has changed since")
    changed = ", ".join(name.replace("_", " ") for name in new if old.get(name) != new[name])
    if old["inputs"] != new["inputs"]:
        _refuse(folder, f"it had other inputs ({len(old['inputs'])}, now {len(new['inputs'])})")
    if old["model"] != new["model"]:
        was, now = old["model"], new["model"]
        _refuse(
            folder,
            f"it began with version {was['version']} ({was['digest'][:12]}), now version {now['version']} "
            f"({now['digest'][:12]}) answers",
        )
    _refuse(folder, f"it had other settings: {changed}")


def _refuse(folder: Folder, what: str) -> None:
    raise ScoringError(
        f"{folder.path}: holds another job: {what}. Use what that job began with, name another folder, "
        "or give --overwrite to score everything anew"
    )

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
from mlpserve_client.scoring.inputs.rows import Kept

FORMAT = 3
PLAN, SUCCESS = "_job.json", "_SUCCESS"


def part_files(number: int) -> tuple[str, str]:
    """Names of a part's Parquet file, and of the sidecar beside it."""
    return f"part-{number:05}.parquet", f"_part-{number:05}.json"


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
        return part_files(self.number)[0]

    @property
    def sidecar(self) -> str:
        """Of the file that says that the part is finished, and what it holds."""
        return part_files(self.number)[1]


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
        kept: name and Arrow type of each column that goes along with the answers.
        old_columns: whether the columns of version 0.1 are written too.
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
    kept: Kept = ()
    old_columns: bool = False

    @property
    def labelled(self) -> bool:
        """Whether rows have true labels."""
        return bool(self.truth or self.form.label_column or self.form.folders_are_labels)

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
            "files": self.named,
            "kept": [list(column) for column in self.kept],
            "old_columns": self.old_columns,
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


def check_same(folder: Folder, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to continue another job.

    Args:
        folder: the output.
        old: the plan that is there.
        new: the one that there would be, as JSON.

    Raises:
        ScoringError: says what changed and what to do.
    """
    if old == new:
        return
    for before, after in zip(old["inputs"], new["inputs"], strict=False):
        if before["path"] == after["path"] and before != after:
            _refuse(folder, f"{after['path']} has changed since")
    changed = ", ".join(name.replace("_", " ") for name in new if old.get(name) != new[name])
    if old["inputs"] != new["inputs"]:
        counts = f"it had other inputs ({len(old['inputs'])}, now {len(new['inputs'])})"
        _refuse(folder, counts, "To score the new ones beside them, give --append. ")
    if old["model"] != new["model"]:
        was, now = old["model"], new["model"]
        _refuse(
            folder,
            f"it began with version {was['version']} ({was['digest'][:12]}), now version {now['version']} "
            f"({now['digest'][:12]}) answers",
        )
    _refuse(folder, f"it had other settings: {changed}")


def check_more(folder: Folder, old: dict[str, Any], plan: Plan) -> None:
    """Refuse to append to a job what would change the parts that it has.

    Args:
        folder: the output.
        old: the job's plan.
        plan: the one with more inputs behind its own.

    Raises:
        ScoringError: says what differs and what to do.
    """
    new = json.loads(json.dumps(plan.to_json()))
    same = new | {"inputs": new["inputs"][: len(old["inputs"])]}
    if old["truth"] and new["truth"]:
        same["truth"] = old["truth"]  # whether it begins with the same labels is held against each part
    if new["files"] and not old["files"]:
        raise ScoringError(
            f"{folder.path}: holds a job without pictures; with the new inputs' pictures each row would have one more "
            "column, `file`. Score them into another folder"
        )
    check_same(folder, old, same)


def _refuse(folder: Folder, what: str, more: str = "") -> None:
    raise ScoringError(
        f"{folder.path}: holds another job: {what}. {more}Use what that job began with, name another folder, "
        "or give --overwrite to score everything anew"
    )

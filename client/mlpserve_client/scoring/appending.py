"""A finished job that goes on with new inputs: which ones are new, and which of its own need not be opened again.

Parts never span two inputs, and the new inputs come last. So the parts that are there keep their numbers, rows and
bytes, and the result is that of one job over all inputs in this order.
"""

import os
from collections.abc import Iterator
from typing import Any

from mlpserve_client.scoring.errors import ScoringError
from mlpserve_client.scoring.files import File, is_folder
from mlpserve_client.scoring.inputs import Chunk, Form, Input, Named, open_input
from mlpserve_client.scoring.output.plan import part_files
from mlpserve_client.scoring.remote import is_remote

GROWN = (
    "A job that is appended to takes new inputs, not other content of those that it has: put new rows or pictures "
    "into a file or folder of their own and name that"
)


class Unopened:
    """An input of the job whose parts are all there; opened only where one of them turns out to be damaged.

    Args:
        entry: of the input in the job's plan.
        old: the plan.
        form: what images must be.
        file: what it is now, if it was named again; None: nobody looks at it.
    """

    def __init__(self, entry: dict[str, Any], old: dict[str, Any], form: Form, file: File | None) -> None:
        self.path: str = entry["path"]
        self.rows: int = entry["rows"]
        self.fingerprint: str = entry["fingerprint"]
        self.named: bool = old["files"]
        self.kept = tuple((name, kind) for name, kind in old["kept"])
        self._form = form
        self._file = file
        self._opened: Input | None = None

    def read(self, start: int, stop: int, size: int) -> Iterator[Chunk]:
        """Rows start to stop, of the input that is opened now.

        Raises:
            ScoringError: it is gone, or no longer what it was.
        """
        if self._opened is None:
            self._opened = open_input(self.path, self._form)
            _same(self._opened, self.fingerprint)
        return self._opened.read(start, stop, size)

    def changed(self, start: int = 0, stop: int | None = None) -> str:
        """What has changed since the job looked at it, in words; "" for nothing."""
        looked_at = self._opened or self._file
        if looked_at is None:
            return ""
        return looked_at.changed() if isinstance(looked_at, File) else looked_at.changed(start, stop)

    def close(self) -> None:
        """Close it, if it was opened."""
        if self._opened is not None:
            self._opened.close()


def open_more(old: dict[str, Any], named: Named, form: Form, names: set[str]) -> list[Input]:
    """The inputs of a job in its order, and behind them those that are new.

    Args:
        old: the job's plan.
        named: what the command names now: the new ones, with or without those that the job has.
        form: what images must be.
        names: of the files in the output.

    Raises:
        ScoringError: an input of the job is no longer what it was, or is needed and gone, or a new one cannot be read.
    """
    again = {_canonical(path) for path in named.paths}
    opened: list[Input] = []
    number = 0
    try:
        for entry in old["inputs"]:
            count = -(-entry["rows"] // old["part_rows"])
            there = all(names.issuperset(part_files(part)) for part in range(number, number + count))
            number += count
            opened.append(_own(entry, old, form, there=there, again=_canonical(entry["path"]) in again))
        had = {_canonical(entry["path"]) for entry in old["inputs"]}
        opened.extend(
            open_input(path, form, named.listings.get(path)) for path in named.paths if _canonical(path) not in had
        )
    except BaseException:
        for item in opened:
            item.close()
        raise
    return opened


def _own(entry: dict[str, Any], old: dict[str, Any], form: Form, *, there: bool, again: bool) -> Input:
    """An input that the job has."""
    path = entry["path"]
    if there and not again:
        return Unopened(entry, old, form, None)
    if there and not is_folder(path):
        file = File(path)
        _same(file, entry["fingerprint"])
        return Unopened(entry, old, form, file)
    opened = open_input(path, form)
    try:
        _same(opened, entry["fingerprint"])
    except ScoringError:
        opened.close()
        raise
    return opened


def _same(now: Input | File, fingerprint: str) -> None:
    if now.fingerprint != fingerprint:
        raise ScoringError(f"{now.path} has changed since it was scored. {GROWN}")


def _canonical(path: str) -> str:
    """One name for a file, however it is written."""
    return path if is_remote(path) else os.path.realpath(path)

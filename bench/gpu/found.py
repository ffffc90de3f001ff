"""What one check finds: lines of the table, kept in a file while it goes on, so that a check that is cut short has said
what it knew."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured or held against something.
        value: the figure as a number.
        shown: the figure as it is read.
        target: what it is held against, in words; empty for none.
        holds: whether it does; None without a target.
        must: whether the device must not be used where it does not hold.
    """

    what: str
    value: float
    shown: str
    target: str = ""
    holds: bool | None = None
    must: bool = False


@dataclass
class Found:
    """The lines of one check.

    Args:
        file: where they are kept; None: nowhere.
    """

    file: Path | None = None
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, value: float, shown: str, target: str = "", holds: bool | None = None) -> None:
        """A figure, with a target or without one; a missed target fails nothing."""
        self._add(Row(what, value, shown, target, holds))

    def require(self, what: str, value: float, shown: str, target: str, holds: bool) -> None:
        """Something without which the device must not be used."""
        self._add(Row(what, value, shown, target, holds, must=True))

    def wrong(self) -> list[str]:
        """What must hold and does not."""
        return [
            f"{row.what}: {row.shown}, but {row.target} is needed" for row in self.rows if row.must and not row.holds
        ]

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        mark = {None: "", True: "holds", False: "WRONG" if row.must else "missed"}[row.holds]
        print(f"{row.what}: {row.shown} {row.target and f'({row.target}) '}{mark}".rstrip(), flush=True)
        if self.file is not None:
            self.file.write_text(json.dumps([asdict(row) for row in self.rows]))


def read(file: Path) -> list[Row]:
    """The lines that a check has kept, as far as it came."""
    try:
        return [Row(**row) for row in json.loads(file.read_text())]
    except (OSError, ValueError):
        return []

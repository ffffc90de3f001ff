"""Progress: nothing for what is quick or quiet, a line that disappears on a terminal, lines in a log."""

import io
import sys

import numpy as np
import pytest
from support.waiting import wait_until

from mlpserve import terminal
from mlpserve_client.scoring.running import progress as scoring
from mlpserve_trainer import progress
from mlpserve_trainer.data import pictures


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


KINDS = pytest.mark.parametrize("kind", [io.StringIO, Terminal], ids=["log", "terminal"])


@KINDS
def test_nothing_is_said_of_what_is_quick_or_quiet(kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = kind()
    monkeypatch.setattr(sys, "stderr", stderr)
    with terminal.during("Drawing"):
        pass
    assert list(progress.counted(range(3), "Reading", 3, "picture")) == [0, 1, 2]
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    monkeypatch.setattr(scoring, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_shown", False)
    with terminal.during("Drawing", shown=False), progress.during("Drawing"):
        assert list(progress.counted(range(3), "Reading", 3, "picture")) == [0, 1, 2]
    with scoring.Progress(10, 0, shown=False) as job:
        job.add(5)
    assert stderr.getvalue() == ""


@KINDS
def test_what_takes_long_is_named(kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = kind()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    with terminal.during("Drawing the report"):
        wait_until(lambda: "Drawing the report … 0 s" in stderr.getvalue(), "it is said")
    written = stderr.getvalue()
    if stderr.isatty():
        assert "\n" not in written
        shown, blank, _ = written.split("\r")[-3:]
        assert len(blank) >= len(shown), "the line must be gone"
        assert not blank.strip()
    else:
        assert written == "Drawing the report … 0 s\n"


@KINDS
def test_pictures_are_counted_while_they_are_read(kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = kind()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    monkeypatch.setattr(terminal, "INTERVAL", 0.0)
    pictures.stacked(3, lambda number: np.zeros((2, 2), np.uint8), str)
    if stderr.isatty():
        assert "Reading pictures" in stderr.getvalue()
        assert "/3 " in stderr.getvalue()
    else:
        assert stderr.getvalue().splitlines() == [f"Reading pictures: {number} of 3" for number in range(3)]

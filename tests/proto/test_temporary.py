"""Temporary folders of processes that are killed."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlpserve import temporary

HOLD = "import sys; from mlpserve import temporary; print(temporary.make('test'), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "NEW_SECONDS", 0.0)
    return tmp_path


def _holder(place: Path) -> "tuple[subprocess.Popen[str], Path]":
    environment = {**os.environ, "TMPDIR": str(place)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_next_process_removes_what_a_killed_one_left(place: Path) -> None:
    process, folder = _holder(place)
    with process:
        (folder / "weights").write_bytes(bytes(1000))
        temporary.remove(temporary.make("test"))
        assert folder.is_dir(), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
    stranger = place / "mlpserve-store-of-somebody"
    stranger.mkdir()
    (place / "mlpserve-link").symlink_to(stranger)
    temporary.remove(temporary.make("test"))
    assert not folder.exists()
    assert stranger.is_dir(), "nobody says that this one is over"


def test_a_block_has_a_folder_of_its_own(place: Path) -> None:
    with temporary.folder("test") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("x")
    assert list(place.iterdir()) == []

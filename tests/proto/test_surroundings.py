"""Homes, terminals and variables as containers and old systems have them: a sentence at most, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import BIN, ServerProcess, run

from mlpserve_client.commands.predict import pictures_of

# As for a user without an entry in the list of users, which containers often have.
NOBODY = """
import os, pwd
os.environ.pop("HOME", None)
def unknown(_):
    raise KeyError("uid not found")
pwd.getpwuid = unknown
"""


def _as_nobody(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(NOBODY)
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | {"PYTHONPATH": str(folder)}
    return subprocess.run(
        [BIN / str(command[0]), *map(str, command[1:])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_training_needs_no_home(tmp_path: Path) -> None:
    command = ("mlpserve-train", "--store", tmp_path / "store", "--epochs", 1, "--hidden", "none")
    done = _as_nobody(tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    refused = _as_nobody(tmp_path, *command, "--data", "kmnist")
    assert refused.returncode == 1
    assert "there is no home folder here; give --data-cache DIR" in refused.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_that_cannot_show_everything(server: ServerProcess, tmp_path: Path, encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    doctor = run("mlpserve", "--server", "127.0.0.1:1", "--timeout", 1, "doctor", env=environment)
    assert "Traceback" not in doctor.stderr
    assert "→" in doctor.stdout if encoding == "utf-8" else "->" in doctor.stdout
    for program in ("mlpserve", "mlpserve-server", "mlpserve-store", "mlpserve-train"):
        done = run(program, "--help", env=environment)
        assert done.returncode == 0, done.stderr


def test_names_that_no_encoding_has() -> None:
    code = "from mlpserve.terminal import tolerate; tolerate(); print('caf\\udce9 \\u5317 → 1')"
    for encoding, expected in (("ascii", b"caf\\xe9 \\u5317 -> 1\n"), ("utf-8", "caf\\xe9 北 → 1\n".encode())):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True, timeout=60
        )
        assert done.stdout == expected


def test_a_file_whose_name_is_not_utf8(server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"nothing")
    done = run("mlpserve", "--server", server.address, "predict", path)
    assert done.returncode == 4
    assert "caf\\xe9.png: not a readable image" in done.stderr
    assert [found.name for found in pictures_of([tmp_path])] == [path.name]


def test_empty_variables_are_unset(server: ServerProcess) -> None:
    environment = {"MLPSERVE_SERVER": "", "MLPSERVE_TOKEN_FILE": ""}
    done = run("mlpserve", "--server", server.address, "info", env=environment)
    assert done.returncode == 0, done.stderr
    other = run("mlpserve", "--timeout", "0.5", "info", env=environment)
    assert "127.0.0.1:50051" in other.stderr + other.stdout

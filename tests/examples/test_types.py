"""The examples as a caller's editor reads them: no error by mypy, none by pyright."""

import shutil
import subprocess
import sys

import pytest
from support.processes import BIN
from tests.support.documents import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [("mypy",), ("pyright", "--pythonpath", sys.executable)], ids=["mypy", "pyright"])
def test_the_examples_have_no_wrong_types(command: tuple[str, ...]) -> None:
    if command[0] == "pyright" and shutil.which("node") is None:
        pytest.skip("pyright needs node")
    done = subprocess.run([BIN / command[0], *command[1:], "examples"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

"""The main job from nothing, with the installed executables: what `make demo` runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "demo/run.py"], capture_output=True, text=True, timeout=600, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stdout + result.stderr
    accuracy = re.search(r"Test accuracy ([\d.]+)% from 10,000 answers over the wire", result.stdout)
    assert accuracy, result.stdout
    assert float(accuracy[1]) >= 98.2
    # Each digit's PNG and the photograph, with the answer that its name promises.
    for digit in range(10):
        assert re.search(rf"/{digit}\.png  {digit} ", result.stdout), result.stdout
    assert re.search(r"photo\.png  4 ", result.stdout), result.stdout
    assert "Server        stopped, exit code 0" in result.stdout

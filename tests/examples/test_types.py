"""The examples are typed as a caller's strict type checker wants them: the public API has no holes."""

import subprocess
from pathlib import Path

import pytest
from support.processes import BIN
from tests.support.examples import EXAMPLES


@pytest.mark.slow
def test_mypy_passes_on_the_examples(tmp_path: Path) -> None:
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nignore_missing_imports = True\n")
    command = [BIN / "mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache"]
    result = subprocess.run(
        [*map(str, command), *map(str, EXAMPLES.glob("*.py"))], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout

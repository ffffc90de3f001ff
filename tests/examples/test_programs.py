"""What holds for every example: it is in the list, says how to run it, has a test, and its types are right."""

import ast
import subprocess
import sys

from tests.support.documents import ROOT
from tests.support.examples import EXAMPLES

PROGRAMS = sorted(EXAMPLES.glob("*.py"))


def test_each_program_is_listed_documented_and_tested() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    names = [path.name for path in PROGRAMS] + [f"node/{path.name}" for path in EXAMPLES.glob("node/*.mjs")]
    assert len(names) == 6
    for name in names:
        assert f"| [{name}]({name}) |" in readme
    for path in PROGRAMS:
        assert (ROOT / f"tests/examples/test_{path.name}").exists()
        assert path.name.removesuffix(".py") in (ast.get_docstring(ast.parse(path.read_text())) or "")


def test_types() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, PROGRAMS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout

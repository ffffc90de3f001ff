"""What the guarantees' tests measured, shown at the end of the run and kept in build/guarantees.json."""

import json
from pathlib import Path
from typing import Any

import pytest

OUT = Path(__file__).resolve().parents[2] / "build" / "guarantees.json"
_figures: dict[str, dict[str, Any]] = {}


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Name → figure, of this test."""
    return _figures.setdefault(request.node.name, {})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _figures:
        return
    OUT.parent.mkdir(exist_ok=True)
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps(known | _figures, indent=1) + "\n")
    terminalreporter.section("guarantees")
    for name, figures in _figures.items():
        shown = [f"{key} {_shown(value)}" for key, value in figures.items()]
        terminalreporter.write_line(f"{name}: {', '.join(shown)}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""Fixtures: a wire with methods behind it, shared by the tests that leave it as it is."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from served import Served

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = [] if find_spec("mlpserve_wire") else ["test_*.py"]


@pytest.fixture(scope="session")
def served() -> "Iterator[Served]":
    from served import serving

    with serving() as made:
        yield made

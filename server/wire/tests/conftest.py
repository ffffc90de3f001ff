"""Fixtures: a wire with methods behind it, shared by the tests that leave it as it is."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from support.transports import need

if TYPE_CHECKING:
    from served import Served

sys.path.insert(0, str(Path(__file__).parent))


class _Missing(pytest.Module):
    """A module of tests, where what it imports is not installed."""

    def collect(self) -> NoReturn:
        need("wire")
        raise AssertionError("it is installed")


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if find_spec("mlpserve_wire") else _Missing.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def served() -> "Iterator[Served]":
    from served import serving

    with serving() as made:
        yield made

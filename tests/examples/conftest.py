"""A server for the programs of examples/, and a way to run them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import ServerProcess


@pytest.fixture(scope="session")
def address(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a running server."""
    with ServerProcess(tmp_path_factory.mktemp("server"), store) as process:
        yield process.address

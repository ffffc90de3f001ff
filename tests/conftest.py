"""Fixtures that several components share: a slow model and real servers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mnist import write_class_folders
from support.processes import ServerProcess
from support.transports import TRANSPORTS, need

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.job import train


@pytest.fixture(scope="session")
def slow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a wide model, "slow": 4,096 images keep the server busy for a good part of a second."""
    folder = tmp_path_factory.mktemp("slow-store")
    digits = write_class_folders(tmp_path_factory.mktemp("digits"), per_class=20)
    train(TrainConfig(store=folder, data=str(digits), model="slow", hidden=(2048, 2048), epochs=2, validation=0.2))
    return folder


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A running server on each transport, shared by the tests that leave it as it is."""
    need(request.param)
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, store, "--transport", request.param) as process:
        yield process


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """The name of each transport, for tests that start a server of their own."""
    need(request.param)
    return str(request.param)

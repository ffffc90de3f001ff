"""The one fixture that the tests of the product and the tests of the benchmarks share."""

import os
from pathlib import Path

import pytest

from mlpserve_trainer.config import TrainConfig
from mlpserve_trainer.job import train


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version of "mnist", trained for one epoch. Read-only: copy it to change it."""
    if given := os.environ.get("MLPSERVE_TEST_STORE"):  # of a test that runs others
        return Path(given)
    folder = tmp_path_factory.mktemp("store")
    train(TrainConfig(store=folder, epochs=1))
    return folder

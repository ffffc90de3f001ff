"""A store with 10,000 versions: how long a start, a listing, and a client's first call beside listings take."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.grpc_calls import stub
from support.processes import ServerProcess
from tests.support.artifacts import publish_many

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client

pytestmark = pytest.mark.guarantee

VERSIONS = 10_000
LISTINGS = 20  # in flight at a time


@pytest.fixture(scope="module")
def many(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.mktemp("many") / "store"
    shutil.copytree(store, own)
    publish_many(own / "mnist/1", own, range(2, VERSIONS + 1))
    return own


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    found = act()
    return found, time.perf_counter() - started


def test_ten_thousand_versions(
    many: Path, store: Path, transport: str, tmp_path: Path, figures: dict[str, Any]
) -> None:
    def start(where: Path) -> float:
        server = ServerProcess(tmp_path, where, "--transport", transport)
        _, seconds = _timed(server.__enter__)
        server.__exit__(None, None, None)
        return seconds

    start(store)  # reads the libraries into memory
    figures["start with 1 version, s"] = start(store)
    figures["start with 10,000, s"] = start(many)
    with ServerProcess(tmp_path, many, "--transport", transport) as process, stub(process.address) as caller:
        page, seconds = _timed(lambda: caller.ListModels(pb.ListModelsRequest(), timeout=60))
        assert len(page.models) == 100
        figures["first page, s"] = seconds
        request = pb.ListModelsRequest(page_size=1000)
        waiting = [caller.ListModels.future(request, timeout=60) for _ in range(LISTINGS)]
        slowest = 0.0
        for _ in range(50):
            _, seconds = _timed(lambda: caller.GetModel(pb.GetModelRequest(), timeout=60))
            slowest = max(slowest, seconds)
        figures["GetModel beside 20 listings at most, s"] = slowest
        assert all(future.result().total_size == VERSIONS for future in waiting)
    with (
        ServerProcess(tmp_path, many, "--transport", transport) as process,
        Client(process.address, timeout=60) as client,
    ):
        listed, figures["all, s"] = _timed(client.list_models)
        assert [summary.model.version for summary in listed.models] == list(range(VERSIONS, 0, -1))
        again, figures["all again, s"] = _timed(client.list_models)
        assert [summary.model for summary in again.models] == [summary.model for summary in listed.models]

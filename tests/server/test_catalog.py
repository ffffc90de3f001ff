"""Which model answers a call that names a model and a version, and that answers leave before they are counted."""

import shutil
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.grpc_calls import channel, stub
from support.waiting import wait_until
from tests.support.artifacts import publish_rolled

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve_server.catalog import Catalog, Served, prepare
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import NotReady, UnknownModel
from mlpserve_server.models.loading import load
from mlpserve_server.server import Server
from mlpserve_server.store.folder import Store

ONE = pb.PredictRequest(images=bytes(784))


@pytest.fixture(scope="module")
def folder(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with versions 1 to 3."""
    own = Path(shutil.copytree(store, tmp_path_factory.mktemp("catalog") / "store"))
    for number in (2, 3):
        publish_rolled(own / "mnist/1", own, number)
    return own


@pytest.fixture(scope="module")
def versions(folder: Path) -> list[Served]:
    """Versions 1 to 3, ready to serve."""
    opened = [Store(folder).open("mnist", number) for number in (1, 2, 3)]
    return [prepare(load(each, device="cpu", precision="fp32", max_batch=4, threads=1), 16) for each in opened]


def test_the_version_before_is_found_by_those_that_name_it(versions: list[Served]) -> None:
    catalog = Catalog("mnist", keep=1)
    with pytest.raises(NotReady, match="the model is still being loaded"):
        catalog.find()
    for served in versions:
        catalog.serve(served)
        assert catalog.find() is catalog.find("mnist") is catalog.find("", served.version) is served
    assert catalog.find("mnist", 2) is versions[1]
    with pytest.raises(UnknownModel, match="version 1 of 'mnist' is not served here; version 3 is"):
        catalog.find(version=1)
    with pytest.raises(UnknownModel, match="model 'cifar' is not served here; this server serves 'mnist'"):
        catalog.find("cifar")


def test_a_rollback_keeps_the_version_that_it_leaves(versions: list[Served]) -> None:
    catalog = Catalog("mnist", keep=1)
    for served in (versions[0], versions[1], versions[0]):
        catalog.serve(served)
    assert catalog.find() is versions[0]
    assert catalog.find(version=2) is versions[1]
    assert list(catalog.versions().kept) == [2]


def test_versions_are_kept_as_long_as_there_is_room(versions: list[Served]) -> None:
    catalog = Catalog("mnist", keep=1)
    catalog.serve(versions[2])
    catalog.expect("mnist", frozenset({1, 2}))
    with pytest.raises(NotReady, match="version 1 is still being loaded"):
        catalog.find(version=1)
    assert not catalog.keep(versions[2]), "it serves"
    assert catalog.keep(versions[1])
    assert catalog.find(version=2) is versions[1]
    assert not catalog.keep(versions[0]), "there is no room"
    catalog.expect("mnist", frozenset())
    with pytest.raises(UnknownModel):
        catalog.find(version=1)


def test_what_was_refused_is_forgotten_when_it_serves_or_is_gone(versions: list[Served]) -> None:
    catalog = Catalog("mnist", keep=0)
    for number in (2, 3, 4):
        catalog.refuse("mnist", number, "why")
    catalog.serve(versions[1])
    assert dict(catalog.versions().refused) == {3: "why", 4: "why"}
    catalog.forget_refused("mnist", {2, 3})
    assert dict(catalog.versions().refused) == {3: "why"}


def test_a_named_version_is_found_at_every_moment(versions: list[Served]) -> None:
    """While another takes over, again and again."""
    catalog = Catalog("mnist", keep=1)
    catalog.serve(versions[0])
    catalog.serve(versions[1])
    ended = threading.Event()

    def take_turns() -> None:
        for number in range(20_000):
            catalog.serve(versions[number % 2])
        ended.set()

    thread = threading.Thread(target=take_turns)
    thread.start()
    while not ended.is_set():
        for number in (1, 2):
            assert catalog.find("mnist", number) is versions[number - 1]
    thread.join()


def test_kept_versions_are_described_in_both_protocols(transport: str, folder: Path) -> None:
    config = ServerConfig(store=folder, listen="127.0.0.1:0", transport=transport)
    with Server(config) as server, channel(server.address) as opened, stub(server.address) as caller:
        wait_until(lambda: 2 in server.catalog.versions().kept, "version 2 is kept")
        assert caller.GetModel(pb.GetModelRequest(version=2), timeout=10).model.version == 2

        def ready(version: str) -> bool:
            call = opened.unary_unary(
                "/inference.GRPCInferenceService/ModelReady", response_deserializer=oip.ModelReadyResponse.FromString
            )
            return bool(
                call(oip.ModelReadyRequest(name="mnist", version=version).SerializeToString(), timeout=10).ready
            )

        assert [ready(version) for version in ("", "3", "2", "1")] == [True, True, True, False]


def test_a_bug_in_the_bookkeeping_fails_no_call(transport: str, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("a bug of the test's own")

    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport)
    with Server(config) as server, stub(server.address) as caller:
        server.metrics.count_classes = fail  # type: ignore[method-assign]
        assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
        server.metrics.ended = fail  # type: ignore[method-assign]
        with pytest.raises(grpc.RpcError) as caught:
            caller.Predict(pb.PredictRequest(images=b"x"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(caller.Predict(ONE, timeout=10).class_ids) == 1
    assert "a bug of the test's own" in caplog.text

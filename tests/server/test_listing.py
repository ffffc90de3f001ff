"""Many versions in a store: starting, paging, and callers who do not wait for one another."""

import hashlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from support.grpc_calls import channel, details, stub
from support.processes import ServerProcess, run
from support.transports import TRANSPORTS, need
from support.waiting import wait_until
from tests.support.artifacts import digest, publish_many, publish_rolled
from tests.support.mutate import mutated

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from mlpserve_client import Client
from mlpserve_server.catalog import Catalog, prepare
from mlpserve_server.config import ServerConfig
from mlpserve_server.control import listing
from mlpserve_server.control.services import ControlServices
from mlpserve_server.errors import ArtifactError
from mlpserve_server.models import loading
from mlpserve_server.store import manifest
from mlpserve_server.store.folder import Store
from mlpserve_server.store.summaries import Summaries
from mlpserve_server.transports import open_transport

COUNT = 1300  # versions: more than two of the largest pages hold would be slow to make


@pytest.fixture(scope="module")
def many(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.mktemp("many") / "store"
    shutil.copytree(store, own)
    publish_many(own / "mnist/1", own, range(2, COUNT + 1))
    return own


@pytest.fixture(scope="module", params=TRANSPORTS)
def serving(
    request: pytest.FixtureRequest, many: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    need(request.param)
    with ServerProcess(tmp_path_factory.mktemp("server"), many, "--transport", request.param) as process:
        yield process


def _page(caller: ClassifierServiceStub, size: int = 0, token: str = "") -> pb.ListModelsResponse:
    return caller.ListModels(pb.ListModelsRequest(page_size=size, page_token=token), timeout=30)


def _numbers(page: pb.ListModelsResponse) -> list[int]:
    return [summary.model.version for summary in page.models]


def test_pages(serving: ServerProcess, many: Path) -> None:
    with stub(serving.address) as caller:
        first = _page(caller)
        assert _numbers(first) == list(range(COUNT, COUNT - 100, -1))
        assert first.total_size == COUNT
        assert first.models[0].state == pb.MODEL_STATE_SERVING
        assert first.models[7].model.digest == digest(many / f"mnist/{COUNT - 7}")
        assert 0.9 < first.models[7].test_accuracy < 1
        second = _page(caller, 300, first.next_page_token)
        assert _numbers(second) == list(range(COUNT - 100, COUNT - 400, -1))
        largest = _page(caller, 5000)
        assert len(largest.models) == 1000
        rest = _page(caller, 5000, largest.next_page_token)
        assert (_numbers(rest)[-1], rest.next_page_token) == (1, "")
        for size, token, field in ((-1, "", "page_size"), (0, "x", "page_token"), (0, "0", "page_token")):
            with pytest.raises(grpc.RpcError) as error:
                _page(caller, size, token)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert details(error.value)[0].field_violations[0].field == field  # type: ignore[attr-defined]


def test_clients_go_through_all_pages(serving: ServerProcess) -> None:
    with Client(serving.address) as client:
        assert _numbers(client.list_models()) == list(range(COUNT, 0, -1))
        few = client.list_models(3)
        assert (_numbers(few), few.total_size) == ([COUNT, COUNT - 1, COUNT - 2], COUNT)
    shown = run("mlpserve", "--server", serving.address, "info").stdout.splitlines()
    in_store = [line for line in shown if line.startswith("in store")]
    assert len(in_store) == 21
    assert in_store[0].endswith(f"version {COUNT}, serving")
    assert in_store[-1].endswith(f"and {COUNT - 20:,} older versions: mlpserve-store list")


def test_the_repository_index_is_bounded(serving: ServerProcess) -> None:
    with channel(serving.address) as opened:
        ask = opened.unary_unary(
            "/inference.GRPCInferenceService/RepositoryIndex",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=oip.RepositoryIndexResponse.FromString,
        )
        found = ask(oip.RepositoryIndexRequest(), timeout=30).models
        assert [model.version for model in found] == [str(number) for number in range(COUNT, COUNT - 1000, -1)]
        assert [model.version for model in found if model.state == "READY"] == [str(COUNT)]
        ready = ask(oip.RepositoryIndexRequest(ready=True), timeout=30).models
        assert [(model.version, model.state) for model in ready] == [(str(COUNT), "READY")]


def test_the_store_s_command_is_bounded(many: Path) -> None:
    result = run("mlpserve-store", "--store", many, "list", "mnist", "--limit", 2)
    first, second, more = result.stdout.splitlines()
    assert first.split()[0] == str(COUNT) and first.endswith("◀ newest")
    assert second.split()[0] == str(COUNT - 1)
    assert more == f"… and {COUNT - 2:,} older versions; --limit 0 lists them all"
    assert len(run("mlpserve-store", "--store", many, "list", "mnist").stdout.splitlines()) == 101
    assert len(run("mlpserve-store", "--store", many, "list", "mnist", "--limit", 0).stdout.splitlines()) == COUNT


def test_a_start_opens_no_more_than_it_needs(many: Path, store: Path, transport: str, tmp_path: Path) -> None:
    """The manifests of the others say so when they are read: a listing names them, a start and a look do not."""
    own = Path(shutil.copytree(store, tmp_path / "store"))
    publish_many(own / "mnist/1", own, range(2, 40))
    for number in range(1, 37):
        (own / f"mnist/{number}/manifest.json").write_text("broken")
    (own / "mnist/39/manifest.json").write_text("broken")
    with (
        ServerProcess(tmp_path, own, "--transport", transport, "--poll", 0.1) as process,
        stub(process.address) as caller,
    ):
        process.wait_for_log("version 39 is refused, version 38 is served instead")
        time.sleep(0.5)
        assert process.log.count("is refused") == 1
        page = _page(caller)
        states = {summary.model.version: summary.state for summary in page.models}
        assert (states[39], states[38]) == (pb.MODEL_STATE_UNREADABLE, pb.MODEL_STATE_SERVING)
        assert {states[number] for number in range(1, 37)} == {pb.MODEL_STATE_UNREADABLE}


class _Stuck(Store):
    """A store that gives no listing until it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.free = threading.Event()
        self.looks = 0
        self.waiting: Callable[[], int] = lambda: 0  # how many calls wait for the next look

    def versions(self, model: str) -> list[int]:
        self.looks += 1
        assert self.free.wait(60)
        return super().versions(model)


@pytest.fixture
def stuck(store: Path, transport: str) -> Iterator[tuple[_Stuck, str]]:
    """A store that hangs, and the address of a real server of the control methods over it."""
    model = loading.load(Store(store).open("mnist"), device="cpu", precision="fp32", max_batch=4, threads=1)
    hanging = _Stuck(store)
    catalog = Catalog("mnist", keep=0)
    catalog.serve(prepare(model, 16))
    services = ControlServices(hanging, catalog, lambda _: pb.ServingInfo())
    hanging.waiting = lambda: len(services._listing._waiting)
    config = ServerConfig(store=store, listen="127.0.0.1:0", transport=transport)
    served = open_transport(config, services, max_message=1 << 20, on_dropped=lambda reason: None)
    try:
        yield hanging, served.start()
    finally:
        hanging.free.set()
        served.stop()


def test_calls_that_wait_for_the_store_hold_nobody(stuck: tuple[_Stuck, str]) -> None:
    hanging, address = stuck
    with stub(address) as caller:
        waiting = [caller.ListModels.future(pb.ListModelsRequest(), timeout=60)]
        wait_until(lambda: hanging.looks, "the store is asked")
        waiting += [caller.ListModels.future(pb.ListModelsRequest(), timeout=60) for _ in range(99)]
        # A call that arrives later would need a look of its own, however many share the others.
        wait_until(lambda: hanging.waiting() == 99, lambda: f"99 calls wait: {hanging.waiting()}")
        for _ in range(20):
            assert caller.GetModel(pb.GetModelRequest(), timeout=20).model.version == 1
        assert not any(future.done() for future in waiting)
        hanging.free.set()
        assert [_numbers(future.result()) for future in waiting] == [[1]] * 100
        assert hanging.looks <= 20, "calls that wait share looks"


def test_a_store_that_does_not_answer_is_named(stuck: tuple[_Stuck, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, address = stuck
    monkeypatch.setattr(listing, "PATIENCE", 0.3)
    monkeypatch.setattr(listing, "MOST_WAITING", 1)
    with stub(address) as caller:
        with pytest.raises(grpc.RpcError) as error:
            _page(caller)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the store has not answered for 0.3 s" in error.value.details()
        future = caller.ListModels.future(pb.ListModelsRequest(), timeout=60)
        with pytest.raises(grpc.RpcError) as error:
            for _ in range(100):
                _page(caller)
                time.sleep(0.01)
        assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(grpc.RpcError):
            future.result()


def test_what_is_remembered_follows_the_store(store: Path, transport: str, tmp_path: Path) -> None:
    """Versions are deleted, their numbers given to others, and one is promoted: the next listing says so."""
    own = Path(shutil.copytree(store, tmp_path / "store"))
    publish_many(own / "mnist/1", own, range(2, 6))
    flags = ("--transport", transport, "--poll", 0, "--keep-versions", 0)
    with ServerProcess(tmp_path, own, *flags) as process, stub(process.address) as caller:
        before = _page(caller)
        assert _numbers(before) == [5, 4, 3, 2, 1]
        assert _page(caller) == before
        shutil.rmtree(own / "mnist/2")
        publish_rolled(own / "mnist/1", own, 2)
        shutil.rmtree(own / "mnist/4")
        after = _page(caller)
        assert _numbers(after) == [5, 3, 2, 1]
        found = {summary.model.version: summary.model.digest for summary in after.models}
        assert found[2] == digest(own / "mnist/2") != before.models[3].model.digest
        first = _page(caller, 2)
        shutil.rmtree(own / "mnist/3")
        publish_many(own / "mnist/1", own, [9])
        assert _numbers(_page(caller, 2, first.next_page_token)) == [2, 1]
        assert run("mlpserve-store", "--store", own, "promote", "mnist", 1).returncode == 0
        assert [summary.model.version for summary in _page(caller).models if summary.promoted] == [1]
        (own / "mnist/9/manifest.json").write_text("{}")
        assert _page(caller).models[0].state == pb.MODEL_STATE_UNREADABLE


def test_a_listing_says_what_opening_would_say(store: Path, tmp_path: Path) -> None:
    """Damaged manifests: a listing takes those that can be opened, and none whose digest or names are wrong."""
    content = (store / "mnist/1/manifest.json").read_bytes()
    random_ = random.Random(3)
    opened = 0
    samples = [mutated(random_, content) for _ in range(150)]
    samples.append(content.replace(b'"version": 1', b'"version": "1"'))
    samples.append(content.replace(b"testAccuracy", b"test_accuracy"))
    for sample in samples:
        checksum = f"{hashlib.sha256(sample).hexdigest()}  manifest.json\n"
        document = manifest.Document("x", sample, checksum.encode())
        try:
            found, name = manifest.parse(document, "mnist", 1)
        except ArtifactError:
            with suppress(ArtifactError):  # which is all that it may raise
                manifest.summarise(document, "mnist", 1)
            continue
        opened += 1
        summary = manifest.summarise(document, "mnist", 1)
        assert summary.digest == name
        if found.evaluations and 0 <= found.evaluations[0].test_accuracy <= 1:
            assert summary.test_accuracy == pytest.approx(found.evaluations[0].test_accuracy)
    assert 0 < opened < len(samples)


def test_a_summary_is_read_once(store: Path) -> None:
    own = Store(store)
    summaries = Summaries(own, "mnist")
    (first,) = summaries.of([1])
    reads = []
    own.documents = lambda model, numbers: reads.extend(numbers) or []  # type: ignore[method-assign,func-returns-value,assignment]
    assert summaries.of([1]) == [first]
    summaries.forget_all_but([2])
    with pytest.raises(ValueError, match="zip"):
        summaries.of([1])
    assert reads == [1]

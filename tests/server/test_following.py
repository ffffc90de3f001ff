"""A running server follows its store: new versions, broken ones, promotion and rollback."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from support.grpc_calls import pixels, stub, wait_for_version
from support.mnist import mnist_images
from support.processes import ServerProcess, run
from support.waiting import wait_until
from tests.support.artifacts import BREAKAGES, publish_rolled, seal

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Manifest, Preparation
from mlpserve.v1.classifier_pb2_grpc import ClassifierServiceStub
from mlpserve_client import Client

POLL = ("--poll", 0.1)


@pytest.fixture
def own(store: Path, tmp_path: Path) -> Path:
    """The published version 1 in a store that a test may change."""
    return Path(shutil.copytree(store, tmp_path / "store"))


@pytest.fixture
def following(own: Path, transport: str, tmp_path: Path) -> Iterator[tuple[ServerProcess, ClassifierServiceStub]]:
    with ServerProcess(tmp_path, own, "--transport", transport, *POLL) as process, stub(process.address) as caller:
        yield process, caller


def _serves(caller: ClassifierServiceStub) -> int:
    return caller.GetModel(pb.GetModelRequest(), timeout=10).model.version


def _states(caller: ClassifierServiceStub) -> dict[int, str]:
    listed = caller.ListModels(pb.ListModelsRequest(), timeout=10).models
    return {summary.model.version: pb.ModelState.Name(summary.state)[12:] for summary in listed}


def _wait_for_states(caller: ClassifierServiceStub, hold: Callable[[dict[int, str]], bool]) -> None:
    wait_until(lambda: hold(_states(caller)), lambda: f"the listing changes; it is {_states(caller)}")


def _predict(caller: ClassifierServiceStub) -> pb.PredictResponse:
    return caller.Predict(pb.PredictRequest(images=pixels(mnist_images()[:20])), timeout=10)


def test_a_new_version_takes_over_and_a_broken_one_does_not(
    following: tuple[ServerProcess, ClassifierServiceStub], own: Path
) -> None:
    process, caller = following
    first = _predict(caller)
    publish_rolled(own / "mnist/1", own, 2)
    wait_for_version(caller, 2)
    second = _predict(caller)
    assert second.model.version == 2
    assert list(second.class_ids) == [(class_id + 2) % 10 for class_id in first.class_ids]
    for number, broken in enumerate(BREAKAGES, 3):
        publish_rolled(own / "mnist/1", own, number, broken=broken)
        _wait_for_states(caller, lambda states, number=number: states[number] in ("REFUSED", "UNREADABLE"))  # type: ignore[misc]
        assert _predict(caller).SerializeToString() == second.SerializeToString()
    assert _states(caller)[2] == "SERVING"
    assert _states(caller)[1] == "KEPT"
    assert "version 3 is refused, version 2 keeps serving" in process.log
    publish_rolled(own / "mnist/1", own, 8)
    wait_for_version(caller, 8)


@pytest.mark.parametrize("change", ["renamed", "reordered", "prepared"])
def test_a_version_whose_answers_mean_something_else_waits_for_a_promotion(
    following: tuple[ServerProcess, ClassifierServiceStub], own: Path, change: str
) -> None:
    _, caller = following
    folder = publish_rolled(own / "mnist/1", own.parent / "aside", 2)  # where the server does not look
    manifest = json_format.Parse((folder / "manifest.json").read_bytes(), Manifest())
    if change == "renamed":
        manifest.labels[0] = "nought"
    elif change == "reordered":
        manifest.labels[:] = [*manifest.labels[1:], manifest.labels[0]]
    else:
        manifest.image.preparation = Preparation.PREPARATION_SCALED
    seal(folder, manifest)
    folder.rename(own / "mnist/2")
    _wait_for_states(caller, lambda states: states.get(2) == "REFUSED")
    assert _serves(caller) == 1
    detail = caller.ListModels(pb.ListModelsRequest(), timeout=10).models[0].detail
    assert {
        "renamed": "its classes are renamed: class 0 is 'nought' and was '0'. To change it on purpose",
        "reordered": "its classes are reordered: class 0 is '1' and was '0', 1 is '2' and was '1', 2 is '3' and",
        "prepared": "its pictures are prepared as scaled, not as centred_ink. To change it on purpose",
    }[change] in detail
    assert "mlpserve-store promote mnist 2" in detail
    promoted = run("mlpserve-store", "--store", own, "promote", "mnist", 2)
    assert promoted.returncode == 0, promoted.stderr
    wait_for_version(caller, 2)


def test_promote_and_rollback(following: tuple[ServerProcess, ClassifierServiceStub], own: Path) -> None:
    _, caller = following
    for number in (2, 3):
        publish_rolled(own / "mnist/1", own, number)
    wait_for_version(caller, 3)

    def store(*command: object) -> str:
        result = run("mlpserve-store", "--store", own, *command)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert store("promote", "mnist", 1) == "Servers of mnist follow version 1 (before: 3)\n"
    wait_for_version(caller, 1)
    publish_rolled(own / "mnist/1", own, 4)
    time.sleep(0.5)
    assert _serves(caller) == 1, "a promoted version stays until another one is promoted"
    store("promote", "mnist", 4)
    wait_for_version(caller, 4)
    assert store("rollback", "mnist") == "Servers of mnist follow version 1 (before: 4)\n"
    wait_for_version(caller, 1)
    assert store("rollback", "mnist") == "Servers of mnist follow version 3 (before: 1)\n"
    wait_for_version(caller, 3)
    listing = store("list", "mnist").splitlines()
    assert [line.split()[0] for line in listing] == ["4", "3", "2", "1"]
    assert listing[1].endswith("◀ promoted")
    summaries = caller.ListModels(pb.ListModelsRequest(), timeout=10).models
    assert [summary.model.version for summary in summaries if summary.promoted] == [3]
    assert store("follow-newest", "mnist") == "Servers of mnist follow the newest version, 4\n"
    wait_for_version(caller, 4)
    assert "every file matches its SHA-256" in store("verify", "mnist")


def test_what_cannot_be_promoted(own: Path) -> None:
    publish_rolled(own / "mnist/1", own, 2, broken="tampered")
    for command, words in (
        (("promote", "mnist", 2), "is damaged"),
        (("promote", "mnist", 7), "has no version 7 (published: 2, 1)"),
        (("promote", "other", 1), "no model 'other'"),
        (("verify", "mnist", 2), "is damaged"),
    ):
        result = run("mlpserve-store", "--store", own, *command)
        assert (result.returncode, words in result.stderr) == (1, True), result.stderr
        assert "Traceback" not in result.stderr
    assert not (own / "mnist/promoted.json").exists()
    assert run("mlpserve-store", "--store", own, "promote", "mnist", "x").returncode == 2
    (own / "mnist/2").rename(own / "mnist/.2")
    result = run("mlpserve-store", "--store", own, "rollback", "mnist")
    assert (result.returncode, "no version before 1" in result.stderr) == (1, True)


def test_a_spoilt_promotion_is_reported_and_mended(own: Path, tmp_path: Path) -> None:
    (own / "mnist/promoted.json").write_text("{")
    result = run("mlpserve-server", "--store", own, "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert "promote mnist VERSION" in result.stderr
    assert "Traceback" not in result.stderr
    assert run("mlpserve-store", "--store", own, "promote", "mnist", 1).returncode == 0
    with ServerProcess(tmp_path, own, *POLL) as process, stub(process.address) as caller:
        (own / "mnist/promoted.json").write_text("[]")
        process.wait_for_log("the store cannot be followed")
        assert _serves(caller) == 1


def test_a_pinned_server_does_not_follow(own: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, own, "--version", 1, *POLL) as process, stub(process.address) as caller:
        publish_rolled(own / "mnist/1", own, 2)
        time.sleep(0.5)
        assert _serves(caller) == 1


def test_a_start_falls_back_on_the_version_before_a_broken_one(own: Path, tmp_path: Path) -> None:
    publish_rolled(own / "mnist/1", own, 2)
    publish_rolled(own / "mnist/1", own, 3, broken="golden mismatch")
    publish_rolled(own / "mnist/1", own, 4, broken="tampered")
    with ServerProcess(tmp_path, own, *POLL) as process, stub(process.address) as caller:
        assert _serves(caller) == 2
        _wait_for_states(caller, lambda states: states == {4: "REFUSED", 3: "REFUSED", 2: "SERVING", 1: "KEPT"})
        assert "version 4 is refused, version 2 is served instead" in process.log
        (own / "mnist/2").rename(own / "mnist/.gone")
        time.sleep(0.5)
        assert _predict(caller).model.version == 2, "a version that was deleted goes on serving"


def test_a_running_server_falls_back_as_a_start_does(
    following: tuple[ServerProcess, ClassifierServiceStub], own: Path, tmp_path: Path
) -> None:
    """Two replicas must not disagree because one of them was started later."""
    process, caller = following
    elsewhere = tmp_path / "elsewhere"
    publish_rolled(own / "mnist/1", elsewhere, 2)
    publish_rolled(own / "mnist/1", elsewhere, 3, broken="golden mismatch")
    publish_rolled(own / "mnist/1", elsewhere, 4, broken="tampered")
    for number in (4, 3, 2):  # a look between two of these must make no difference
        (elsewhere / f"mnist/{number}").rename(own / f"mnist/{number}")
    wait_for_version(caller, 2)
    assert _states(caller) == {4: "REFUSED", 3: "REFUSED", 2: "SERVING", 1: "KEPT"}
    assert "version 2 took over from version 1" in process.log
    # So it does when the promoted one is broken, or is gone.
    publish_rolled(own / "mnist/1", own, 5)
    wait_for_version(caller, 5)
    (own / "mnist/promoted.json").write_text('{"version": 9, "previous": [4, 1]}')
    wait_for_version(caller, 1)
    assert "version 9 is refused, version 5 keeps serving: model 'mnist'" in process.log
    with ServerProcess(tmp_path, own, *POLL) as other, stub(other.address) as other_caller:
        assert _serves(other_caller) == 1


def test_two_workers_follow(own: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, own, "--workers", 2, *POLL) as process:
        publish_rolled(own / "mnist/1", own, 2)
        for _ in range(6):  # connections go to either worker
            with stub(process.address) as caller:
                wait_for_version(caller, 2)


def test_another_image_size_must_be_promoted(own: Path, slow_store: Path, tmp_path: Path) -> None:
    """Callers have read the size and the labels; a version that changes them does not come unasked."""
    from google.protobuf import json_format
    from tests.support.artifacts import seal

    from mlpserve.v1.artifact_pb2 import Manifest

    other = Path(shutil.copytree(slow_store / "slow/1", tmp_path / "other/slow/1"))
    manifest = json_format.Parse((other / "manifest.json").read_bytes(), Manifest())
    manifest.model, manifest.version = "mnist", 2
    manifest.image.rows, manifest.image.cols = 14, 56
    seal(other, manifest)
    with ServerProcess(tmp_path, own, *POLL) as process, stub(process.address) as caller:
        other.rename(own / "mnist/2")
        _wait_for_states(caller, lambda states: states[2] == "REFUSED")
        assert "mlpserve-store promote mnist 2" in process.log
        assert run("mlpserve-store", "--store", own, "promote", "mnist", 2).returncode == 0
        wait_for_version(caller, 2)
        with pytest.raises(grpc.RpcError):
            caller.Predict(pb.PredictRequest(images=bytes(10)), timeout=10)
        assert _predict(caller).model.version == 2


def test_a_replaced_version_answers_calls_that_name_it(
    following: tuple[ServerProcess, ClassifierServiceStub], own: Path
) -> None:
    """So that a job which began with a version can end with it; one version is kept."""
    _, caller = following
    first = _predict(caller)
    publish_rolled(own / "mnist/1", own, 2)
    wait_for_version(caller, 2)

    def pinned(version: int, count: int = 20, model: str = "") -> pb.PredictResponse:
        images = pixels(mnist_images()[:count])
        return caller.Predict(pb.PredictRequest(images=images, version=version, model=model), timeout=10)

    assert pinned(1).SerializeToString() == first.SerializeToString()
    assert pinned(1, model="mnist").class_ids == first.class_ids
    assert pinned(1, count=1).class_ids[0] == first.class_ids[0]
    assert pinned(2).class_ids == [(class_id + 2) % 10 for class_id in first.class_ids]
    assert caller.GetModel(pb.GetModelRequest(version=1), timeout=10).model == first.model
    assert _predict(caller).model.version == 2
    publish_rolled(own / "mnist/1", own, 3)
    wait_for_version(caller, 3)
    assert pinned(2).model.version == 2
    with pytest.raises(grpc.RpcError) as error:
        pinned(1)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert "version 1 of 'mnist' is not served here; version 3 is" in error.value.details()


def test_a_restart_keeps_the_version_before(own: Path, transport: str, tmp_path: Path) -> None:
    """A job that names a version outlives the restart of its server."""
    for number in (2, 3, 4):
        publish_rolled(own / "mnist/1", own, number, broken="golden mismatch" if number == 3 else "")
    arguments = ("--transport", transport, "--keep-versions", 2, *POLL)
    images = pixels(mnist_images()[:20])
    with (
        ServerProcess(tmp_path, own, *arguments) as process,
        Client(process.address, version=1, timeout=60, retries=1000) as client,
    ):
        # It asks again while the server says UNAVAILABLE.
        assert client.predict(mnist_images()[:20]).model.version == 1
    with ServerProcess(tmp_path, own, *arguments) as process, stub(process.address) as caller:
        try:  # from the first moment on: an answer, or "come back", never "unknown"
            caller.Predict(pb.PredictRequest(images=images, version=1), timeout=10)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == "version 1 is still being loaded; try again in a moment"
        expected = {4: "SERVING", 3: "AVAILABLE", 2: "KEPT", 1: "KEPT"}
        _wait_for_states(caller, lambda states: states == expected)
        first = caller.Predict(pb.PredictRequest(images=images, version=1), timeout=10)
        for number in (2, 4):
            answer = caller.Predict(pb.PredictRequest(images=images, version=number), timeout=10)
            assert answer.model.version == number
            assert list(answer.class_ids) == [(class_id + number) % 10 for class_id in first.class_ids]
        assert "version 3 is not kept" in process.log
        publish_rolled(own / "mnist/1", own, 5)
        _wait_for_states(
            caller, lambda states: states == {5: "SERVING", 4: "KEPT", 3: "AVAILABLE", 2: "KEPT", 1: "AVAILABLE"}
        )


def test_versions_in_flight_at_once_get_their_own_answers(
    following: tuple[ServerProcess, ClassifierServiceStub], own: Path
) -> None:
    _, caller = following
    first = list(_predict(caller).class_ids)
    publish_rolled(own / "mnist/1", own, 2)
    wait_for_version(caller, 2)
    images = pixels(mnist_images()[:20])
    futures = [
        (version, caller.Predict.future(pb.PredictRequest(images=images, version=version), timeout=20))
        for version in [1, 2, 0] * 100
    ]
    for version, future in futures:
        answer = future.result()
        shift = 0 if version == 1 else 2
        assert answer.model.version == (version or 2)
        assert list(answer.class_ids) == [(class_id + shift) % 10 for class_id in first]


@pytest.mark.parametrize(
    ("model", "version"), [("", 0), ("", 1), ("", 300), ("mnist", 0), ("mnist", 7), ("m" * 127, 2**20), ("", 2**28)]
)
def test_the_model_and_version_are_found_in_a_request_s_first_bytes(model: str, version: int) -> None:
    from mlpserve.v1.open_inference_pb2 import ModelInferRequest
    from mlpserve_server.codecs.naming import named_model

    request = pb.PredictRequest(model=model, version=version, images=b"\x10\x05" * 400)
    assert named_model(request.SerializeToString()) == (model, version)
    infer = ModelInferRequest(model_name=model, model_version=str(version) if version else "", id="5")
    assert named_model(infer.SerializeToString()) == (model, version)

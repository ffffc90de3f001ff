"""One conformance suite for both transports, over a real channel with the generated stubs."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc.error_details_pb2 import BadRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support.grpc_calls import PREDICT, channel, details, pixels, stub
from support.mnist import mnist_images
from support.processes import PROVIDER, ServerProcess
from support.transports import TRANSPORTS, need

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_server.store.folder import Store

SERVICE = "mlpserve.v1.ClassifierService"


@pytest.fixture(scope="module", params=[*TRANSPORTS, *(f"{name}, 2 workers" for name in TRANSPORTS)])
def server(
    request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A running server on each transport, in one process and in two."""
    name, _, workers = request.param.partition(",")
    need(name)
    flags = ["--transport", name, "--workers", 2 if workers else 1]
    with ServerProcess(tmp_path_factory.mktemp("server"), store, *flags) as process:
        yield process


def _reference(store: Path, file: str, images: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Probabilities of a published file, by ONNX Runtime in this process."""
    session = ort.InferenceSession(store / "mnist/1" / file, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"images": images.reshape(len(images), -1)})
    result: np.ndarray = probabilities  # type: ignore[type-arg]
    return result


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("count", [1, 300])
def test_compressed_requests_are_answered(server: ServerProcess, compression: grpc.Compression, count: int) -> None:
    request = pb.PredictRequest(images=pixels(mnist_images()[:count]), probabilities=True)
    with stub(server.address) as caller:
        answer = caller.Predict(request, timeout=30, compression=compression)
        assert answer == caller.Predict(request, timeout=30)
        assert caller.GetModel(pb.GetModelRequest(), timeout=10, compression=compression).model.version == 1


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 1000])
def test_predict_answers_as_the_published_file(server: ServerProcess, store: Path, count: int) -> None:
    images = mnist_images()[:count]
    with stub(server.address) as caller:
        answer = caller.Predict(pb.PredictRequest(images=pixels(images), probabilities=True), timeout=30)
        precision = caller.GetModel(pb.GetModelRequest(), timeout=10).serving.precision
    file = "model.int8.onnx" if precision == Precision.PRECISION_INT8 else "model.onnx"
    probabilities = np.array(answer.probabilities, np.float32).reshape(count, 10)
    assert np.abs(probabilities - _reference(store, file, images)).max() < 1e-5
    assert answer.top_k == 1
    assert list(answer.class_ids) == probabilities.argmax(axis=1).tolist()
    assert list(answer.scores) == probabilities.max(axis=1).tolist()


def test_answers_name_the_artifact(server: ServerProcess, store: Path) -> None:
    with stub(server.address) as caller:
        answer = caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10)
    expected = pb.ModelRef(name="mnist", version=1, digest=Store(store).open("mnist").digest)
    assert answer.model == expected
    assert not answer.probabilities


@pytest.mark.parametrize("top_k", [2, 3, 10])
def test_top_k_is_sorted_and_agrees_with_the_distribution(server: ServerProcess, top_k: int) -> None:
    with stub(server.address) as caller:
        request = pb.PredictRequest(images=pixels(mnist_images()[:20]), top_k=top_k, probabilities=True)
        answer = caller.Predict(request, timeout=10)
    probabilities = np.array(answer.probabilities, np.float32).reshape(20, 10)
    class_ids = np.array(answer.class_ids).reshape(20, top_k)
    scores = np.array(answer.scores, np.float32).reshape(20, top_k)
    assert answer.top_k == top_k
    assert np.array_equal(np.take_along_axis(probabilities, class_ids, axis=1), scores)
    assert np.array_equal(scores, -np.sort(-probabilities, axis=1)[:, :top_k])


def test_many_calls_at_once_each_get_their_own_answer(server: ServerProcess) -> None:
    """Requests of different sizes share batches; each reply must be cut from its own rows."""
    images = mnist_images()[:600]
    sizes = [1 + index % 7 for index in range(120)]
    with stub(server.address) as caller:
        whole = caller.Predict(pb.PredictRequest(images=pixels(images), probabilities=True), timeout=30)
        start, pending = 0, []
        for size in sizes:
            part = pb.PredictRequest(images=pixels(images[start : start + size]), probabilities=True)
            pending.append((start, size, caller.Predict.future(part, timeout=30)))
            start += size
        for begin, size, call in pending:
            answer = call.result()
            assert list(answer.class_ids) == list(whole.class_ids[begin : begin + size])
            assert np.allclose(answer.probabilities, whole.probabilities[10 * begin : 10 * (begin + size)], atol=1e-5)


def test_get_model_and_list_models(server: ServerProcess, store: Path) -> None:
    with stub(server.address) as caller:
        answer = caller.GetModel(pb.GetModelRequest(), timeout=10)
        listing = caller.ListModels(pb.ListModelsRequest(), timeout=10)
    version = Store(store).open("mnist")
    assert answer.manifest == version.manifest
    assert answer.model.digest == version.digest
    assert answer.serving.provider == PROVIDER
    assert answer.serving.max_request_images == 4096
    assert [(m.model.version, m.state) for m in listing.models] == [(1, pb.MODEL_STATE_SERVING)]
    assert 0.9 < listing.models[0].test_accuracy < 1


# --- errors --------------------------------------------------------------------------------------------------------

BAD_REQUESTS = {
    "no images": (pb.PredictRequest(), "images", "there are no images"),
    "half an image": (
        pb.PredictRequest(images=bytes(785)),
        "images",
        "785 bytes are not a whole number of 28x28 images",
    ),
    "too many images": (
        pb.PredictRequest(images=bytes(784 * 4097)),
        "images",
        "4097 images in one request; this server takes at most 4096",
    ),
    "too many classes": (pb.PredictRequest(images=bytes(784), top_k=11), "top_k", "the model has 10"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_requests_name_the_field(server: ServerProcess, name: str) -> None:
    request, field, words = BAD_REQUESTS[name]
    with stub(server.address) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.Predict(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
    (detail,) = details(caught.value)
    assert isinstance(detail, BadRequest)
    assert detail.field_violations[0].field == field


def test_bytes_that_are_no_message(server: ServerProcess) -> None:
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(PREDICT)(b"\xff\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "not a mlpserve.v1.PredictRequest" in caught.value.details()


def test_a_very_long_model_name_gets_a_short_answer(server: ServerProcess) -> None:
    """A status travels in a header, whose size is limited.

    GetModel's name is a shorter one: the wire takes at most 16 KiB for a call that carries no images.
    """
    with stub(server.address) as caller:
        for call, request in (
            (caller.Predict, pb.PredictRequest(images=bytes(784), model="m" * 100_000)),
            (caller.GetModel, pb.GetModelRequest(model="m" * 15_000)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=10)  # type: ignore[operator]
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("request_type", [pb.PredictRequest, pb.GetModelRequest])
@pytest.mark.parametrize(
    ("fields", "words"), [({"model": "cats"}, "this server serves 'mnist'"), ({"version": 7}, "version 1 is")]
)
def test_unknown_model_or_version(
    server: ServerProcess,
    request_type: type[pb.PredictRequest | pb.GetModelRequest],
    fields: dict[str, object],
    words: str,
) -> None:
    with stub(server.address) as caller, pytest.raises(grpc.RpcError) as caught:
        if request_type is pb.PredictRequest:
            caller.Predict(pb.PredictRequest(images=bytes(784), **fields), timeout=10)  # type: ignore[arg-type]
        else:
            caller.GetModel(pb.GetModelRequest(**fields), timeout=10)  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert words in caught.value.details()


def test_message_over_the_limit(server: ServerProcess) -> None:
    with stub(server.address) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.Predict(pb.PredictRequest(images=bytes(784 * 4200)), timeout=30)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details() or "takes at most 3215360" in caught.value.details()
    assert not details(caught.value), "no RetryInfo: trying again cannot help"


def test_unknown_method(server: ServerProcess) -> None:
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(f"/{SERVICE}/Guess")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_server_answers_after_all_of_that(server: ServerProcess) -> None:
    with stub(server.address) as caller:
        assert len(caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10).class_ids) == 1
    assert "Traceback" not in server.log


# --- health and reflection -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", SERVICE])
def test_health_check(server: ServerProcess, name: str) -> None:
    with channel(server.address) as opened:
        answer = health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(server: ServerProcess) -> None:
    with channel(server.address) as opened, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest(service="cats"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_watch_tells_of_the_drain(transport: str, store: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport) as process, channel(process.address) as opened:
        stream = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        started = time.monotonic()
        process.terminate()
        assert next(stream).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.wait() == 0
        assert time.monotonic() - started < 10, "an open Watch stream must not hold the exit"


REFLECTION = tuple(f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha"))


def test_reflection_describes_the_service(server: ServerProcess) -> None:
    with channel(server.address) as opened:
        database = ProtoReflectionDescriptorDatabase(opened)
        services = {SERVICE, "inference.GRPCInferenceService", "grpc.health.v1.Health", *REFLECTION}
        assert set(database.get_services()) == services
        file = database.FindFileContainingSymbol(SERVICE)
        assert [method.name for method in file.service[0].method] == ["Predict", "GetModel", "ListModels"]


@pytest.mark.parametrize("service", REFLECTION)
def test_both_versions_of_reflection_describe_every_service(server: ServerProcess, service: str) -> None:
    with channel(server.address) as opened:
        ask = opened.stream_stream(
            f"/{service}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (listed,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]), timeout=10)
        names = [found.name for found in listed.list_services_response.service]
        assert set(REFLECTION) < set(names)
        requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        for name, answer in zip(names, ask(iter(requests), timeout=10), strict=True):
            files = [
                FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto
            ]
            described = {f"{file.package}.{each.name}": each for file in files for each in file.service}
            for method in described[name].method:
                assert method.input_type.startswith("."), (name, method)

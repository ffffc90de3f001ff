"""Calls that stay open, through the gateway: health watches and reflection, as grpcurl and buf curl make them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support.grpc_calls import channel
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port
from tests.support.envoy import Gateway
from tests.support.model_infer import columns_of, infer

from mlpserve.v1 import open_inference_pb2 as oip

SERVICE = "mlpserve.v1.ClassifierService"
States = health_pb2.HealthCheckResponse


def test_reflection_describes_the_service(gateway: Gateway) -> None:
    with channel(gateway.address) as opened:
        database = ProtoReflectionDescriptorDatabase(opened)
        assert SERVICE in database.get_services()
        methods = DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name
        assert "Predict" in methods


def test_reflection_answers_while_the_caller_may_still_ask(gateway: Gateway) -> None:
    """Tools hold the stream open and ask again by what they were told."""
    answered = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        answered.wait(60)
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)

    with channel(gateway.address) as opened:
        answers = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(questions(), timeout=15)
        services = next(answers).list_services_response.service
        answered.set()
        assert SERVICE in [service.name for service in services]
        assert next(answers).file_descriptor_response.file_descriptor_proto


def test_a_health_watch_sees_the_server_drain(store: Path, transport: str, tmp_path: Path) -> None:
    flags = ["--precision", "fp32", "--threads", 1, "--drain-delay", 2]
    with (
        ServerProcess(tmp_path, store, "--transport", transport, *flags) as server,
        Gateway(tmp_path, [server.address]) as gateway,
        channel(gateway.address) as opened,
    ):
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watch = health_pb2_grpc.HealthStub(opened).Watch(request, timeout=30)
        assert next(watch).status == States.SERVING
        server.terminate()
        assert next(watch).status == States.NOT_SERVING


def test_a_watch_without_a_deadline_has_none(gateway: Gateway) -> None:
    """The gateway's own limit of 30 s a call is not for calls that stay open."""
    assert gateway.route_of("/grpc.health.v1.Health/Watch")["timeout"] == "0s"
    assert gateway.route_of("/grpc.health.v1.Health/Watch")["idle_timeout"] == "3600s"
    assert gateway.route_of("/mlpserve.v1.ClassifierService/Predict")["timeout"] == "30s"


def test_a_check_by_name(gateway: Gateway) -> None:
    with channel(gateway.address) as opened:
        check = health_pb2_grpc.HealthStub(opened).Check
        for name in ("", "readiness", "liveness", SERVICE):
            assert check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == States.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watch_does_not_fail_on_a_dead_server(store: Path, tmp_path: Path) -> None:
    """A client that watches health fails its calls until it has an answer; a server just died must not cost that."""
    dead = f"127.0.0.1:{free_port()}"
    with (
        ServerProcess(tmp_path, store, "--precision", "fp32") as server,
        Gateway(tmp_path, [dead, server.address], blind=True) as gateway,
        channel(gateway.address) as opened,
    ):
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        watches = [health_pb2_grpc.HealthStub(opened).Watch(request, timeout=30) for _ in range(12)]
        assert {next(watch).status for watch in watches} == {States.SERVING}
        assert gateway.stats()["cluster.mlpserve.upstream_rq_retry_success"] > 0, "the dead one was tried"
        for watch in watches:
            watch.cancel()


def test_many_requests_on_one_call(gateway: Gateway, expected: list[int]) -> None:
    """ModelStreamInfer: answers come while the caller may still ask, in order, each with its request's id."""
    answered = threading.Semaphore(0)

    def requests() -> Iterator[oip.ModelInferRequest]:
        for number in range(20):
            yield infer(mnist_images()[:3], "class_ids", id=str(number))
            assert answered.acquire(timeout=20)

    with channel(gateway.address) as opened:
        call = opened.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelStreamInferResponse.FromString,
        )(requests(), timeout=60)
        ids = []
        for answer in call:
            assert not answer.error_message
            assert columns_of(answer.infer_response)["class_ids"].ravel().tolist() == expected
            ids.append(answer.infer_response.id)
            answered.release()
    assert ids == [str(number) for number in range(20)]

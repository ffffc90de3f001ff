"""Before the model is proven: the port answers, and tells the truth."""

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import channel, stub

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ArtifactError, DeviceError
from mlpserve_server.healthcheck import is_serving
from mlpserve_server.models import loading
from mlpserve_server.models.model import LoadedModel
from mlpserve_server.server import Server


def test_not_serving_until_the_model_is_proven(store: Path, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, proceed = threading.Event(), threading.Event()
    load = loading.load

    def load_when_told(*arguments: Any, **keywords: Any) -> LoadedModel:
        asked.set()
        assert proceed.wait(60)
        return load(*arguments, **keywords)

    monkeypatch.setattr(loading, "load", load_when_told)
    server = Server(ServerConfig(store=store, listen="127.0.0.1:0", transport=transport))
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        assert asked.wait(60)
        with channel(server.address) as opened, stub(server.address) as caller:
            stream = health_pb2_grpc.HealthStub(opened).Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(stream).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert not is_serving(server.address)
            for call, request in (
                (caller.Predict, pb.PredictRequest(images=bytes(784))),
                (caller.GetModel, pb.GetModelRequest()),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    call(request, timeout=10)  # type: ignore[operator]
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "still being loaded" in caught.value.details()
            proceed.set()
            assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
            assert is_serving(server.address)
            starting.join()
            assert len(caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10).class_ids) == 1
            stream.cancel()
    finally:
        proceed.set()
        starting.join()
        server.stop()


def test_stop_is_safe_at_every_stage(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ServerConfig(store=store, listen="127.0.0.1:0")
    assert Server(config).stop()
    with Server(config) as server:
        assert server.stop()
        assert server.stop()

    def fail(*_: Any, **__: Any) -> LoadedModel:
        raise ArtifactError("broken")

    monkeypatch.setattr(loading, "load", fail)
    before = threading.active_count()
    with pytest.raises(ArtifactError), Server(config):
        pass
    assert threading.active_count() <= before


def test_int8_is_not_for_gpus(store: Path) -> None:
    with (
        pytest.raises(DeviceError, match="--precision int8 is for CPUs"),
        Server(ServerConfig(store=store, listen="127.0.0.1:0", device="cuda", precision="int8")),
    ):
        pass

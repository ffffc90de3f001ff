"""Manifests and compose files start our executables with flags that they have, and ask for health that is there."""

import runpy
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import channel
from support.processes import ServerProcess

from mlpserve_server.cli import _parse as parse_server
from mlpserve_trainer.cli import _parse as parse_trainer

ROOT = Path(__file__).resolve().parents[2]
SERVING = health_pb2.HealthCheckResponse.SERVING


def _resources() -> list[Any]:
    resources: list[Any] = runpy.run_path(str(ROOT / ".ci/kubernetes.py"))["resources"]()
    return resources


def _pods() -> dict[str, dict[str, Any]]:
    """Kind and name → the pod, of every object that makes pods."""
    pods = {}
    for resource in _resources():
        spec = resource.get("spec", {})
        if pod := spec.get("template", {}).get("spec") or spec.get("predictor"):
            pods[f"{resource['kind']} {resource['metadata']['name']}"] = pod
    assert {kind.partition(" ")[0] for kind in pods} == {"Deployment", "Job", "InferenceService"}
    return pods


def _containers() -> list[dict[str, Any]]:
    """Of manifests and compose files, with image and arguments."""
    containers = []
    for pod in _pods().values():
        containers += pod["containers"]
    for name in ("docker-compose.yml", "docker-compose.gpu.yml"):
        services = yaml.safe_load((ROOT / name).read_text())["services"]
        for service, content in services.items():
            if "command" in content:
                containers.append({"image": f"mlpserve-{service}", "args": content["command"]})
    return containers


def test_arguments_are_ones_that_the_executables_take() -> None:
    seen = set()
    for container in _containers():
        image = container["image"].partition(":")[0]
        if image.startswith("mlpserve-server"):
            parse_server(list(map(str, container["args"])))
        elif image == "mlpserve-trainer":
            parse_trainer(list(map(str, container["args"])))
        seen.add(image)
    assert {"mlpserve-server", "mlpserve-trainer"} <= seen


def test_probes_ask_for_names_that_the_server_has(server: ServerProcess) -> None:
    probes = {
        probe["grpc"]["service"]
        for container in _containers()
        for name, probe in container.items()
        if name.endswith("Probe")
    }
    assert probes == {"liveness", "readiness"}
    with channel(server.address) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        for name in probes:
            assert stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status == SERVING


def test_liveness_stays_while_readiness_goes(store: Path, transport: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, store, "--transport", transport, "--drain-delay", 3) as process:
        with channel(process.address) as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            watch = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=60)
            assert next(watch).status == SERVING
            process.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=10).status == SERVING
            watch.cancel()
        assert process.wait() == 0


def test_pods_are_confined() -> None:
    for pod in _pods().values():
        assert pod["containers"]
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context.get("runAsNonRoot") or pod["securityContext"]["runAsNonRoot"]


def test_grace_covers_the_drain() -> None:
    deployments = [pod for kind, pod in _pods().items() if kind.startswith("Deployment ")]
    assert deployments
    for pod in deployments:
        config = parse_server(list(map(str, pod["containers"][0]["args"])))
        assert pod["terminationGracePeriodSeconds"] > config.drain_delay + config.drain_timeout


def test_an_unknown_name_is_told_so(server: ServerProcess) -> None:
    """As gRPC's health protocol has it: an error to Check, and to Watch a state that may change."""
    request = health_pb2.HealthCheckRequest(service="nobody")
    with channel(server.address) as opened:
        stub = health_pb2_grpc.HealthStub(opened)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(request, timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(request, timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()

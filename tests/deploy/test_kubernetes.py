"""Manifests and compose files start our executables with flags that they have, and ask for health that is there."""

import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import channel
from support.processes import BIN, ServerProcess

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
        if "command" in container:  # another executable of the image
            continue
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
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            assert context.get("runAsNonRoot") or pod["securityContext"]["runAsNonRoot"]


def test_grace_covers_the_drain() -> None:
    deployments = [pod for kind, pod in _pods().items() if kind == "Deployment mlpserve"]
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


def test_resources_of_operators_are_held_against_their_definitions(tmp_path: Path) -> None:
    module = runpy.run_path(str(ROOT / ".ci/kubernetes.py"))
    port = {"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": True}}}
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in ("apiVersion", "kind", "metadata")}}
    schema["properties"]["spec"] = {"type": "object", "properties": {"endpoints": {"type": "array", "items": port}}}
    names = {"group": "example.com", "names": {"kind": "Monitor"}}
    definition = {"spec": {**names, "versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}}
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump(definition))
    found = module["foreign_schemas"]([str(tmp_path / "crd.yaml")])["example.com/v1", "Monitor"]

    def error(**endpoint: object) -> str:
        resource = {"apiVersion": "v1", "kind": "Monitor", "metadata": {}, "spec": {"endpoints": [endpoint]}}
        return str(module["foreign_error"](resource, found))

    assert error(port="metrics") == error(port=9090) == ""
    assert error(port=1.5).startswith("spec/endpoints/0/port: 1.5 is not of type")
    assert "'prot' was unexpected" in error(prot="metrics")


# --- versions, restarts, tools -------------------------------------------------------------------------------------


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_images_have_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    defaults = set()
    for name in ("docker-compose.yml", "docker-compose.gpu.yml"):
        defaults |= set(re.findall(r"MLPSERVE_VERSION:-([^}]+)\}", (ROOT / name).read_text()))
    assert defaults == {version}
    tags = []
    for path in (ROOT / "deploy/kubernetes").glob("*/kustomization.yaml"):
        tags += [image["newTag"] for image in yaml.safe_load(path.read_text())["images"]]
    tags += [
        container["image"].partition(":")[2]
        for name, pod in _pods().items()
        if name.startswith("InferenceService ")
        for container in pod["containers"]
    ]
    assert len(tags) >= 6
    assert set(tags) == {version}


def test_what_serves_is_restarted_and_what_ends_is_not() -> None:
    restarted = {name for name, service in _services().items() if service.get("restart") == "unless-stopped"}
    assert restarted == {"server", "playground", "gateway", "prometheus", "grafana"}
    assert not any("restart" in service for name, service in _services().items() if name not in restarted)


def test_the_trainer_shows_its_epochs_and_the_server_waits_for_it() -> None:
    trainer = _services()["trainer"]
    assert trainer.get("attach", True)
    assert _services()["server"]["depends_on"] == {"trainer": {"condition": "service_healthy"}}


def test_ports_are_on_loopback_and_documented() -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    seen = 0
    for service in _services().values():
        for port in service.get("ports", []):
            variable, number = re.fullmatch(r"127\.0\.0\.1:\$\{(MLPSERVE_\w+):-(\d+)\}:\d+", port).groups()  # type: ignore[union-attr]
            assert re.search(rf"^\| {number} \|.*`{variable}`", page, re.MULTILINE), port
            seen += 1
    assert seen == 5


def test_a_server_in_kubernetes_waits_for_the_first_version(store: Path, tmp_path: Path) -> None:
    """The init container's own command, run here: it waits while the store is empty, and then ends."""
    deployments = [r for r in _resources() if r["kind"] == "Deployment" and r["metadata"]["name"] == "mlpserve"]
    waits = [resource["spec"]["template"]["spec"]["initContainers"] for resource in deployments]
    assert len(waits) == 2, "the base and the GPU overlay"
    shell, flag, command = waits[0][0]["command"]
    assert "mlpserve-store --store /store list mnist" in command
    copy = tmp_path / "store"
    command = command.replace("/store", str(copy)).replace("sleep 5", "sleep 0.1")
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [shell, flag, command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stderr is not None
        assert "mlpserve-store: " in waiting.stderr.readline(), "it says what it waits for"
        assert waiting.poll() is None
        shutil.copytree(store, copy)
        shown, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert "◀ newest" in shown


def test_the_systemd_unit_starts_the_server() -> None:
    path = ROOT / "deploy/systemd/mlpserve-server.service"
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text().replace("\\\n", " "))
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program == "/opt/mlpserve/bin/mlpserve-server"
    config = parse_server(arguments)
    assert int(unit["Service"]["TimeoutStopSec"]) > config.drain_delay + config.drain_timeout
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    # Only that the program is not at its place on this machine may be said.
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in checked.stderr.splitlines() if "mlpserve-server.service" in line]
    assert [line for line in complaints if "is not executable: No such file" not in line] == []

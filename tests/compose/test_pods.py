"""The pods of deploy/kubernetes as a node runs them, on a Docker engine: commands, users, volumes, probes, signals.

Without a cluster: what the scheduler, the network policy and the autoscaler do is not tested here.
"""

import runpy
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_calls import channel
from support.waiting import wait_until
from tests.compose.test_compose import VERSION, _docker, _missing

ROOT = Path(__file__).resolve().parents[2]
NAME = "mlpserve-pods"  # before the names of containers, of the network and of the volume
SERVING = health_pb2.HealthCheckResponse.SERVING
MEMORY = {"Mi": "m", "Gi": "g"}


def _pod(kind: str, name: str) -> Any:
    """The pod's specification, without the GPU overlay."""
    for resource in runpy.run_path(str(ROOT / ".ci/kubernetes.py"))["resources"]():
        if (resource["kind"], resource.get("metadata", {}).get("name")) == (kind, name):
            spec = resource["spec"]
            return spec["template"]["spec"] if "template" in spec else spec["predictor"]
    raise AssertionError(f"there is no {kind} {name}")


def _arguments(pod: Any, container: Any, *publish: str) -> list[str]:
    """`docker run` as the kubelet would do it."""
    security = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    user = security["runAsUser"]
    memory = container["resources"]["limits"]["memory"]
    arguments = [
        *("--user", f"{user}:{security.get('runAsGroup', user)}", "--read-only"),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--memory", memory[:-2] + MEMORY[memory[-2:]]),
        *("--network", NAME),
        *publish,
    ]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            arguments += ["--tmpfs", f"{mount['mountPath']}:mode=1777"]
        else:
            mode = "ro" if mount.get("readOnly") else "rw"
            arguments += ["--volume", f"{NAME}:{mount['mountPath']}:{mode}"]
    for variable in container.get("env", []):
        arguments += ["--env", f"{variable['name']}={variable['value']}"]
    entrypoint, *rest = container.get("command", [""])
    if entrypoint:
        arguments += ["--entrypoint", entrypoint]
    name = container["image"].partition(":")[0]
    return [*arguments, f"{name}:{VERSION}", *rest, *map(str, container.get("args", []))]


def _run(name: str, *arguments: str, detach: bool = True) -> subprocess.CompletedProcess[str]:
    _docker("rm", "--force", f"{NAME}-{name}")
    return _docker("run", *(["--detach"] if detach else []), "--name", f"{NAME}-{name}", *arguments)


def _say(name: str) -> str:
    shown = _docker("logs", f"{NAME}-{name}")
    return shown.stdout + shown.stderr


def _exit_code(name: str) -> int:
    return int(_docker("wait", f"{NAME}-{name}", timeout=120).stdout)


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """An empty volume and a network with the name of the Service in it; the images were built by test_compose.py."""
    if (reason := _missing()) is not None:
        pytest.skip(reason)
    for image in ("trainer", "server", "client"):
        if _docker("image", "inspect", f"mlpserve-{image}:{VERSION}").returncode:
            pytest.skip(f"there is no image mlpserve-{image}:{VERSION}: make images")
    _docker("volume", "create", NAME)
    _docker("network", "create", NAME)
    yield
    names = _docker("ps", "--all", "--quiet", "--filter", f"name={NAME}-").stdout.split()
    if names:
        _docker("rm", "--force", *names)
    _docker("network", "rm", NAME)
    _docker("volume", "rm", NAME)


def _probe(address: str, probe: Any) -> int:
    with channel(address) as opened:
        request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
        status: int = health_pb2_grpc.HealthStub(opened).Check(request, timeout=probe.get("timeoutSeconds", 1)).status
    return status


def _wait_for(probe: Any, name: str, port: int) -> str:
    """As often as the manifest says, at most as often as it allows; the address that answered."""
    address = _docker("port", f"{NAME}-{name}", str(port)).stdout.splitlines()[0]
    seconds = probe["periodSeconds"] * probe.get("failureThreshold", 30)
    wait_until(
        lambda: _probe(address, probe) == SERVING,
        lambda: f"{probe['grpc']['service']} within {seconds} s; the container says: {_say(name)}",
        seconds,
        every=probe["periodSeconds"],
        not_yet=(Exception,),
    )
    return address


@pytest.mark.compose
@pytest.mark.timeout(3000)
def test_the_first_start_the_probes_and_the_end(node: None) -> None:
    job, deployment, tools = (
        _pod(*what)
        for what in (("Job", "mlpserve-train"), ("Deployment", "mlpserve"), ("Deployment", "mlpserve-tools"))
    )
    # The server's pod comes up beside the Job and waits for it without a failure.
    (waits,) = deployment["initContainers"]
    assert _run("wait", *_arguments(deployment, waits)).returncode == 0
    trained = _run("trainer", *_arguments(job, job["containers"][0]), detach=False)
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert _exit_code("wait") == 0
    assert "restart" not in _say("wait").lower()

    (server,) = deployment["containers"]
    publish = ["--publish", "127.0.0.1:0:50051", "--network-alias", "mlpserve"]
    started = _run("server", *_arguments(deployment, server, *publish))
    assert started.returncode == 0, started.stderr
    address = _wait_for(server["startupProbe"], "server", 50051)
    _wait_for({**server["readinessProbe"], "failureThreshold": 30}, "server", 50051)
    assert _probe(address, server["livenessProbe"]) == SERVING

    # The documented commands, in the tools' pod.
    for container in tools["containers"]:
        assert _run(container["name"], *_arguments(tools, container)).returncode == 0

    def tool(container: str, *command: str) -> str:
        shown = _docker("exec", f"{NAME}-{container}", *command)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        return shown.stdout

    store = ("mlpserve-store", "--store", "/store")
    assert "◀ newest" in tool("store", *store, "list", "mnist")
    assert "follow version 1" in tool("store", *store, "promote", "mnist", "1")
    assert "◀ promoted" in tool("store", *store, "list", "mnist")
    refused = _docker("exec", f"{NAME}-store", *store, "rollback", "mnist")
    assert refused.returncode == 1, "there is one version only"
    assert "Traceback" not in refused.stderr
    assert "mnist version 1" in tool("client", "mlpserve", "info")

    # The end of a pod: SIGTERM, not ready at once, alive until it exits by itself within the grace period.
    begun = time.monotonic()
    _docker("kill", "--signal", "TERM", f"{NAME}-server")
    wait_until(
        lambda: _probe(address, server["readinessProbe"]) != SERVING, "the draining server is not ready", every=0.1
    )
    assert _probe(address, server["livenessProbe"]) == SERVING
    assert _exit_code("server") == 0, _say("server")
    assert time.monotonic() - begun < deployment["terminationGracePeriodSeconds"]


@pytest.mark.compose
@pytest.mark.timeout(600)
def test_kserves_pod_becomes_ready(node: None) -> None:
    """After the test before has trained."""
    predictor = _pod("InferenceService", "mlpserve")
    (container,) = predictor["containers"]
    started = _run("kserve", *_arguments(predictor, container, "--publish", "127.0.0.1:0:8081"))
    assert started.returncode == 0, started.stderr
    _wait_for(container["readinessProbe"], "kserve", 8081)

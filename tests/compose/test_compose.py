"""`docker compose up` as a newcomer types it, on a real engine."""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.grpc_calls import stub
from support.waiting import wait_until
from tests.support.cuda_emulator import BUILT, Emulator, missing

from mlpserve.v1 import classifier_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SERVER_LIMIT, GPU_SERVER_LIMIT = 400_000_000, 2_000_000_000  # bytes


def _docker(*arguments: str, timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
    )


def _missing() -> str | None:
    if shutil.which("docker") is None:
        return "docker is not installed"
    if _docker("info").returncode:
        return "no Docker engine is running"
    if _docker("compose", "version").returncode:
        return "Docker Compose v2 is not installed"
    return None


@pytest.fixture(scope="module")
def project() -> Iterator[list[str]]:
    """A compose project of its own, removed with its volumes at the end; built images stay."""
    if (reason := _missing()) is not None:
        pytest.skip(reason)
    command = ["compose", "--project-name", "mlpserve-test"]
    yield command
    _docker(*command, "down", "--volumes")


@pytest.mark.compose
@pytest.mark.timeout(3600)
def test_up_trains_serves_and_scores_then_does_not_train_again(project: list[str]) -> None:
    first = _docker(*project, "up", "--build", "--exit-code-from", "score")
    assert first.returncode == 0, first.stdout[-5000:] + first.stderr[-5000:]
    accuracy = re.search(r"Accuracy ([\d.]+)%", first.stdout)
    assert accuracy, first.stdout[-3000:]
    assert float(accuracy[1]) >= 98.2
    # The epochs are seen in what is shown by default, not only in the trainer's own log.
    epochs = re.findall(r"trainer-\d+ +\| Epoch (\d+)", first.stdout)
    assert epochs == [str(epoch) for epoch in range(1, 11)]
    assert "Published mnist version 1" in _docker(*project, "logs", "trainer").stdout
    log = _docker(*project, "logs", "server")
    assert "transport auto: wire" in log.stdout + log.stderr
    _docker(*project, "down")
    second = _docker(*project, "up", "--exit-code-from", "score")
    assert second.returncode == 0, second.stdout[-5000:] + second.stderr[-5000:]
    again = _docker(*project, "logs", "trainer").stdout
    assert "mnist version 1 is in the store already; nothing to do" in again
    assert "Epoch" not in again


@pytest.mark.compose
@pytest.mark.timeout(1800)
def test_a_person_looks_promotes_and_rolls_back(project: list[str]) -> None:
    """After the test before has filled the store: the commands of docs/deployment.md, while the server runs."""

    def tool(*arguments: str) -> str:
        shown = _docker(*project, "run", "--rm", *arguments)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        return shown.stdout

    up = _docker(*project, "up", "--detach", "--wait", "server")
    assert up.returncode == 0, up.stdout[-5000:] + up.stderr[-5000:]
    train = ["--entrypoint", "mlpserve-train", "trainer", "--store", "/store", "--epochs", "1"]
    assert "Published mnist version 2" in tool(*train)
    served = ["client", "info"]
    wait_until(lambda: "mnist version 2" in tool(*served), "the server follows the new version", 120)
    assert re.search(r"^ +2 .*◀ newest$", tool("store", "list", "mnist"), re.MULTILINE)
    assert tool("store", "promote", "mnist", "1") == "Servers of mnist follow version 1 (before: 2)\n"
    wait_until(lambda: "mnist version 1" in tool(*served), "the server serves the promoted version", 120)
    assert tool("store", "rollback", "mnist") == "Servers of mnist follow version 2 (before: 1)\n"
    assert "version, 2" in tool("store", "follow-newest", "mnist")
    _docker(*project, "down")


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())


def _wait_until_it_serves(container: str) -> None:
    wait_until(
        lambda: "Serving mnist" in _docker("logs", container).stdout,
        lambda: f"the container serves; it says: {_docker('logs', container).stderr}",
        every=0.5,
    )


@pytest.mark.compose
@pytest.mark.timeout(1200)
def test_up_serves_the_playground(project: list[str]) -> None:
    up = _docker(*project, "up", "--detach", "--wait", "server", "playground")
    assert up.returncode == 0, up.stdout[-5000:] + up.stderr[-5000:]
    model = wait_until(
        lambda: _get("http://127.0.0.1:8000/api/model"),
        lambda: f"the playground answers; it says: {_docker(*project, 'logs', 'playground').stdout}",
        not_yet=(OSError,),
    )
    assert model["target"] == "server:50051"
    assert _get("http://127.0.0.1:8000/api/gallery")["images"] == 10_000
    _docker(*project, "down")


@pytest.mark.compose
def test_images_are_labelled_with_version_and_revision(project: list[str]) -> None:
    built = subprocess.run(["make", "images"], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in ("trainer", "server", "client"):
        for tag in (VERSION, f"{VERSION}-{revision.strip()}"):
            labels = json.loads(_docker("image", "inspect", f"mlpserve-{name}:{tag}").stdout)[0]["Config"]["Labels"]
        assert labels["org.opencontainers.image.version"] == VERSION
        assert labels["org.opencontainers.image.revision"] == revision.strip()


@pytest.mark.compose
def test_images_are_small_and_hold_only_their_part(project: list[str]) -> None:
    image = json.loads(_docker("image", "inspect", f"mlpserve-server:{VERSION}").stdout)[0]
    assert image["Size"] <= SERVER_LIMIT
    assert image["Config"]["User"] == "65532:65532"
    for name, absent in (("server", "torch onnx mlpserve_trainer mlpserve_client"), ("client", "onnxruntime torch")):
        code = f"import importlib.util as u; print([n for n in '{absent}'.split() if u.find_spec(n)])"
        found = _docker("run", "--rm", "--entrypoint", "python", f"mlpserve-{name}:{VERSION}", "-c", code)
        assert found.stdout.strip() == "[]", found.stdout + found.stderr


@pytest.mark.compose
def test_gpu_file_is_valid(project: list[str]) -> None:
    result = _docker(*project, "-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml", "config")
    assert result.returncode == 0, result.stderr
    assert "driver: nvidia" in result.stdout
    assert "RUNTIME: gpu" in result.stdout


@pytest.fixture(scope="module")
def open_store(store: Path) -> Iterator[Path]:
    """A copy of the store that a container's user may read."""
    with tempfile.TemporaryDirectory(prefix="mlpserve-compose-") as folder:
        Path(folder).chmod(0o755)
        copy = Path(shutil.copytree(store, Path(folder) / "store"))
        copy.chmod(0o755)
        yield copy


@pytest.mark.compose
@pytest.mark.timeout(1800)
def test_gpu_image_is_small_and_fails_closed(project: list[str], open_store: Path) -> None:
    """The real GPU build of ONNX Runtime, on a machine without a GPU."""
    arguments = [
        "--build-arg",
        "RUNTIME=gpu",
        "--file",
        "server/Dockerfile",
        "--tag",
        f"mlpserve-server-gpu:{VERSION}",
        ".",
    ]
    built = _docker("build", *arguments)
    assert built.returncode == 0, built.stderr[-3000:]
    assert (
        json.loads(_docker("image", "inspect", f"mlpserve-server-gpu:{VERSION}").stdout)[0]["Size"] <= GPU_SERVER_LIMIT
    )
    command = [
        "run",
        "--rm",
        "--volume",
        f"{open_store}:/store:ro",
        f"mlpserve-server-gpu:{VERSION}",
        "--store",
        "/store",
    ]
    refused = _docker(*command, "--device", "cuda", timeout=120)
    if "Serving mnist" in refused.stdout:
        pytest.skip("there is a GPU here")
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert "--device cuda:" in last, refused.stderr
    assert "Use --device cpu, or auto to take a GPU only where one works" in last
    assert "Traceback" not in refused.stderr
    # auto serves on the CPU, and says why.
    name = "mlpserve-test-gpu-auto"
    try:
        started = _docker("run", "--detach", "--name", name, *command[2:], "--workers", "1")
        assert started.returncode == 0, started.stderr
        _wait_until_it_serves(name)
        assert "device auto: serving on the CPU: " in _docker("logs", name).stderr
    finally:
        _docker("rm", "--force", name)


@pytest.mark.compose
@pytest.mark.timeout(1800)
def test_gpu_image_serves_on_an_emulated_gpu(
    project: list[str], open_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After the test before has built it: the image as it is, with another driver and other CUDA libraries in front."""
    if reason := missing():
        pytest.skip(reason)
    Emulator(tmp_path_factory.mktemp("cuda"))
    name = "mlpserve-test-gpu-emulated"
    mounts = ["--volume", f"{open_store}:/store:ro", "--volume", f"{BUILT}:/emulated:ro"]
    found = ["--env", "LD_LIBRARY_PATH=/emulated/driver", "--env", "PYTHONPATH=/emulated/wheels"]
    command = ["--store", "/store", "--listen", "0.0.0.0:50051", "--allow-plaintext", "--device", "cuda"]
    run = ["run", "--detach", "--name", name, "--publish", "127.0.0.1:0:50051", *mounts, *found]
    try:
        started = _docker(*run, f"mlpserve-server-gpu:{VERSION}", *command)
        assert started.returncode == 0, started.stderr
        _wait_until_it_serves(name)
        with stub(_docker("port", name, "50051").stdout.strip()) as caller:
            assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CUDAExecutionProvider"
            assert len(caller.Predict(pb.PredictRequest(images=bytes(784 * 3)), timeout=10).class_ids) == 3
    finally:
        _docker("rm", "--force", name)


@pytest.mark.compose
def test_gpu_file_without_a_gpu_fails_before_the_server_starts(project: list[str]) -> None:
    """After the tests before have built the image."""
    gpu = ["-f", "docker-compose.yml", "-f", "docker-compose.gpu.yml"]
    up = _docker(*project, *gpu, "up", "--no-deps", "--no-build", "--detach", "server", timeout=120)
    if up.returncode == 0:
        pytest.skip("there is a GPU here, with the NVIDIA container toolkit")
    assert 'could not select device driver "nvidia" with capabilities: [[gpu]]' in up.stderr


@pytest.mark.compose
@pytest.mark.timeout(1800)
def test_gateway_profile_answers_json(project: list[str]) -> None:
    """After the first test has filled the store."""
    up = _docker(*project, "--profile", "gateway", "up", "--build", "--detach", "server", "gateway")
    assert up.returncode == 0, up.stderr[-3000:]
    answer = wait_until(
        lambda: _get("http://127.0.0.1:8080/v1/models/mnist"), "the gateway answers", not_yet=(OSError,)
    )
    assert answer["manifest"]["model"] == "mnist"


@pytest.mark.compose
def test_observability_profile_is_valid(project: list[str]) -> None:
    result = _docker(*project, "--profile", "observability", "config")
    assert result.returncode == 0, result.stderr
    assert "prom/prometheus" in result.stdout
    assert "grafana/grafana" in result.stdout

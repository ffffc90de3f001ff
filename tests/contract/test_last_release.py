"""The last release and today's code together: each one's server with the other's client, and each other's artifacts."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.grpc_calls import stub
from support.mnist import mnist_images
from support.processes import SERVER, ServerProcess
from tests.support.release import ROOT, VERSION, Release, last_release

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import GoldenSamples, Precision

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# What speaks to a real server: by the contract's stubs, by the Open Inference Protocol, by the client and its commands.
SUITES = [
    "tests/server/test_transports.py",
    "tests/server/test_open_inference.py",
    "tests/client/test_client.py",
    "tests/client/test_cli.py",
]
OIP = "tests/server/test_open_inference.py"
# Of the release's suites, what has been changed on purpose since.
CHANGED = {
    f"{OIP}::test_what_the_server_says_about_itself": "max_batch_size is that of a request, for perf_analyzer",
    f"{OIP}::test_invalid_requests[wire-classification": "the words of the error",
    f"{OIP}::test_invalid_requests[grpcio-classification": "the words of the error",
}
# Of today's suites, what the release's server does not have.
NEWER = {
    f"{OIP}::test_what_the_server_says_about_itself": "the whole ModelConfig",
    f"{OIP}::test_invalid_requests": "errors of one line and of bounded length, and what they say of shared memory",
    "tests/server/test_transports.py::test_reflection_describes_the_service": "rpcs that are new",
    "tests/server/test_transports.py::test_both_versions_of_reflection": "reflection v1",
}


def _deselected(tests: Mapping[str, str]) -> list[str]:
    return [argument for test in tests for argument in ("--deselect", test)]


@pytest.fixture(scope="module")
def release() -> Release:
    return last_release()


@pytest.fixture(scope="module")
def their_store(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that the release's trainer has published to."""
    folder = tmp_path_factory.mktemp("release") / "store"
    trained = release.run("mlpserve-train", "--store", folder, "--epochs", 1)
    assert trained.returncode == 0, trained.stderr
    return folder


def _passed(tested: subprocess.CompletedProcess[str]) -> int:
    """How many tests passed; none may have failed."""
    closing = tested.stdout.splitlines()[-1] if tested.stdout else ""
    assert tested.returncode == 0, tested.stdout[-6000:] + tested.stderr[-2000:]
    return int(closing.split(" passed")[0].split()[-1])


def test_it_is_the_release(release: Release) -> None:
    names = ("mlpserve", "mlpserve_client", "mlpserve_server", "mlpserve_trainer")
    code = f"import importlib.metadata as m, {', '.join(names)} as last; print(m.version('mlpserve'))"
    code += "; " + "; ".join(f"print({name}.__file__)" for name in (*names[:3], "last"))
    version, *files = release.run("python", "-c", code).stdout.split()
    assert version == VERSION
    assert len(files) == len(names)
    assert all(str(release.programs.parent) in file for file in files), files


def test_its_client_and_callers_work_with_todays_server(release: Release, their_store: Path, tmp_path: Path) -> None:
    """The release's own tests, in its environment, on a model of its own."""
    tested = release.run(
        "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "theirs",
        "-k", "(wire or grpcio) and not workers", *_deselected(CHANGED), *SUITES,
        env={"MLPSERVE_TEST_SERVER": str(SERVER), "MLPSERVE_TEST_STORE": str(their_store)},
    )  # fmt: skip
    assert _passed(tested) > 100


def test_todays_client_and_callers_work_with_its_server(release: Release, store: Path, tmp_path: Path) -> None:
    """Today's tests on a model that today's trainer has published; its server runs over grpcio."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {
        "MLPSERVE_TEST_SERVER": str(release.programs / "mlpserve-server"),
        "MLPSERVE_TEST_STORE": str(store),
    }
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "ours"),
         "-k", "grpcio and not workers", *_deselected(NEWER), *SUITES],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert _passed(tested) > 50


def test_todays_server_serves_its_artifact_as_it_was_proven(their_store: Path, tmp_path: Path, transport: str) -> None:
    (golden,) = (their_store / "mnist/1").glob("golden*")
    samples = GoldenSamples.FromString(golden.read_bytes())
    answers = next(entry for entry in samples.answers if entry.precision == Precision.PRECISION_FP32)
    with (
        ServerProcess(tmp_path, their_store, "--transport", transport, "--precision", "fp32") as process,
        stub(process.address) as caller,
    ):
        answer = caller.Predict(pb.PredictRequest(images=samples.images, probabilities=True), timeout=30)
    assert list(answer.class_ids) == list(answers.class_ids)
    assert np.abs(np.array(answer.probabilities) - np.array(answers.probabilities)).max() <= answers.tolerance


def test_its_server_serves_todays_artifact(release: Release, store: Path, tmp_path: Path) -> None:
    program = release.programs / "mlpserve-server"
    with (
        ServerProcess(tmp_path, store, "--transport", "grpcio", program=program, env=release.environment()) as process,
        stub(process.address) as caller,
    ):
        answer = caller.Predict(pb.PredictRequest(images=mnist_images()[:20].tobytes()), timeout=30)
    assert len(answer.class_ids) == 20
    assert answer.model.version == 1

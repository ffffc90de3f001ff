"""The whole server on an emulated GPU: the real onnxruntime-gpu, real processes, both transports."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from support.grpc_calls import pixels, stub, wait_for_version
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, run, scrape
from support.transports import TRANSPORTS
from tests.support.artifacts import publish_rolled
from tests.support.cuda_emulator import Emulator, log_lines
from tests.support.cuda_kernels import KERNELS

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = pytest.mark.cuda

MAX_BATCH = 64
SIZES = [1, 2, 4, 8, 16, 32, 64]
PIXELS, CLASSES = 784, 10


def _outputs_bytes(size: int) -> int:
    """Class ids, scores and probabilities of a batch, each on a boundary of 256 bytes."""
    return sum(-(-4 * size * width // 256) * 256 for width in (1, 1, CLASSES))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "device.log"


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest, emulator: Emulator, store: Path, log: Path) -> Iterator[ServerProcess]:
    log.unlink(missing_ok=True)
    flags = ["--transport", request.param, "--device", "auto", "--max-batch", MAX_BATCH]
    with emulator.server(store, *flags, log=log) as process:
        yield process
        process.terminate()
        assert process.wait() == 0
    for words in ("not pinned", "Traceback", "Exception ignored", "onnxruntime:"):
        assert words not in process.log


def test_auto_takes_the_gpu_and_answers_as_the_cpu_does(server: ServerProcess, store: Path) -> None:
    session = ort.InferenceSession(store / "mnist/1/model.onnx", providers=["CPUExecutionProvider"])
    with stub(server.address) as caller:
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CUDAExecutionProvider"
        start = 0
        for count in (1, 3, 2, 64, 33, 1, 5, 200):  # padded, exact, cut
            images = mnist_images()[start : start + count]
            answer = caller.Predict(pb.PredictRequest(images=pixels(images), probabilities=True), timeout=30)
            class_ids, scores, probabilities = session.run(None, {"images": images.reshape(count, -1)})
            assert list(answer.class_ids) == class_ids.tolist()
            assert np.allclose(answer.scores, scores, atol=1e-5)
            assert np.allclose(answer.probabilities, probabilities.ravel(), atol=1e-5)
            start += count


def test_two_threads_answer_many_callers(server: ServerProcess) -> None:
    images = mnist_images()[:150]
    with stub(server.address) as caller:
        whole = list(caller.Predict(pb.PredictRequest(images=pixels(images)), timeout=30).class_ids)

        def call(first: int) -> bool:
            size = first % 7 + 1
            answer = caller.Predict(pb.PredictRequest(images=pixels(images[first : first + size])), timeout=30)
            return list(answer.class_ids) == whole[first : first + size]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, [number % 140 for number in range(400)]))


def test_what_the_device_did(server: ServerProcess, log: Path) -> None:
    """The proof ran at every size, with one pinned copy in and one out for each Run, on the provider's own kernels."""
    with stub(server.address) as caller:
        caller.Predict(pb.PredictRequest(images=bytes(PIXELS)), timeout=10)
    lines = log_lines(log)
    for size in SIZES:
        assert lines[f"copy in {PIXELS * size} pinned"] >= 1
        assert lines[f"copy out {_outputs_bytes(size)} pinned"] >= 1
    runs = sum(count for line, count in lines.items() if line.startswith("copy out"))
    assert sum(count for line, count in lines.items() if line.startswith("copy in") and "pinned" in line) == runs
    assert sum(count for line, count in lines.items() if "arg_min_max_last_axis_kernel" in line) == runs
    work = {line for line in lines if line.startswith(("kernel", "cu"))}
    used = {operator for operator, kernel in KERNELS.items() if kernel and any(kernel in line for line in work)}
    assert used == {"ArgMax", "Cast", "GatherElements", "Gemm", "Relu", "Softmax"}
    assert not [line for line in work if "cudnn" in line or "TF32" in line]
    assert not [line for line in lines if line.startswith(("failed", "missing"))]


def test_conformance_suite(emulator: Emulator, store: Path, tmp_path: Path) -> None:
    """The suite that both transports pass on a CPU, against servers on the GPU."""
    program = emulator.wrapper(tmp_path / "mlpserve-server")
    result = run(
        *("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/server/test_transports.py"),
        env={
            "MLPSERVE_TEST_DEVICE": "cuda",
            "MLPSERVE_TEST_SERVER": str(program),
            "MLPSERVE_TEST_STORE": str(store),
        },
    )
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout


def test_gpu_metrics_come_through_nvml(emulator: Emulator, store: Path, transport: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--metrics-listen", address]
    with emulator.server(store, *flags, memory=1 << 30):
        samples = scrape(address)
    gpu = {name.partition("{")[0]: value for name, value in samples.items() if name.startswith("mlpserve_gpu")}
    assert gpu["mlpserve_gpu_memory_bytes"] == 1 << 30
    assert 4 * 203_530 < gpu["mlpserve_gpu_memory_used_bytes"] < 1 << 29
    assert gpu["mlpserve_gpu_utilization_ratio"] == 0.25
    assert any('provider="CUDAExecutionProvider"' in name for name in samples)
    assert any('gpu="0000:E0:00.0"' in name for name in samples)


def test_a_second_gpu_is_used_alone(emulator: Emulator, store: Path, transport: str, tmp_path: Path) -> None:
    log = tmp_path / "device.log"
    address = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--device", "cuda:1", "--metrics-listen", address]
    with emulator.server(store, *flags, devices=2, log=log) as process:
        with stub(process.address) as caller:
            assert len(caller.Predict(pb.PredictRequest(images=bytes(PIXELS * 9)), timeout=10).class_ids) == 9
        assert any('gpu="0000:E1:00.0"' in name for name in scrape(address))
        process.terminate()
        assert process.wait() == 0
    assert {line for line in log_lines(log) if line.startswith("context")} == {"context on 1"}


def _gpu_memory(address: str) -> float:
    return next(value for name, value in scrape(address).items() if name.startswith("mlpserve_gpu_memory_used_bytes"))


def test_a_new_version_takes_over_on_the_device(emulator: Emulator, copy: Path, transport: str) -> None:
    """With buffers far smaller than a page, of which none may share one: each is pinned."""
    images = mnist_images()[:20]
    with (
        emulator.server(copy, "--transport", transport, "--poll", 0.1, "--max-batch", 2) as process,
        stub(process.address) as caller,
    ):
        before = caller.Predict(pb.PredictRequest(images=pixels(images)), timeout=10)
        publish_rolled(copy / "mnist/1", copy, 2)
        wait_for_version(caller, 2)
        after = caller.Predict(pb.PredictRequest(images=pixels(images)), timeout=10)
        assert [(class_id - 2) % CLASSES for class_id in after.class_ids] == list(before.class_ids)
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CUDAExecutionProvider"
        kept = caller.Predict(pb.PredictRequest(images=pixels(images), version=1), timeout=10)
        assert kept.class_ids == before.class_ids
    assert "not pinned" not in process.log


def test_replaced_versions_give_their_memory_back(emulator: Emulator, copy: Path, transport: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    flags = ["--transport", transport, "--poll", 0.1, "--metrics-listen", address]
    used = []
    with emulator.server(copy, *flags) as process, stub(process.address) as caller:
        for number in range(2, 7):
            publish_rolled(copy / "mnist/1", copy, number)
            wait_for_version(caller, number)
            used.append(_gpu_memory(address))
    # The one that serves and the one before it are there, and for a moment the one before that.
    assert used[-1] <= max(used[:2]), used


def test_a_version_for_which_there_is_no_memory_is_refused(emulator: Emulator, copy: Path, transport: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    with emulator.server(copy, "--metrics-listen", address):
        used = _gpu_memory(address)
    flags = ["--transport", transport, "--poll", 0.1]
    with emulator.server(copy, *flags, memory=int(1.3 * used)) as process, stub(process.address) as caller:
        publish_rolled(copy / "mnist/1", copy, 2)
        process.wait_for_log("version 2 is refused, version 1 keeps serving: ")
        assert "Failed to allocate memory" in process.log
        assert "Traceback" not in process.log
        answer = caller.Predict(pb.PredictRequest(images=bytes(PIXELS)), timeout=10)
        assert answer.model.version == 1
        listing = caller.ListModels(pb.ListModelsRequest(), timeout=10)
        assert {m.model.version: m.state for m in listing.models}[2] == pb.MODEL_STATE_REFUSED


def test_a_gpu_that_breaks_is_not_ready_until_it_works_again(
    emulator: Emulator, store: Path, transport: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    flags = ["--transport", transport, "--stall-timeout", 20]
    with emulator.server(store, *flags, broken=broken) as process, stub(process.address) as caller:
        assert caller.Predict(pb.PredictRequest(images=bytes(PIXELS)), timeout=10).class_ids
        broken.touch()
        with pytest.raises(grpc.RpcError) as caught:
            caller.Predict(pb.PredictRequest(images=bytes(PIXELS)), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        process.wait_for_log("NOT_SERVING")
        assert "unspecified launch failure" in process.log
        broken.unlink()
        process.wait_for_log(": SERVING")
        assert caller.Predict(pb.PredictRequest(images=bytes(PIXELS)), timeout=10).class_ids

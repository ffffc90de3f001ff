"""What serves on a GPU, as far as a machine without one can show: policy, padding, binding, two threads."""

import gc
import logging
import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.grpc_calls import pixels, stub
from support.host_memory import HostMemory
from support.mnist import mnist_images
from support.waiting import wait_until

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1.artifact_pb2 import Precision
from mlpserve_server.config import ServerConfig, split_device
from mlpserve_server.errors import ConfigError, DeviceError
from mlpserve_server.loader import Loader
from mlpserve_server.models import cuda, cuda_libraries, loading
from mlpserve_server.models.model import CPU, CUDA, LoadedModel, Proof
from mlpserve_server.models.runners import BoundRunner, DeviceRunner, batch_sizes
from mlpserve_server.observe.gpu import GpuWatch
from mlpserve_server.observe.metrics import Description, Metrics
from mlpserve_server.observe.prometheus import families
from mlpserve_server.server import Server
from mlpserve_server.store.folder import Store, Version

MAX_BATCH = 48


@pytest.fixture(scope="module")
def version(store: Path) -> Version:
    return Store(store).open("mnist")


def _session(version: Version) -> ort.InferenceSession:
    return ort.InferenceSession(version.read(loading.ROLES[Precision.PRECISION_FP32]), providers=[CPU])


@pytest.fixture(scope="module")
def runner(version: Version) -> DeviceRunner:
    return DeviceRunner(_session(version), MAX_BATCH, 784, 10, HostMemory())


def test_batch_sizes() -> None:
    assert batch_sizes(1) == [1]
    assert batch_sizes(2) == [1, 2]
    assert batch_sizes(100) == [1, 2, 4, 8, 16, 32, 64, 100]
    assert batch_sizes(128) == [1, 2, 4, 8, 16, 32, 64, 128]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, MAX_BATCH), min_size=1, max_size=6))
def test_padding_and_earlier_runs_do_not_show(runner: DeviceRunner, version: Version, counts: list[int]) -> None:
    """Runs of any sizes in any order: each row's answer is that of the image alone."""
    alone = BoundRunner(_session(version), 1, 784, 10)
    start = 0
    for count in counts:
        images = mnist_images()[start : start + count].reshape(count, 784)
        predictions = runner.run(images)
        assert predictions.class_ids.shape == (count,)
        assert predictions.probabilities.shape == (count, 10)
        expected = alone.run(images[-1:])
        assert predictions.class_ids[-1] == expected.class_ids[0]
        assert np.allclose(predictions.probabilities[-1], expected.probabilities[0], atol=1e-5)
        assert np.allclose(predictions.scores, predictions.probabilities.max(axis=1))
        start += count


def test_only_the_images_are_copied_in(version: Version) -> None:
    memory = HostMemory()
    DeviceRunner(_session(version), 64, 784, 10, memory).run(mnist_images()[:33].reshape(33, 784))
    assert memory.bytes_in == 33 * 784


def test_pinned_memory_is_given_back(version: Version) -> None:
    memory = HostMemory()
    runner = DeviceRunner(_session(version), 4, 784, 10, memory)
    assert len(memory.pinned) == 2
    del runner
    gc.collect()
    assert memory.pinned == set()


def test_pinned_buffers_share_no_page_with_anything(version: Version) -> None:
    """The sizes here are far below a page, so that NumPy would have put them side by side."""
    memory = HostMemory()
    runners = [DeviceRunner(_session(version), 1, 784, 10, memory) for _ in range(3)]
    assert len(memory.pinned) == 2 * len(runners)
    assert all(address % mmap.PAGESIZE == 0 for address in memory.pinned)


def test_threads_share_a_runner(runner: DeviceRunner) -> None:
    images = mnist_images()[:400].reshape(400, 784)
    expected = [runner.run(images[row : row + 1]).class_ids[0] for row in range(400)]

    def run(first: int) -> bool:
        size = first % MAX_BATCH + 1
        return runner.run(images[first : first + size]).class_ids.tolist() == expected[first : first + size]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, [number % 350 for number in range(2000)]))


def test_two_threads_serve(transport: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop as it is on a GPU, on both transports: right answers, to the end of a drain."""

    def on_device(
        version: Version, precision: Precision, session: ort.InferenceSession, index: int, max_batch: int, proof: Proof
    ) -> LoadedModel:
        runner = DeviceRunner(session, max_batch, 784, 10, HostMemory())
        return LoadedModel(version, precision, CPU, max_batch, runner, proof)

    monkeypatch.setattr(loading, "_model", on_device)
    config = ServerConfig(
        store=store, listen="127.0.0.1:0", transport=transport, device="cpu", precision="fp32", max_batch=32
    )
    images = mnist_images()[:200]
    outcomes: list[bool] = []
    with Server(config) as server:
        names = {thread.name for thread in threading.enumerate()}
        assert {"batching-0", "batching-1"} <= names
        with stub(server.address) as caller:
            whole = list(caller.Predict(pb.PredictRequest(images=pixels(images))).class_ids)

            def call(first: int) -> bool:
                size = first % 7 + 1
                answer = caller.Predict(pb.PredictRequest(images=pixels(images[first : first + size])), timeout=20)
                return list(answer.class_ids) == whole[first : first + size]

            with ThreadPoolExecutor(16) as pool:
                outcomes = list(pool.map(call, [number % 190 for number in range(3000)]))
        # They are counted after they have been answered.
        wait_until(lambda: server.metrics.requests["OK"] >= 3001, lambda: f"3001 answers: {server.metrics.requests}")
        assert server.metrics.requests["OK"] == 3001
        assert server.metrics.images == 200 + sum(number % 190 % 7 + 1 for number in range(3000))
        assert server.stop()
    assert all(outcomes)


def test_a_reload_stays_on_its_device(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(ServerConfig(store=store, listen="127.0.0.1:0", device="auto")) as server:
        asked: list[str] = []

        def load(version: Version, *, device: str, **settings: object) -> LoadedModel:
            asked.append(device)
            assert server.model is not None
            return server.model

        monkeypatch.setattr(loading, "load", load)
        Loader(server.config, server.catalog, 16).load(Store(store).open("mnist"))
        assert server.model is not None
        assert asked == [server.model.device]


@pytest.mark.parametrize(
    ("device", "expected"), [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))]
)
def test_devices(device: str, expected: tuple[str, int]) -> None:
    assert split_device(device) == expected


@pytest.mark.parametrize("device", ["", "gpu", "cpu:1", "cuda:", "cuda:x", "cuda:-1", "CUDA"])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(ConfigError, match=r"expected auto, cpu, cuda or cuda:N"):
        ServerConfig(device=device)


def _load(version: Version, device: str) -> LoadedModel:
    return loading.load(version, device=device, precision="fp32", max_batch=8, threads=1)


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this ONNX Runtime has the CUDA provider")
def test_device_policy_without_the_provider(version: Version, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DeviceError, match=r"--device cuda:1: this ONNX Runtime has no CUDA provider"):
        _load(version, "cuda:1")
    caplog.set_level(logging.INFO)
    assert _load(version, "auto").provider == CPU
    assert "INFO" in caplog.text
    assert "serving on the CPU: this ONNX Runtime has no CUDA provider" in caplog.text


def test_device_policy_without_a_driver(
    version: Version, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider is listed, as onnxruntime-gpu always lists it."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(cuda_libraries, "DRIVER", "libnotcuda.so.1")
    why = (
        r"there is no NVIDIA driver: libnotcuda\.so\.1 cannot be loaded \(libnotcuda\.so\.1: cannot open shared object"
    )
    with pytest.raises(DeviceError, match=rf"--device cuda: {why}.* series or newer.*Use --device cpu, or auto"):
        _load(version, "cuda")
    assert _load(version, "auto").provider == CPU
    assert caplog.records[-1].levelno == logging.WARNING
    assert "device auto: serving on the CPU: there is no NVIDIA driver" in caplog.text


def test_libraries_are_looked_for_in_every_folder_of_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside ONNX Runtime, in the environment below, wherever Python looks: in Python's order."""
    files = []
    for place, wheel in (("own", "cublas"), ("below", "cu13")):
        folder = tmp_path / place / "nvidia" / wheel / "lib"
        folder.mkdir(parents=True)
        files.append(folder / "libmlpserve-test.so.1")
        files[-1].write_text("no library")
        monkeypatch.syspath_prepend(tmp_path / place)
    assert cuda_libraries.wheels_with("libmlpserve-test.so.1") == files[::-1]
    problem = cuda_libraries._load("libmlpserve-test.so.1")
    assert all(f"{file}: file too short" in problem or f"{file}: invalid ELF header" in problem for file in files)
    assert "libmlpserve-test.so.1: cannot open shared object file" in problem


def test_cuda_memory_without_a_gpu() -> None:
    try:
        cuda.CudaMemory(999)
    except DeviceError as error:
        missing = "libcudart.so.13 cannot be loaded" in str(error) and "pip install 'nvidia-cuda-runtime==13.*'" in str(
            error
        )
        assert missing or "cudaSetDevice on GPU 999 failed" in str(error)
    else:
        raise AssertionError("there are not that many GPUs anywhere")


def test_gpu_metrics_without_a_driver(caplog: pytest.LogCaptureFixture) -> None:
    watch = GpuWatch("0000:FF:1F.0")
    assert (watch.sample(), watch.sample()) == ({}, {})
    assert caplog.text.count("no metrics of GPU 0000:FF:1F.0") == 1


def test_gpu_metrics_are_exported_and_survive_the_sum_over_workers() -> None:
    worker, total = Metrics(), Metrics()
    assert "gpu" not in " ".join(family.name for family in families(worker))
    sample: dict[str, str | int | float] = {"gpu": "0:1", "memory_used": 5, "memory_total": 9, "utilisation": 0.5}
    worker.describe = lambda: Description(gpu=sample)
    total.add(worker.snapshot())
    exported = {family.name: family.samples[0] for family in families(total) if "gpu" in family.name}
    assert {name: s.value for name, s in exported.items()} == {
        "mlpserve_gpu_memory_used_bytes": 5,
        "mlpserve_gpu_memory_bytes": 9,
        "mlpserve_gpu_utilization_ratio": 0.5,
    }
    assert {s.labels["gpu"] for s in exported.values()} == {"0:1"}

"""A GPU that cannot be used: `--device cuda` ends with the reason, `auto` serves on the CPU and says why."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.grpc_calls import stub
from tests.support.cuda_emulator import BUILT, Emulator

from mlpserve.v1 import classifier_pb2 as pb

pytestmark = pytest.mark.cuda

# What is wrong: the settings of the emulator, and what is said of it.
FAILURES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no driver": (
        {"driver": False},
        [
            "there is no NVIDIA driver: libcuda.so.1 cannot be loaded (libcuda.so.1: cannot open shared object file",
            "a driver of the 580 series or newer",
            "docker run --gpus all",
        ],
    ),
    "an old driver": (
        {"version": 12040},
        ["the NVIDIA driver knows CUDA up to 12.4, and this ONNX Runtime was built for CUDA 13", "580 series or newer"],
    ),
    "no GPU": ({"devices": 0}, ["the NVIDIA driver finds no GPU that it can use: no CUDA-capable device is detected"]),
    "no toolkit": (
        {"toolkit": False},
        [
            ".so.13: cannot open shared object file: No such file or directory)",
            "pip install 'nvidia-cu",
            "(all of them come with 'mlpserve[server,gpu]')",
        ],
    ),
    "no memory for the model": (
        {"memory": 300_000},
        ["ONNX Runtime cannot load the FILE_ROLE_MODEL_FP32 file on GPU 0"],
    ),
    "no memory for the images": (
        {"memory": 2_000_000},
        ["no buffers for 4096 images on GPU 0", "Failed to allocate memory", "or lower --max-batch"],
    ),
}


def _skip_beside_a_toolkit(emulator: Emulator) -> None:
    """What shows a missing library needs a machine on which the loader does not find one without being told."""
    if emulator.run("python", "-c", "import ctypes; ctypes.CDLL('libcublas.so.13')", toolkit=False).returncode == 0:
        pytest.skip("this machine has a CUDA toolkit of its own")


def _refused(emulator: Emulator, store: Path, device: str, *flags: object, **settings: Any) -> str:
    """What a server that must not start says last."""
    where = ["--store", store, "--listen", "127.0.0.1:0", "--device", device]
    result = emulator.run("mlpserve-server", *where, *flags, **settings)
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return next(line for line in result.stderr.splitlines() if f"--device {device}: " in line)


@pytest.mark.parametrize("name", FAILURES)
def test_cuda_ends_with_the_reason(emulator: Emulator, store: Path, name: str) -> None:
    if name == "no toolkit":
        _skip_beside_a_toolkit(emulator)
    settings, words = FAILURES[name]
    said = _refused(emulator, store, "cuda", "--max-batch", 4096, **settings)
    assert all(part in said for part in words), said
    assert "Use --device cpu, or auto to take a GPU only where one works" in said


@pytest.mark.parametrize("name", FAILURES)
def test_auto_serves_on_the_cpu_and_says_why(emulator: Emulator, store: Path, name: str, transport: str) -> None:
    if name == "no toolkit":
        _skip_beside_a_toolkit(emulator)
    settings, words = FAILURES[name]
    flags = ["--device", "auto", "--max-batch", 4096, "--transport", transport]
    with emulator.server(store, *flags, **settings) as process, stub(process.address) as caller:
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CPUExecutionProvider"
        assert len(caller.Predict(pb.PredictRequest(images=bytes(784 * 3)), timeout=10).class_ids) == 3
    said = next(line for line in process.log.splitlines() if "device auto: serving on the CPU: " in line)
    assert "WARNING" in said
    assert all(part in said for part in words), said


def test_a_gpu_that_is_wrong_does_not_serve(emulator: Emulator, store: Path, transport: str) -> None:
    where = ["--store", store, "--listen", "127.0.0.1:0", "--transport", transport]
    refused = emulator.run("mlpserve-server", *where, "--device", "cuda", wrong=1)
    assert refused.returncode == 1
    words = "fp32 does not give its golden answers with CUDAExecutionProvider at batch size 1"
    assert words in refused.stderr.splitlines()[-1]
    flags = ["--transport", transport, "--device", "auto"]
    with emulator.server(store, *flags, wrong=1) as process, stub(process.address) as caller:
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CPUExecutionProvider"
        said = next(line for line in process.log.splitlines() if "device auto: serving on the CPU: " in line)
        assert "WARNING" in said
        assert words in said


def test_a_gpu_that_is_not_there(emulator: Emulator, store: Path) -> None:
    said = _refused(emulator, store, "cuda:7", devices=2)
    assert "GPU number 7 is asked for, and there are 2 (0 to 1)" in said
    assert "GPU number 1 is asked for, and there is one (0)" in _refused(emulator, store, "cuda:1")


def _toolkit_with(tmp_path: Path, soname: str, content: bytes | None) -> Path:
    """A folder of wheels in which one library is another: these bytes, or a library without a function."""
    wheels = Path(shutil.copytree(BUILT / "wheels", tmp_path / "wheels"))
    library = wheels / "nvidia/cu13/lib" / soname
    library.unlink()
    if content is None:
        command = ["g++", "-shared", "-xc++", "-", f"-Wl,-soname,{soname}", "-o", str(library)]
        subprocess.run(command, input="int nothing;", text=True, check=True, timeout=60)
    else:
        library.write_bytes(content)
    return wheels


def test_a_damaged_library_is_named(emulator: Emulator, store: Path, tmp_path: Path) -> None:
    _skip_beside_a_toolkit(emulator)
    wheels = _toolkit_with(tmp_path, "libcublas.so.13", b"\x7fELF and no more")
    said = _refused(emulator, store, "cuda", wheels=wheels)
    assert f"libcublas.so.13 cannot be loaded ({wheels}/nvidia/cu13/lib/libcublas.so.13: " in said
    assert "pip install 'nvidia-cublas==13.*'" in said


def test_a_provider_that_does_not_load_says_why(emulator: Emulator, store: Path, tmp_path: Path) -> None:
    """Every library is there, and one has not what the provider wants: ONNX Runtime says so on standard error only."""
    said = _refused(emulator, store, "cuda", wheels=_toolkit_with(tmp_path, "libcublas.so.13", None))
    assert "libonnxruntime_providers_cuda.so: undefined symbol: cublas" in said or "libcublas.so.13: version" in said, (
        said
    )
    assert "assigned to the default CPU EP" not in said


def test_a_file_that_needs_cudnn_names_it(emulator: Emulator, older_store: Path) -> None:
    said = _refused(emulator, older_store, "cuda")
    assert "a Run of 1 images failed: the file needs cuDNN, and libcudnn.so.9 cannot be loaded (libcudnn.so.9: " in said
    assert "publish the model again" in said
    assert "pip install 'nvidia-cudnn-cu13==9.*'" in said


def test_a_file_that_needs_cudnn_is_served_where_it_is_installed(
    emulator: Emulator, older_store: Path, tmp_path: Path, transport: str
) -> None:
    log = tmp_path / "device.log"
    with (
        emulator.server(older_store, "--transport", transport, cudnn=True, log=log) as process,
        stub(process.address) as caller,
    ):
        assert caller.GetModel(pb.GetModelRequest(), timeout=10).serving.provider == "CUDAExecutionProvider"
        answer = caller.Predict(pb.PredictRequest(images=bytes(784 * 3), probabilities=True), timeout=10)
        assert list(answer.scores) == [max(answer.probabilities[row : row + 10]) for row in (0, 10, 20)]
    assert "cudnnReduceTensor" in log.read_text()

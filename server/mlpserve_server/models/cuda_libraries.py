"""The CUDA libraries that ONNX Runtime's CUDA provider links: finding them, loading them, and saying why one cannot be.

Left to itself ONNX Runtime looks for them beside its own package only, and when its provider does not load the
exception says that nodes were assigned to the CPU; the reason is on standard error. So each library and the driver are
tried here before, by the same loader, which says what is wrong.
"""

import ctypes
import functools
import logging
import os
import sys
from pathlib import Path
from typing import NamedTuple

import onnxruntime as ort

from mlpserve_server.errors import DeviceError

log = logging.getLogger(__name__)

CUDA_MAJOR = 13  # of the builds that pip installs; `ort.cuda_version` says which it is
DRIVER = "libcuda.so.1"
CUDNN = "libcudnn.so.9"
PROVIDER = "libonnxruntime_providers_cuda.so"
ORT_ERROR = 3  # of its severities
DRIVER_SERIES = {12: 525, 13: 580}  # the first whose drivers know a major version of CUDA


class Library(NamedTuple):
    """A library and what installs it.

    Attributes:
        soname: the name by which the loader knows it.
        requirement: of pip.
    """

    soname: str
    requirement: str


def load(index: int) -> None:
    """Load everything that the provider needs to run on a GPU, in the order in which the libraries link one another.

    cuDNN is loaded where it is installed: files published by older trainers need it, today's do not.

    Args:
        index: the GPU's number, as CUDA counts.

    Raises:
        DeviceError: a library, the driver or the GPU is missing; the message says which, and what to do.
    """
    if not has_provider():
        raise DeviceError(
            "this ONNX Runtime has no CUDA provider; on a machine with an NVIDIA GPU install 'mlpserve[server,gpu]'"
        )
    ort.set_default_logger_severity(ORT_ERROR)  # it warns that its own provider is no plugin, at every start
    major = cuda_major()
    _check_driver(major)
    for library in required(major):
        if reason := _load(library.soname):
            raise DeviceError(f"{library.soname} cannot be loaded ({reason}); {_install(library)}")
    _check_gpu(index)
    if reason := _load(CUDNN):
        log.debug("cuDNN is not loaded: %s", reason)


def has_provider() -> bool:
    """Whether this is the build of ONNX Runtime for NVIDIA GPUs."""
    return "CUDAExecutionProvider" in ort.get_available_providers()


def required(major: int) -> list[Library]:
    """The libraries that the provider links, each after those that it needs itself."""
    suffix = "" if major >= 13 else f"-cu{major}"  # as NVIDIA names its wheels
    return [
        Library(f"libcudart.so.{major}", f"nvidia-cuda-runtime{suffix}=={major}.*"),
        Library(f"libcublasLt.so.{major}", f"nvidia-cublas{suffix}=={major}.*"),
        Library(f"libcublas.so.{major}", f"nvidia-cublas{suffix}=={major}.*"),
        Library("libcurand.so.10", f"nvidia-curand{suffix}==10.*"),
    ]


def cuda_major() -> int:
    """The version of CUDA that this ONNX Runtime was built for."""
    built_for = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    return int(built_for) if built_for.isdigit() else CUDA_MAJOR


def missing_cudnn() -> str:
    """What to do about a file that needs cuDNN; empty where cuDNN is loaded."""
    if not (reason := _load(CUDNN)):
        return ""
    library = Library(CUDNN, f"nvidia-cudnn-cu{cuda_major()}==9.*")
    return (
        f"the file needs cuDNN, and {CUDNN} cannot be loaded ({reason}); publish the model again, which needs no cuDNN "
        f"since, or {_install(library)}"
    )


def provider_problem() -> str:
    """Why the loader does not take ONNX Runtime's CUDA provider; empty when it does.

    Only after ONNX Runtime has tried: the provider expects its host to be there.
    """
    try:
        ctypes.CDLL(str(Path(ort.__file__).parent / "capi" / PROVIDER))
    except OSError as error:
        return str(error)
    return ""


def _check_driver(major: int) -> None:
    """Raise DeviceError unless the driver is there, starts, and knows this version of CUDA."""
    series = DRIVER_SERIES.get(major, DRIVER_SERIES[CUDA_MAJOR])
    if reason := _load(DRIVER):
        raise DeviceError(
            f"there is no NVIDIA driver: {DRIVER} cannot be loaded ({reason}); CUDA {major} needs a GPU with a driver "
            f"of the {series} series or newer, and a container the NVIDIA container toolkit (docker run --gpus all)"
        )
    driver = ctypes.CDLL(DRIVER)
    if code := driver.cuInit(0):
        raise DeviceError(f"the NVIDIA driver finds no GPU that it can use: {_driver_text(driver, code)}{_visible()}")
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value // 1000 < major:
        knows = f"{version.value // 1000}.{version.value % 1000 // 10}"
        raise DeviceError(
            f"the NVIDIA driver knows CUDA up to {knows}, and this ONNX Runtime was built for CUDA {major}; "
            f"install a driver of the {series} series or newer"
        )


def _driver_text(driver: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    driver.cuGetErrorString(code, ctypes.byref(text))
    return f"{(text.value or b'unknown').decode()} (CUDA error {code})"


def _check_gpu(index: int) -> None:
    """Raise DeviceError unless the CUDA runtime finds the GPU."""
    runtime = open_runtime()
    count = ctypes.c_int()
    if code := runtime.cudaGetDeviceCount(ctypes.byref(count)):
        raise DeviceError(f"the CUDA runtime finds no GPU: {error_text(runtime, code)}{_visible()}")
    if index >= count.value:
        there = "there is one (0)" if count.value == 1 else f"there are {count.value} (0 to {count.value - 1})"
        raise DeviceError(f"GPU number {index} is asked for, and {there}{_visible()}")


def _visible() -> str:
    """A reminder of the setting that hides GPUs."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if value is None else f"; CUDA_VISIBLE_DEVICES is {value!r}"


@functools.cache
def open_runtime() -> ctypes.CDLL:
    """The CUDA runtime that the provider uses too.

    Raises:
        DeviceError: it cannot be loaded.
    """
    library = required(cuda_major())[0]
    if reason := _load(library.soname):
        raise DeviceError(f"{library.soname} cannot be loaded ({reason}); {_install(library)}")
    runtime = ctypes.CDLL(library.soname)
    runtime.cudaGetErrorString.restype = ctypes.c_char_p
    return runtime


def error_text(runtime: ctypes.CDLL, code: int) -> str:
    """What an error code of the CUDA runtime means; forgets it, or the next call by anybody reports it again."""
    runtime.cudaGetLastError()
    return f"{runtime.cudaGetErrorString(code).decode()} (CUDA error {code})"


def _install(library: Library) -> str:
    return f"pip install '{library.requirement}' (all of them come with 'mlpserve[server,gpu]')"


def _load(soname: str) -> str:
    """Load a library unless it is loaded: of the NVIDIA wheels on Python's path, or where the loader looks itself.

    Returns:
        Why it cannot be loaded; empty when it is.
    """
    problems = []
    # By its path first: what pip installed is what was tested. Afterwards the loader knows it by its name as well.
    files = [(str(path), ctypes.DEFAULT_MODE) for path in wheels_with(soname)]
    for name, mode in [(soname, os.RTLD_NOLOAD), *files, (soname, ctypes.DEFAULT_MODE)]:
        try:
            ctypes.CDLL(name, mode)
        except OSError as error:
            problems.append(str(error))
        else:
            return ""
    return "; ".join(problems[1:])  # the first says only that it was not loaded yet


def wheels_with(soname: str) -> list[Path]:
    """The files of that name in NVIDIA's wheels, in the order of Python's path.

    The wheels share the folder `nvidia`, and it may lie in several places: in an environment and in the one below it.
    """
    places = [Path(entry) for entry in sys.path if entry]
    return [found for place in places for found in sorted(place.glob(f"nvidia/*/lib/{soname}"))]

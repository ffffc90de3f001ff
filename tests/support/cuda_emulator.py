"""The real onnxruntime-gpu on emulated CUDA libraries: its environment, and servers in it."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from support.processes import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-cuda"
SOURCES = ROOT / "tests/cuda/emulator"
BUILT = ROOT / "build/cuda"
BUILD_SECONDS, RUN_SECONDS = 300, 120


def missing() -> str:
    """What this machine lacks; empty when it has everything."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "onnxruntime-gpu is for Linux on x86-64"
    lacks = next((tool for tool in ("make", "g++") if shutil.which(tool) is None), "")
    if lacks:
        return f"{lacks} is not installed; the emulator is built with it"
    if not (ENVIRONMENT / "bin/mlpserve-server").exists():
        return ".venv-cuda is not there; `make test-cuda` makes it"
    return ""


class Emulator:
    """The emulated libraries, built.

    Args:
        folder: where logs may be written.
    """

    def __init__(self, folder: Path) -> None:
        result = subprocess.run(
            ["make", "--silent", "-C", str(SOURCES), f"OUT={BUILT}"],
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        self._folder = folder

    def environment(
        self,
        *,
        driver: bool = True,
        toolkit: bool = True,
        cudnn: bool = False,
        wheels: Path = BUILT / "wheels",
        **settings: Any,
    ) -> dict[str, str]:
        """Environment variables under which a program finds the emulated GPU.

        Args:
            driver: whether there is a driver.
            toolkit: whether the wheels of the gpu extra are installed.
            cudnn: whether cuDNN's is.
            wheels: the folder with those of the gpu extra.
            settings: of the emulator, see device.cpp: `memory=…` is EMULATED_CUDA_MEMORY.
        """
        folders = [str(folder) for folder, there in ((wheels, toolkit), (BUILT / "cudnn", cudnn)) if there]
        return {
            "LD_LIBRARY_PATH": str(BUILT / "driver") if driver else "",
            "PYTHONPATH": os.pathsep.join(folders),
            **{f"EMULATED_CUDA_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def server(self, store: Path, *flags: object, **settings: Any) -> ServerProcess:
        """A server on `cuda` unless the flags say where; settings as for `environment`."""
        where = () if "--device" in flags else ("--device", "cuda")
        arguments = ("--workers", 1, *where, *flags)
        program, env = ENVIRONMENT / "bin/mlpserve-server", self.environment(**settings)
        return ServerProcess(self._folder, store, *arguments, program=program, env=env)

    def run(self, program: str, *arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end; settings as for `environment`."""
        return subprocess.run(
            [str(ENVIRONMENT / "bin" / program), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            env={**os.environ, **self.environment(**settings)},
            check=False,
        )

    def wrapper(self, path: Path, **settings: Any) -> Path:
        """A program at `path` that is `mlpserve-server` with the emulated GPU, for who can name only a program."""
        assignments = [f"{name}={shlex.quote(value)}" for name, value in self.environment(**settings).items()]
        program = shlex.quote(str(ENVIRONMENT / "bin/mlpserve-server"))
        path.write_text(f'#!/bin/sh\n{" ".join(assignments)} exec {program} "$@"\n')
        path.chmod(0o755)
        return path


def log_lines(log: Path) -> Counter[str]:
    """What the devices did, and how often."""
    return Counter(log.read_text().splitlines())

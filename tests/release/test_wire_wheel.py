"""The wire's wheel on a machine without its headers: it brings its libraries, and serves."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.grpc_calls import stub
from support.processes import ServerProcess
from support.transports import need

from mlpserve.v1 import classifier_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("libnghttp2", "libssl", "libcrypto")  # every Linux has zlib, so wheels rely on it
LOADED = """
import pathlib, mlpserve_wire
maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
print(*sorted({line.split()[-1] for line in maps if "nghttp2" in line}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_serves_with_libraries_of_its_own(store: Path, tmp_path: Path) -> None:
    need("wire")
    command = [sys.executable, "server/wire/install.py", "--wheel", tmp_path / "wheels"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = (tmp_path / "wheels").glob("mlpserve_wire-*manylinux*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = [Path(name).name for name in archive.namelist() if "mlpserve_wire.libs/" in name]
    assert {name for name in LIBRARIES for file in carried if file.startswith(f"{name}-")} == set(LIBRARIES)
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    install = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "--quiet"]
    constraint = ["--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, "--no-index", "--no-deps", wheel], check=True, timeout=60)
    subprocess.run([*install, *constraint, f"{ROOT}[server,cpu]"], check=True, timeout=280)
    loaded = subprocess.run([environment / "bin/python", "-c", LOADED], capture_output=True, text=True, check=True)
    (library,) = loaded.stdout.split()
    assert Path(library).is_relative_to(environment)
    program = environment / "bin/mlpserve-server"
    with ServerProcess(tmp_path, store, program=program) as process, stub(process.address) as caller:
        assert "transport auto: wire" in process.log
        assert len(caller.Predict(pb.PredictRequest(images=bytes(784)), timeout=10).class_ids) == 1

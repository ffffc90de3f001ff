"""Wheel and sdist: what is in them, and what an empty environment gets from each extra."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_is_needed_and_no_more(built: Path) -> None:
    with zipfile.ZipFile(built / f"mlpserve-{VERSION}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
    packages = ("mlpserve", "mlpserve_client", "mlpserve_server", "mlpserve_trainer")
    for package in packages:
        assert f"{package}/py.typed" in names
    assert "mlpserve_client/playground/static/app.js" in names
    assert "mlpserve_trainer/mnist/train-images-idx3-ubyte.gz" in names
    assert "mlpserve/v1/classifier.proto" in names
    assert {name.split("/")[0] for name in names} == {*packages, f"mlpserve-{VERSION}.dist-info"}
    with tarfile.open(built / f"mlpserve-{VERSION}.tar.gz") as sdist:
        tops = {name.split("/")[1] for name in sdist.getnames() if "/" in name}
    assert {"proto", "trainer", "server", "client", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= tops
    assert not tops & {"tests", "bench", ".venv", "build"}


# Extra → most megabytes of the environment without pip; packages that it must not have; what must work.
EXTRAS = {
    "": (120, {"pillow", "pyarrow", "onnxruntime", "starlette"}, ["mlpserve --help", "mlpserve doctor"]),
    "[score]": (400, {"onnxruntime", "starlette"}, ["mlpserve score --help"]),
    "[web]": (400, {"onnxruntime"}, ["mlpserve playground --help"]),
    "[server,cpu]": (260, {"pillow", "pyarrow", "onnx", "torch"}, ["mlpserve-server --help", "mlpserve-store --help"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_the_wheel_installs_what_is_asked_for(built: Path, tmp_path: Path, extra: str) -> None:
    most, absent, commands = EXTRAS[extra]
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    install = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "--quiet"]
    wheel = built / f"mlpserve-{VERSION}-py3-none-any.whl"
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", f"{wheel}{extra}"], check=True, timeout=280)
    folder = next((environment / "lib").glob("python3*")) / "site-packages"
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    print(f"mlpserve{extra}: {sum(sizes) / MEGABYTE:.0f} MB")
    assert sum(sizes) <= most * MEGABYTE
    listed = {path.name.partition("-")[0].lower() for path in folder.glob("*.dist-info")}
    assert not listed & absent
    assert (folder / f"mlpserve-{VERSION}.dist-info").is_dir()
    for command in commands:
        program, *arguments = command.split()
        ran = subprocess.run(
            [environment / "bin" / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "MLPSERVE_SERVER": "127.0.0.1:1"},
        )
        assert "Traceback" not in ran.stderr
        assert ran.returncode == (1 if "doctor" in command else 0), ran.stderr
        assert ran.stdout


@pytest.mark.slow
def test_the_bill_of_materials_names_the_dependencies(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, ".ci/sbom.py", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert '"name": "grpcio"' in (tmp_path / "client.cdx.json").read_text()
    server = (tmp_path / "server-cpu.cdx.json").read_text()
    assert '"name": "onnxruntime"' in server
    assert '"name": "torch"' not in server

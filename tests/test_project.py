"""The project's own promises about itself."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version
from support.processes import run

ROOT = Path(__file__).resolve().parents[1]


def test_changelog_is_of_this_version() -> None:
    """The newest section is this version's; while the next one is made, it is [Unreleased]."""
    version = Version(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest
    assert newest[1] == ("Unreleased" if version.is_devrelease else str(version))


def test_floors_of_the_stubs_generator_are_those_of_the_package() -> None:
    """Generated code refuses to run with a protobuf or grpcio older than its generator."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    stub = (ROOT / "proto/mlpserve/v1/classifier_pb2.py").read_text()
    protobuf = re.search(r"Protobuf Python Version: ([\d.]+)", stub)
    assert protobuf
    assert f"protobuf>={protobuf[1]}" in dependencies
    grpcio = re.search(
        r"GRPC_GENERATED_VERSION = '([\d.]+)'", (ROOT / "proto/mlpserve/v1/classifier_pb2_grpc.py").read_text()
    )
    assert grpcio
    assert f"grpcio>={grpcio[1]}" in dependencies


def test_targets_are_listed() -> None:
    """`make` alone lists what CONTRIBUTING.md and README.md name."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = {line.split()[0] for line in listed.splitlines()}
    for page in ("CONTRIBUTING.md", "README.md", *(str(path) for path in (ROOT / "docs").rglob("*.md"))):
        named = set(re.findall(r"`make ([\w-]+)", (ROOT / page).read_text()))
        assert named <= targets, f"{page}: {named - targets}"
    assert {
        "setup",
        "test",
        "test-all",
        "lint",
        "format",
        "proto",
        "docs",
        "sbom",
        "images",
        "gpu-check",
        "gpu-kit",
    } <= targets


@pytest.mark.parametrize("program", ["mlpserve", "mlpserve-server", "mlpserve-store", "mlpserve-train"])
def test_executables_say_their_version_and_what_is_wrong_in_a_line(program: str) -> None:
    shown = run(program, "--version")
    assert (shown.returncode, shown.stdout) == (0, f"mlpserve {metadata.version('mlpserve')}\n")
    wrong = run(program, "--no-such-flag")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert f"{program} --help lists what there is" in wrong.stderr


def _imported(file: Path) -> set[str]:
    """Top-level packages that a module imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("tests", {"bench"}), ("bench", {"tests"}), ("support", {"tests", "bench"}), ("demo", {"tests", "bench"})],
)
def test_tests_and_benchmarks_do_not_import_one_another(folder: str, forbidden: set[str]) -> None:
    """What both need is in support/."""
    files = [path for path in (ROOT / folder).rglob("*.py") if "out" not in path.parts]
    assert files
    assert {str(path.relative_to(ROOT)): found for path in files if (found := _imported(path) & forbidden)} == {}


def _install(folder: Path, *requirements: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, timeout=300, cwd=ROOT)
    return python


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["newest", "oldest"])
def test_a_base_install_is_the_client_alone(resolution: str, tmp_path: Path) -> None:
    """The wheel without extras, with the newest and the oldest dependencies that it allows."""
    oldest = ["grpcio==1.71.2", "protobuf==5.29.0", "numpy==1.26.4", "googleapis-common-protos==1.65.0"]
    python = _install(tmp_path / "venv", str(ROOT), *(oldest if resolution == "oldest" else []))
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    names = {line.partition("==")[0].lower().replace("_", "-") for line in listed.stdout.splitlines()}
    allowed = {
        "mlpserve",
        "grpcio",
        "protobuf",
        "numpy",
        "googleapis-common-protos",
        "typing-extensions",
        "pip",
        "setuptools",
    }
    assert names <= allowed
    code = "import mlpserve_client as c; c.Client('127.0.0.1:1', timeout=0.2, retries=0).predict([[0]])"
    failed = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert "mlpserve_client.errors.UnavailableError" in failed.stderr, failed.stderr
    for name, extra in (("mlpserve-server", "server,cpu"), ("mlpserve-train", "trainer,cpu")):
        guard = subprocess.run([tmp_path / "venv/bin" / name], capture_output=True, text=True, check=False)
        assert guard.returncode == 2
        assert f"pip install 'mlpserve[{extra}]'" in guard.stderr
        assert "Traceback" not in guard.stderr

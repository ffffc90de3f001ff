"""The folder for a GPU machine that can download nothing, its parts and the whole."""

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bench.gpu import record
from bench.gpu.kit import environment, h2load, thin
from bench.gpu.record import OK
from hypothesis import given
from hypothesis import strategies as st
from support.h2load import MISSING as H2LOAD_MISSING

ROOT = Path(__file__).resolve().parents[2]
HEADER = 64

# --- kernels ---------------------------------------------------------------------------------------------------------


def _library(sections: list[list[tuple[int, bytes]]]) -> bytes:
    """A file with fat binaries in it, each a list of (architecture, payload)."""
    parts = [b"\x7fELF, and what else a library holds"]
    for modules in sections:
        content = b""
        for arch, payload in modules:
            content += struct.pack("<HHIQ", 2, 0, HEADER, len(payload)) + bytes(12) + struct.pack("<I", arch)
            content = content.ljust(len(content) + HEADER - 32, b"h") + payload
        parts += [thin.MAGIC + struct.pack("<HHQ", 1, 16, len(content)) + content, b"between them"]
    return b"".join(parts) + thin.MAGIC  # four bytes at the end that only look like one


modules = st.tuples(st.sampled_from([80, 90]), st.binary(min_size=1, max_size=40))


@given(st.lists(st.lists(modules, min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_kept_kernels_are_as_they_were_and_the_others_are_small_ones(
    sections: list[list[tuple[int, bytes]]], data: st.DataObject
) -> None:
    library = _library(sections)
    flat = [module for section in sections for module in section]
    found = thin.entries(library)
    assert [(e.arch, library[e.start + e.header :][: e.payload]) for e in found] == flat
    wanted = data.draw(st.sets(st.sampled_from(range(len(flat)))))
    thinned = bytearray(library)
    kept = thin.keep(thinned, wanted)
    assert len(thinned) == len(library)
    assert thin.entries(thinned) == found, "the layout is the same"
    assert kept == sum(len(flat[number][1]) for number in wanted)
    for number, (entry, (arch, payload)) in enumerate(zip(found, flat, strict=True)):
        now = bytes(thinned[entry.start + entry.header :][: entry.payload])
        if number in wanted:
            assert now == payload
        else:
            assert now.rstrip(b"\0") in {other.rstrip(b"\0") for a, other in flat if a == arch}
            assert len(now.rstrip(b"\0")) <= min(len(other) for a, other in flat if a == arch)
    outside = bytearray(thinned)
    for entry in found:
        outside[entry.start : entry.start + entry.header + entry.payload] = library[entry.start :][
            : entry.header + entry.payload
        ]
    assert outside == library, "nothing else is touched"


def test_a_library_without_the_architecture_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "library.so"
    file.write_bytes(_library([[(80, b"x"), (120, b"y")]]))
    with pytest.raises(ValueError, match=r"library.so has no machine code for sm_90, only for sm_80, sm_120"):
        thin.thin(file, 90, "cuobjdump")


def test_an_unknown_form_is_refused() -> None:
    library = bytearray(_library([[(90, b"x")]]))
    struct.pack_into("<H", library, thin.entries(library)[0].start, 7)
    with pytest.raises(ValueError, match=r"unknown entry of a fat binary at byte .*kind 7"):
        thin.entries(library)


# --- environment -----------------------------------------------------------------------------------------------------


def _distribution(site: Path, name: str, version: str, files: dict[str, str]) -> None:
    """An installed distribution."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
    whole = {**files, f"{info}/METADATA": metadata}
    whole[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*whole, f"{info}/RECORD", "../../../bin/tool"])
    for path, content in whole.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)


def _wheel(folder: Path, name: str, version: str, files: dict[str, str], entry_points: str = "") -> Path:
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as content:
        for path, text in files.items():
            content.writestr(path, text)
        content.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if entry_points:
            content.writestr(f"{info}/entry_points.txt", entry_points)
    return wheel


def _digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The packages of a machine whose PyTorch lies in a virtual environment of its own."""
    site = tmp_path / "machine/site-packages"
    _distribution(site, "torch", "2.11.0", {"torch/__init__.py": "WHERE = 'machine'", "torch/cuda.py": ""})
    _distribution(site, "onnxruntime", "1.30.0", {"onnxruntime/__init__.py": "BUILD = 'cpu'", "onnxruntime/old.py": ""})
    _distribution(site, "protobuf", "5.0", {"google/protobuf/__init__.py": "VERSION = 5", "google/_upb/x.py": ""})
    _distribution(site, "google_auth", "2.0", {"google/auth/__init__.py": "HERE = True"})
    _distribution(site, "six", "1.17", {"six.py": "WHERE = 'machine'"})
    _distribution(site, "cublas", "13.0", {"nvidia/cu13/lib/libcublas.so.13": "library"})
    return site


def _python(target: Path, code: str) -> str:
    command = [str(target / "bin/python"), "-c", code]
    environment_of = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment_of, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_environment_sees_the_machines_packages_but_for_those_that_are_brought(
    machine: Path, tmp_path: Path
) -> None:
    """A CPU build of ONNX Runtime beside, an older protobuf in a namespace that others share: neither is seen."""
    before = _digest(machine)
    wheels = [
        _wheel(tmp_path, "onnxruntime_gpu", "1.31.1", {"onnxruntime/__init__.py": "BUILD = 'gpu'"}),
        _wheel(tmp_path, "protobuf", "7.36", {"google/protobuf/__init__.py": "VERSION = 7"}),
    ]
    spare = [
        _wheel(tmp_path, "six", "1.16", {"six.py": "WHERE = 'kit'"}),
        _wheel(
            tmp_path,
            "tqdm",
            "4.70",
            {"tqdm/__init__.py": "import sys\ndef main(): print(*sys.argv[1:])"},
            "[console_scripts]\ntqdm = tqdm:main\n",
        ),
    ]
    target = tmp_path / "an environment"  # "#!" takes no path with a space
    assert environment.make(target, wheels, spare, [machine]) == ["tqdm"]
    code = """
import importlib.metadata as m, importlib.util as u, json
import torch, torch.cuda, onnxruntime, six, google.protobuf, google.auth, mlpserve_server
names = {d.metadata["Name"] for d in m.distributions()}
print(json.dumps([sorted(names), onnxruntime.BUILD, google.protobuf.VERSION, six.WHERE, torch.WHERE,
    u.find_spec("onnxruntime.old") is None, u.find_spec("google._upb.x") is None, mlpserve_server.__file__]))
"""
    seen = json.loads(_python(target, code))
    assert seen[0] == ["cublas", "google-auth", "mlpserve", "onnxruntime_gpu", "protobuf", "six", "torch", "tqdm"]
    assert seen[1:-1] == ["gpu", 7, "machine", "machine", True, True]
    assert seen[-1].startswith(str(ROOT)), "the checkout itself"
    assert (target / "bin/mlpserve-server").exists()
    assert subprocess.run([target / "bin/tqdm", "a b"], capture_output=True, check=True).stdout == b"a b\n"
    # Where ONNX Runtime looks for CUDA's libraries: beside itself.
    (site,) = target.glob("lib/python3*/site-packages")
    assert (site / "nvidia/cu13/lib/libcublas.so.13").exists()
    assert _digest(machine) == before, "the machine's own files are as they were"


def test_an_environment_is_made_anew_over_an_old_one(machine: Path, tmp_path: Path) -> None:
    for _ in range(2):
        environment.make(tmp_path / "environment", [], [], [machine])
    assert _python(tmp_path / "environment", "import torch; print(torch.WHERE)") == "machine"


@pytest.mark.parametrize("folder", [environment.ROOT / "bench/gpu/kit"])
def test_what_runs_before_the_environment_needs_the_standard_library_only(folder: Path) -> None:
    for module in ("start", "environment"):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import bench.gpu.kit.{module}"
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)


def test_wheels_of_the_kit_are_pinned() -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for name in ("wheels.txt", "spare.txt"):
        lines = (ROOT / "bench/gpu/kit" / name).read_text().splitlines()
        names = {line for line in lines if line and not line.startswith("#")}
        assert names <= pinned, names - pinned


def test_h2load_that_does_not_run_is_left_out(tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    (packed / "system").mkdir(parents=True)
    (packed / "system/ld-linux.so").write_text("")
    assert "Python callers" in h2load.install(packed, tmp_path)
    assert not (tmp_path / "h2load").exists()


# --- the whole -------------------------------------------------------------------------------------------------------

WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")
# A new network has a loopback device that is down; there may be no `ip`.
LOOPBACK_UP = """import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 1))
os.execvp(sys.argv[1], sys.argv[1:])"""
CHECKS = "loads serves answers resume publish networks in-process grpc crossover graphs fp16 threads memory"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_kit_runs_without_a_network_on_the_cpu(tmp_path: Path) -> None:
    """Built here, then both halves over this environment's packages, with a CPU build of ONNX Runtime beside."""
    if subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network of their own")
    if shutil.which("h2load") is None:
        pytest.skip(H2LOAD_MISSING)
    cache = Path(os.environ.get("MLPSERVE_KIT_CACHE", tmp_path / "cache"))
    command = [sys.executable, "-m", "bench.gpu.kit", str(tmp_path / "gpu-kit"), "--cache", str(cache)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    kit = Path(shutil.move(tmp_path / "gpu-kit", tmp_path / "carried over"))
    size = sum(file.stat().st_size for file in kit.rglob("*") if file.is_file())
    assert size < 40e6
    settings = {"DEVICE": "cpu", "QUICK": "1", "ONLY": CHECKS, "PYTHON": sys.executable, "LIMIT": "900"}
    for part in ("1", "2"):
        command = [*WITHOUT_NETWORK, sys.executable, "-c", LOOPBACK_UP, "sh", str(kit / "go.sh"), part]
        ran = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    whole = record.read(kit / "out", "CPU rehearsal")
    assert sorted(outcome.name for outcome in whole.outcomes) == sorted(CHECKS.split())
    assert {outcome.state for outcome in whole.outcomes} == {OK}
    assert re.search(r"\| gRPC, one in flight: p50 \| [\d,]+ µs", (kit / "out/cpu-rehearsal.md").read_text())
    assert "onnxruntime-gpu" in whole.versions
    assert "onnxruntime" not in whole.versions, "the machine's own build for CPUs is not seen"
    assert (kit / "out/log.txt").exists()
    ran = subprocess.run(
        ["sh", str(kit / "go.sh"), "9"], env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "there is no part 9: 1 whether it works" in ran.stderr

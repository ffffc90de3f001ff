"""Makes a folder for a GPU machine that can download nothing: `make gpu-kit`, or

    python -m bench.gpu.kit FOLDER [--python 3.12] [--arch 90] [--cache DIR]

FOLDER/go.sh is the one command there. FOLDER/project.tar.xz holds this checkout and a published model;
FOLDER/rest.tar.xz, packed anew only where something in it is new, ONNX Runtime for GPUs with the kernels that an MLP
needs, gRPC with the protobuf and the health service that belong to it, h2load, and MNIST. That machine's Python brings
PyTorch, torchvision, ONNX, NumPy, Matplotlib and Pillow, which are far larger.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from google.protobuf import json_format

from bench.gpu.kit import h2load, thin
from mlpserve.v1.artifact_pb2 import FileRole, Manifest
from mlpserve_trainer.data import EMBEDDED_MNIST
from mlpserve_trainer.publishing.publish import publish

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIMIT = 40_000_000  # bytes
CUOBJDUMP = "nvidia-cuda-cuobjdump"
CUDA_LIBRARY = "onnxruntime/capi/libonnxruntime_providers_cuda.so"
# What Python does not load, and what no check needs.
LEFT_OUT = ("libonnxruntime_providers_tensorrt.so", "capi/libonnxruntime.so")
LEFT_OUT_FOLDERS = ("transformers", "tools", "quantization", "datasets", "backend")
LEFT_HERE = (":!docs/images", ":!docs/tutorial/pictures", ":!demo/photo.png", ":!*/mnist/*.gz")
SERVED = (FileRole.FILE_ROLE_MODEL_FP32, FileRole.FILE_ROLE_GOLDEN_SAMPLES)  # a GPU serves no int8
# The filter for x86 programs takes a tenth off; one thread sees what repeats across all files.
XZ = ("xz", "--threads=1", "--x86", "--lzma2=preset=6e,dict=128MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", help="of that machine"
    )
    parser.add_argument("--arch", type=int, default=90, help="its GPU's compute capability without the point")
    parser.add_argument("--cache", type=Path, default=ROOT / "build/gpu-kit-cache", help="keeps what was downloaded")
    a = parser.parse_args()
    a.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        project, rest = Path(temporary) / "project", Path(temporary) / "rest"
        rest.mkdir()
        revision = _project(project / "project")
        facts = {"python": a.python, "arch": a.arch, "revision": revision}
        (project / "kit.json").write_text(json.dumps(facts))
        _store(project / "store", a.cache)
        _mnist(rest / "mnist")
        _wheels(rest, a.cache, a.python, a.arch)
        h2load.pack(rest / "h2load")
        shutil.rmtree(a.folder, ignore_errors=True)
        a.folder.mkdir(parents=True)
        _pack(project, a.folder / "project.tar.xz")
        shutil.copy(_packed(rest, a.cache), a.folder / "rest.tar.xz")
    shutil.copy(HERE / "go.sh", a.folder)
    size = sum(file.stat().st_size for file in a.folder.iterdir())
    print(f"{a.folder}: {size / 1e6:.1f} MB, for Python {a.python} and sm_{a.arch}. There: sh {a.folder.name}/go.sh 1")
    if size > LIMIT:
        sys.exit(f"gpu-kit: {size / 1e6:.1f} MB are more than the {LIMIT / 1e6:.0f} that it may have")


def _project(folder: Path) -> str:
    """This checkout, as it lies here, without pictures and data; returns its revision."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".", *LEFT_HERE]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        source, target = ROOT / name, folder / name
        if not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _mnist(folder: Path) -> None:
    """MNIST's files as they are in their gzip: xz packs them a sixth smaller."""
    folder.mkdir()
    for file in EMBEDDED_MNIST.glob("*.gz"):
        (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))


def _wheels(content: Path, cache: Path, python: str, arch: int) -> None:
    for name, file in (("wheels", "wheels.txt"), ("spare", "spare.txt")):
        folder = cache / f"{name}-{python}"
        _download(folder, python, "--requirement", str(HERE / file))
        (content / name).mkdir()
        for wanted in _names(HERE / file):
            wheel = _newest(folder, wanted)
            if wanted == "onnxruntime-gpu":
                wheel = _thinned(wheel, cache, arch)
            _store_uncompressed(wheel, content / name / wheel.name)


def _download(folder: Path, python: str, *what: str) -> None:
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)] + ["manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    command += [part for platform in platforms for part in ("--platform", platform)]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--dest", str(folder), *what]
    subprocess.run(command, check=True)


def _names(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]


def _newest(folder: Path, name: str) -> Path:
    """The wheel of a distribution that was downloaded last; the cache may hold older ones."""
    found = [wheel for wheel in folder.glob("*.whl") if wheel.name.split("-")[0].lower() == name.replace("-", "_")]
    return max(found, key=lambda wheel: wheel.stat().st_mtime)


def _thinned(wheel: Path, cache: Path, arch: int) -> Path:
    """ONNX Runtime's wheel with the kernels of one architecture that an MLP needs; made once."""
    result = cache / f"thin-{arch}" / wheel.name
    if result.exists():
        return result
    _download(cache / "cuobjdump", f"{sys.version_info.major}.{sys.version_info.minor}", CUOBJDUMP)
    result.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        site, tool = Path(temporary) / "site", Path(temporary) / "tool"
        for packed, folder in ((wheel, site), (_newest(cache / "cuobjdump", CUOBJDUMP), tool)):
            with zipfile.ZipFile(packed) as archive:
                archive.extractall(folder)
        program = next(tool.glob("**/bin/cuobjdump"))
        program.chmod(0o755)
        print(f"{wheel.name}: {thin.thin(site / CUDA_LIBRARY, arch, str(program))}", flush=True)
        part = result.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted(path for path in site.rglob("*") if path.is_file()):
                name = file.relative_to(site).as_posix()
                if not any(left in name for left in LEFT_OUT) and name.split("/")[1] not in LEFT_OUT_FOLDERS:
                    archive.write(file, name)
        part.rename(result)
    return result


def _store_uncompressed(wheel: Path, target: Path) -> None:
    """The same wheel, to be packed with everything else: that is smaller than packing what is packed."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy:
        for name in source.namelist():
            copy.writestr(zipfile.ZipInfo(name), source.read(name))  # without the time, so that it is packed once


def _store(folder: Path, cache: Path) -> None:
    """A published MNIST model, so that serving is checked whatever becomes of training; without its report.

    Trained once for each state of the trainer.
    """
    sources = sorted((ROOT / "trainer/mlpserve_trainer").rglob("*.py"))
    state = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]
    trained = cache / f"trained-{state}"
    command = [sys.executable, "-m", "mlpserve_trainer", "--store", str(trained), "--device", "cpu"]
    command += ["--epochs", "3", "--if-missing"]
    # Threads that wait actively make training ten times slower beside any other busy process.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    newest = trained / "mnist/1"
    manifest = json_format.Parse((newest / "manifest.json").read_text(), Manifest())
    wanted = [entry for entry in manifest.files if entry.role in SERVED]
    publish(folder, manifest.model, manifest, {e.path: (e.role, (newest / e.path).read_bytes()) for e in wanted})


def _packed(content: Path, cache: Path) -> Path:
    """The archive of a folder, by its content: packing it takes minutes."""
    digest = hashlib.sha256()
    for file in sorted(path for path in content.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(content)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    archive = cache / f"rest-{digest.hexdigest()[:16]}.tar.xz"
    if not archive.exists():
        _pack(content, archive.with_suffix(".part"))
        archive.with_suffix(".part").rename(archive)
    return archive


def _pack(content: Path, target: Path) -> None:
    names = sorted(path.name for path in content.iterdir())
    tar = subprocess.Popen(["tar", "--owner=0", "--group=0", "-cf", "-", *names], cwd=content, stdout=subprocess.PIPE)
    with target.open("wb") as file:
        subprocess.run([*XZ], stdin=tar.stdout, stdout=file, check=True)
    if tar.wait():
        sys.exit("gpu-kit: tar failed")


if __name__ == "__main__":
    main()

"""An environment over a Python that has PyTorch: `python3 -m bench.gpu.kit.environment TARGET WHEELS [SPARE_WHEELS]`.

A virtual environment with --system-site-packages does not see what lies in another virtual environment, as PyTorch does
in many images; the CPU's ONNX Runtime beside the GPU's makes both refuse; and ONNX Runtime looks for CUDA's libraries
beside itself only. So TARGET's site-packages holds a link to each package of the Python that runs this, and in place of
those that WHEELS brings, the wheels' own files. What SPARE_WHEELS brings is taken only where the machine has none.
Nothing of the machine's is changed and nothing is downloaded. It runs before anything is installed, so the standard
library is all that it needs.
"""

import configparser
import os
import re
import shlex
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("proto", "trainer", "server", "client")  # of our own packages
NEVER = ("onnxruntime", "onnxruntime-gpu", "mlpserve")  # of the machine's


def make(target: Path, wheels: Iterable[Path], spare: Iterable[Path], sources: Iterable[Path]) -> list[str]:
    """Make the environment.

    Args:
        target: its folder; what is there is removed.
        wheels: take the place of the machine's distributions.
        spare: only where the machine has no such distribution.
        sources: the machine's folders of packages; the first that has a name wins.

    Returns:
        The names of the spare wheels that were taken.
    """
    shutil.rmtree(target, ignore_errors=True)
    site = target / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    programs = target / "bin"
    programs.mkdir()
    _python(target, programs)
    for source in sources:
        for entry in source.iterdir():
            if not os.path.lexists(site / entry.name) and entry.name != "__pycache__":
                (site / entry.name).symlink_to(entry)
    wheels = list(wheels)
    for name in (*NEVER, *(distribution(wheel.name) for wheel in wheels)):
        remove(site, name)
    there = {distribution(info.name) for info in site.glob("*.dist-info")}
    taken = [wheel for wheel in spare if distribution(wheel.name) not in there]
    for wheel in (*wheels, *taken):
        unpack(wheel, site, programs)
    for info in site.glob("torch-*.dist-info/entry_points.txt"):  # torchrun
        _scripts(info.read_text(), programs)
    _ours(site, programs)
    return [distribution(wheel.name) for wheel in taken]


def distribution(name: str) -> str:
    """A distribution's name, in one spelling, of that of its wheel or .dist-info folder."""
    return re.sub(r"[-_.]+", "-", name.split("-")[0]).lower()


def remove(site: Path, name: str) -> None:
    """Take a distribution out of the environment: the links to its files, never the files."""
    for info in list(site.glob("*.dist-info")):
        if distribution(info.name) != name:
            continue
        record = info / "RECORD"
        lines = record.read_text().splitlines() if record.is_file() else []
        paths = [Path(line.rsplit(",", 2)[0].strip('"')) for line in lines]
        for path in paths:
            if path.is_absolute() or path.parts[0] == ".." or path.parts[0] == info.name:
                continue
            if len(path.parts) == 1:
                (site / path).unlink(missing_ok=True)
            elif _shared(site, path.parts[0]):
                own_folder(site, path.parent)
                (site / path).unlink(missing_ok=True)
            elif (site / path.parts[0]).is_symlink():
                (site / path.parts[0]).unlink()
        info.unlink() if info.is_symlink() else shutil.rmtree(info)


def _shared(site: Path, top: str) -> bool:
    """Whether several distributions may have files in a package: it is a namespace."""
    return not (site / top / "__init__.py").exists()


def own_folder(site: Path, folder: Path) -> None:
    """Make the folders down to this one real ones that hold links, so that files can go there."""
    at = site
    for part in folder.parts:
        at /= part
        if at.is_symlink():
            origin = at.resolve()
            at.unlink()
            at.mkdir()
            for entry in origin.iterdir():
                if entry.name != "__pycache__":
                    (at / entry.name).symlink_to(entry)
        elif not at.exists():
            at.mkdir()


def unpack(wheel: Path, site: Path, programs: Path) -> None:
    """Put a wheel's files into the environment."""
    with zipfile.ZipFile(wheel) as content:
        for name in content.namelist():
            if name.endswith("/") or ".data/" in name:
                continue
            own_folder(site, Path(name).parent)
            (site / name).unlink(missing_ok=True)
            (site / name).write_bytes(content.read(name))
            if name.endswith(".dist-info/entry_points.txt"):
                _scripts(content.read(name).decode(), programs)


def _python(target: Path, programs: Path) -> None:
    """The interpreter, as in any virtual environment."""
    base = Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
    for name in ("python", "python3"):
        (programs / name).symlink_to(base)
    version = ".".join(map(str, sys.version_info[:3]))
    lines = [f"home = {base.parent}", "include-system-site-packages = false", f"version = {version}", ""]
    (target / "pyvenv.cfg").write_text("\n".join(lines))


def _scripts(entry_points: str, programs: Path) -> None:
    parser = configparser.ConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(entry_points)
    if not parser.has_section("console_scripts"):
        return
    for name, value in parser["console_scripts"].items():
        module, _, function = value.split("[")[0].strip().partition(":")
        code = f"import sys\nfrom {module} import {function.split('.')[0]}\nsys.exit({function}())\n"
        write_program(programs / name, programs / "python", code)


def write_program(path: Path, python: Path, code: str) -> None:
    """A program of Python code, for any path of its interpreter: after "#!" there may be no space, and 127 bytes."""
    # A string to Python, a command to sh.
    path.write_text(f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''\n{code}")
    path.chmod(0o755)


def _ours(site: Path, programs: Path) -> None:
    """mlpserve, as it lies in this checkout."""
    (site / "mlpserve-checkout.pth").write_text("".join(f"{ROOT / name}\n" for name in FOLDERS))
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^version = "(.*)"', text, re.MULTILINE)
    version = found[1] if found else "0"
    section = re.search(r"^\[project\.scripts\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    points = "[console_scripts]\n" + (section[1] if section else "").replace('"', "")
    info = site / f"mlpserve-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlpserve\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(points)
    _scripts(points, programs)


def machine_sources() -> list[Path]:
    """Where this Python has its packages."""
    return [
        Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages")) and Path(path).is_dir()
    ]


def main() -> None:
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    started = time.time()
    target, *folders = (Path(argument).resolve() for argument in sys.argv[1:])
    wheels, spare = ([sorted(folder.glob("*.whl")) for folder in folders] + [[]])[:2]
    sources = machine_sources()
    taken = make(target, wheels, spare, sources)
    print(
        f"Environment {target} over {', '.join(map(str, sources))}: {len(wheels)} packages in place of the machine's, "
        f"{', '.join(taken) or 'none'} added, in {time.time() - started:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()

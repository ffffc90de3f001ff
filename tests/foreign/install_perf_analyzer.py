"""Puts Triton's perf_analyzer into a folder: `python install_perf_analyzer.py FOLDER`, run by `make test-all`.

Its wheel needs a C library of 2024. Where this machine's is older and apt is there, Debian 13's is unpacked beside it.
FOLDER/perf_analyzer runs it. Where that does not work, one line says why, and the test is skipped.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

WHEEL = "perf-analyzer>=2.59,<3"
PLATFORM = "manylinux_2_38_x86_64"
NEWER, PACKAGES = "trixie", ("libc6", "libstdc++6", "libgcc-s1")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def main(folder: Path) -> None:
    """Install, or say why not."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = folder / "perf_analyzer"
    try:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        _run(*pip, "--only-binary", ":all:", "--platform", PLATFORM, "--dest", folder, WHEEL)
        with zipfile.ZipFile(next(folder.glob("perf_analyzer-*.whl"))) as wheel:
            wheel.extractall(folder / "wheel")
        program = folder / "wheel/perf_analyzer/bin/perf_analyzer"
        program.chmod(0o755)
        command = f'exec "{program.resolve()}"'
        if subprocess.run([program, "--version"], capture_output=True, check=False).returncode:
            libraries = (_newer_libraries(folder.resolve()) / LIBRARIES).resolve()
            path = f"{libraries}:/lib/x86_64-linux-gnu:/{LIBRARIES}"
            loader = f'"{libraries}/ld-linux-x86-64.so.2" --library-path "{path}"'
            command = f'exec {loader} "{program.resolve()}"'
        runs.write_text(f'#!/bin/sh\n{command} "$@"\n')
        runs.chmod(0o755)
        _run(runs, "--version")
        print(f"{runs} runs Triton's perf_analyzer")
    except (OSError, StopIteration, subprocess.SubprocessError) as error:
        runs.unlink(missing_ok=True)
        print(f"perf_analyzer is not installed, and its test is skipped: {error}")


def _newer_libraries(folder: Path) -> Path:
    """A newer C library and what goes with it, unpacked."""
    sources = "".join(path.read_text() for path in Path("/etc/apt").glob("sources.list*/*"))
    sources += path.read_text() if (path := Path("/etc/apt/sources.list")).exists() else ""
    mirror = re.search(r"https?://\S+/debian(?=/?\s)", sources)
    if mirror is None:
        raise OSError("the wheel needs a C library of version 2.38, and this machine has no apt of Debian to get one")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt/list").write_text(f"deb [signed-by={KEYRING}] {mirror[0]} {NEWER} main\n")
    options = {
        "Dir::Etc::sourcelist": folder / "apt/list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "apt/lists",
        "Dir::Cache": folder / "apt/cache",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "--quiet", *(f"-o{name}={value}" for name, value in options.items())]
    _run(*apt, "update")
    _run(*apt, "download", *PACKAGES, cwd=folder)
    for package in folder.glob("*.deb"):
        _run("dpkg", "-x", package, folder / "libraries")
    return folder / "libraries"


def _run(*command: object, cwd: Path | None = None) -> str:
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The last release, from its commit: its source, and an environment with its wheel over today's dependencies."""

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASE = json.loads((ROOT / "contract/release.json").read_text())
VERSION: str = RELEASE["version"]


@dataclass(frozen=True)
class Release:
    """What a checkout of the release and an installation of its wheel have.

    Attributes:
        source: the tests of the release, with what they import.
        programs: its executables.
    """

    source: Path
    programs: Path

    def environment(self) -> dict[str, str]:
        """Of a process that is to import nothing of today's but the dependencies."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}

    def run(
        self, program: str, *arguments: object, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of its executables to its end, in its source folder."""
        return subprocess.run(
            [str(self.programs / program), *map(str, arguments)],
            cwd=self.source, env=self.environment() | (env or {}),
            capture_output=True, text=True, timeout=1500, check=False,
        )  # fmt: skip


def _quietly(*command: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, timeout=600, check=False)


def last_release() -> Release:
    """The release that contract/release.json names, made once and kept in build/.

    Skips the test where its commit or the network is missing.
    """
    folder = ROOT / "build/release" / RELEASE["commit"][:12]
    release = Release(folder / "source", folder / "venv/bin")
    if (folder / "made").exists():
        return release
    archived = _quietly("git", "archive", "--format=tar", RELEASE["commit"])
    if archived.returncode:
        pytest.skip(f"the commit of release {VERSION} is not in this clone: git fetch origin v{VERSION} brings it")
    release.source.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", release.source], input=archived.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = _quietly(*pip, "wheel", "--no-deps", "--wheel-dir", folder, release.source)
    if built.returncode:
        pytest.skip(f"the wheel of release {VERSION} cannot be built: {built.stderr.decode()[-300:]}")
    (wheel,) = folder.glob("mlpserve-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder / "venv"], check=True)
    python = release.programs / "python"
    installed = _quietly(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    assert installed.returncode == 0, installed.stderr.decode()
    # Behind its own packages on the path, so that mlpserve is the release's and the dependencies are today's.
    (own,) = (folder / "venv/lib").glob("python3*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "made").touch()
    return release

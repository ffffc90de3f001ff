"""The transport's tests and a soak of a million requests under a sanitizer: `make sanitize-wire`.

    python server/wire/sanitized.py address,undefined|thread [REQUESTS]

Builds the module into build/wire-… with g++, puts it before the one that is installed, and preloads the sanitizer's
library into Python. Reports go to files, so that those of servers that tests have started are seen too; ends with 1 if
there is any, or a test fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from install import HERE, NotBuilt, headers, run, tools

ROOT = HERE.parents[1]
LIBRARIES = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
# Python, ONNX Runtime and nghttp2 are not built with the sanitizer, so their locks and leaks are not its business.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:alloc_dealloc_mismatch=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:exitcode=0:second_deadlock_stack=1",
}
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
TESTS = ("server/wire/tests", "-m", "")
SOAK = ("tests/guarantees/test_soak.py", "-m", "guarantee", "-k", "wire")


def main() -> None:
    """Build, test, and say what was found."""
    sanitizers = sys.argv[1] if len(sys.argv) > 1 else ""
    if sanitizers not in LIBRARIES:
        sys.exit(f"expected one of {', '.join(LIBRARIES)}, got {sanitizers!r}")
    requests = sys.argv[2] if len(sys.argv) > 2 else "1000000"
    work = ROOT / f"build/wire-{sanitizers.split(',')[0]}"
    try:
        package = build(sanitizers, work)
        preloaded = [runtime(name) for name in (*LIBRARIES[sanitizers], "libstdc++.so.6")]
    except NotBuilt as reason:
        sys.exit(f"the module cannot be built with -fsanitize={sanitizers}: {reason}")
    reports = work / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    environment = {
        **os.environ,
        **{name: f"{value}:log_path={reports / name[:4].lower()}" for name, value in OPTIONS.items()},
        "PYTHONPATH": str(package),
    }
    library = " ".join(preloaded)
    # The soak's server alone: the test itself forks in several threads, which the thread sanitizer does not bear.
    runs = ((TESTS, {"LD_PRELOAD": library}), (SOAK, {"SOAK_PRELOAD": library, "SOAK_REQUESTS": requests}))
    codes = [
        subprocess.run([*PYTEST, *tests], env=environment | own, cwd=ROOT, check=False).returncode
        for tests, own in runs
    ]
    found = sorted(reports.iterdir())
    for report in found:
        print(f"--- {report}\n{report.read_text()[:4000]}")
    print(f"-fsanitize={sanitizers}: {len(found)} reports in {reports.relative_to(ROOT)}; pytest ended with {codes}")
    sys.exit(1 if found or any(codes) else 0)


def build(sanitizers: str, work: Path) -> Path:
    """The module with what is in Python beside it; the folder to import it from."""
    if shutil.which("g++") is None:
        raise NotBuilt("there is no g++: apt-get install g++")
    environment = {**os.environ, "CC": "gcc", "CXX": "g++", **tools()}
    configure = ["cmake", "-S", str(HERE), "-B", str(work), f"-DWIRE_SANITIZE={sanitizers}"]
    configure += ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DPython_EXECUTABLE={sys.executable}"]
    run([*configure, *headers().get("CMAKE_ARGS", "").split()], environment, "CMake does not configure it")
    run(["cmake", "--build", str(work), "--parallel"], environment, "it does not compile")
    package = work / "package/mlpserve_wire"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(HERE / "mlpserve_wire", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for built in work.glob("_native*.so"):
        shutil.copy(built, package)
    return package.parent


def runtime(name: str) -> str:
    """Where g++ has a library."""
    found = run(["g++", f"-print-file-name={name}"], os.environ, f"g++ has no {name}").strip()
    if not Path(found).is_absolute():
        raise NotBuilt(f"g++ has no {name}: apt-get install libasan8 libubsan1 libtsan2, or your system's names")
    return str(Path(found).resolve())


if __name__ == "__main__":
    main()

"""clang-tidy over the C++ files of server/wire that changed since the last time: `make lint`.

python .ci/tidy.py STAMP

A header that changed, or the checks themselves, have all files looked at. STAMP is touched where nothing is found.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIRE = ROOT / "server/wire"


def main() -> None:
    stamp = Path(sys.argv[1])
    builds = sorted(WIRE.glob("build/*/compile_commands.json"), key=lambda path: path.stat().st_mtime)
    if not builds:
        print("clang-tidy: NOT RUN, the wire has not been built here (make wire)")
        return
    since = stamp.stat().st_mtime if stamp.exists() else 0.0
    shared = [*WIRE.glob("src/*.h"), WIRE / ".clang-tidy", WIRE / "CMakeLists.txt"]
    anew = any(path.stat().st_mtime > since for path in shared)
    files = [path for path in sorted(WIRE.glob("src/*.cc")) if anew or path.stat().st_mtime > since]

    def look(path: Path) -> str:
        command = [str(shutil.which("clang-tidy")), "--quiet", "-p", str(builds[-1].parent), str(path)]
        looked = subprocess.run(command, capture_output=True, text=True, check=False)
        return looked.stdout + (looked.stderr if looked.returncode and not looked.stdout else "")

    print(f"clang-tidy: {len(files)} files ...", flush=True)
    with ThreadPoolExecutor() as several:
        found = [said for said in several.map(look, files) if said]
    if found:
        sys.exit("\n".join(found))
    stamp.touch()


if __name__ == "__main__":
    main()

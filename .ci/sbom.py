"""What client and server are made of, as CycloneDX: each is installed from the wheel into an environment of its own.

python .ci/sbom.py build/sbom
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"client": "", "client-web": "[web]", "server-cpu": "[server,cpu]"}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", work, ROOT)
        (wheel,) = work.glob("*.whl")
        for name, extra in PARTS.items():
            run(sys.executable, "-m", "venv", work / name)
            python = work / name / "bin/python"
            run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}{extra}")
            run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")
            output = folder / f"{name}.cdx.json"
            run(sys.executable, "-m", "cyclonedx_py", "environment", python, "--of", "JSON", "-o", output)
            print(output)


def run(*command: object) -> None:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)


if __name__ == "__main__":
    main()

"""On the GPU machine, run by go.sh with that machine's Python: the environment, once, then the checks of a part."""

import gzip
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path

from bench.gpu.kit import environment, h2load

ROOT = Path(__file__).resolve().parents[3]
KIT = ROOT.parent  # project, store, kit.json, and of the rest wheels, spare, h2load, mnist
MNIST = ROOT / "trainer/mlpserve_trainer/mnist"
FROM_THE_MACHINE = ("torch", "torchvision", "onnx", "numpy", "matplotlib", "PIL")
TASKSET = """import os, sys
cores = set()
for part in sys.argv[2].split(","):
    first, _, last = part.partition("-")
    cores |= set(range(int(first), int(last or first) + 1))
os.sched_setaffinity(0, cores)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def main() -> None:
    parts = sys.argv[1:] or ["1"]
    work, out = Path(os.environ["WORK"]), Path(os.environ["OUT"])
    facts = json.loads((KIT / "kit.json").read_text())
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != facts["python"]:
        sys.exit(
            f"gpu-kit: this kit is for Python {facts['python']}, {sys.executable} is {here}: give another with "
            f"PYTHON=…, or make the kit with: make gpu-kit GPU_PYTHON={here}"
        )
    target, checks = work / "environment", work / "checks"
    if not (target / "complete").exists():
        prepare(target, checks)
        (target / "complete").touch()
    limit, spent = float(os.environ.get("LIMIT") or 300), time.time() - float(os.environ.get("STARTED") or time.time())
    device = os.environ.get("DEVICE") or "cuda"
    print(f"gpu-kit {facts['revision']} for sm_{facts['arch']}, ready after {spent:.1f} s", flush=True)
    arguments = [*parts, "--device", device, "--limit", str(limit), "--spent", f"{spent:.1f}"]
    arguments += ["--work", str(checks), "--out", str(out)]
    arguments += ["--quick"] if os.environ.get("QUICK") else []
    if only := os.environ.get("ONLY", "").split():
        arguments += ["--only", *only]
    # A machine without a network waits long for one that is asked for.
    os.environ |= {"PIP_NO_INDEX": "1"}
    python = str(target / "bin/python")
    os.execv(python, [python, "-m", "bench.gpu", *arguments])


def prepare(target: Path, checks: Path) -> None:
    """The environment, the store and the programs, from what the kit holds."""
    MNIST.mkdir(exist_ok=True)
    for file in (KIT / "mnist").iterdir():  # the kit packs it better than gzip does
        with gzip.open(MNIST / f"{file.name}.gz", "wb", compresslevel=1) as packed:
            packed.write(file.read_bytes())
    if missing := [name for name in FROM_THE_MACHINE if importlib.util.find_spec(name) is None]:
        print(f"gpu-kit: {sys.executable} has no {', '.join(missing)}: what needs it will fail", flush=True)
    wheels, spare = (sorted((KIT / name).glob("*.whl")) for name in ("wheels", "spare"))
    taken = environment.make(target, wheels, spare, environment.machine_sources())
    print(f"Added to the machine's packages: {', '.join(taken) or 'none but those that go together'}", flush=True)
    (checks / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copytree(KIT / "store", checks / "store", dirs_exist_ok=True)
    print(h2load.install(KIT / "h2load", checks / "bin"), flush=True)
    if not shutil.which("taskset"):
        environment.write_program(checks / "bin/taskset", Path(sys.executable), TASKSET)


if __name__ == "__main__":
    main()

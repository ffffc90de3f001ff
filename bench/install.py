"""What an empty environment gets: megabytes of each extra, seconds until --help answers: `make bench-install`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.trainer.training import cpu_name

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "": ["mlpserve"],
    "[score]": ["mlpserve"],
    "[web]": ["mlpserve"],
    "[server,cpu]": ["mlpserve-server", "mlpserve-store"],
}
ROUNDS = 7


def main() -> None:
    print(f"{cpu_name()}\n\n| install | MB | --help, s (median of {ROUNDS}) |\n|---|--:|---|")
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", work, ROOT]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (wheel,) = work.glob("*.whl")
        for extra, commands in COMMANDS.items():
            environment = work / f"venv{extra}"
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
            pip = [sys.executable, "-m", "pip", "--python", environment / "bin/python", "install", "--quiet"]
            subprocess.run([*pip, "--constraint", ROOT / "constraints.txt", f"{wheel}{extra}"], check=True)
            files = [path for path in (environment / "lib").rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) / 1e6
            helps = ", ".join(f"{command} {seconds(environment / 'bin' / command):.2f}" for command in commands)
            print(f"| mlpserve{extra} | {size:.0f} | {helps} |", flush=True)
    trainer = seconds(Path(sys.executable).parent / "mlpserve-train")
    print(f"| [trainer], in this environment | | mlpserve-train {trainer:.2f} |")


def seconds(program: Path) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([program, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()

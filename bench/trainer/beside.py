"""Training on a quiet machine and beside one busy core: `make bench-beside`.

Other work takes a core away from training, and what waits for the slowest thread waits longer. Threads that wait
actively make that ten times worse, so the trainer lets OpenMP's threads sleep. The same run, `mlpserve-train` with its
defaults, is timed in turns with nothing beside it and with one process that never rests; `--active` also shows what
waiting actively costs. Fails if training beside a busy core takes more than 2.5 times as long. Writes
bench/results/beside.json.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import BIN

from bench.trainer.training import cpu_name

LIMIT = 2.5
RESULTS = Path(__file__).parents[1] / "results/beside.json"
EPOCH = re.compile(r"Epoch \d+ .* ([\d.]+) s$", re.MULTILINE)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind, in turns")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--active", action="store_true", help="also with threads that wait actively: minutes")
    arguments = parser.parse_args()
    kinds = {"quiet": (False, "passive"), "beside a busy core": (True, "passive")}
    if arguments.active:
        kinds["beside a busy core, waiting actively"] = (True, "active")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, (busy, waiting) in kinds.items():
            with _busy_core() if busy else _nothing():
                seconds[kind].append(_epoch(arguments.epochs, waiting))
            print(f"{kind}: {seconds[kind][-1]:.2f} s an epoch, on average of {arguments.epochs}", flush=True)
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    ratio = medians["beside a busy core"] / medians["quiet"]
    load = os.getloadavg()[0]
    facts = {"processor": cpu_name(), "cores": os.cpu_count(), "seconds_an_epoch": seconds, "ratio": round(ratio, 2)}
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(
        f"Beside a busy core {ratio:.2f} times the quiet time (load {load:.1f} at the end); at most {LIMIT} is promised"
    )
    if ratio > LIMIT:
        sys.exit(1)


def _epoch(epochs: int, waiting: str) -> float:
    """Seconds of an epoch, on average over a run."""
    environment = {**os.environ, "OMP_WAIT_POLICY": waiting}
    with tempfile.TemporaryDirectory() as store:
        command = [BIN / "mlpserve-train", "--store", store, "--epochs", str(epochs), "--quiet"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return statistics.mean(map(float, EPOCH.findall(shown)))


@contextmanager
def _busy_core() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


if __name__ == "__main__":
    main()

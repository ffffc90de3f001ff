"""What each recipe reaches, over seeds: `make bench-accuracy`.

Runs `mlpserve-train` as a person does and reads what it published: accuracy of both files on the test set, calibration,
and the seconds of the fit. Every run is kept in bench/results/accuracy.json under its name and seed, so a long
measurement can be made in pieces; the table on standard output is of all that are there.

    python -m bench.trainer.accuracy fast:0-4 accurate:0-4 best:0-4      # recipe:seeds
    python -m bench.trainer.accuracy no-teacher:0                        # a row of the ablation, see ABLATION
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.trainer.training import cpu_name

RESULTS = Path(__file__).parents[1] / "results" / "accuracy.json"
BIN = Path(sys.executable).parent

# What is left out of `accurate`, or changed in it: name to flags.
ABLATION = {
    "no-teacher": ["--recipe", "accurate", "--teachers", "0"],
    "no-warp": ["--recipe", "accurate", "--warp", "0"],
    "no-average": ["--recipe", "accurate", "--average", "0"],
    "neither": ["--recipe", "accurate", "--teachers", "0", "--warp", "0"],
    "two-teachers": ["--recipe", "accurate", "--teachers", "2"],
    "best-without-teacher": ["--recipe", "best", "--teachers", "0"],
    "best-start-only": ["--recipe", "best", "--epochs", "1", "--learning-rate", "1e-9"],
}


def run(name: str, seed: int) -> dict[str, Any]:
    flags = ABLATION.get(name) or ["--recipe", name]
    with tempfile.TemporaryDirectory(prefix="mlpserve-accuracy-") as store:
        command = [str(BIN / "mlpserve-train"), "--store", store, *flags, "--seed", str(seed)]
        started = time.monotonic()
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.monotonic() - started
        manifest = json.loads((Path(result.stdout.splitlines()[-1]) / "manifest.json").read_text())
    fp32, int8 = manifest["evaluations"]
    return {
        "fp32": fp32["testAccuracy"],
        "int8": int8["testAccuracy"],
        "calibration": fp32["calibrationError"],
        "calibration_int8": int8["calibrationError"],
        "validation": manifest["training"]["validationAccuracy"],
        "temperature": manifest["training"]["temperature"],
        "fit_seconds": manifest["training"]["seconds"],
        "seconds": seconds,
        "layers": manifest["network"]["layers"],
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, bfloat16 {torch.cpu.get_capabilities().get('avx512_bf16', False)}",
    }


def table(records: dict[str, dict[str, dict[str, Any]]]) -> str:
    lines = [
        "| recipe | network | seeds | test accuracy, mean (range) | int8 | calibration error | validation "
        "| training, s |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, seeds in records.items():
        runs = list(seeds.values())

        def mean(key: str, runs: list[dict[str, Any]] = runs) -> float:
            return statistics.fmean(run[key] for run in runs)

        spread = f"{min(run['fp32'] for run in runs):.2%} – {max(run['fp32'] for run in runs):.2%}"
        lines.append(
            f"| {name} | {'-'.join(map(str, runs[0]['layers']))} | {len(runs)} | **{mean('fp32'):.2%}** ({spread}) "
            f"| {mean('int8'):.2%} | {mean('calibration'):.2%} | {mean('validation'):.2%} | {mean('fit_seconds'):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", default=["fast:0-4"], metavar="NAME:SEEDS", help="for example accurate:0-4")
    arguments = parser.parse_args()
    records = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for item in arguments.runs:
        name, _, seeds = item.partition(":")
        first, _, last = (seeds or "0").partition("-")
        for seed in range(int(first), int(last or first) + 1):
            record = records.setdefault(name, {})[str(seed)] = run(name, seed)
            print(f"{name} seed {seed}: {record['fp32']:.2%}, {record['fit_seconds']:.0f} s", flush=True)
            RESULTS.write_text(json.dumps(records, indent=1) + "\n")
    print("\n" + table(records))
    print("\n" + "\n".join(sorted({run["machine"] for seeds in records.values() for run in seeds.values()})))


if __name__ == "__main__":
    main()

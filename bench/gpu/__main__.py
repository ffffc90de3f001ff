"""Proves the GPU path on a machine that has one, measures it, and keeps the record: `make gpu-check`.

    python -m bench.gpu [PART …] [--device D] [--limit SECONDS] [--only NAME …] [--quick] [--work DIR] [--out DIR]

Part 1 shows whether training and serving work on the device, part 2 how fast they are, part 3 trains the long recipes.
Each part ends within --limit seconds. Each check is a process with a time limit of its own; one that fails is said at
once, and the next one runs. The record, OUT/<device>.md and .json, is written after every check, and a later part or a
repeated check goes into the same one. Exit code 0: everything holds (missed targets are in the table and fail
nothing); 1: there is no usable GPU, or something is wrong or did not run.

`--device cpu --quick` goes through all of it on the CPU with the smallest counts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from bench.gpu import facts, record, running
from bench.gpu.plan import CHECKS, PART_SECONDS, PARTS, Check
from bench.gpu.record import OK, SKIPPED, Outcome

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 3.0  # seconds of a part that are kept for its end
SHORTEST = 5.0  # seconds in which no check can do anything
BAD = ("WRONG", "missed", "FAILED", "ERROR")
SHOWN = 14  # lines of a check on the console, and any that says something is wrong; the log has all


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", type=int, default=[], metavar="PART", help="1, 2, 3; all without it")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--limit", type=float, default=PART_SECONDS, help="seconds of each part (default: %(default)s)")
    parser.add_argument("--spent", type=float, default=0.0, help="seconds that the first part has used already")
    parser.add_argument("--only", nargs="+", default=[], choices=[check.name for check in CHECKS], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="the smallest counts: to rehearse")
    parser.add_argument("--work", type=Path, default=ROOT / "build/gpu-check", help="what checks hand on")
    parser.add_argument("--out", type=Path, help="of record and log (default: docs/gpu, on a CPU WORK)")
    a = parser.parse_args()
    if unknown := set(a.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}: " + ", ".join(f"{n} {what}" for n, what in PARTS.items()))
    reason = facts.why_no_gpu(a.device) if a.device != "cpu" else ""
    if reason:
        sys.exit(f"gpu-check: {reason}")
    work = a.work = a.work.resolve()  # checks run in the repository's root
    out = (a.out or (work if a.device == "cpu" else ROOT / "docs/gpu")).resolve()
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    whole = record.read(out, facts.device_name(a.device))
    whole.machine, whole.versions = facts.describe(a.device), facts.versions()
    ran: list[Outcome] = []
    environment = _environment(work)
    with (work / "log.txt").open("a") as log:
        _model(work, log, environment)
        for number, part in enumerate(a.parts or PARTS):
            ends = time.monotonic() + a.limit - (a.spent if number == 0 else 0)
            checks = [check for check in CHECKS if check.part == part and (not a.only or check.name in a.only)]
            print(f"Part {part}: {PARTS[part]}", flush=True)
            for outcome in _outcomes(checks, a, ends, log, environment):
                whole.put(outcome)
                ran.append(outcome)
                record.write(whole, out)
    if a.out and out != work:
        shutil.copy(work / "log.txt", out)
    sys.exit(_summary(ran, out))


def _outcomes(
    checks: list[Check], a: argparse.Namespace, ends: float, log: TextIO, environment: dict[str, str]
) -> Iterator[Outcome]:
    """Run checks until a time by `time.monotonic()`, one after the other."""
    arguments = ["--device", a.device, "--work", str(a.work), *(["--quick"] if a.quick else [])]
    program = [sys.executable, "-m", "bench.gpu.check"]
    for check in checks:
        left = ends - time.monotonic() - MARGIN
        if left < SHORTEST:
            print(f"  {check.name}: skipped, the part's time is up", flush=True)
            yield Outcome(check.name, check.what, check.part, SKIPPED, said="the part's time was up")
            continue
        # On a CPU everything takes longer, and nobody waits for the machine.
        seconds = min(left, check.seconds if a.device != "cpu" else max(check.seconds, a.limit))
        print(f"  {check.name}: {check.what} …", flush=True)
        log.write(f"\n==== {check.name}, at most {seconds:.0f} s\n")
        file = a.work / f"found-{check.name}.json"
        command = [*program, check.name, "--found", str(file), "--seconds", f"{seconds:.1f}", *arguments]
        outcome = running.run(
            check, command, seconds=seconds, file=file, log=log, environment=environment, say=_Console()
        )
        verdict = "ok" if outcome.state == OK else f"{outcome.state.upper()}: {outcome.said}"
        print(f"  {outcome.name}: {verdict} ({outcome.seconds:.1f} s)", flush=True)
        yield outcome


class _Console:
    """The first lines of a check, and those that say what is wrong."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, line: str) -> None:
        self._count += 1
        if self._count <= SHOWN or any(word in line for word in BAD):
            print(f"      {line[:180]}", flush=True)


def _environment(work: Path) -> dict[str, str]:
    """Of every check: nothing is asked of a network, and the kit's programs come first."""
    mine: Mapping[str, str] = {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "NO_PROXY": "*",
        "CUDA_MODULE_LOADING": "LAZY",
        "OMP_WAIT_POLICY": "passive",  # beside any other busy process, threads that wait actively are ten times slower
        "PATH": os.pathsep.join([str(work / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    return {**os.environ, **mine}


def _model(work: Path, log: TextIO, environment: dict[str, str]) -> None:
    """A published model that does not depend on training on the device; the kit brings one."""
    if (work / "store/mnist/1").is_dir():
        return
    print("Training the model that is served, on the CPU …", flush=True)
    command = [sys.executable, "-m", "mlpserve_trainer", "--store", str(work / "store"), "--device", "cpu"]
    done = subprocess.run([*command, "--epochs", "3"], cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit(f"gpu-check: no model could be trained on the CPU; see {work / 'log.txt'}")


def _summary(outcomes: list[Outcome], out: Path) -> int:
    """What is wrong, first; the exit code."""
    bad = [outcome for outcome in outcomes if outcome.state != OK or outcome.wrong]
    missed = [row for outcome in outcomes for row in outcome.rows if row.holds is False and not row.must]
    for outcome in bad:
        for line in outcome.wrong or [f"{outcome.name}: {outcome.state}: {outcome.said}"]:
            print(f"gpu-check: {line}", flush=True)
    for row in missed:
        print(f"gpu-check: target missed: {row.what}: {row.shown}, {row.target}", flush=True)
    print(
        f"gpu-check: {len(outcomes) - len(bad)} of {len(outcomes)} checks are good; the record is in {out}", flush=True
    )
    return int(bool(bad))


if __name__ == "__main__":
    main()

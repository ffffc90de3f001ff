"""Checks as processes: one that fails, hangs or crashes leaves an outcome, and the next one runs."""

import io
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from bench.gpu import record, running
from bench.gpu.plan import CHECKS, PARTS, Check
from bench.gpu.record import FAILED, OK, OUT_OF_TIME, SKIPPED, Outcome
from support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
CHECK = Check("loads", 1, "a check", "loads:loads", 10)
ROW = '[{"what": "p50", "value": 1.0, "shown": "1", "target": "", "holds": null, "must": false}]'


def _run(tmp_path: Path, code: str, seconds: float = 30) -> tuple[Outcome, str]:
    log, file = io.StringIO(), tmp_path / "found.json"
    command = [sys.executable, "-c", f"import os, signal, subprocess, sys, time\nFILE = {str(file)!r}\n{code}"]
    outcome = running.run(CHECK, command, seconds=seconds, file=file, log=log, environment=dict(os.environ))
    return outcome, log.getvalue()


def test_a_good_check(tmp_path: Path) -> None:
    outcome, log = _run(tmp_path, f"open(FILE, 'w').write('''{ROW}'''); print('good')")
    assert (outcome.state, outcome.said, log) == (OK, "", "good\n")
    assert [row.what for row in outcome.rows] == ["p50"]


def test_a_failed_check_keeps_what_it_found_and_its_last_words(tmp_path: Path) -> None:
    outcome, _ = _run(tmp_path, f"open(FILE, 'w').write('''{ROW}'''); sys.exit('\\x1b[31mno \\x07driver')")
    assert (outcome.state, outcome.said) == (FAILED, "no ·driver")
    assert [row.what for row in outcome.rows] == ["p50"]
    assert outcome.wrong == ["loads: no ·driver"]


def test_rows_of_an_earlier_run_are_not_taken_for_this_one(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(ROW)
    assert _run(tmp_path, "sys.exit('broken')")[0].rows == []


def test_a_crash_is_named(tmp_path: Path) -> None:
    outcome, _ = _run(tmp_path, "print('so far', flush=True); os.kill(os.getpid(), signal.SIGSEGV)")
    assert (outcome.state, outcome.said) == (FAILED, "ended by signal 11; so far")


def test_a_check_that_hangs_is_ended_with_its_servers(tmp_path: Path) -> None:
    """It neither heeds SIGTERM nor is its server in its process group."""
    code = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(FILE, "w").write('''{ROW}''')
server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(server.pid, flush=True)
time.sleep(600)
"""
    outcome, log = _run(tmp_path, code, seconds=2)
    assert outcome.state == OUT_OF_TIME
    assert [row.what for row in outcome.rows] == ["p50"]
    server = Path(f"/proc/{log.strip()}")
    wait_until(lambda: not server.exists() or "State:\tZ" in (server / "status").read_text(), "the server ends", 20)


def test_the_plan_names_what_is_there() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert {check.part for check in CHECKS} == set(PARTS)
    for check in CHECKS:
        module, _, function = check.target.partition(":")
        assert callable(getattr(import_module(f"bench.gpu.{module}"), function)), check.target


def _command(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", "1", "--device", "cpu", "--quick", "--work", str(work), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def work(store: Path, tmp_path: Path) -> Path:
    shutil.copytree(store, tmp_path / "work/store")
    return tmp_path / "work"


def test_checks_on_the_cpu(work: Path) -> None:
    result = _command(work, "--only", "loads", "answers")
    assert result.returncode == 0, result.stdout + result.stderr
    whole = record.read(work, "CPU rehearsal")
    assert [(outcome.name, outcome.state) for outcome in whole.outcomes] == [("loads", OK), ("answers", OK)]
    assert "| classes of 10,000 test images other than the CPU's, outside" in (work / "cpu-rehearsal.md").read_text()
    assert whole.versions["mlpserve"]


def test_a_failure_is_said_and_the_next_check_runs(work: Path) -> None:
    model = work / "store/mnist/1/model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    result = _command(work, "--only", "loads", "answers")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    first = next(line for line in lines if line.startswith("  loads: FAILED: "))
    assert "model.onnx" in first
    assert any(line.startswith("  answers: FAILED: ") for line in lines)
    assert lines[-1].startswith("gpu-check: 0 of 2 checks are good; the record is in ")
    assert "Traceback" not in first
    assert "## What failed" in (work / "cpu-rehearsal.md").read_text()


def test_a_part_whose_time_is_up_says_what_did_not_run(work: Path) -> None:
    result = _command(work, "--only", "loads", "answers", "--limit", "300", "--spent", "295")
    assert result.returncode == 1
    assert "  answers: skipped, the part's time is up" in result.stdout
    assert [outcome.state for outcome in record.read(work, "CPU rehearsal").outcomes] == [SKIPPED, SKIPPED]


def test_without_a_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "bench.gpu", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("gpu-check: PyTorch finds no usable NVIDIA GPU on this machine")
    assert not (tmp_path / "out").exists()

"""Triton's perf_analyzer from start to end, in its modes for models like these, and no shared memory."""

import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-perf/perf_analyzer"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not PROGRAM.exists(), reason="no .venv-perf/perf_analyzer: `make test-all` makes it, or says why not"
    ),
]


@pytest.fixture(scope="module", params=["wire", "grpcio"])
def address(request: pytest.FixtureRequest, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "wire":
        pytest.importorskip("mlpserve_wire")
    flags = ["--transport", request.param, "--workers", 1]
    with ServerProcess(tmp_path_factory.mktemp("perf"), store, *flags) as process:
        yield process.address
        assert "Traceback" not in process.log
        assert "ERROR" not in process.log


@pytest.mark.parametrize(
    "mode",
    [
        ["--sync", "--concurrency-range", "1:4:3"],
        ["--async", "--concurrency-range", "8"],
        ["--streaming", "--concurrency-range", "8"],
        ["--async", "--concurrency-range", "2", "-b", "64"],
        ["--request-rate-range", "50", "--request-distribution", "poisson"],
        ["--concurrency-range", "2", "--request-parameter", "priority:2:int"],
        ["--concurrency-range", "2", "--grpc-compression-algorithm", "gzip"],
    ],
    ids=["sync", "async", "streaming", "batches", "rate", "priority", "gzip"],
)
def test_a_mode(address: str, mode: list[str], tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    command = [PROGRAM, "-m", "mnist", "-u", address, "-i", "grpc", *mode, "-f", report, "--input-data", "zero"]
    # One measurement of a fixed number of requests: how steady this machine is does not matter here.
    command += ["--measurement-mode", "count_windows", "--measurement-request-count", "50", "-s", "999", "-r", "10"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert rows, done.stdout
    for row in rows:
        assert float(row["Inferences/Second"]) > 0
        parts = [float(row[f"Server {name}"]) for name in ("Queue", "Compute Input", "Compute Infer", "Compute Output")]
        assert parts[2] > 0, "the server's own figures come from ModelStatistics"

"""The conformance suite of both transports against servers on the device."""

import os
import re
import subprocess
import sys

from bench.gpu.check import Case

SUITE = ("tests/server/test_transports.py", "tests/server/test_device.py")
QUICK = ("-k", "predict_answers or many_calls or batch_sizes")


def conformance(case: Case) -> None:
    """Every failed test is said; the suite goes on past it."""
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider", "--tb=short", *SUITE]
    environment = {**os.environ, "MLPSERVE_TEST_DEVICE": case.device}
    lines: list[str] = []
    with subprocess.Popen(
        [*command, *(QUICK if case.quick else ())],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.strip())
            print(line, end="", flush=True)
    closing = lines[-1].strip("= ") if lines else ""
    failed = sum(map(int, re.findall(r"(\d+) (?:failed|error)", closing)))
    holds = process.returncode == 0
    case.found.require("conformance suite", failed, closing or f"ended with {process.returncode}", "no failure", holds)

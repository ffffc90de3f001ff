"""A check's process: whatever becomes of it, there is an outcome, and nothing of it is left running."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from bench.contenders import family
from bench.gpu import found
from bench.gpu.plan import Check
from bench.gpu.record import FAILED, OK, OUT_OF_TIME, Outcome

ROOT = Path(__file__).resolve().parents[2]
LAST_WORDS = 300  # characters
GRACE = 3.0  # seconds to end by itself after its time
WAIT_FOR_OUTPUT = 5.0  # seconds; a process that left the session may still hold the pipe


def run(
    check: Check,
    command: Sequence[str],
    *,
    seconds: float,
    file: Path,
    log: TextIO,
    environment: dict[str, str],
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run a check for at most some seconds.

    Args:
        check: which.
        command: that runs it.
        seconds: after which it is killed, with all that it started.
        file: where it keeps what it finds.
        log: gets its output.
        environment: of the process.
        say: called with each line of its output.
    """
    file.unlink(missing_ok=True)
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(plain(line))
            log.write(lines[-1] + "\n")
            log.flush()
            say(lines[-1])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        state = OK if process.wait(seconds) == 0 else FAILED
    except subprocess.TimeoutExpired:
        state = OUT_OF_TIME
        process.terminate()  # so that it ends its servers itself
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _end(process)
    reader.join(WAIT_FOR_OUTPUT)
    if process.stdout is not None and not reader.is_alive():
        process.stdout.close()
    said = "" if state == OK else next((line for line in reversed(lines) if line.strip()), "it said nothing")
    if process.returncode < 0 and state == FAILED:
        said = f"ended by signal {-process.returncode}; {said}"
    return Outcome(
        check.name,
        check.what,
        check.part,
        state,
        time.monotonic() - started,
        said.strip()[:LAST_WORDS],
        found.read(file),
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process with all that it has started; a server that it measures has a session of its own."""
    if process.poll() is None:
        for folder in list(family(process)):
            with suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def plain(line: str) -> str:
    """A line without what a terminal would obey."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "·", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line.rstrip()))

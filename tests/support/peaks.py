"""Peak memory of a command and what it starts."""

import os
import subprocess
import sys

# The command's peak would otherwise include what this process had when it started it.
WATCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def peak(*command: object, env: dict[str, str] | None = None) -> tuple[int, str, float]:
    """Exit status, both outputs together, and the most resident memory in MB."""
    result = subprocess.run(
        [sys.executable, "-c", WATCHER, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **(env or {})},
        check=False,
    )
    *words, kilobytes = result.stderr.splitlines()
    return result.returncode, result.stdout + "\n".join(words), int(kilobytes) / 1024

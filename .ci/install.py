"""pip install, with a word about how far it is: one line on a terminal, a line every ten seconds in a log.

    python .ci/install.py PYTHON ARGUMENTS OF pip install ...

What pip said is shown if it fails. Standard library alone, as nothing is installed yet.
"""

import re
import subprocess
import sys
import threading
import time
from collections import deque

INTERVAL, KEPT = 10.0, 30  # seconds between two lines of a log; lines shown of a failure
STEPS = re.compile(r"(Downloading|Collecting|Using cached|Building|Installing collected|Preparing|Obtaining) ?(.*)")


def main() -> int:
    """The exit status of pip."""
    python, *arguments = sys.argv[1:]
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off", *arguments]
    last: deque[str] = deque(maxlen=KEPT)
    state = {"step": "asking for packages", "packages": 0}
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(state, over), daemon=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        teller.start()
        for line in pip.stdout or ():
            last.append(line.rstrip())
            if found := STEPS.match(line.strip()):
                kind, what = found.groups()
                state["packages"] += kind in ("Collecting", "Obtaining")
                state["step"] = "writing files" if kind == "Installing collected" else f"{kind.lower()} {what}"
    over.set()
    teller.join()
    if pip.returncode:
        print("\n".join(last), file=sys.stderr)
    return pip.returncode


def _tell(state: dict[str, object], over: threading.Event) -> None:
    began, on_terminal = time.monotonic(), sys.stderr.isatty()
    while not over.wait(1.0 if on_terminal else INTERVAL):
        step = str(state["step"]).split("/")[-1].split(" (from")[0]
        line = f"  {time.monotonic() - began:3.0f} s, {state['packages']} packages: {step}"[:98]
        print(f"\r{line:<98}" if on_terminal else line, end="" if on_terminal else "\n", file=sys.stderr, flush=True)
    if on_terminal:
        print("\r" + " " * 98, end="\r", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

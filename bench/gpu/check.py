"""One check, in a process of its own: `python -m bench.gpu.check NAME --device D --work DIR --found FILE …`.

A check that hangs in a driver or takes the process with it takes nothing else along, and each meets the device as a
fresh server does: only those that train import PyTorch, which would bring the CUDA libraries with it.
"""

import argparse
import importlib
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.found import Found
from bench.gpu.plan import CHECKS

MODEL = "mnist"


@dataclass(frozen=True)
class Case:
    """What a check works on.

    Attributes:
        found: its lines.
        device: "cuda", "cuda:N" or "cpu".
        work: folder for everything that checks hand on; `store` in it holds a published MNIST model.
        quick: rehearse: the same calls, with the smallest counts.
        ends: by `time.monotonic()`, when it is ended.
    """

    found: Found
    device: str
    work: Path
    quick: bool
    ends: float

    @property
    def kind(self) -> str:
        """ "cuda" or "cpu"."""
        return self.device.partition(":")[0]

    @property
    def store(self) -> Path:
        return self.work / "store"

    @property
    def version(self) -> Path:
        return self.store / MODEL / "1"

    def left(self) -> float:
        """Seconds until the check is ended."""
        return self.ends - time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[check.name for check in CHECKS])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--found", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--quick", action="store_true")
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("the time is up"))  # by way of every `finally`
    case = Case(Found(a.found), a.device, a.work, a.quick, time.monotonic() + a.seconds)
    check = next(check for check in CHECKS if check.name == a.name)
    module, _, function = check.target.partition(":")
    getattr(importlib.import_module(f"bench.gpu.{module}"), function)(case)
    if wrong := case.found.wrong():
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()

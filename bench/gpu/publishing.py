"""mlpserve-train on the device, and the answers of what it published."""

import dataclasses
import subprocess
import sys
from pathlib import Path

from bench.gpu.check import Case
from bench.gpu.serving import compare_answers


def publish(case: Case) -> None:
    """The default recipe, its answers, and that the same seed gives the same model."""
    digests = []
    for name in ("published", "published-again"):
        # A work folder of its own, so that `compare_answers` finds this store in it.
        folder = case.work / name
        train(case, folder / "store", *(["--epochs", "1"] if case.quick else []))
        newest = max((folder / "store/mnist").glob("[0-9]*"), key=lambda path: int(path.name))
        digests.append((newest / "model.onnx").read_bytes())
        if name == "published":
            compare_answers(dataclasses.replace(case, work=folder), "trained here: ")
    same = digests[0] == digests[1]
    case.found.require(
        "two runs with one seed publish the same file", float(same), "yes" if same else "no", "yes", same
    )


def train(case: Case, store: Path, *flags: str) -> None:
    """Run mlpserve-train on the device.

    Raises:
        RuntimeError: it failed.
    """
    command = [
        str(Path(sys.executable).parent / "mlpserve-train"),
        "--store",
        str(store),
        "--device",
        case.kind,
        *flags,
    ]
    print(*command, flush=True)
    if code := subprocess.run(command, stderr=subprocess.STDOUT, check=False).returncode:
        raise RuntimeError(f"mlpserve-train ended with {code}; its own words are above")

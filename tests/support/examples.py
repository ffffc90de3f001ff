"""Programs of examples/ as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image
from support.mnist import mnist_images
from tests.support.documents import ROOT

EXAMPLES = ROOT / "examples"


def run_example(name: str, *arguments: object, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run one to its end."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def write_digits(folder: Path, count: int) -> list[Path]:
    """The first test images as PNG files, in order."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number:04}.png" for number in range(count)]
    for path, image in zip(paths, mnist_images(), strict=False):
        Image.fromarray(image).save(path)
    return paths

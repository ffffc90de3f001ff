"""The main job from nothing, with the installed executables: `make demo`.

Trains on MNIST, publishes, serves, classifies pictures, scores the 10,000 test images over gRPC, and stops the server.
Everything it makes is in demo/out. Exit code 0 only if the answers that came over the wire reach 98.2 % accuracy.
"""

import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
OUT = HERE / "out"
MNIST = HERE.parent / "trainer/mlpserve_trainer/mnist"
TEST_IMAGES, TEST_LABELS = MNIST / "t10k-images-idx3-ubyte.gz", MNIST / "t10k-labels-idx1-ubyte.gz"
TARGET = 0.982


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()

    step("Train and publish")
    published = run("mlpserve-train", "--store", shown(OUT / "store")).splitlines()[-1]

    step("Serve")
    with (OUT / "server.log").open("w") as log:
        command = [executable("mlpserve-server"), "--store", str(OUT / "store"), "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        if not line:
            sys.exit(f"the server did not start:\n{(OUT / 'server.log').read_text()}")
        print(line)
        address = ["--server", line.split()[-1]]
        run("mlpserve", *address, "info")

        step("Predict: ten test digits, and a photograph-like picture")
        run("mlpserve", *address, "predict", *map(shown, write_digits()), shown(HERE / "photo.png"))

        step("Score the 10,000 test images over gRPC")
        answers = OUT / "answers"
        summary = json.loads(
            run("mlpserve", *address, "score", "--json", "--labels", TEST_LABELS, TEST_IMAGES, answers, quiet=True)
        )
    finally:
        server.terminate()
        code = server.wait(timeout=60)
    print(f"Test accuracy {summary['accuracy']:.2%} from {summary['rows']:,} answers over the wire")
    print(f"Throughput    {summary['rows_per_second']:,.0f} images/s, reading and writing included")
    print(f"Answers       {shown(answers)}")
    print(f"Model         {published}")
    print(f"Report        {published}/report.html")
    print(f"Server        stopped, exit code {code}")
    print(f"Took          {time.monotonic() - started:.0f} s")
    if code != 0 or summary["bad_rows"] or summary["accuracy"] < TARGET:
        sys.exit(f"demo: expected exit code 0, no bad rows and an accuracy of at least {TARGET:.1%}")


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def executable(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def run(name: str, *arguments: object, quiet: bool = False) -> str:
    """Run one of our executables, show its output as it comes, and return it."""
    lines = []
    with subprocess.Popen([executable(name), *map(str, arguments)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not quiet:
                print(line, end="", flush=True)
    if process.returncode != 0:
        sys.exit(f"demo: {name} failed with exit code {process.returncode}")
    return "".join(lines)


def write_digits() -> list[Path]:
    """The first test image of each digit as a PNG file."""
    images = np.frombuffer(gzip.decompress(TEST_IMAGES.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress(TEST_LABELS.read_bytes()), np.uint8, offset=8)
    folder = OUT / "digits"
    folder.mkdir()
    paths = []
    for digit in range(10):
        path = folder / f"{digit}.png"
        Image.fromarray(images[np.flatnonzero(labels == digit)[0]]).save(path)
        paths.append(path)
    return paths


def shown(path: Path) -> Path:
    """A path as short as it can be shown."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()

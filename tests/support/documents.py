"""Fenced blocks of the documentation, and a place to run them in, as a reader would."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from support.mnist import IMAGES, LABELS, mnist_images, mnist_labels, write_class_folders
from support.processes import BIN
from tests.support.artifacts import publish_rolled

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", ROOT / "examples/README.md", *(ROOT / "docs").rglob("*.md")]
)
SHOWN = {"text", "yaml", "proto", "json", "go"}  # output and excerpts, and Go, for which there is no toolchain
BLOCK = re.compile(
    r"(?P<notes>(?:^[ ]*<!-- [^\n]* -->\n)*)^(?P<indent>[ ]*)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^[ ]*```",
    re.MULTILINE | re.DOTALL,
)
ADDRESS = "127.0.0.1:50051"  # of the documentation's server

# A server goes to the background and is waited for; packages are installed already.
SHELL = """
set -euo pipefail
wait_for() { until grep -q "$1" "$2"; do kill -0 $! 2>/dev/null || { cat "$2.err" >&2; return 1; }; sleep 0.1; done; }
mlpserve-server() { command mlpserve-server "$@" --listen 127.0.0.1:0 > out 2> out.err & wait_for Serving out; }
mlpserve() {
  if [[ $1 == playground ]]; then command mlpserve "$@" --listen 127.0.0.1:0 > out 2> out.err & wait_for Playground out
  else command mlpserve "$@"; fi
}
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
"""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: its file.
        line: where it begins.
        language: after the fence.
        code: without indentation.
        notes: the comments above it, for the test: "holds TEST" names a test that runs its commands elsewhere,
            "untested COMMAND: WHY" says which command no test runs, "slow" keeps the block for `make test-all`, "given
            CODE" runs something first that the reader is told of in words.
    """

    page: Path
    line: int
    language: str
    code: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def note(self, kind: str) -> str | None:
        return next(iter(self.all_notes(kind)), None)

    def all_notes(self, kind: str) -> list[str]:
        return [n.removeprefix(kind).strip() for n in self.notes if n == kind or n.startswith(kind + " ")]

    @property
    def elsewhere(self) -> bool:
        """Whether it is not run where it stands."""
        return bool(self.all_notes("holds") or self.all_notes("untested"))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        notes = tuple(re.findall(r"<!-- (.*?) -->", match["notes"]))
        code = "".join(line.removeprefix(match["indent"]) for line in match["code"].splitlines(keepends=True))
        found.append(Block(page, text[: match.start("indent")].count("\n") + 1, match["language"], code, notes))
    return found


def furnish(folder: Path, store: Path) -> None:
    """What the pages take for granted: a store, pictures, images as files, the repository's folders."""
    shutil.copytree(store, folder / "store")
    for number in (2, 3):
        publish_rolled(folder / "store/mnist/1", folder / "store", number)
    write_class_folders(folder / "photos", per_class=30)
    shutil.copy(ROOT / "demo/photo.png", folder / "photo.png")
    Image.fromarray(mnist_images()[0]).save(folder / "digit.png")
    np.save(folder / "images.npy", mnist_images()[:500])
    columns = {"image": [image.tobytes() for image in mnist_images()[:500]], "label": mnist_labels()[:500].tolist()}
    pq.write_table(pa.table(columns), folder / "images.parquet")
    for name, source in (("t10k-images-idx3-ubyte.gz", IMAGES), ("t10k-labels-idx1-ubyte.gz", LABELS)):
        shutil.copy(source, folder / name)
    for name in ("proto", "deploy"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "pictures").mkdir()


def run(block: Block, folder: Path, address: str, timeout: float) -> None:
    """Run one block as a reader would, against a server at `address`.

    Raises:
        AssertionError: it fails; says what it printed.
    """
    code = "\n".join(filter(None, [block.note("given"), block.code])).replace(ADDRESS, address)
    if block.language == "python":
        (folder / "block.py").write_text(code)
        command = [sys.executable, "block.py"]
    elif block.language == "javascript":
        (folder / "block.mjs").write_text(code)
        command = ["node", "block.mjs"]
    else:
        assert block.language == "bash", f"{block.name}: a block of {block.language!r} cannot be run"
        command = ["bash", "-c", SHELL + code]
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MLPSERVE_SERVER": address,
        "MPLBACKEND": "agg",
        "COLUMNS": "120",
    }
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, f"{block.name} ended with {process.returncode}:\n{output}"

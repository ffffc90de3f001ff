"""Where the server's core spends its time, by perf: `make bench-profile`. Writes bench/results/profile.md.

Under each load `perf record` watches the server for some seconds; its samples are counted by the library that they
fall into. A sample in C code that Python has called counts for that code, not for Python.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from support.h2load import need_h2load, run
from support.machine import machine

from bench.asking import BENCH, encode, flat_images, published_model, send, wait_for_answer
from bench.contenders import MEASURED, Contender, running
from bench.serving import CASES

PARTS = (
    ("ONNX Runtime", r"onnxruntime"),
    ("Python", r"libpython|^python|_bisect|_asyncio"),
    ("NumPy", r"_multiarray|numpy|openblas"),
    ("the wire: nghttp2 and ours", r"nghttp2|_native|libstdc"),
    ("TLS", r"libssl|libcrypto"),
    ("kernel: sockets, polling, waking", r"kernel|vdso"),
    ("C library: copies, memory", r"libc[.-]|libm[.-]|ld-linux|libgcc"),
)
LOADS = (
    ("mlpserve", "1 in flight"),
    ("mlpserve", "256 in flight"),
    ("mlpserve, TLS", "256 in flight"),
    ("mlpserve, float32", "1024 images"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    need_h2load()
    if shutil.which("perf") is None:
        sys.exit("perf is not installed: apt-get install linux-perf")
    columns = [
        (contender.name, case, _shares(contender, case, arguments.seconds))
        for name, case in LOADS
        for contender in MEASURED
        if contender.name == name
    ]
    lines = [f"Machine: {machine()}. Per cent of the samples of the server's process.", ""]
    lines += [
        "| | " + " | ".join(f"{name}, {case}" for name, case, _ in columns) + " |",
        "|---" + "|--:" * len(columns) + "|",
    ]
    for part in [*(part for part, _ in PARTS), "others"]:
        cells = [f"{shares[part]:.0f}" if shares[part] >= 0.5 else "" for *_, shares in columns]
        if any(cells):
            lines.append(f"| {part} | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    (BENCH / "results/profile.md").write_text(text + "\n")
    print(text)


def _shares(contender: Contender, case: str, seconds: float) -> dict[str, float]:
    """Per cent of the samples by part."""
    store, images, load = published_model(), flat_images(), CASES[case]
    version = store / "mnist/1"
    body = encode(contender, images[: load.images])
    with running(contender, store, version / "model.onnx") as (port, process), tempfile.TemporaryDirectory() as folder:
        wait_for_answer(contender, port, process, images, version)
        size, data = len(send(contender, port, body)), Path(folder) / "perf.data"
        command = ["perf", "record", "-q", "-F", "2000", "-o", str(data)]
        command += ["-p", str(process.pid), "--", "sleep", str(seconds)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as watching:
            run(load, contender.url(port), body, wire=contender.wire, reply_size=size, seconds=seconds)
        if watching.returncode:
            sys.exit("perf may not watch the server: sysctl kernel.perf_event_paranoid=1, or be root")
        command = ["perf", "report", "-i", str(data), "--no-children", "--sort", "dso", "--stdio"]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shares: dict[str, float] = defaultdict(float)
    for percent, name in re.findall(r"^\s+([\d.]+)%\s+(\S+)", listing, flags=re.M):
        part = next((part for part, pattern in PARTS if re.search(pattern, name)), "others")
        shares[part] += float(percent)
    return shares


if __name__ == "__main__":
    main()

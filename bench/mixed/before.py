"""Single images and the batching loop, against the server before there were classes of traffic."""

import re
import subprocess
from pathlib import Path

from support.h2load import Load, run

from bench.asking import encode, flat_images, send, wait_for_answer
from bench.contenders import OURS, PYTHON, Contender, running
from bench.peers import BEFORE_CLASSES, earlier

ROOT = Path(__file__).resolve().parents[2]
MANY = Load("256 in flight", 1, 8, 32)
NOW, BEFORE = "now", "before"
# The modules of an earlier version know nothing of where the model is: they would train one.
LOOP = """
import pathlib, {asking}
{asking}.published_model = lambda: pathlib.Path({store!r})
import bench.loop
bench.loop.main()
"""


def throughput(store: Path, transports: list[str], seconds: float) -> dict[str, float]:
    """Requests a second at 256 in flight, "TRANSPORT now" and "TRANSPORT before"; of what git has.

    The server before knows no wire: its own default transport is compared with that.
    """
    images, found = flat_images(), {}
    for transport in transports:
        flags = ("--transport", transport, "--precision", "fp32")
        sides = {f"{transport} {NOW}": Contender("now", (*OURS[0].command, *flags))}
        if (folder := earlier(BEFORE_CLASSES)) is not None:
            then = ("--transport", transport if transport == "grpcio" else "auto", "--precision", "fp32")
            command = (str(folder / "bin/mlpserve-server"), *OURS[0].command[1:], *then)
            sides[f"{transport} {BEFORE}"] = Contender("before", command)
        for name, contender in sides.items():
            with running(contender, store, store / "mnist/1/model.onnx") as (port, process):
                wait_for_answer(contender, port, process, images, store / "mnist/1")
                body = encode(contender, images[:1])
                size = len(send(contender, port, body))
                measured = run(MANY, contender.url(port), body, wire="mlpserve", reply_size=size, seconds=seconds)
                found[name] = measured.requests_per_second
    return found


def loop(store: Path) -> dict[str, float]:
    """Microseconds a call of the batching loop alone without the Run, "CALLS now" and "CALLS before"."""
    sides = {NOW: (PYTHON, ROOT, "bench.asking")}
    if (folder := earlier(BEFORE_CLASSES)) is not None:
        sides[BEFORE] = (str(folder / "bin/python"), folder / "source", "bench.serving")
    found = {}
    for side, (python, where, asking) in sides.items():
        code = LOOP.format(asking=asking, store=str(store))
        done = subprocess.run([python, "-c", code], cwd=where, capture_output=True, text=True, check=False)
        rows = re.findall(r"^\| (\d+) \| [\d.]+ \| [\d.]+ \| (-?[\d.]+) \|$", done.stdout, re.MULTILINE)
        if done.returncode or not rows:
            raise RuntimeError(f"bench.loop of {where} failed:\n{done.stderr[-2000:]}")
        found |= {f"{calls} {side}": float(rest) for calls, rest in rows}
    return found

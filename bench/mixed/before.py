"""Single images and the batching loop, against the server before there were classes of traffic."""

import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from support.h2load import Load, run

from bench.asking import encode, flat_images, send, wait_for_answer
from bench.contenders import OURS, PYTHON, Contender, running
from bench.mixed.cases import Figures
from bench.peers import BEFORE_CLASSES, earlier

ROOT = Path(__file__).resolve().parents[2]
MANY = Load("256 in flight", 1, 8, 32)
NOW, BEFORE, RATIO = "now", "before", "now / before"
TURNS = 4  # of each side in a round: they alternate, because the machine's speed changes from one second to the next
# The modules of an earlier version know nothing of where the model is: they would train one.
LOOP = """
import pathlib, {asking}
{asking}.published_model = lambda: pathlib.Path({store!r})
import bench.loop
bench.loop.main()
"""


def throughput(store: Path, transports: list[str], seconds: float) -> Figures:
    """Requests a second at 256 in flight, "TRANSPORT now", "TRANSPORT before" and "TRANSPORT now / before".

    The server before knows no wire: its own default transport is compared with that.
    """
    images, found = flat_images(), {}
    for transport in transports:
        measured: dict[str, list[float]] = defaultdict(list)
        with ExitStack() as stack:
            sides = {}
            for side, contender in _sides(transport).items():
                port, process = stack.enter_context(running(contender, store, store / "mnist/1/model.onnx"))
                wait_for_answer(contender, port, process, images, store / "mnist/1")
                body = encode(contender, images[:1])
                sides[side] = contender, body, contender.url(port), len(send(contender, port, body))
            for _ in range(TURNS):
                for side, (contender, body, url, size) in sides.items():
                    load = run(MANY, url, body, wire=contender.wire, reply_size=size, seconds=seconds / TURNS)
                    measured[side].append(load.requests_per_second)
        found |= _medians(transport, measured)
    return found


def _sides(transport: str) -> dict[str, Contender]:
    flags = ("--transport", transport, "--precision", "fp32")
    sides = {NOW: Contender("now", (*OURS[0].command, *flags))}
    if (folder := earlier(BEFORE_CLASSES)) is not None:
        then = ("--transport", transport if transport == "grpcio" else "auto", "--precision", "fp32")
        sides[BEFORE] = Contender("before", (str(folder / "bin/mlpserve-server"), *OURS[0].command[1:], *then))
    return sides


def loop(store: Path) -> Figures:
    """Microseconds a call of the batching loop alone without the Run, "CALLS now", "CALLS before" and their ratio."""
    programs = {NOW: (PYTHON, ROOT, "bench.asking")}
    if (folder := earlier(BEFORE_CLASSES)) is not None:
        programs[BEFORE] = (str(folder / "bin/python"), folder / "source", "bench.serving")
    measured: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(TURNS):
        for side, (python, where, asking) in programs.items():
            code = LOOP.format(asking=asking, store=str(store))
            done = subprocess.run([python, "-c", code], cwd=where, capture_output=True, text=True, check=False)
            rows = re.findall(r"^\| (\d+) \| [\d.]+ \| [\d.]+ \| (-?[\d.]+) \|$", done.stdout, re.MULTILINE)
            if done.returncode or not rows:
                raise RuntimeError(f"bench.loop of {where} failed:\n{done.stderr[-2000:]}")
            for calls, rest in rows:
                measured[calls][side].append(float(rest))
    return {name: value for calls, sides in measured.items() for name, value in _medians(calls, sides).items()}


def _medians(case: str, measured: Mapping[str, Sequence[float]]) -> Figures:
    """Of each side; and of the ratios of turns that followed one another, if git has the server before."""
    found = {f"{case} {side}": statistics.median(values) for side, values in measured.items()}
    if BEFORE in measured:
        ratios = (now / before for now, before in zip(measured[NOW], measured[BEFORE], strict=True))
        found[f"{case} {RATIO}"] = statistics.median(ratios)
    return found

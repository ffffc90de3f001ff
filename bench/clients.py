"""A Python process that calls 10,000 single images at the same time: `make bench-clients`.

`AsyncClient` with coalescing against the same client without, and `Client.map` against a loop of `Client.predict`; the
coalescing client also against the one before the compiled transport, with its server. Medians of interleaved rounds;
server and caller share the machine's cores.
"""

import argparse
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from support.machine import machine
from support.mnist import mnist_images

from bench.asking import flat_images, published_model, wait_for_answer
from bench.contenders import OURS, PYTHON, Contender, running
from bench.peers import BEFORE_WIRE, earlier, server_before

HERE = Path(__file__).parent
CALLS = HERE / "baselines/many_calls.py"
WAYS = {
    "single": "AsyncClient, one request an image",
    "coalesced": "AsyncClient, coalescing",
    "loop": "Client.predict in a loop",
    "map": "Client.map",
}
BEFORE = "coalescing, mlpserve 0.1.0"
CORES = "0,1"


def measure(ways: list[str], rounds: int, count: int) -> dict[str, float]:
    """Images a second for each way, and of the coalescing client before where git has it: medians."""
    store, seconds = published_model(), dict[str, list[float]]()
    before, environment = server_before(BEFORE_WIRE, BEFORE), earlier(BEFORE_WIRE)
    # The same server for all ways of a round, started anew for each round and each version.
    versions: list[tuple[Contender, str, dict[str, str]]] = [(OURS[0], PYTHON, {way: way for way in ways})]
    if before is not None and environment is not None:
        versions.append((before, str(environment / "bin/python"), {BEFORE: "coalesced"}))
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.resize(mnist_images(), (count, 28, 28)))
        for _ in range(rounds):
            for contender, python, names in versions:
                with running(contender, store, store / "mnist/1/model.onnx", CORES) as (port, process):
                    wait_for_answer(contender, port, process, flat_images(), store / "mnist/1")
                    for name, way in names.items():
                        command = [python, str(CALLS), f"127.0.0.1:{port}", str(images), way]
                        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
                        seconds.setdefault(name, []).append(float(done.stdout))
    return {name: count / statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    rates = measure(list(WAYS), arguments.rounds, arguments.images)
    lines = [f"Machine: {machine()}. {arguments.images:,} images, medians of {arguments.rounds} rounds.", ""]
    lines += ["| a Python process with | images/s |", "|---|--:|"]
    lines += [f"| {WAYS.get(name, name)} | {rate:,.0f} |" for name, rate in rates.items()]
    ratios = [("coalescing / one request an image", "coalesced", "single"), ("map / loop", "map", "loop")]
    ratios += [("coalescing / before", "coalesced", BEFORE)] if BEFORE in rates else []
    lines += [f"| **{text}** | **{rates[above] / rates[below]:.1f}×** |" for text, above, below in ratios]
    print("\n".join(lines))
    (HERE / "results/clients.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()

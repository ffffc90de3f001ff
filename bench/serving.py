"""Servers on one core, the load generator on the other: `make bench-serving`.

Every server gets the same published MNIST model and is asked for a known answer before it is timed. Rounds are
interleaved: each server is started afresh in each round, and the figures are medians over the rounds. Writes
bench/results/serving.md and serving.json.

    python -m bench.serving [--rounds N] [--seconds S] [--peers] [--only NAME …]
"""

import argparse
import base64
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
from support.h2load import Load, Measured, need_h2load, run
from support.mnist import mnist_images

from bench.contenders import CORE, NOOPS, OURS, PYTHON, TUTORIALS, Contender, memory_mb, running
from bench.report import OPEN_LOOP, Results, write
from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results"

SINGLE = [
    Load("1 in flight", 1, 1, 1),
    Load("16 in flight", 1, 1, 16),
    Load("64 in flight", 1, 2, 32),
    Load("256 in flight", 1, 8, 32),
]
BATCHES = [Load("32 images", 32, 1, 4), Load("256 images", 256, 1, 4), Load("1024 images", 1024, 1, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each case")
    parser.add_argument("--peers", action="store_true", help="the peers as well, each in an environment of its own")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these servers")
    arguments = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        sys.exit("two cores are needed: one for the server, one for the load generator")
    need_h2load()
    contenders = [*OURS, *NOOPS, *TUTORIALS]
    if arguments.peers:
        from bench.peers import peers

        contenders += peers()
    if arguments.only:
        contenders = [contender for contender in contenders if contender.name in arguments.only]
    store = published_model()
    version = store / "mnist/1"
    images = flat_images()

    results: Results = defaultdict(lambda: defaultdict(list))
    facts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    in_process: dict[str, list[float]] = defaultdict(list)
    for number in range(1, arguments.rounds + 1):
        for name, rate in measure_in_process(version).items():
            in_process[name].append(rate)
        for contender in contenders:
            print(f"round {number}: {contender.name}", file=sys.stderr, flush=True)
            with running(contender, store, version / "model.onnx") as (port, process):
                facts[contender.name]["start_seconds"].append(
                    wait_for_answer(contender, port, process, images, version)
                )
                for load in cases(contender, results[contender.name]):
                    body = encode(contender, images[: load.images])
                    size = len(send(contender, port, body))
                    url = f"http://127.0.0.1:{port}{contender.path}"
                    measured = run(load, url, body, wire=contender.wire, reply_size=size, seconds=arguments.seconds)
                    results[contender.name][load.name].append(measured)
                facts[contender.name]["memory_mb"].append(memory_mb(process))
    write(RESULTS, machine(), [c.name for c in contenders], results, facts, in_process, arguments.rounds)


def cases(contender: Contender, so_far: dict[str, list[Measured]]) -> list[Load]:
    """What a server is asked to do; the open loop's rate comes from its own saturation."""
    loads = SINGLE + (BATCHES if contender.answers else [])
    saturation = so_far.get("256 in flight", [])
    if not saturation:
        return loads  # the first round finds it
    half = int(statistics.median(m.requests_per_second for m in saturation) / 2)
    return [*loads, replace(SINGLE[-1], name=OPEN_LOOP, rate=half)]


def encode(contender: Contender, images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]") -> bytes:
    pixels = images.tobytes()
    if contender.wire == "mlpserve":
        return pb.PredictRequest(images=pixels).SerializeToString()
    if contender.wire == "raw":
        return pixels
    if contender.wire == "json":
        return json.dumps({"images": base64.b64encode(pixels).decode()}).encode()
    as_bytes = contender.wire == "oip-bytes"
    request = oip.ModelInferRequest(model_name="mnist")
    request.inputs.add(
        name="images", datatype="BYTES" if as_bytes else "UINT8", shape=[1] if as_bytes else images.shape
    )
    request.raw_input_contents.append(struct.pack("<I", len(pixels)) + pixels if as_bytes else pixels)
    return request.SerializeToString()


def wait_for_answer(
    contender: Contender,
    port: int,
    process: "subprocess.Popen[bytes]",
    images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]",
    version: Path,
) -> float:
    """Seconds from the start to the first answer, which must be the model's; a no-op server's only has to come."""
    import onnxruntime as ort

    started = time.monotonic()
    session = ort.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["class_ids"], {"images": images[:300]})[0]
    while True:
        try:
            answer = ask(contender, port, images[:300])
        except (grpc.RpcError, OSError) as error:
            if process.poll() is not None or time.monotonic() - started > 90:
                reason = error.details() if isinstance(error, grpc.Call) else error
                ended = "" if process.poll() is None else f", it ended with {process.poll()}"
                sys.exit(f"{contender.name} does not answer{ended}: {reason}")
            time.sleep(0.02)
            continue
        seconds = time.monotonic() - started
        if contender.answers and (answer != expected).mean() > 0.01:
            sys.exit(f"{contender.name} gives wrong answers: {answer[:10]}, expected {expected[:10]}")
        return seconds


def ask(
    contender: Contender, port: int, images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]"
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """One request's class ids."""
    payload = send(contender, port, encode(contender, images))
    if contender.wire in ("raw", "json"):
        return np.frombuffer(payload, np.float32).reshape(len(images), -1).argmax(axis=1)
    if contender.wire == "mlpserve":
        return np.array(pb.PredictResponse.FromString(payload).class_ids)
    answer = oip.ModelInferResponse.FromString(payload)
    if answer.outputs[0].name == "class_ids":
        return np.frombuffer(answer.raw_output_contents[0], np.int32)
    raw = answer.raw_output_contents
    scores = np.frombuffer(raw[0], np.float32) if raw else np.array(answer.outputs[0].contents.fp32_contents)
    return scores.reshape(answer.outputs[0].shape).argmax(axis=1)


def send(contender: Contender, port: int, body: bytes) -> bytes:
    """One request's reply."""
    if contender.wire in ("raw", "json"):
        kind = "json" if contender.wire == "json" else "octet-stream"
        headers = {"content-type": f"application/{kind}"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{contender.path}", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            content: bytes = response.read()
            return content
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        reply: bytes = channel.unary_unary(contender.path)(body, timeout=10)
        return reply


def measure_in_process(version: Path) -> dict[str, float]:
    command = ["taskset", "-c", CORE, PYTHON, str(BENCH / "baselines/inprocess.py"), str(version)]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def published_model() -> Path:
    """A store with MNIST as `mlpserve-train` makes it; trained once."""
    store = BENCH / "out/store"
    command = [str(Path(PYTHON).parent / "mlpserve-train"), "--store", str(store), "--if-missing"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return store


def flat_images() -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """MNIST's test images as uint8 [10000, 784]."""
    return mnist_images().reshape(-1, 784)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    vector = (
        "AVX-512 VNNI"
        if "avx512_vnni" in flags
        else "AVX-512"
        if "avx512f" in flags
        else "AVX2"
        if "avx2" in flags
        else ""
    )
    return f"{os.cpu_count()} cores, {model} ({vector}), Python {platform.python_version()}"


if __name__ == "__main__":
    main()

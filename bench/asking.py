"""How a server is asked: the bytes of a request in each protocol, its answer, and the model that all of them serve."""

import base64
import json
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
from support.mnist import mnist_images

from bench.contenders import CONSTANT, PYTHON, TLS, Contender
from mlpserve.v1 import classifier_pb2 as pb
from mlpserve.v1 import open_inference_pb2 as oip

BENCH = Path(__file__).resolve().parent


def encode(contender: Contender, images: "np.ndarray[tuple[int, int], np.dtype[np.uint8]]") -> bytes:
    pixels = images.tobytes()
    if contender.wire in ("mlpserve", "h2"):
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
    """Seconds from the start to the first answer, which must be the model's; a constant one only has to come."""
    import onnxruntime as ort

    started = time.monotonic()
    session = ort.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    expected = session.run(["class_ids"], {"images": images[:300]})[0]
    while True:
        try:
            if not contender.answers:
                send(contender, port, encode(contender, images[:1]))
                return time.monotonic() - started
            answer = ask(contender, port, images[:300])
        except (grpc.RpcError, OSError) as error:
            if process.poll() is not None or time.monotonic() - started > 90:
                reason = error.details() if isinstance(error, grpc.Call) else error
                ended = "" if process.poll() is None else f", it ended with {process.poll()}"
                sys.exit(f"{contender.name} does not answer{ended}: {reason}")
            time.sleep(0.02)
            continue
        seconds = time.monotonic() - started
        if (answer != expected).mean() > 0.01:
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
    if contender.wire == "h2":
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        return (CONSTANT / "reply").read_bytes()  # h2load holds what comes against its size
    if not contender.grpc:
        kind = "json" if contender.wire == "json" else "octet-stream"
        headers = {"content-type": f"application/{kind}"}
        request = urllib.request.Request(contender.url(port), data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            content: bytes = response.read()
            return content
    target, options = f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]
    if contender.tls:
        credentials = grpc.ssl_channel_credentials((TLS / "ca.pem").read_bytes())
        opened = grpc.secure_channel(target, credentials, options=options)
    else:
        opened = grpc.insecure_channel(target, options=options)
    with opened as channel:
        reply: bytes = channel.unary_unary(contender.path)(body, timeout=10)
        return reply


def published_model() -> Path:
    """A store with MNIST as `mlpserve-train` makes it; trained once."""
    store = BENCH / "out/store"
    command = [str(Path(PYTHON).parent / "mlpserve-train"), "--store", str(store), "--if-missing"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return store


def flat_images() -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """MNIST's test images as uint8 [10000, 784]."""
    return mnist_images().reshape(-1, 784)

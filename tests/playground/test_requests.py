"""What the page asks of `mlpserve playground`, over HTTP, without a browser."""

import base64
import io
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, free_port, resident_mb, run
from tests.support import bombs
from tests.support.pictures import png
from tests.support.playground import Playground

from mlpserve_client import Client
from mlpserve_client.prepare import read_image

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "demo/photo.png"
IMAGE = mnist_images()[0]


@pytest.fixture(scope="module")
def playground(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    folder = tmp_path_factory.mktemp("playground")
    np.save(folder / "images.npy", mnist_images()[:500])
    np.save(folder / "labels.npy", mnist_labels()[:500])
    flags = ("--gallery", folder / "images.npy", "--labels", folder / "labels.npy")
    with Playground(folder, server.address, *flags) as running:
        yield running


def test_the_page_and_its_parts(playground: Playground) -> None:
    status, page = playground.ask("/")
    assert status == 200
    for part in ("/static/app.js", "/static/style.css", "/static/icon.svg"):
        assert part in page
        assert playground.ask(part)[0] == 200
    assert playground.ask("/nothing")[0] == 404
    for outside in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "%2fetc/passwd", "..%5capp.py", "app.js%00"):
        assert playground.ask(f"/static/{outside}")[0] == 404


def test_the_model(playground: Playground, server: ServerProcess) -> None:
    status, model = playground.ask("/api/model")
    assert status == 200
    assert model["target"] == server.address
    assert model["served"]["version"] == 1
    assert (model["rows"], model["cols"], model["layers"]) == (28, 28, [784, 256, 10])
    assert [(one["version"], one["state"], one["answers"]) for one in model["versions"]] == [(1, "serving", True)]


def test_a_picture_is_prepared_as_the_client_does(playground: Playground, server: ServerProcess) -> None:
    status, result = playground.ask("/api/predict", PHOTO.read_bytes())
    assert status == 200
    expected = read_image(PHOTO, 28, 28)
    assert base64.b64decode(result["pixels"]) == expected.tobytes()
    with Client(server.address) as client:
        answer = client.predict(expected, probabilities=True)
    (shown,) = result["answers"]
    assert shown["classId"] == answer.class_ids[0]
    assert answer.probabilities is not None
    assert np.allclose(shown["probabilities"], answer.probabilities[0], atol=1e-6)
    assert (shown["version"], shown["digest"]) == (1, answer.model.digest)
    assert shown["batch"] == 1
    assert 0 <= shown["queueMs"] < shown["totalMs"]
    assert 0 < shown["runMs"] < shown["totalMs"]


def test_pixels_as_they_are(playground: Playground) -> None:
    status, result = playground.ask("/api/predict?raw=1&versions=0,1", IMAGE.tobytes())
    assert status == 200
    assert base64.b64decode(result["pixels"]) == IMAGE.tobytes()
    assert len(result["answers"]) == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/predict", b"no picture", 400, "not a picture"),
        ("/api/predict", png(np.full((60, 60), 255, np.uint8)), 400, "no ink found"),
        ("/api/predict?raw=1", b"12", 400, "2 bytes; expected 28x28 pixels"),
        ("/api/predict?versions=x", IMAGE.tobytes(), 400, "expected up to 8 version numbers"),
        ("/api/predict?versions=%C2%B2", IMAGE.tobytes(), 400, "expected up to 8 version numbers"),
        ("/api/burst?requests=%C2%B2&inFlight=1", IMAGE.tobytes(), 400, "expected a whole number"),
        ("/api/predict?raw=1&versions=7", IMAGE.tobytes(), 404, "version 7 of 'mnist' is not served here"),
        ("/api/burst?raw=1&requests=0&inFlight=1", IMAGE.tobytes(), 400, "0 requests; expected 1 to 50,000"),
        ("/api/burst?raw=1&requests=9&inFlight=9999", IMAGE.tobytes(), 400, "expected 1 to 1,024"),
        ("/api/burst?raw=1&requests=-2&inFlight=1", IMAGE.tobytes(), 400, "expected a whole number"),
        ("/api/predict", bytes(21 << 20), 400, "larger than 20 MB"),
    ],
)
def test_what_is_wrong_is_said(playground: Playground, path: str, body: bytes, status: int, words: str) -> None:
    found, answer = playground.ask(path, body)
    assert found == status
    assert words in answer["error"]["message"]


def test_pictures_that_are_too_large_or_start_programs(server: ServerProcess, tmp_path: Path) -> None:
    env, called = bombs.ghostscript(tmp_path / "bin")
    with Playground(tmp_path / "p", server.address, env=env) as playground:
        status, answer = playground.ask("/api/predict", bombs.EPS)
        assert status == 400
        assert "not a picture; not a readable image (no picture); expected AVIF" in answer["error"]["message"]
        usual = resident_mb(playground.process.pid)
        for name, content in bombs.pictures().items():
            status, answer = playground.ask("/api/predict", content)
            assert status == 400, name
        assert resident_mb(playground.process.pid) < usual + 60
        assert playground.log == ""
    assert not called.exists()


def test_a_large_picture_does_not_stall_others(playground: Playground) -> None:
    """While three of the largest are decoded, one after another, small ones are answered."""
    image = Image.new("L", (7000, 7000), 255)
    image.paste(0, (3000, 2000, 3500, 5000))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    with ThreadPoolExecutor(3) as pool:
        usual = resident_mb(playground.process.pid)
        large = [pool.submit(playground.ask, "/api/predict", buffer.getvalue()) for _ in range(3)]
        while resident_mb(playground.process.pid) < usual + 30:  # one is being decoded
            assert not large[0].done()
        status, _ = playground.ask("/api/predict", PHOTO.read_bytes())
        waiting = sum(not future.done() for future in large)
        assert status == 200
        assert waiting >= 2
        assert [future.result()[0] for future in large] == [200] * 3


def test_other_sites_cannot_use_it(playground: Playground) -> None:
    """Neither from a page of theirs, nor under a name of theirs that resolves to this host."""
    status, answer = playground.ask("/api/predict", PHOTO.read_bytes(), Origin="https://elsewhere.example")
    assert (status, answer["error"]["kind"]) == (403, "CrossOrigin")
    assert playground.ask("/api/model", Host="elsewhere.example")[0] == 400
    assert playground.ask("/api/model", Origin=playground.url)[0] == 200


def test_the_hardest_images(playground: Playground, server: ServerProcess) -> None:
    status, gallery = playground.ask("/api/gallery")
    assert status == 200
    with Client(server.address) as client:
        answer = client.predict(mnist_images()[:500], probabilities=True)
    assert answer.probabilities is not None
    labels = mnist_labels()[:500].astype(int)
    sure = answer.probabilities[np.arange(500), labels]
    assert [item["row"] for item in gallery["items"]] == np.argsort(sure, kind="stable")[:30].tolist()
    assert gallery["wrong"] == int((answer.class_ids != labels).sum())
    first = gallery["items"][0]
    assert base64.b64decode(first["pixels"]) == mnist_images()[first["row"]].tobytes()


def test_a_burst(playground: Playground) -> None:
    status, points = playground.ask("/api/burst?raw=1&requests=700&inFlight=50", IMAGE.tobytes())
    assert status == 200
    *during, whole = points
    assert whole["done"]
    assert not any(point["done"] for point in during)
    assert whole["answered"] == 700 == sum(point["answered"] for point in during)
    assert whole["failed"] == {}
    assert 1 <= whole["batch"] <= whole["largestBatch"] <= 50
    assert 0 < whole["p50Ms"] <= whole["p99Ms"]


def test_a_job_beside_a_burst(playground: Playground, server: ServerProcess) -> None:
    """Both are measured, every request of both is answered, and the job ends with the burst."""
    status, points = playground.ask("/api/burst?raw=1&requests=400&inFlight=8&job=1", IMAGE.tobytes())
    assert status == 200
    *during, whole = points
    assert whole["answered"] == 400
    assert whole["failed"] == whole["job"]["failed"] == {}
    assert whole["job"]["images"] == sum(point["job"]["images"] for point in during)
    with Client(server.address) as client:
        after = [client.predict(IMAGE, timing=True).timing for _ in range(20)]
    assert {timing.batch_images for timing in after if timing} == {1}, "nothing of the job is left in the server"
    status, points = playground.ask("/api/burst?raw=1&requests=10&inFlight=2&job=0", IMAGE.tobytes())
    assert not any("job" in point for point in points)


def test_without_a_server(tmp_path: Path) -> None:
    with Playground(tmp_path, f"127.0.0.1:{free_port()}") as playground:
        assert playground.ask("/")[0] == 200
        status, answer = playground.ask("/api/model")
        assert status == 503
        assert "127.0.0.1" in answer["error"]["message"]
        playground.process.send_signal(signal.SIGTERM)
        assert playground.process.wait(timeout=20) == 0
        assert playground.log == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--listen", "8000"), "expected HOST:PORT"),
        (("--labels", "labels.npy"), "--labels goes with --gallery"),
        (("--gallery", "nowhere.npy"), "nowhere.npy: no such file"),
        (("--listen", "192.0.2.1:80"), "choose another port"),
    ],
)
def test_wrong_flags(flags: tuple[str, ...], words: str) -> None:
    result = run("mlpserve", "playground", *flags)
    assert result.returncode == 1
    assert words in result.stderr


@pytest.mark.parametrize(
    ("listen", "shown"),
    [("[0:0:0:0:0:0:0:1]:0", "[0:0:0:0:0:0:0:1]"), ("0:0", "127.0.0.1"), ("[::]:0", "[::1]"), ("[0::0]:0", "[::1]")],
)
def test_other_ways_to_write_an_address(server: ServerProcess, tmp_path: Path, listen: str, shown: str) -> None:
    with Playground(tmp_path, server.address, "--listen", listen) as running:
        assert running.url.startswith(f"http://{shown}:")
        assert running.ask("/")[0] == 200
        assert running.ask("/", Host="evil.example")[0] == 400

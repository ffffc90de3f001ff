"""The server inside a program."""

from pathlib import Path

from support.mnist import mnist_images
from tests.support.documents import ROOT
from tests.support.examples import run_example, write_digits

from mlpserve_client import Client


def test_pictures_are_classified(store: Path, address: str, tmp_path: Path) -> None:
    digits = write_digits(tmp_path / "digits", 5)
    done = run_example("embedded_server.py", store, *digits, ROOT / "demo/photo.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    serving, *lines = done.stdout.splitlines()
    assert serving.startswith("serving on 127.0.0.1:")
    with Client(address) as client:
        expected = client.predict(mnist_images()[:5])
    for line, path, class_id, score in zip(lines, digits, expected.class_ids, expected.scores, strict=False):
        assert line == f"{path}: {class_id} ({score:.1%})"
    assert len(lines) == 6


def test_an_empty_store_is_an_error(tmp_path: Path) -> None:
    done = run_example("embedded_server.py", tmp_path, ROOT / "demo/photo.png", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("embedded_server: ")
    assert "Traceback" not in done.stderr

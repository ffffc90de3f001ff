"""The Node client, with the packages that npm installs, from the .proto files alone."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.mnist import IMAGES, mnist_images
from support.processes import free_port
from tests.support.documents import ROOT
from tests.support.examples import EXAMPLES

from mlpserve_client import Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="node and npm are not installed"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """predict.mjs with its packages beside it, outside the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(EXAMPLES / "node", folder / "examples/node", ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(ROOT / "proto", folder / "proto")
    command = ["npm", "install", "--prefix", "examples/node", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if "ENOTFOUND" in installed.stderr or "ECONNREFUSED" in installed.stderr or "EAI_AGAIN" in installed.stderr:
        pytest.skip("npm reaches no registry")
    assert installed.returncode == 0, installed.stderr
    return folder / "examples/node/predict.mjs"


def predict(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["node", str(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_answers_are_those_of_the_python_client(program: Path, address: str) -> None:
    done = predict(program, address, IMAGES, 100)
    assert done.returncode == 0, done.stderr
    with Client(address) as client:
        expected = client.predict(mnist_images()[:100])
    rows = zip(expected.class_ids, expected.scores, strict=True)
    assert [line.rsplit(" ", 1)[0] for line in done.stdout.splitlines()] == [
        f"{row} {class_id}" for row, (class_id, _) in enumerate(rows)
    ]
    shown = [float(line.rsplit(" ", 1)[1].rstrip("%")) for line in done.stdout.splitlines()]
    assert np.allclose(shown, 100 * expected.scores, atol=0.0501)


def test_errors_are_sentences(program: Path, address: str, tmp_path: Path) -> None:
    np.zeros(4, np.uint8).tofile(tmp_path / "zeros")
    for arguments, words in (
        ((address, tmp_path / "zeros"), "not an IDX file"),
        ((address,), "usage: node predict.mjs"),
        ((f"127.0.0.1:{free_port()}", IMAGES), "UNAVAILABLE"),
    ):
        done = predict(program, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("predict.mjs: ")
        assert words in done.stderr
        assert "    at " not in done.stderr

"""Damaged manifests, pictures and inputs of scoring jobs: each is read, or refused in words."""

import gzip
import hashlib
import json
import random
import shutil
import struct
import tarfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.mnist import mnist_images
from tests.support.mutate import mutated

from mlpserve_client.errors import InvalidInputError
from mlpserve_client.prepare import read_image
from mlpserve_client.scoring import ScoringError
from mlpserve_client.scoring.inputs import Form, open_inputs
from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_server.errors import ArtifactError, StoreError
from mlpserve_server.models.loading import load
from mlpserve_server.store.folder import Store

pytestmark = [pytest.mark.guarantee, pytest.mark.timeout(1200)]

MANIFESTS, LOADS = 100_000, 1_000
PICTURES, ARRAYS = 120_000, 80_000
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 27, 2**31 - 1, 2**32 - 1, 2**64, 1e300, 0.5),
    *("", "x", "..", "../../etc/passwd", "/", "\0", "\ud800", "a" * 5000, [], [[]], {}, {"a": 1}),
)


def _changed(random_: random.Random, node: Any) -> Any:
    """A JSON value with something in it replaced, removed, renamed or doubled."""
    if isinstance(node, dict) and node and random_.random() < 0.9:
        key = random_.choice(list(node))
        match random_.randrange(8):
            case 0:
                return {name: value for name, value in node.items() if name != key}
            case 1:
                return {**node, random_.choice(("extra", key.upper())): node[key]}
            case _:
                return {**node, key: _changed(random_, node[key])}
    if isinstance(node, list) and node and random_.random() < 0.9:
        index = random_.randrange(len(node))
        match random_.randrange(4):
            case 0:
                return node[:index] + node[index + 1 :]
            case 1:
                return node + node[: index + 1]
            case _:
                return [*node[:index], _changed(random_, node[index]), *node[index + 1 :]]
    return random_.choice(VALUES)


def test_manifests(store: Path, tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(13)
    own = Path(shutil.copytree(store, tmp_path / "store"))
    folder = own / "mnist/1"
    text = (folder / "manifest.json").read_text()
    sample = json.loads(text)
    outcomes: Counter[str] = Counter()
    for _ in range(MANIFESTS):
        if random_.random() < 0.5:
            content = mutated(random_, text.encode())
        else:
            content = json.dumps(_changed(random_, sample)).encode()
        (folder / "manifest.json").write_bytes(content)
        (folder / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
        try:
            version = Store(own).open("mnist")
        except (ArtifactError, StoreError):
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        if outcomes["read"] <= LOADS:
            try:
                load(version, device="cpu", precision="fp32", max_batch=4, threads=1)
            except ArtifactError:
                outcomes["not loaded"] += 1
            else:
                outcomes["loaded"] += 1
    figures |= {"manifests": MANIFESTS, **outcomes}
    assert outcomes["refused"] > 1000
    assert outcomes["not loaded"] > 10
    assert outcomes["loaded"] > 10


def _pictures() -> list[bytes]:
    """A digit in each picture format, as files."""
    digit = Image.fromarray(mnist_images()[3])
    colour = Image.fromarray(np.random.default_rng(2).integers(0, 255, (40, 30, 4), np.uint8))
    samples = []
    for kind, image, options in (
        ("PNG", digit, {}),
        ("PNG", colour, {}),
        ("PNG", digit.convert("P"), {"transparency": 3}),
        ("JPEG", digit.resize((60, 60)), {"exif": Image.Exif()}),
        ("GIF", digit, {"save_all": True, "append_images": [digit.rotate(90)]}),
        ("BMP", digit, {}),
        ("TIFF", digit, {"compression": "tiff_lzw"}),
        ("TIFF", Image.fromarray(mnist_images()[3].astype(np.uint16) * 257), {}),
        ("WEBP", colour, {}),
        ("PPM", digit, {}),
    ):
        file = BytesIO()
        image.save(file, kind, **options)
        samples.append(file.getvalue())
    return samples


@pytest.mark.filterwarnings("ignore")
def test_pictures(tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(17)
    samples = _pictures()
    path = tmp_path / "picture"
    outcomes: Counter[str] = Counter()
    for index in range(PICTURES):
        path.write_bytes(mutated(random_, samples[index % len(samples)]))
        try:
            image = read_image(path, 28, 28, raw=index % 3 == 0)
        except InvalidInputError:
            outcomes["refused"] += 1
        else:
            assert (image.shape, image.dtype) == ((28, 28), np.uint8)
            outcomes["read"] += 1
    figures |= {"pictures": PICTURES, **outcomes}
    assert min(outcomes["read"], outcomes["refused"]) > 1000


def _arrays() -> dict[str, bytes]:
    """Name → content of a small input of each kind."""
    images = mnist_images()[:6]
    idx = struct.pack(">IIII", 2051, *images.shape) + images.tobytes()
    npy, npz, parquet, listed, tar = (BytesIO() for _ in range(5))
    np.savez_compressed(npz, images=images)
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for number, content in enumerate(_pictures()[:3]):
            entry = tarfile.TarInfo(f"{number}.png")
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
    np.save(npy, images)
    values = [image.tobytes() for image in images[:4]] + _pictures()[:1] + [None]
    pq.write_table(pa.table({"image": values}), parquet)
    pq.write_table(pa.table({"image": [image.ravel().tolist() for image in images]}), listed)
    return {
        "a.idx": idx,
        "b.idx.gz": gzip.compress(idx),
        "c.npy": npy.getvalue(),
        "b.npz": npz.getvalue(),
        "f.tar": tar.getvalue(),
        "d.parquet": parquet.getvalue(),
        "e.parquet": listed.getvalue(),
    }


def _scoring_input(path: Path) -> bool:
    (source,) = open_inputs([str(path)], Form(28, 28, raw=False))
    try:
        rows = 0
        for chunk in source.read(0, source.rows, 4):
            decoded = chunk.decode()
            assert len(decoded.images) + len(decoded.errors) == chunk.count
            assert chunk.start == rows
            rows += chunk.count
        assert rows == source.rows
    finally:
        source.close()
    return True


@pytest.mark.filterwarnings("ignore")
def test_scoring_inputs(tmp_path: Path, figures: dict[str, Any]) -> None:
    random_ = random.Random(19)
    labels = BytesIO()
    np.save(labels, np.arange(6))
    readers: list[tuple[str, bytes, Callable[[Path], Any]]] = [
        *((name, content, _scoring_input) for name, content in _arrays().items()),
        ("labels.npy", labels.getvalue(), lambda path: read_labels(path, 6)),
        ("labels.idx", struct.pack(">II", 2049, 6) + bytes(6), lambda path: read_labels(path, 6)),
    ]
    outcomes: Counter[str] = Counter()
    for index in range(ARRAYS):
        name, content, read = readers[index % len(readers)]
        # The beginning holds what is parsed; what follows is mostly pixels.
        head = len(content) if name.endswith(("gz", "parquet", "npz", "tar")) else min(200, len(content))
        path = tmp_path / name
        path.write_bytes(mutated(random_, content[:head]) + content[head:])
        try:
            read(path)
        except ScoringError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    figures |= {"inputs": ARRAYS, **outcomes}
    assert min(outcomes["read"], outcomes["refused"]) > 1000

"""Data that would start other programs, fill the memory, or that changes while it is read."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.mnist import mnist_images, mnist_labels, write_class_folders
from tests.support import bombs
from tests.support.pictures import png

from mlpserve.files.pictures import EXPECTED
from mlpserve_trainer.data import arrays, load
from mlpserve_trainer.errors import DataError

# Says what becomes of each, and at the end the most resident memory in MB: with the first, and with all.
READ = """
import re, sys
from pathlib import Path
from mlpserve_trainer.data import load
from mlpserve_trainer.errors import DataError
most = []
for data in sys.argv[1:]:
    try:
        load(data, cache=Path(data), validation=0.2, seed=0, image_size=(28, 28))
        print(f"{data}: loaded")
    except DataError as error:
        print(str(error).replace('\\n', ' '))
    most.append(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
print(most[0], most[-1])
"""


def _class_folders(folder: Path, content: bytes) -> Path:
    write_class_folders(folder, per_class=2)
    (folder / "0" / "bad.png").write_bytes(content)
    return folder


def test_data_that_becomes_far_more(tmp_path: Path) -> None:
    env, called = bombs.ghostscript(tmp_path / "bin")
    good = write_class_folders(tmp_path / "good", per_class=5)
    sources = [_class_folders(tmp_path / name.replace(" ", "-"), content) for name, content in bombs.pictures().items()]
    sources.append(_class_folders(tmp_path / "eps", bombs.EPS))
    for name, content in {"zeros.npz": bombs.npz_of_zeros(), "header.npz": bombs.npz_with_a_huge_header()}.items():
        (tmp_path / name).write_bytes(content)
        sources.append(tmp_path / name)
    (tmp_path / "images.npy").write_bytes(bombs.npy_that_claims((10**12, 28, 28)))
    np.save(tmp_path / "labels.npy", np.zeros(3, np.uint8))
    sources.append(tmp_path / "images.npy")
    sources += [bombs.parquet(tmp_path / f"{kind}.parquet", kind) for kind in ("pages", "runs", "references")]
    command = [sys.executable, "-c", READ, good, *sources]
    read = subprocess.run(command, capture_output=True, text=True, timeout=240, env={**os.environ, **env}, check=False)
    assert read.returncode == 0, read.stderr
    first, *said, peaks = read.stdout.splitlines()
    assert "good: loaded" in first
    lines = dict(zip([path.name for path in sources], said, strict=True))
    usual, megabytes = map(float, peaks.split())
    expected = {
        "png": "bad.png: 7,200 x 7,200 pixels; at most 50,000,000 are decoded",
        "png-beyond-Pillow's-bound": "bad.png: at most 50,000,000 pixels are decoded",
        "tiff-with-a-huge-tile": "10,000 x 10,000 pixels",
        "text": "not a readable image",
        "eps": f"bad.png: not a readable image (no picture); {EXPECTED}",
        "zeros.npz": "zeros.npz, images: becomes 199 MB out of",
        "header.npz": "header.npz, images: becomes 200 MB out of",
        "images.npy": "so small a file cannot hold that",
        "pages.parquet": "column image: becomes 199 MB out of",
        "runs.parquet": "becomes 400 MB out of",
        "references.parquet": "image 0: not a readable image",
    }
    for name, words in expected.items():
        assert words in lines[name], lines[name]
    assert megabytes < usual + 120, "MB at most, and each becomes 200 or more"
    assert not called.exists()


def test_images_for_which_there_is_no_memory(tmp_path: Path) -> None:
    picture = png(np.zeros((6000, 6000), np.uint8))
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array([picture], pa.binary()))
    table = pa.table({"image": column, "label": np.arange(100_000) % 2})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"image 0: all images together are 3,433,227 MB.*give --image-size"):
        load(str(tmp_path / "x.parquet"), cache=tmp_path, validation=0.2, seed=0, image_size=None)


def test_every_format_of_the_list_is_read(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=10)
    for kind, suffix in (("BMP", "bmp"), ("JPEG", "jpg"), ("PPM", "pgm"), ("TIFF", "tif"), ("WEBP", "webp")):
        Image.fromarray(mnist_images()[0]).save(folder / "0" / f"a.{suffix}", kind)
    dataset = load(str(folder), cache=tmp_path, validation=0.2, seed=0, image_size=None)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 105


@pytest.mark.parametrize("victim", ["images.npy", "labels.npy"])
def test_data_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    np.save(tmp_path / "images.npy", mnist_images()[:200])
    np.save(tmp_path / "labels.npy", mnist_labels()[:200])
    path = tmp_path / victim
    read = arrays.read

    def read_while_another_writes(*arguments: object) -> object:
        raw = read(*arguments)  # type: ignore[arg-type]
        before = path.stat()
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return raw

    monkeypatch.setattr(arrays, "read", read_while_another_writes)
    with pytest.raises(DataError, match=rf"{victim}: changed while it was read"):
        load(str(tmp_path / "images.npy"), cache=tmp_path, validation=0.2, seed=0, image_size=None)

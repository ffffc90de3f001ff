"""`mlpserve score` on each input format, with bad rows in it."""

import gzip
import json
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import mnist
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, run
from tests.support.pictures import png

from mlpserve_client import Client, UnavailableError
from mlpserve_client.scoring import Endpoint, Options, ScoringError, score

COUNT = 100


def _idx(images: np.ndarray, rows: int | None = None) -> bytes:  # type: ignore[type-arg]
    return struct.pack(">IIII", 2051, rows or len(images), *images.shape[1:]) + images.tobytes()


def _write_idx(path: Path) -> tuple[Path, list[int]]:
    path.write_bytes(_idx(mnist_images()[:COUNT]))
    return path, []


def _write_idx_gz(path: Path) -> tuple[Path, list[int]]:
    path = path.with_suffix(".gz")
    path.write_bytes(gzip.compress(_idx(mnist_images()[:COUNT])))
    return path, []


def _write_cut_idx(path: Path) -> tuple[Path, list[int]]:
    path.write_bytes(_idx(mnist_images()[:COUNT])[:-1000])
    return path, [COUNT - 2, COUNT - 1]


def _write_npy(path: Path) -> tuple[Path, list[int]]:
    path = path.with_suffix(".npy")
    np.save(path, mnist_images()[:COUNT])
    return path, []


def _write_flat_npy(path: Path) -> tuple[Path, list[int]]:
    path = path.with_suffix(".npy")
    np.save(path, mnist_images()[:COUNT].reshape(COUNT, 784))
    return path, []


def _write_parquet(path: Path, values: list[Any], kind: pa.DataType, name: str = "image") -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.table({"id": range(len(values)), name: pa.array(values, kind)}), path, row_group_size=33)
    return path


def _parquet_raw(path: Path) -> tuple[Path, list[int]]:
    values: list[Any] = [image.tobytes() for image in mnist_images()[:COUNT]]
    values[3], values[50], values[99] = None, b"", b"x" * 783
    bomb = BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    values[60] = bomb.getvalue()
    return _write_parquet(path, values, pa.binary()), [3, 50, 60, 99]


def _parquet_png(path: Path) -> tuple[Path, list[int]]:
    values: list[Any] = [{"bytes": png(image), "path": "x.png"} for image in mnist_images()[:COUNT]]
    values[0], values[7] = {"bytes": None, "path": None}, {"bytes": values[7]["bytes"][:90], "path": "x.png"}
    return _write_parquet(path, values, pa.struct([("bytes", pa.binary()), ("path", pa.string())])), [0, 7]


def _parquet_lists(path: Path) -> tuple[Path, list[int]]:
    values: list[Any] = mnist_images()[:COUNT].reshape(COUNT, 784).tolist()
    values = [list(map(float, value)) for value in values]
    values[1], values[2], values[4] = [1] * 5, [256, *values[2][1:]], [*values[4][1:], None]
    values[6] = [0.5] * 784
    return _write_parquet(path, values, pa.list_(pa.float64()), name="pixels"), [1, 2, 4, 6]


def _folder(path: Path) -> tuple[Path, list[int]]:
    folder = path.with_suffix(".d")
    (folder / "deep").mkdir(parents=True)
    for index in range(COUNT):
        target = folder / ("deep" if index % 2 else ".") / f"{index:03}.png"
        target.write_bytes(png(mnist_images()[index]))
    (folder / "050.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not an image")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    return folder, [names.index("050.png")]


FORMATS: dict[str, Callable[[Path], tuple[Path, list[int]]]] = {
    "idx": _write_idx,
    "idx.gz": _write_idx_gz,
    "cut idx": _write_cut_idx,
    "npy": _write_npy,
    "flat npy": _write_flat_npy,
    "parquet of bytes": _parquet_raw,
    "parquet of pictures": _parquet_png,
    "parquet of lists": _parquet_lists,
    "folder": _folder,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_row_has_an_answer_or_an_error(server: ServerProcess, tmp_path: Path, name: str) -> None:
    source, bad = FORMATS[name](tmp_path / "input")
    output = tmp_path / "out"
    result = run("mlpserve", "--server", server.address, "score", source, output, "--batch", 32, "--json")
    assert result.returncode == (4 if bad else 0), result.stderr
    assert "Traceback" not in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["bad_rows"]) == (COUNT, len(bad))
    rows = pq.read_table(output).to_pylist()
    assert [row["row"] for row in rows] == list(range(COUNT))
    assert [row["row"] for row in rows if row["error"] is not None] == bad
    with Client(server.address) as client:
        expected = client.predict(mnist_images()[:COUNT])
    for row in rows:
        if row["row"] in bad:
            assert (row["predicted"], row["score"], row["model_version"]) == (None, None, None)
            continue
        index = int(Path(row["file"]).stem) if "file" in row else row["row"]
        assert row["predicted"] == str(expected.class_ids[index])
        assert row["score"] == pytest.approx(expected.scores[index], abs=1e-5)
        assert (row["model_version"], row["model_digest"]) == (1, expected.model.digest)
    assert sorted(path.name for path in output.iterdir()) == [
        "_SUCCESS",
        "_job.json",
        "_part-00000.json",
        "part-00000.parquet",
    ]


def test_accuracy_from_labels(server: ServerProcess, tmp_path: Path) -> None:
    flags = [mnist.IMAGES, tmp_path / "o", "--labels", mnist.LABELS]
    result = run("mlpserve", "--server", server.address, "score", *flags)
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "o")
    answers = np.array(table["predicted"]).astype(int)
    assert f"Accuracy {(answers == mnist_labels()).mean():.2%}" in result.stdout
    assert np.array_equal(np.array(table["true"]).astype(int), mnist_labels())
    assert "Scored 10,000 rows" in result.stdout


def _cats_idx(path: Path) -> Path:
    path.write_bytes(_idx(np.zeros((3, 32, 32), np.uint8)))
    return path


def _float_npy(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), np.zeros((3, 28, 28)))
    return path.with_suffix(".npy")


def _broken(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.with_name(name).write_bytes(content)
        return path.with_name(name)

    return write


def _npz(path: Path) -> Path:
    with path.with_suffix(".npy").open("wb") as file:
        np.savez(file, images=mnist_images()[:3])
    return path.with_suffix(".npy")


def _damaged_parquet(path: Path) -> Path:
    path = _write_parquet(path, [image.tobytes() for image in mnist_images()[:COUNT]], pa.binary())
    content = bytearray(path.read_bytes())
    content[2000:20_000] = bytes(18_000)
    path.write_bytes(content)
    return path


def _empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


WRONG_INPUTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda path: path, "no such file or folder"),
    "empty folder": (_empty_folder, "no pictures and no files of images in this folder: it is empty"),
    "other size": (_cats_idx, "images are 32x32; the model takes 28x28"),
    "float array": (_float_npy, "images have type float64; expected uint8"),
    "no array": (_broken("x.npy", b"hello"), "not a readable .npy array"),
    "no parquet": (_broken("x.parquet", b"hello"), "not a readable Parquet file"),
    "archive": (_npz, "not a readable .npy array"),
    "damaged parquet": (_damaged_parquet, "cannot be read"),
    "unknown": (_broken("x.doc", b"hello, this is no format at all"), "not an input that is known"),
    "cut gzip": (_broken("x.gz", gzip.compress(b"\0" * 100)[:12]), "not an input that is known"),
}


@pytest.mark.parametrize("name", WRONG_INPUTS)
def test_wrong_inputs_end_in_a_sentence(server: ServerProcess, tmp_path: Path, name: str) -> None:
    write, words = WRONG_INPUTS[name]
    output = tmp_path / "out"
    result = run("mlpserve", "--server", server.address, "score", write(tmp_path / "input"), output)
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(output.glob("part-*"))


def test_wrong_columns_labels_and_outputs(server: ServerProcess, tmp_path: Path) -> None:
    source = _write_parquet(tmp_path / "x", [b"0" * 784], pa.binary(), name="scan")

    def job(output: str = "o", **options: Any) -> int:
        summary = score(Endpoint(server.address), [str(source)], str(tmp_path / output), Options(**options))
        return summary.tally.rows

    with pytest.raises(ScoringError, match=r"no column 'image' .*\(columns: id, scan\); give --column NAME"):
        job()
    with pytest.raises(ScoringError, match=r"no column 'kind' .*give --label-column NAME"):
        job(column="scan", label_column="kind")
    assert job(column="scan") == 1
    with pytest.raises(ScoringError, match="10000 labels for 1 rows"):
        job("p", column="scan", labels=str(mnist.LABELS))
    with pytest.raises(ScoringError, match="not an IDX label file"):
        job("p", column="scan", labels=str(mnist.IMAGES))
    with pytest.raises(ScoringError, match="not empty, and not the output of a scoring job"):
        job(".", column="scan")
    with pytest.raises(ScoringError, match=r"is a file|cannot be written"):
        job("x.parquet", column="scan")
    with pytest.raises(ScoringError, match="cannot be written"):
        score(Endpoint(server.address), [str(source)], "/proc/none/o", Options(column="scan"))


def test_a_server_that_goes_away_for_good_fails_the_job(store: Path, tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, np.tile(mnist_images(), (10, 1, 1)))
    with ServerProcess(tmp_path, store) as process:
        endpoint = Endpoint(process.address, timeout=1)
        Client(process.address).wait_ready(10)
        process.process.kill()
        with pytest.raises(UnavailableError):
            score(endpoint, [str(source)], str(tmp_path / "o"))
    assert not list(tmp_path.glob("o/*SUCCESS*"))


def test_empty_inputs_give_no_rows(server: ServerProcess, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((0, 28, 28), np.uint8))
    assert score(Endpoint(server.address), [str(tmp_path / "x.npy")], str(tmp_path / "o")).tally.rows == 0
    assert (tmp_path / "o/_SUCCESS").exists()

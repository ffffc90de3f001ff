"""Rows that cannot be scored, inputs that end early, and rows with true labels."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import mnist
from support.mnist import mnist_images, mnist_labels, write_class_folders
from support.processes import ServerProcess, run
from tests.support.pictures import png
from tests.support.scoring import score_job

from mlpserve_client.scoring import ScoringError


def test_bad_rows_are_counted_by_reason(server: ServerProcess, tmp_path: Path) -> None:
    values: list[Any] = [png(image) for image in mnist_images()[:500]]
    values[7], values[8], values[300] = None, None, b"no picture at all"
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": values}), path)
    result = run("mlpserve", "--server", server.address, "score", path, tmp_path / "o", "--json", "--part-rows", 100)
    assert result.returncode == 4
    summary = json.loads(result.stdout)
    assert summary["bad_rows_by_reason"] == {"no image": 2, "not a picture": 1}
    assert "3 bad rows (2 no image, 1 not a picture); first: row 7: the image is null" in result.stderr
    errors = pq.read_table(tmp_path / "o")["error"].to_pylist()
    assert [row for row, error in enumerate(errors) if error] == [7, 8, 300]
    few = run("mlpserve", "--server", server.address, "score", path, tmp_path / "p", "--max-errors", 1)
    assert few.returncode == 1
    assert "3 bad rows, more than --max-errors 1; row 7: the image is null" in few.stderr


def test_labels_from_a_column_with_slices(server: ServerProcess, tmp_path: Path) -> None:
    columns = {
        "image": [image.tobytes() for image in mnist_images()[:1000]],
        "truth": [str(label) for label in mnist_labels()[:1000]],
        "writer": ["ann" if n % 3 else "bob" for n in range(1000)],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    flags = ["--label-column", "truth", "--slice-column", "writer"]
    command = ["mlpserve", "--server", server.address, "score", tmp_path / "x.parquet"]
    result = run(*command, tmp_path / "o", *flags, "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    table = pq.read_table(tmp_path / "o")
    right = np.array(table["predicted"]).astype(int) == mnist_labels()[:1000]
    assert summary["accuracy"] == pytest.approx(right.mean())
    assert np.array(summary["confusion"]).trace() == right.sum()
    bob = np.arange(1000) % 3 == 0
    assert summary["slices"]["bob"] == {"rows": 334, "accuracy": pytest.approx(right[bob].mean())}
    assert 0 <= summary["calibration_error"] < 0.2
    people = run(*command, tmp_path / "o", *flags)
    assert "True class by row, answer by column:" in people.stdout
    assert "bob: " in people.stdout
    bad = pa.table(columns | {"truth": ["cat"] * 1000})
    pq.write_table(bad, tmp_path / "y.parquet")
    wrong = run(*command[:-1], tmp_path / "y.parquet", tmp_path / "q", "--label-column", "truth")
    assert wrong.returncode == 1
    assert "the true label 'cat' is no class of the model (0, 1, 2" in wrong.stderr


def test_labels_from_folders(server: ServerProcess, tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "digits", per_class=10)
    summary = score_job(server, [folder], tmp_path / "o", labels="folders")
    assert summary.tally.labelled == 100
    accuracy = summary.tally.accuracy()
    assert accuracy is not None
    assert accuracy > 0.85


def test_a_damaged_or_cut_archive_is_not_a_shorter_one(server: ServerProcess, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for index in range(30):
            content = png(mnist_images()[index])
            entry = tarfile.TarInfo(f"{index}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    whole = (tmp_path / "x.tar").read_bytes()
    assert score_job(server, [tmp_path / "x.tar"], tmp_path / "good").tally.rows == 30
    third = whole.index(b"11.png")
    flipped = bytearray(whole)
    flipped[third] ^= 1
    for name, content in (("cut", whole[:third]), ("flipped", bytes(flipped))):
        (tmp_path / f"{name}.tar").write_bytes(content)
        with pytest.raises(ScoringError, match=r"damaged or cut off after 11 pictures|not a readable tar archive"):
            score_job(server, [tmp_path / f"{name}.tar"], tmp_path / name)


def test_a_cut_gzip_keeps_the_same_rows_whatever_the_batch(server: ServerProcess, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(mnist.IMAGES.read_bytes()[:400_000])
    good = []
    for batch in (100, 512, 3000):
        summary = score_job(server, [cut], tmp_path / str(batch), batch=batch)
        good.append(summary.tally.rows - summary.tally.bad_rows)
        assert summary.tally.reasons == {"the file ends early": summary.tally.bad_rows}
    assert len(set(good)) == 1
    assert good[0] > 1000


def test_labels_that_are_no_classes_and_outputs_inside_inputs_are_refused_at_once(
    server: ServerProcess, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", mnist_images()[:20])
    np.save(tmp_path / "labels.npy", np.arange(20))
    with pytest.raises(ScoringError, match="the true label 10 is no class of the model"):
        score_job(server, [tmp_path / "x.npy"], tmp_path / "o", labels=str(tmp_path / "labels.npy"))
    folder = write_class_folders(tmp_path / "digits", per_class=2)
    with pytest.raises(ScoringError, match="lies in the input"):
        score_job(server, [folder], folder / "answers")

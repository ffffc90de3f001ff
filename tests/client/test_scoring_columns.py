"""The columns of the answers: what is kept of the inputs, the names of version 0.1, and who reads the folder."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, run
from tests.support.scoring import score_job

from mlpserve_client import Client
from mlpserve_client.scoring import ScoringError

COUNT = 300


@pytest.fixture(scope="module")
def server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One transport is enough for what a job writes."""
    with ServerProcess(tmp_path_factory.mktemp("server"), store) as process:
        yield process


def _table(path: Path, first: int = 0, **columns: object) -> Path:
    rows = slice(first, first + COUNT)
    images = [image.tobytes() for image in mnist_images()[rows]]
    pq.write_table(pa.table({"image": images, "truth": mnist_labels()[rows].tolist(), **columns}), path)
    return path


@pytest.fixture(scope="module")
def answers(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two files in folders that are columns, with ids and a bad row."""
    root = tmp_path_factory.mktemp("columns")
    for day in (1, 2):
        (root / f"in/day={day}").mkdir(parents=True)
        _table(root / f"in/day={day}/x.parquet", day * COUNT, id=[f"{day}-{row}" for row in range(COUNT)])
    images = pq.read_table(root / "in/day=2/x.parquet")
    broken = images.set_column(0, "image", pa.array([b"no picture", *images["image"].to_pylist()[1:]], pa.binary()))
    pq.write_table(broken, root / "in/day=2/x.parquet")
    score_job(server, [root / "in"], root / "o", label_column="truth", keep=("id", "day"), part_rows=100, batch=64)
    return root / "o"


def test_names_ids_and_true_classes(server: ServerProcess, answers: Path) -> None:
    table = pq.read_table(answers)
    kept = ["id", "day"]
    answered = ["predicted", "score", "true", "error", "model_version", "model_digest"]
    assert table.column_names == ["row", "input", *kept, *answered]
    with Client(server.address) as client:
        expected = client.predict(mnist_images()[COUNT : 3 * COUNT]).labels
    assert table["predicted"].to_pylist() == [None if row == COUNT else each for row, each in enumerate(expected)]
    assert table["true"].to_pylist() == [str(label) for label in mnist_labels()[COUNT : 3 * COUNT]]
    assert table["id"].to_pylist() == [f"{day}-{row}" for day in (1, 2) for row in range(COUNT)]
    assert table["day"].to_pylist() == ["1"] * COUNT + ["2"] * COUNT


def test_pandas_polars_and_duckdb_read_the_folder(answers: Path) -> None:
    import duckdb
    import pandas
    import polars

    table = pq.read_table(answers)
    right = sum(a == b for a, b in zip(table["predicted"].to_pylist(), table["true"].to_pylist(), strict=True))
    frame = pandas.read_parquet(answers)
    assert (len(frame), (frame["predicted"] == frame["true"]).sum()) == (2 * COUNT, right)
    lazy = polars.scan_parquet(answers / "*.parquet").filter(polars.col("predicted") == polars.col("true"))
    assert lazy.collect().height == right
    query = f"""SELECT count(*), count(*) FILTER (predicted = "true") FROM '{answers}/*.parquet'"""
    assert duckdb.sql(query).fetchall() == [(2 * COUNT, right)]
    assert frame["id"].tolist() == polars.read_parquet(answers / "*.parquet")["id"].to_list()


@pytest.mark.slow
def test_spark_reads_the_folder(answers: Path) -> None:
    pytest.importorskip("pyspark", reason="pip install pyspark, and a Java runtime: Spark is in no environment of ours")
    program = f"""
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False).getOrCreate()
rows = spark.read.parquet({str(answers)!r})
print(rows.columns, rows.count(), rows.where("predicted = `true`").count(), sep="|")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    table = pq.read_table(answers)
    right = sum(a == b for a, b in zip(table["predicted"].to_pylist(), table["true"].to_pylist(), strict=True))
    assert done.stdout.strip().splitlines()[-1] == f"{table.column_names}|{2 * COUNT}|{right}"


def test_columns_of_any_type_are_kept_as_they_are(server: ServerProcess, tmp_path: Path) -> None:
    columns = {
        "when": [date(2026, 1, 1 + row % 28) for row in range(COUNT)],
        "price": pa.array([None if row % 7 == 0 else row for row in range(COUNT)], pa.decimal128(9, 2)),
        "shop": pa.array([f"shop {row % 3}" for row in range(COUNT)]).dictionary_encode(),
        "tags": [["a"] * (row % 3) for row in range(COUNT)],
        "where": [{"lat": row / 2, "lon": None if row % 5 else 1.0} for row in range(COUNT)],
    }
    source = _table(tmp_path / "x.parquet", **columns)
    written = []
    for name, batch in (("o", 7), ("p", 300)):
        result = run(
            *("mlpserve", "--server", server.address, "score", source, tmp_path / name, "--batch", batch),
            *("--keep", "when,price,shop, tags,where", "--part-rows", 250),
        )
        assert result.returncode == 0, result.stderr
        written.append([path.read_bytes() for path in sorted((tmp_path / name).glob("part-*"))])
    assert written[0] == written[1], "the bytes depend on how many rows were read at a time"
    answers, given = pq.read_table(tmp_path / "o"), pq.read_table(source)
    assert answers.column_names[:8] == ["row", "input", *columns, "predicted"]
    for name in columns:
        assert answers[name].to_pylist() == given[name].to_pylist()
    assert answers.schema.field("price").type == pa.decimal128(9, 2)
    assert answers.schema.field("shop").type == pa.string()


def test_the_names_of_version_0_1_are_there_for_a_flag(server: ServerProcess, tmp_path: Path) -> None:
    source = _table(tmp_path / "x.parquet")
    arguments = ["--label-column", "truth", "--compare", 1, "--old-columns"]
    result = run("mlpserve", "--server", server.address, "score", source, tmp_path / "o", *arguments)
    assert result.returncode == 0, result.stderr
    table = pq.read_table(tmp_path / "o")
    assert table.column_names[-4:] == ["class_id", "label", "target", "other_class_id"]
    assert np.array_equal(np.array(table["class_id"]).astype(str), np.array(table["predicted"]))
    assert table["label"].equals(table["predicted"])
    assert np.array_equal(np.array(table["target"]), mnist_labels()[:COUNT])
    assert table["other_class_id"].equals(table["class_id"])


def test_what_cannot_be_kept_is_refused_in_words(server: ServerProcess, tmp_path: Path) -> None:
    columns = {"Score": [0] * COUNT, "id": [0] * COUNT, "ID": [0] * COUNT}
    source = _table(tmp_path / "x.parquet", **columns)
    other = _table(tmp_path / "y.parquet", id=["a"] * COUNT)
    np.save(tmp_path / "z.npy", mnist_images()[:3])
    for inputs, keep, words in (
        ([source], ("nothing",), r"no column 'nothing' \(columns: image, .*give --keep"),
        ([source], ("Score",), "the answers have a column 'score' of their own"),
        ([source], ("id", "ID"), "there are two columns of that name, but for capital letters"),
        ([source], ("image",), "the images stay where they are"),
        ([source, other], ("id",), r"--keep id: int64 in .*x\.parquet and string in .*y\.parquet"),
        ([tmp_path / "z.npy"], ("id",), r"has no columns to keep; --keep is for Parquet files"),
    ):
        with pytest.raises(ScoringError, match=words):
            score_job(server, inputs, tmp_path / "o", keep=keep)
        assert not list((tmp_path / "o").glob("*")), "the job began"
    wrong = run("mlpserve", "score", source, tmp_path / "o", "--keep", "id,,shop")
    assert wrong.returncode == 2
    assert "expected names of columns separated by commas, as id,shop" in wrong.stderr

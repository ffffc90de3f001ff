"""True labels as class ids: names first, and never one of two readings without a word."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.mnist import mnist_images, mnist_labels
from support.processes import ServerProcess, run

from mlpserve_client.scoring import ScoringError
from mlpserve_client.scoring.inputs.labels import read_labels
from mlpserve_client.scoring.inputs.meaning import Meaning

DIGITS = [str(n) for n in range(10)]
AS_TEXT = sorted(str(n) for n in range(12))  # 0 1 10 11 2 …
FROM_ONE = [str(n) for n in range(1, 11)]
ANIMALS = ["cat", "dog", "7"]


def _ids(labels: list[str], values: Any, numbers: str = "") -> list[int]:
    return Meaning(labels, numbers).ids(values, "here").tolist()


@pytest.mark.parametrize("kind", [list, lambda values: np.array(values, ">i8"), lambda values: np.array(values, "i1")])
def test_numbers_where_names_and_ids_agree(kind: Any) -> None:
    assert _ids(DIGITS, kind([3, 0, 9])) == [3, 0, 9]
    assert _ids(DIGITS, kind([3, -1, 9])) == [3, -1, 9], "-1 is no label"
    with pytest.raises(ScoringError, match="here: the true label 10 is no class of the model"):
        _ids(DIGITS, kind([3, 10]))


def test_numbers_where_names_and_ids_differ_are_refused_with_both_readings() -> None:
    words = (
        "here: the true label 2 is class '2' by its name, and class '10' by its class id. Say what numbers are with "
        "--label-numbers names or --label-numbers ids"
    )
    with pytest.raises(ScoringError, match=words):
        _ids(AS_TEXT, [0, 1, 2])
    assert _ids(AS_TEXT, [0, 1, 2, 10], "names") == [0, 1, 4, 2]
    assert _ids(AS_TEXT, [0, 1, 2, 10], "ids") == [0, 1, 2, 10]
    assert _ids(AS_TEXT, ["0", "1", "2", "10"]) == [0, 1, 4, 2], "text is a name"
    assert _ids(FROM_ONE, [10]) == [9], "no class has this id"
    with pytest.raises(ScoringError, match="0 is no class by its name, and class '1' by its class id"):
        _ids(FROM_ONE, [0])
    with pytest.raises(ScoringError, match="the true label 0 is no class of the model"):
        _ids(FROM_ONE, [0], "names")
    assert _ids(["cat", "dog"], [1, 0]) == [1, 0]
    with pytest.raises(ScoringError, match="true label 1 is no class by its name, and class 'dog' by its class id"):
        _ids(ANIMALS, [1])


def test_labels_of_other_types() -> None:
    assert _ids(DIGITS, [7.0, b"3", None, float("nan"), True]) == [7, 3, -1, -1, 1]
    assert _ids(DIGITS, np.array([7.0, 2.0])) == [7, 2]
    assert _ids(["no", "True"], [True]) == [1]
    assert _ids(["-1", "1"], [-1, 1]) == [0, 1], "a class's name comes first"
    assert _ids(["caf\u00e9"], ["cafe\u0301"]) == [0], "one letter or two, it looks the same"
    assert _ids(["caf\\xe9"], [b"caf\xe9"]) == [0]
    for value in (7.5, "cat", -2, float("inf")):
        with pytest.raises(ScoringError, match="is no class of the model"):
            _ids(DIGITS, [value])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("7\n2\n", [7, 2]),
        ("label\n7\n2\n", [7, 2]),
        ("\ufefflabel\r\n7.0\r\n-1\r\n", [7, -1]),
        ('digit\n"7"\n""\n', [7, -1]),
    ],
)
def test_labels_in_a_csv_file(tmp_path: Path, content: str, expected: list[int]) -> None:
    (tmp_path / "y.csv").write_text(content, encoding="utf-8", newline="")
    assert _ids(DIGITS, read_labels(tmp_path / "y.csv", 2)) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("7\n", "has 1 labels for 2 rows"),
        ("7\n2\n1\n4\n", "has 4 labels for 2 rows"),
        ("file,label\na.png,7\nb.png,2\n", "line 1 has 2 columns; expected the labels alone, in the order of the rows"),
    ],
)
def test_csv_files_that_do_not_fit(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "y.csv").write_text(content)
    with pytest.raises(ScoringError, match=words):
        read_labels(tmp_path / "y.csv", 2)


def test_a_csv_file_of_names(tmp_path: Path) -> None:
    (tmp_path / "y.csv").write_text("dog\ncat\n")
    assert _ids(["cat", "dog"], read_labels(tmp_path / "y.csv", 2)) == [1, 0]
    np.save(tmp_path / "y.npy", np.array(["dog", "cat"]))
    assert _ids(["cat", "dog"], read_labels(tmp_path / "y.npy", 2)) == [1, 0]
    np.save(tmp_path / "z.npy", np.array([[1], [0]], np.float32))
    assert _ids(["cat", "dog"], read_labels(tmp_path / "z.npy", 2)) == [1, 0]


def test_a_column_of_numbers_and_the_flag(server: ServerProcess, tmp_path: Path) -> None:
    """The whole way, with a model of digits, where both readings agree."""
    images, labels = mnist_images()[:200], mnist_labels()[:200]
    table = pa.table({"image": [image.tobytes() for image in images], "y": labels.astype(float)})
    pq.write_table(table, tmp_path / "x.parquet")
    command = ["mlpserve", "--server", server.address, "score", tmp_path / "x.parquet"]
    for flags in ([], ["--label-numbers", "names"], ["--label-numbers", "ids"]):
        done = run(*command, tmp_path / f"o{len(flags)}{flags[-1:]}", "--label-column", "y", *flags)
        assert done.returncode == 0, done.stderr
        assert "Accuracy 9" in done.stdout

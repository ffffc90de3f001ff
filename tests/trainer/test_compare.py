import json
import shutil
from math import comb
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from google.protobuf import json_format
from support.mnist import write_class_folders
from support.processes import run
from tests.support.artifacts import seal

from mlpserve.v1.artifact_pb2 import Manifest
from mlpserve_trainer.compare import compare, mcnemar
from mlpserve_trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(0, 0, 1.0), (5, 5, 1.0), (0, 6, 2 / 64), (1, 9, 2 * (1 + 10) / 1024)]
)
def test_mcnemar_by_hand(first: int, second: int, expected: float) -> None:
    assert mcnemar(first, second) == pytest.approx(expected)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_mcnemar_of_many_images_does_not_overflow() -> None:
    assert 0 < mcnemar(4000, 6000) < 1e-80
    tail = sum(comb(2000, k) for k in range(961)) / 2**1999
    assert mcnemar(960, 1040) == pytest.approx(tail)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A good and a bad version on one folder of images."""
    root = tmp_path_factory.mktemp("compared")
    folder = write_class_folders(root / "digits", per_class=60)
    flags = ["--store", root / "s", "--data", folder, "--validation", 0.2, "--batch-size", 16]
    for hidden in (64, 2):
        result = run("mlpserve-train", *flags, "--epochs", 8, "--hidden", hidden, "--calibrate", "no")
        assert result.returncode == 0, result.stderr
    return root / "s/digits/1", root / "s/digits/2", folder


def test_two_versions_side_by_side(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, bad, folder = versions
    result = run("mlpserve-train", "compare", good, bad, "--data", folder, "--output", tmp_path / "c.html")
    assert result.returncode == 0, result.stderr
    assert "60 test images of digits, fp32 files" in result.stdout
    assert "McNemar's test (exact): p = " in result.stdout
    assert "digits/1 is better than digits/2; the difference is statistically significant" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tmp_path / "c.html")
    html = (tmp_path / "c.html").read_text()
    assert "Where they disagree" in html
    assert "data:image/png;base64," in html
    same = run("mlpserve-train", "compare", good, good, "--data", folder, "--precision", "int8")
    assert "they name another class for 0 images" in same.stdout
    assert "p = 1. The difference is not statistically significant" in same.stdout


def _changed(version: Path, folder: Path, content: bytes) -> Path:
    """A copy of a version with another float32 file, and digests that fit."""
    copy = Path(shutil.copytree(version, folder / "1"))
    (copy / "model.onnx").write_bytes(content)
    seal(copy, json_format.Parse((copy / "manifest.json").read_bytes(), Manifest()))
    return copy


def _reading_another_file(version: Path) -> bytes:
    model = onnx.load(version / "model.onnx")
    outside = onnx.TensorProto(name="k", data_type=onnx.TensorProto.FLOAT, dims=[4], data_location="EXTERNAL")
    outside.external_data.add(key="location", value="secret.bin")
    indices = onnx.numpy_helper.from_array(np.arange(4), "i")
    sparse = onnx.SparseTensorProto(values=outside, indices=indices, dims=[4])
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], sparse_value=sparse))
    content: bytes = model.SerializeToString()
    return content


def test_files_of_others_are_looked_at(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, _, folder = versions
    for name, content, words in (
        ("outside", _reading_another_file(good), "a tensor is stored in another file"),
        ("text", b"no model", "is not an ONNX model"),
        ("empty", b"", "ONNX Runtime cannot run it"),
    ):
        changed = _changed(good, tmp_path / name, content)
        with pytest.raises(ConfigError, match=words):
            compare(good, changed, str(folder), None, "fp32", None)


def test_what_cannot_be_compared(versions: tuple[Path, Path, Path], tmp_path: Path) -> None:
    good, bad, folder = versions
    other = write_class_folders(tmp_path / "few", per_class=20, classes=3)
    named = shutil.copytree(good, tmp_path / "named")  # as of a person's own folder called mnist
    manifest = json.loads((named / "manifest.json").read_text())
    manifest["training"]["data"] = "mnist"
    (named / "manifest.json").write_text(json.dumps(manifest))
    for flags, words in (
        ([good, tmp_path], "not a published version"),
        ([good, bad], "give its location with --data PATH"),
        ([named, bad], "digits/1 was not evaluated on these images"),
        ([good, bad, "--data", other], "the versions know 0, 1, 2, 3"),
        (
            [good, bad, "--data", folder, "--image-size", "10x10"],
            "images of 10x10, the versions take 28x28: --image-size",
        ),
    ):
        result = run("mlpserve-train", "compare", *flags)
        assert result.returncode == 1
        assert words in result.stderr
        assert "Traceback" not in result.stderr

"""A damaged or missing artifact is refused with a sentence that names what is wrong."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from support.processes import run

from mlpserve_server.config import ServerConfig
from mlpserve_server.errors import ArtifactError, StoreError
from mlpserve_server.server import Server
from mlpserve_server.store.folder import Store


@pytest.fixture
def copy(store: Path, tmp_path: Path) -> Path:
    """The published version in a store of its own: the version's folder."""
    shutil.copytree(store, tmp_path / "store")
    return tmp_path / "store" / "mnist" / "1"


def _start(folder: Path) -> None:
    with Server(ServerConfig(store=folder.parents[1], listen="127.0.0.1:0")):
        pass


def _all_files(store: Path) -> list[Path]:
    folder = store / "mnist" / "1"
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_one_flipped_byte_in_any_file_is_refused_by_name(copy: Path) -> None:
    files = _all_files(copy.parents[1])
    assert {"manifest.json", "manifest.sha256", "model.onnx", "model.int8.onnx", "golden.binpb", "report.html"} <= {
        str(name) for name in files
    }
    for name in files:
        original = (copy / name).read_bytes()
        for position in (0, len(original) // 2, len(original) - 1):
            damaged = bytearray(original)
            damaged[position] ^= 0x01
            (copy / name).write_bytes(damaged)
            with pytest.raises(ArtifactError, match=str(name).replace(".", r"\.")):
                Store(copy.parents[1]).open("mnist").verify()
        (copy / name).write_bytes(original)
    Store(copy.parents[1]).open("mnist").verify()


def test_the_server_refuses_a_tampered_file(copy: Path) -> None:
    path = copy / "pictures" / "curves.png"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    result = run("mlpserve-server", "--store", copy.parents[1], "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert "curves.png is damaged: its SHA-256 is not the one in the manifest" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def _reseal(folder: Path, name: str, content: bytes) -> None:
    """Change a file and make every digest fit: what a careful attacker, or a broken publisher, could do."""
    old = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    manifest = (folder / "manifest.json").read_text()
    for before, after in (
        (hashlib.sha256(old).hexdigest(), hashlib.sha256(content).hexdigest()),
        (f'"sizeBytes": "{len(old)}"', f'"sizeBytes": "{len(content)}"'),
    ):
        manifest = manifest.replace(before, after)
    (folder / "manifest.json").write_text(manifest)
    digest = hashlib.sha256(manifest.encode()).hexdigest()
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")


def test_truncated_onnx_with_matching_digests_is_refused(copy: Path) -> None:
    _reseal(copy, "model.onnx", (copy / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ArtifactError, match="the file is not an ONNX model"):
        _start(copy)


def test_wrong_weights_with_matching_digests_fail_the_golden_samples(copy: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(copy / "model.onnx")
    weights = numpy_helper.to_array(model.graph.initializer[2]) + 0.05
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(-weights, model.graph.initializer[2].name))
    _reseal(copy, "model.onnx", model.SerializeToString())
    with pytest.raises(ArtifactError, match="does not give its golden answers with CPUExecutionProvider at batch"):
        _start(copy)


@pytest.mark.parametrize("damage", ["no message", "few answers", "few probabilities", "no class"])
def test_golden_samples_that_do_not_belong_together_are_refused(copy: Path, damage: str) -> None:
    from mlpserve.v1.artifact_pb2 import GoldenSamples

    golden = GoldenSamples.FromString((copy / "golden.binpb").read_bytes())
    for answers in golden.answers:
        match damage:
            case "few answers":
                del answers.class_ids[-1]
            case "few probabilities":
                del answers.probabilities[10:]
            case "no class":
                answers.class_ids[0] = 2**32 - 1
    _reseal(copy, "golden.binpb", b"\xff" * 9 if damage == "no message" else golden.SerializeToString())
    with pytest.raises(ArtifactError, match="golden"):
        _start(copy)


def test_a_wrong_int8_file_leaves_float32(copy: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(copy / "model.int8.onnx")
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights_0"]
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), "weights_0"))
    _reseal(copy, "model.int8.onnx", model.SerializeToString())
    result = run("mlpserve-server", "--store", copy.parents[1], "--listen", "127.0.0.1:0", "--precision", "int8")
    assert result.returncode == 1
    assert "golden answers" in result.stderr
    with Server(ServerConfig(store=copy.parents[1], listen="127.0.0.1:0")) as server:
        assert server.model is not None
        assert server.model.precision == 1


def test_a_graph_of_another_shape_is_refused(copy: Path, slow_store: Path) -> None:
    import onnx
    from onnx import helper

    model = onnx.load(copy / "model.onnx")
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", 10]))
    _reseal(copy, "model.onnx", model.SerializeToString())
    with pytest.raises(ArtifactError, match="the manifest promises"):
        _start(copy)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx cannot be read: No such file"),
        (lambda folder: (folder / "manifest.json").unlink(), "the manifest cannot be read"),
        (lambda folder: _reseal(folder, "manifest.json", b"{]"), "is not a manifest"),
        (lambda folder: folder.rename(folder.with_name("2")), "the folder was moved or copied"),
    ],
    ids=["no model", "no manifest", "no JSON", "renamed folder"],
)
def test_broken_versions(copy: Path, damage: object, words: str) -> None:
    damage(copy)  # type: ignore[operator]
    with pytest.raises(ArtifactError, match=words):
        _start(copy)


def test_a_manifest_cannot_point_outside_its_folder(copy: Path) -> None:
    manifest = (copy / "manifest.json").read_text().replace('"model.onnx"', '"../1/model.onnx"')
    _reseal(copy, "manifest.json", manifest.encode())
    with pytest.raises(ArtifactError, match="outside the artifact"):
        _start(copy)


def test_missing_things_are_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such folder; train a model with"):
        Store(tmp_path / "none").open("mnist")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"no model 'mnist' in .* \(models there: none\)"):
        Store(tmp_path / "empty").open("mnist")
    (tmp_path / "empty" / "mnist" / ".publishing-x").mkdir(parents=True)
    with pytest.raises(StoreError, match="has no published version"):
        Store(tmp_path / "empty").open("mnist")
    (tmp_path / "shut").mkdir(mode=0o000)
    if os.geteuid() != 0:
        with pytest.raises(StoreError, match="cannot be read"):
            Store(tmp_path / "shut").open("mnist")
    with pytest.raises(StoreError, match="no model 'cats'"):
        Store(store).open("cats")
    with pytest.raises(StoreError, match=r"no version 9 \(published: 1\)"):
        Store(store).open("mnist", 9)
